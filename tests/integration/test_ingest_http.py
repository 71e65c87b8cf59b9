"""The service as agents and readers meet it: a real server on a loopback port."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ingest_service.auth import Role, create_token, list_tokens, revoke_token
from ingest_service.config import IngestConfig
from ingest_service.plant.store import PlantStore
from ingest_service.server import Server, make_server
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, concat, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import BATCH_MEDIA_TYPE, REFUSAL_MEDIA_TYPE, Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import decode_block, encode_batch, encode_block

IMM = parse_asset("acme/hk01/moulding/cell-a/imm-01")
SERIES = (SeriesKey(IMM, "barrel.zone_1.temperature"), SeriesKey(IMM, names.MACHINE_MODE))
STRANGER = SeriesKey(parse_asset("acme/dg01/moulding/cell-a/imm-07"), "x")


class Running:
    """A service that runs, and tokens for it."""

    def __init__(self, server: Server, client: httpx.AsyncClient) -> None:
        self.server = server
        self.service = server._service
        self.client = client
        self.agent = self.token(Role.AGENT, "acme/hk01")
        self.viewer = self.token(Role.VIEWER, "acme")

    def token(self, role: Role, asset: str) -> dict[str, str]:
        text = create_token(self.service.plant.engine, role, asset, "test")
        return {"Authorization": f"Bearer {text}"}

    async def post(
        self, batch: Batch | bytes, headers: dict[str, str] | None = None, **more: str
    ) -> httpx.Response:
        body = batch if isinstance(batch, bytes) else encode_batch(batch)
        chosen = {"Content-Type": BATCH_MEDIA_TYPE} | (self.agent if headers is None else headers) | more
        return await self.client.post("/v1/batches", content=body, headers=chosen)

    async def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> Any:
        answer = await self.client.get(
            path, params=parameters, headers=self.viewer if headers is None else headers
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def metric(self, name: str) -> float:
        answer = await self.client.get("/metrics", headers=self.viewer)
        for line in answer.text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise AssertionError(f"{name} is not in\n{answer.text}")


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Running]:
    server = make_server(IngestConfig(listen="127.0.0.1:0", data=folder / "data", **options))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving.exception()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            yield Running(server, client)
        finally:
            server.should_exit = True
            await serving


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    sites = [{"asset": "acme/hk01", "name": "Hong Kong", "time_zone": "Asia/Hong_Kong"}]
    async with running(tmp_path, sites=sites) as one:
        yield one


def block(n: int = 10, *, at: int | None = None, series: tuple[SeriesKey, ...] = SERIES) -> SampleBlock:
    now = time.time_ns() if at is None else at
    return make_block(
        series, np.arange(n) % len(series), now + np.arange(n) * 1_000_000, now, np.arange(n) / 8
    )


def batch(first_seq: int = 1, n: int = 10, stream: str = "stream-1", agent: str = "gateway") -> Batch:
    return Batch(agent, stream, Lane.LIVE, first_seq, block(n))


def heartbeat(
    agent: str = "gateway", asset: str = "acme/hk01", *, sources: tuple[Any, ...] = ()
) -> dict[str, Any]:
    return {
        "agent_id": agent,
        "asset": asset,
        "version": "1",
        "wire_version": 1,
        "config_hash": "h1",
        "started": 0,
        "sent": time.time_ns(),
        "sources": list(sources),
        "buffer": {
            "streams": 1,
            "pending_samples": 0,
            "oldest_pending_time": None,
            "used_bytes": 0,
            "limit_bytes": 1,
            "hours_left": None,
        },
    }


async def test_a_batch_is_stored_once_and_read_back(plant: Running) -> None:
    sent = batch()
    first = await plant.post(sent)
    again = await plant.post(sent)
    assert first.status_code == again.status_code == 200
    assert first.json() == {"received_through": 10, "durable_through": 10, "rejections": [], "rejected": 0}
    assert again.json()["durable_through"] == 10
    answer = await plant.get("/v1/samples")
    assert [len(one["t"]) for one in answer["series"]] == [5, 5]
    assert answer["series"][0]["value"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert await plant.metric("shopfloor_ingest_batches_total") == 2
    assert await plant.metric("shopfloor_ingest_samples_stored_total") == 10
    assert await plant.metric("shopfloor_ingest_samples_repeated_total") == 10


async def test_samples_outside_the_tokens_reach_are_quarantined_one_by_one(plant: Running) -> None:
    series = (SERIES[0], STRANGER)
    sent = Batch("gateway", "s", Lane.LIVE, 1, block(4, series=series))
    receipt = (await plant.post(sent)).json()
    assert receipt["rejected"] == 2
    assert receipt["rejections"] == [
        {"seq": 2, "reason": "outside_scope"},
        {"seq": 4, "reason": "outside_scope"},
    ]
    assert receipt["durable_through"] == 4
    repeated = (await plant.post(sent)).json()
    assert repeated["rejected"] == 0
    found = plant.service.plant.list_quarantine()
    assert sorted((row["stream_id"], row["seq"], row["asset"], row["value"]) for row in found) == [
        ("s", 2, STRANGER.asset, 0.125),
        ("s", 4, STRANGER.asset, 0.375),
    ]
    assert [one["signal"] for one in (await plant.get("/v1/series"))["series"]] == [SERIES[0].signal]
    assert await plant.metric('shopfloor_ingest_samples_rejected_total{reason="outside_scope"}') == 2


async def test_implausible_and_infinite_samples_do_not_block_their_batch(plant: Running) -> None:
    now = time.time_ns()
    rows = make_block(SERIES, 0, [now, 1, now + 1, now + 2], now, [1.0, 2.0, 3.0, 4.0])
    rows = make_block(SERIES, [0, 0, 0, 0], rows.source_time, now, [1.0, 2.0, np.inf, np.nan])
    receipt = (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))).json()
    assert [one["reason"] for one in receipt["rejections"]] == ["implausible_time", "infinite"]
    answer = await plant.get("/v1/samples")
    assert answer["series"][0]["value"] == [1.0, None]


@pytest.mark.parametrize("role", ["none", "wrong", "revoked", "viewer", "elsewhere"])
async def test_who_may_not_write(plant: Running, role: str) -> None:
    headers = {"none": {}, "wrong": {"Authorization": "Bearer sf_x"}}.get(role)
    if role == "revoked":
        headers = plant.token(Role.AGENT, "acme/hk01")
        assert revoke_token(plant.service.plant.engine, list_tokens(plant.service.plant.engine)[-1].token_id)
    elif role == "viewer":
        headers = plant.viewer
    elif role == "elsewhere":
        assert (await plant.post(batch())).status_code == 200  # the agent and its stream are hk01's now
        headers = plant.token(Role.AGENT, "acme/dg01")
    answer = await plant.post(batch(11), headers)
    assert answer.status_code == (403 if role in {"viewer", "elsewhere"} else 401)
    mark = await plant.service.store.watermark("stream-1")
    assert mark.durable_through == (10 if role == "elsewhere" else 0)


async def test_a_stream_cannot_be_taken_over_under_another_agents_name(plant: Running) -> None:
    assert (await plant.post(batch())).status_code == 200
    thief = plant.token(Role.AGENT, "acme/dg01")
    assert (await plant.post(batch(2**61, agent="thief"), thief)).status_code == 403
    assert (await plant.post(batch(11, agent="renamed"))).status_code == 200


async def test_a_token_made_while_the_service_runs_works_at_once(plant: Running) -> None:
    assert (await plant.post(batch(), plant.token(Role.AGENT, "acme/hk01"))).status_code == 200


@pytest.mark.parametrize("number", range(6))
async def test_bytes_that_are_no_batch_are_refused_in_our_own_words(plant: Running, number: int) -> None:
    sound = encode_batch(batch())
    bodies = [b"", b"\0" * 100, sound[:-5], b"SF", sound[:4] + b"\xff" * 50, encode_block(block())]
    answer = await plant.post(bodies[number])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == REFUSAL_MEDIA_TYPE
    assert answer.json()["refused"]


async def test_random_damage_never_is_a_fault_of_ours(plant: Running) -> None:
    random = np.random.default_rng(11)
    sound = bytearray(encode_batch(batch()))
    for number in range(150):
        body = bytearray(sound)
        for _ in range(int(random.integers(1, 4))):
            body[int(random.integers(len(body)))] = int(random.integers(256))
        cut = bytes(body[: int(random.integers(len(body)))]) if number % 3 == 0 else bytes(body)
        answer = await plant.post(cut)
        assert answer.status_code in {200, 422, 503}, (answer.status_code, answer.text)
        if answer.status_code == 503:
            assert answer.json()["error"] == "wire_version"
    assert (await plant.client.get("/readyz")).status_code == 200


async def test_a_newer_wire_version_is_asked_to_wait(plant: Running) -> None:
    body = bytearray(encode_batch(batch()))
    body[3] = 2
    answer = await plant.post(bytes(body))
    assert answer.status_code == 503
    assert answer.json() == {"error": "wire_version", "supported": [1]}
    assert int(answer.headers["retry-after"]) > 0


async def test_another_media_type_is_not_a_refusal(plant: Running) -> None:
    answer = await plant.post(batch(), None, **{"Content-Type": "application/json"})
    assert answer.status_code == 415
    assert answer.headers["content-type"] != REFUSAL_MEDIA_TYPE


async def test_too_large_is_413_also_without_a_stated_length(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"batch_bytes": 1024, "batch_samples": 50}) as plant:
        answer = await plant.post(b"x" * 1025)
        assert answer.status_code == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield b"x" * 200

        headers = plant.agent | {"Content-Type": BATCH_MEDIA_TYPE}
        answer = await plant.client.post("/v1/batches", content=chunks(), headers=headers)
        assert answer.status_code == 413
        assert (await plant.post(batch(n=51))).status_code == 413
        assert (await plant.post(batch(n=50))).status_code == 200
        assert plant.service.backpressure.waiting_bytes == 0


async def test_a_busy_service_says_when_to_come_back(plant: Running) -> None:
    pressure = plant.service.backpressure
    pressure.add(999, pressure._token_limit_bytes)
    assert (await plant.post(batch())).status_code == 200  # one token's waiting bytes stop nobody else
    others = range(pressure._limit_bytes // pressure._token_limit_bytes - 1)
    for number in others:
        pressure.add(1000 + number, pressure._token_limit_bytes)
    answer = await plant.post(batch())
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


async def test_an_unavailable_store_is_503_and_the_process_lives(
    plant: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full", retry_after_s=7)]

    monkeypatch.setattr(plant.service.store, "write", unavailable)
    answer = await plant.post(batch())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert "disk" not in answer.text
    monkeypatch.undo()
    assert (await plant.post(batch())).status_code == 200


async def test_gaps_are_counted_unless_a_loss_record_explains_them(plant: Running) -> None:
    await plant.post(batch())
    span = {
        "record_id": "r1",
        "stream_id": "stream-1",
        "first_seq": 11,
        "last_seq": 20,
        "kind": "dropped",
        "reason": "buffer full",
        "from_time": 0,
        "to_time": 1,
        "count": 10,
    }
    for _ in range(2):
        answer = await plant.client.post("/v1/spans", json=[span], headers=plant.agent)
        assert answer.status_code == 204
    await plant.post(batch(21))
    assert await plant.metric("shopfloor_ingest_gaps_total") == 0
    await plant.post(batch(41))
    assert await plant.metric("shopfloor_ingest_gaps_total") == 1
    assert await plant.metric("shopfloor_ingest_samples_missing_total") == 10
    stranger = plant.token(Role.AGENT, "acme/dg01")
    assert (await plant.client.post("/v1/spans", json=[span], headers=stranger)).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/heartbeats"), ("POST", "/v1/spans"), ("PUT", "/v1/declarations")]
)
async def test_malformed_json_is_400(plant: Running, method: str, path: str) -> None:
    for body in (
        b"",
        b"{",
        b"null",
        b'{"agent_id": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'[{"record_id": "x y"}]',
    ):
        answer = await plant.client.request(method, path, content=body, headers=plant.agent)
        assert answer.status_code == 400, (body[:20], answer.text)
        assert answer.json()["error"]


async def test_heartbeats_declarations_and_the_list_of_agents(plant: Running) -> None:
    answer = await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    assert answer.json()["declarations_wanted"] is True
    assert abs(answer.json()["now"] - time.time_ns()) < 60 * 10**9
    declared = {
        "agent_id": "gateway",
        "config_hash": "h1",
        "series": [{"asset": IMM, "signal": SERIES[0].signal, "unit": "Cel", "description": "zone 1"}],
    }
    for _ in range(2):
        answer = await plant.client.put("/v1/declarations", json=declared, headers=plant.agent)
        assert answer.status_code == 204
    answer = await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    assert answer.json()["declarations_wanted"] is False
    await plant.post(batch())
    series = (await plant.get("/v1/series", signal="barrel.*"))["series"]
    assert [(one["unit"], one["description"]) for one in series] == [("Cel", "zone 1")]
    (agent,) = (await plant.get("/v1/agents"))["agents"]
    assert (agent["id"], agent["asset"], agent["contact"], agent["lag_s"]) == (
        "gateway",
        "acme/hk01",
        True,
        0.0,
    )
    stranger = plant.token(Role.AGENT, "acme/dg01")
    for asset in ("acme/hk01", "acme/dg01"):
        answer = await plant.client.post("/v1/heartbeats", json=heartbeat(asset=asset), headers=stranger)
        assert answer.status_code == 403


async def test_reading_needs_a_token_and_sees_only_its_reach(plant: Running) -> None:
    await plant.post(batch())
    paths = ["series", "latest", "samples", "sites", "machines", "agents", "live"]
    for path in [f"/v1/{one}" for one in paths] + ["/metrics"]:
        assert (await plant.client.get(path)).status_code == 401
        assert (await plant.client.get(path, headers=plant.agent)).status_code == 403
    elsewhere = plant.token(Role.VIEWER, "acme/dg01")
    assert await plant.get("/v1/series", elsewhere) == {"series": []}
    assert (await plant.get("/v1/samples", elsewhere, asset="acme"))["series"] == []
    assert (await plant.get("/v1/latest", elsewhere))["id"] == []
    assert (await plant.get("/v1/sites", elsewhere))["sites"] == []


async def test_reading_raw_bucketed_and_binary(plant: Running) -> None:
    begin = 1_760_000_000_000
    sent = block(1000, at=begin * 1_000_000)
    assert (await plant.post(Batch("gateway", "s", Lane.BACKLOG, 1, sent))).status_code == 200
    span: dict[str, Any] = {"from": begin, "to": begin + 1000}
    raw = await plant.get("/v1/samples", **span)
    assert sum(len(one["t"]) for one in raw["series"]) == 1000
    same: dict[str, Any] = {"from": "2025-10-09T08:53:20Z", "to": "2025-10-09T16:53:21+08:00"}
    iso = await plant.get("/v1/samples", **same)
    assert iso == raw
    buckets = await plant.get("/v1/samples", points=10, signal="barrel.*", **span)
    assert buckets["series"][0]["count"] == [50] * 10
    assert buckets["series"][0]["first"][1] == 100 / 8
    by_width = await plant.get("/v1/samples", every=0.1, signal="barrel.*", **span)
    assert by_width == buckets
    headers = plant.viewer | {"Accept": "application/vnd.shopfloor.block"}
    answer = await plant.client.get("/v1/samples", params=span, headers=headers)
    body, blocks = answer.content, []
    while body:
        size = int.from_bytes(body[:4], "little")
        blocks.append(decode_block(body[4 : 4 + size]))
        body = body[4 + size :]
    got = concat(blocks)
    order = np.lexsort((got.source_time,))
    assert np.array_equal(got.source_time[order], sent.source_time)
    assert np.array_equal(got.value[order], sent.value)


@pytest.mark.parametrize(
    "query",
    [
        "from=x",
        "from=2&to=1",
        "from=99999999999999999999",
        "points=0",
        "every=-1",
        "every=nan",
        "points=x",
        "to=9999-99-99",
    ],
)
async def test_odd_questions_are_the_askers_fault(plant: Running, query: str) -> None:
    answer = await plant.client.get(f"/v1/samples?{query}", headers=plant.viewer)
    assert answer.status_code in {400, 422}


async def test_every_answer_carries_security_headers(plant: Running) -> None:
    for path in ("/healthz", "/", "/v1/series", "/nothing"):
        headers = (await plant.client.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


async def test_openapi_holds_examples(plant: Running) -> None:
    document = (await plant.client.get("/openapi.json")).json()
    assert BATCH_MEDIA_TYPE in document["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
    body = document["paths"]["/v1/heartbeats"]["post"]["requestBody"]["content"]["application/json"]
    answer = await plant.client.post("/v1/heartbeats", json=body["example"], headers=plant.agent)
    assert answer.status_code == 200, answer.text


async def test_open_reading_answers_only_to_local_names(tmp_path: Path) -> None:
    async with running(tmp_path, read_access="open") as plant:
        assert (await plant.client.get("/v1/series")).status_code == 200
        assert (await plant.client.get("/v1/series", headers={"Host": "localhost:1"})).status_code == 200
        assert (await plant.client.get("/v1/series", headers={"Host": "evil.example"})).status_code == 421
        assert (await plant.post(batch(), {})).status_code == 401


async def test_the_page_is_served(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<title>live</title>")
    (page / "assets" / "app.js").write_text("let a")
    async with running(tmp_path, page=page) as plant:
        assert (await plant.client.get("/")).text == "<title>live</title>"
        assert (await plant.client.get("/assets/app.js")).status_code == 200
        assert (await plant.client.get("/../plant.sqlite")).status_code == 404
        assert (await plant.client.get("/healthz")).json() == {"status": "ok"}


class Page:
    """A viewer that reads server-sent events."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> tuple[str, Any]:
        name = (await anext(self._lines)).removeprefix("event: ")
        data = json.loads((await anext(self._lines)).removeprefix("data: "))
        assert await anext(self._lines) == ""
        return name, data

    async def until(self, wanted: str) -> Any:
        while True:
            name, data = await self.next()
            if name == wanted:
                return data


