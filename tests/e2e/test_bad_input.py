"""Rubbish fed to real processes: each piece is named at the right place, counted, and costs nothing else."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator

import httpx
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane, new_id
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch
from tests.e2e.real_processes import eventually, http
from tests.e2e.small_world import LINE, MAX_SAMPLES, OPCUA, YEARS_NS, EdgeAgent, World
from tests.integration.mqtt_brokers import Broker, Publisher, nats
from tests.integration.opcua_plant import URI

A_PROXYS_400 = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 31\r\n\r\n"
    b"<html><h1>squid says no</h1>\n\n\n"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    try:
        world.start_service()
        world.background.run(world.proxy.start())
        world.background.run(world.plant.start())
        yield world
    finally:
        world.close()
        world.background.run(world.proxy.stop())
        world.background.run(world.plant.stop())
        world.background.close()


@pytest.fixture(autouse=True)
def _honest_proxy(world: World) -> Iterator[None]:
    yield
    world.proxy.answer = world.proxy.spoil = None


@pytest.fixture(scope="module")
def broker(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    running = nats(tmp_path_factory.mktemp("broker"))
    started: Broker = world.background.run(running.__aenter__())
    yield started.port
    world.background.run(running.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def publisher(broker: int) -> Iterator[Publisher]:
    publisher = Publisher(broker)
    yield publisher
    publisher.close()


@pytest.fixture(scope="module")
def agent(world: World, broker: int, publisher: Publisher) -> EdgeAgent:
    # An earlier configuration left its subscription at the broker: its topics match no template of today.
    earlier = paho.Client(CallbackAPIVersion.VERSION2, client_id="hk01-gateway-meters", clean_session=False)
    earlier.connect("127.0.0.1", broker)
    earlier.loop_start()
    _, number = earlier.subscribe("old/#", qos=1)
    assert number is not None
    eventually(earlier.is_connected, "the earlier client is connected")
    publisher.publish("old/probe", "{}")
    earlier.disconnect()
    earlier.loop_stop()
    more = OPCUA.format(endpoint=world.plant.endpoint, uri=URI, line=LINE)
    agent = world.agent("hk01-gateway", broker, token="hk01", more=more)
    eventually(
        lambda: agent.counted['shopfloor_source_running{protocol="mqtt",source="meters"}'] == 1, "mqtt"
    )
    return agent


def block(n: int, cell: str = "raw", *, at: int | None = None) -> SampleBlock:
    now = time.time_ns() if at is None else at
    key = SeriesKey(parse_asset(f"{LINE}/{cell}"), "n")
    return make_block((key,), np.zeros(n), now + np.arange(n) * 10**6, now, np.arange(n, dtype=float))


def post(world: World, body: bytes, token: str = "hk01", kind: str = BATCH_MEDIA_TYPE) -> httpx.Response:
    headers = {"Authorization": f"Bearer {world.tokens[token]}", "Content-Type": kind}
    return http.post(world.url + "/v1/batches", content=body, headers=headers, timeout=10)


def batch(samples: SampleBlock, stream: str = "", agent: str = "raw-sender") -> bytes:
    return encode_batch(Batch(agent, stream or new_id(), Lane.LIVE, 1, samples))


GOOD = batch(block(10))
BAD_REQUESTS: dict[str, tuple[bytes, str, str, int, str, str]] = {
    # What: bytes, token, media type; the status, the words and the reason in the metrics that answer it.
    "wrong token": (GOOD, "wrong", BATCH_MEDIA_TYPE, 401, "a valid token is needed", "401"),
    "a reader's token": (GOOD, "viewer", BATCH_MEDIA_TYPE, 403, "the role viewer does not write", "403"),
    "not a batch's media type": (GOOD, "hk01", "text/html", 415, BATCH_MEDIA_TYPE, "415"),
    "random bytes": (secrets.token_bytes(500), "hk01", BATCH_MEDIA_TYPE, 422, "wrong first bytes", "422"),
    "truncated bytes": (GOOD[:-9], "hk01", BATCH_MEDIA_TYPE, 422, "damaged or truncated", "422"),
    "no bytes": (b"", "hk01", BATCH_MEDIA_TYPE, 422, "wrong first bytes", "422"),
    "unknown wire version": (
        GOOD[:3] + b"\x63" + GOOD[4:], "hk01", BATCH_MEDIA_TYPE, 503, "wire_version", "wire_version",
    ),
    "too many bytes": (bytes(20_001), "hk01", BATCH_MEDIA_TYPE, 413, "at most 20000 bytes", "413"),
    "too many samples": (
        batch(block(MAX_SAMPLES + 1)), "hk01", BATCH_MEDIA_TYPE, 413, f"at most {MAX_SAMPLES} samples", "413",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_bad_request_is_answered_in_words_and_counted(world: World, what: str) -> None:
    body, token, kind, status, words, reason = BAD_REQUESTS[what]
    counter = f'shopfloor_ingest_refusals_total{{reason="{reason}"}}'
    before, stored = world.counted[counter], world.counted["shopfloor_ingest_samples_stored_total"]
    answer = post(world, body, token, kind)
    assert answer.status_code == status
    assert words in answer.text
    assert (world.counted[counter], world.counted["shopfloor_ingest_samples_stored_total"]) == (
        before + 1,
        stored,
    )
    assert post(world, batch(block(3))).json()["rejected"] == 0


def test_one_bad_sample_costs_itself_only(world: World) -> None:
    stranger = SeriesKey(parse_asset("acme/dg01/a/l/c"), "n")
    good = block(5, "one-bad")
    bad = make_block(
        (*good.series, stranger),
        [0, 0, 0, 1],
        [1, 2**62, time.time_ns(), time.time_ns()],
        2,
        [1, 1, math.inf, 1],
    )
    reasons = ["implausible_time", "infinite", "outside_scope"]
    counters = [f'shopfloor_ingest_samples_rejected_total{{reason="{reason}"}}' for reason in reasons]
    before = [world.counted[counter] for counter in counters]
    mixed = make_block(
        bad.series,
        [*good.series_index, *bad.series_index],
        [*good.source_time, *bad.source_time],
        time.time_ns(),
        [*good.value, *bad.value],
    )
    receipt = post(world, batch(mixed)).json()
    assert receipt["durable_through"] == 9
    assert {each["seq"]: each["reason"] for each in receipt["rejections"]} == {
        6: "implausible_time", 7: "implausible_time", 8: "infinite", 9: "outside_scope",
    }  # fmt: skip
    assert [world.counted[counter] for counter in counters] == [before[0] + 2, before[1] + 1, before[2] + 1]
    assert [value for _, value, _ in world.stored(f"{LINE}/one-bad")] == [0, 1, 2, 3, 4]


def test_messages_that_mean_nothing(world: World, agent: EdgeAgent, publisher: Publisher) -> None:
    world.publish(publisher, "imm-07", *range(10))
    rubbish = {
        "not_json": ("meters/imm-07", b"\x00\xff power=7"),
        "invalid_asset": ("meters/IMM-07", b"{}"),
        "missing_value": ("meters/imm-08", b'{"ts": 1763778000123}'),
        "bad_time": ("meters/imm-09", b'{"ts": "noon", "n": 1}'),
        "not_convertible": ("meters/imm-10", b'{"ts": 1763778000123, "n": [1]}'),
    }
    publisher.publish("old/thing", b"{}")
    for topic, payload in rubbish.values():
        publisher.publish(topic, payload)
    world.publish(publisher, "imm-07", *range(10, 20))
    eventually(lambda: world.all_arrived("imm-07"), "the good messages around the bad ones are stored")
    for what, (topic, _) in {**rubbish, "unmatched_topic": ("old/thing", b"")}.items():
        assert agent.met(what) >= 1, what
        assert f"meters: topic '{topic}': {what}: " in agent.log
    assert "power=7" not in agent.log
    assert agent.counted['shopfloor_source_running{protocol="mqtt",source="meters"}'] == 1


def test_nan_and_infinities(world: World, agent: EdgeAgent, publisher: Publisher) -> None:
    world.publish(publisher, "imm-11", 1.0, 2.0)
    now_ms = time.time_ns() // 10**6 + 5_000
    publisher.publish(
        "meters/imm-11",
        *(f'{{"ts": {now_ms + n}, "n": {text}}}' for n, text in enumerate(("NaN", "Infinity", "-1e999"))),
    )
    world.background.run(world.plant.write("v0", math.nan))
    world.background.run(world.plant.write("v0", math.inf))
    world.background.run(world.plant.write("v0", 4.5))
    world.publish(publisher, "imm-11", 3.0)
    eventually(lambda: world.all_arrived("imm-11"), "the good values around them are stored")
    bad = [value for _, value, quality in world.stored(f"{LINE}/imm-11") if quality == 2]
    assert bad == [None, None, None]
    assert agent.met("not_a_number") == 3
    eventually(lambda: 4.5 in [value for _, value, _ in world.stored(f"{LINE}/imm", "v0")], "v0 goes on")
    assert agent.met("not_a_number", "imm") == 2
    assert [value for _, value, quality in world.stored(f"{LINE}/imm", "v0") if quality == 2] == [None, None]


def test_a_node_that_does_not_exist_and_a_server_that_nobody_runs(world: World, agent: EdgeAgent) -> None:
    eventually(lambda: agent.met("node_failed", "imm") >= 1, "the node is counted")
    eventually(lambda: agent.met("unavailable", "nobody") >= 1, "the server is counted")
    missing = f"{LINE}/imm:gone (nsu={URI};s=gone): BadNodeIdUnknown"
    unreachable = "source nobody: unavailable: opc.tcp://127.0.0.1:1"
    for said in (agent.health, agent.log):
        assert missing in said
        assert unreachable in said
    assert agent.counted['shopfloor_source_running{protocol="opcua",source="imm"}'] == 1
    assert agent.counted['shopfloor_source_running{protocol="opcua",source="nobody"}'] == 0
    world.background.run(world.plant.tick())
    written = world.plant.written["v1"][-1][1]
    eventually(lambda: written in [value for _, value, _ in world.stored(f"{LINE}/imm", "v1")], "v1 goes on")

    def states() -> dict[str, str]:
        return {one["name"]: one["state"] for one in world.get("/v1/agents")["agents"][0]["sources"]}

    expected = {"meters": "running", "imm": "running", "nobody": "unavailable"}
    eventually(lambda: states() == expected, "the service knows, by heartbeat")
    assert "source meters: " not in agent.health


def test_a_clock_years_ahead(world: World, agent: EdgeAgent, publisher: Publisher) -> None:
    ahead_ms = (time.time_ns() + YEARS_NS) // 10**6
    publisher.publish("meters/imm-12", f'{{"ts": {ahead_ms}, "n": 1}}')
    eventually(lambda: world.stored(f"{LINE}/imm-12") == [(ahead_ms, 1, 1)], "it is kept as uncertain")
    assert agent.met("clock_ahead") == 1
    # It counts as a minute newer than its arrival, no more: what is newer than that replaces it.
    arrived_s = time.time()
    eventually(lambda: time.time() > arrived_s + 1.0, "a moment passes")
    world.publish(publisher, "imm-12", 2.0, at_ms=time.time_ns() // 10**6 + 59_500)
    eventually(lambda: world.all_arrived("imm-12"), "a plausible value is stored")
    eventually(lambda: world.get("/v1/latest", asset=f"{LINE}/imm-12")["value"] == [2], "it is the newest")
    # A thousand years is beyond what any store keeps: the service puts it aside.
    rejected = 'shopfloor_ingest_samples_rejected_total{reason="implausible_time"}'
    before = world.counted[rejected]
    publisher.publish("meters/imm-12", f'{{"ts": {ahead_ms + 200 * 366 * 86_400_000}, "n": 3}}')
    eventually(lambda: world.counted[rejected] == before + 1, "it is rejected")
    eventually(lambda: agent.counted["shopfloor_uplink_rejected_samples_total"] == 1, "the agent knows")
    assert "implausible_time" in agent.log
    assert "1 samples rejected by the service" in agent.health


def test_a_proxy_in_the_way_costs_time_only(world: World, agent: EdgeAgent, publisher: Publisher) -> None:
    failures = agent.counted["shopfloor_uplink_failures_total"]
    world.proxy.answer = A_PROXYS_400
    world.publish(publisher, "imm-13", *range(3 * MAX_SAMPLES))
    eventually(lambda: agent.counted["shopfloor_uplink_failures_total"] > failures, "the refusal is counted")
    assert "HTTP 400 from /v1/batches: '<html><h1>squid says no" in agent.health
    assert agent.counted["shopfloor_uplink_connected"] == 0
    # Behind the proxy stands a service that takes less at once than this agent sends.
    refusals = 'shopfloor_ingest_refusals_total{reason="413"}'
    too_large = world.counted[refusals]
    world.proxy.answer = None
    eventually(lambda: world.all_arrived("imm-13"), "all of it arrives, in halves")
    assert world.counted[refusals] > too_large
    assert f"at most {MAX_SAMPLES} samples are taken" in agent.log
    assert agent.counted["shopfloor_uplink_refused_batches_total"] == 0
    assert agent.counted["shopfloor_buffer_quarantined_samples_total"] == 0
    eventually(lambda: agent.counted["shopfloor_uplink_connected"] == 1, "all is well again")


def test_a_service_that_is_older_than_the_agent(world: World, agent: EdgeAgent, publisher: Publisher) -> None:
    counter = 'shopfloor_ingest_refusals_total{reason="wire_version"}'
    before = world.counted[counter]
    world.proxy.spoil = lambda body: body[:3] + b"\x63" + body[4:]
    world.publish(publisher, "imm-14", 1, 2, 3)
    eventually(lambda: world.counted[counter] > before, "the version is refused")
    eventually(lambda: "wire_version" in agent.health, "the agent says so")
    world.proxy.spoil = None
    eventually(lambda: world.all_arrived("imm-14"), "nothing is lost")


def test_bytes_damaged_on_the_way_go_to_quarantine(
    world: World, agent: EdgeAgent, publisher: Publisher
) -> None:
    world.proxy.spoil = lambda body: body[:-5]
    publisher.publish("meters/imm-15", f'{{"ts": {time.time_ns() // 10**6}, "n": 1}}')
    eventually(lambda: agent.counted["shopfloor_buffer_quarantined_samples_total"] >= 1, "it is put aside")
    world.proxy.spoil = None
    assert agent.counted["shopfloor_uplink_refused_batches_total"] >= 1
    assert "refused: damaged or truncated" in agent.log
    assert list((world.folder / "hk01-gateway-data" / "quarantine").iterdir())
    world.publish(publisher, "imm-15", 2, 3)
    eventually(lambda: world.all_arrived("imm-15"), "what follows arrives")


def test_tokens_that_do_not_fit(world: World, broker: int, agent: EdgeAgent, publisher: Publisher) -> None:
    outside = world.agent("dg-token", broker, token="dg01")
    wrong = world.agent("wrong-token", broker, token="wrong")
    for one, status in ((outside, 403), (wrong, 401)):
        eventually(lambda one=one: one.counted["shopfloor_uplink_unauthorised"] == 1, "the alarm")  # type: ignore[misc]
        assert one.counted["shopfloor_heartbeat_failures_total"] >= 1
        assert f"HTTP {status} from /v1/heartbeats" in one.health
        assert f"HTTP {status} from /v1/heartbeats" in one.log
    assert "the token does not reach acme/hk01" in outside.log
    assert "a valid token is needed" in wrong.log
    world.publish(publisher, "imm-16", 1, 2)
    eventually(lambda: world.all_arrived("imm-16"), "the right token's data arrives")
    # What a wrong token, or one of another site, can't deliver waits until somebody has given the agent the right one.
    for one in (wrong, outside):
        eventually(lambda one=one: one.counted["shopfloor_buffer_pending_samples"] == 2, "it waits on disk")  # type: ignore[misc]
        assert one.counted["shopfloor_uplink_rejected_samples_total"] == 0


def test_a_killed_service_and_an_agent_that_stops_without_it(
    world: World, agent: EdgeAgent, publisher: Publisher
) -> None:
    world.service.kill()
    world.publish(publisher, "imm-17", *range(50))
    eventually(lambda: agent.counted["shopfloor_uplink_connected"] == 0, "the service is missed")
    status, took_s = agent.terminate()
    assert (status, took_s < 5) == (0, True)
    agent.start()
    world.start_service()
    eventually(lambda: world.all_arrived("imm-17"), "everything arrives")
    assert world.get("/v1/latest", asset=f"{LINE}/imm-12")["value"] == [2]
    for process in (world.service, *world.agents):
        assert process.lives
        assert "Traceback" not in process.log


def test_no_secret_is_told_to_anybody(world: World, agent: EdgeAgent) -> None:
    said = [process.log for process in (world.service, *world.agents)]
    said += [agent.health, agent.counted.text(), world.counted.text(), str(world.get("/v1/agents"))]
    for text in said:
        assert not [name for name, token in world.tokens.items() if token in text]