@asynccontextmanager
async def page(plant: Running, path: str = "/v1/live") -> AsyncIterator[Page]:
    async with plant.client.stream("GET", path, headers=plant.viewer) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Page(answer.aiter_lines())


async def test_a_page_sees_new_series_values_and_machines(plant: Running) -> None:
    source = {"name": "imm", "protocol": "opcua", "state": "running", "since": 0, "assets": [IMM]}
    await plant.client.post("/v1/heartbeats", json=heartbeat(sources=(source,)), headers=plant.agent)
    async with page(plant) as viewer:
        start = [await viewer.next() for _ in range(6)]
        assert [name for name, _ in start] == ["hello", "series", "values", "machines", "sites", "agents"]
        assert start[0][1]["ping_s"] == 2
        await plant.post(batch())
        name, series = await viewer.next()
        while name != "series":
            name, series = await viewer.next()
        values = await viewer.until("values")
        assert values["id"] == series["id"]
        assert values["v"] == [1.0, 1.125]
        machines = await viewer.until("machines")
        assert machines["machines"][0]["asset"] == IMM
        assert machines["machines"][0]["contact"] is True
        await viewer.until("ping")
    # A page that opens later begins with everything; one for another asset with nothing.
    async with page(plant) as viewer:
        assert (await viewer.until("values"))["v"] == [1.0, 1.125]
    async with page(plant, "/v1/live?asset=acme/dg01") as viewer:
        assert (await viewer.until("series"))["id"] == []


async def test_open_pages_do_not_hold_up_the_end_of_the_service(tmp_path: Path) -> None:
    async with running(tmp_path) as plant, page(plant) as viewer:
        await viewer.until("agents")
        plant.server.should_exit = True
        with pytest.raises((StopAsyncIteration, httpx.RemoteProtocolError)):
            while True:
                await viewer.next()


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    counter = SeriesKey(IMM, names.GOOD_PARTS_COUNTER)
    mode = SeriesKey(IMM, names.MACHINE_MODE)
    now = time.time_ns()
    rows = make_block((counter, mode), [0, 0, 0, 1], now + np.arange(4), now, [10, 14, 2, 1])
    async with running(tmp_path) as plant:
        assert (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))).status_code == 200
        await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    async with running(tmp_path) as plant:
        assert (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))).json()["durable_through"] == 4
        assert await plant.metric("shopfloor_ingest_samples_repeated_total") == 4
        (machine,) = (await plant.get("/v1/machines"))["machines"]
        assert machine["parts_today"] == 6
        assert (await plant.get("/v1/agents"))["agents"][0]["id"] == "gateway"
        late = make_block((counter,), [0], [now - 1], now, [4])
        await plant.post(Batch("gateway", "backlog", Lane.BACKLOG, 1, late))
        async with page(plant) as viewer:
            while machine["parts_today"] != 12:  # 4 -> 10 -> 14 -> reset -> 2
                machine = (await viewer.until("machines"))["machines"][0]


async def test_the_series_limit_rejects_only_what_is_new(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"series": 2}) as plant:
        third = SeriesKey(IMM, "third")
        rows = block(6, series=(*SERIES, third))
        receipt = (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))).json()
        assert [one["reason"] for one in receipt["rejections"]] == ["too_many_series"] * 2
        assert (await plant.post(batch(7, stream="s"))).json()["rejected"] == 0


async def test_a_table_may_name_series_that_get_no_number(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"series": 3}) as plant:
        table = (SERIES[0], *(SeriesKey(IMM, f"unused_{number}") for number in range(50)))
        rows = make_block(table, [0], [time.time_ns()], time.time_ns(), [1.0])
        assert (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))).json()["rejected"] == 0
        assert len((await plant.get("/v1/series"))["series"]) == 1


async def test_a_full_quarantine_counts_what_it_cannot_keep(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"quarantine_samples": 1}) as plant:
        rows = block(4, series=(SERIES[0], STRANGER))
        receipt = (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))).json()
        assert (receipt["rejected"], receipt["durable_through"]) == (2, 4)
        assert plant.service.plant.list_quarantine() == []
        assert plant.service.plant.spans_of("s") == [(2, 4, "dropped", 2)]


async def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from ingest_service.plant.schema import metadata

    store = PlantStore(tmp_path / "plant.sqlite")
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()
    PlantStore(tmp_path / "plant.sqlite").close()
