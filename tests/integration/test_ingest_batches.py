"""Batches as agents send them: stored once, refused in our own words, never a fault of ours."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from ingest_service.auth import Role, list_tokens, revoke_token
from ingest_service.plant import discards
from shopfloor.block import make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import BATCH_MEDIA_TYPE, REFUSAL_MEDIA_TYPE, Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch, encode_block
from tests.integration.ingest_server import (
    IMM,
    SERIES,
    STRANGER,
    Running,
    batch,
    block,
    heartbeat,
    running,
)


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    sites = [{"asset": "acme/hk01", "name": "Hong Kong", "time_zone": "Asia/Hong_Kong"}]
    async with running(tmp_path, sites=sites) as one:
        yield one


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


async def test_an_agent_with_another_sites_token_keeps_its_data(plant: Running) -> None:
    elsewhere = plant.token(Role.AGENT, "acme/dg01")
    answer = await plant.post(batch(), elsewhere)
    assert answer.status_code == 403
    assert "acme/dg01" in answer.json()["error"]
    report = await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=elsewhere)
    assert report.status_code == 403
    assert plant.service.plant.list_quarantine() == []
    assert (await plant.post(batch())).json()["durable_through"] == 10


async def test_a_batch_wholly_outside_does_not_stop_the_stream_of_an_agent_that_is_at_home(
    plant: Running,
) -> None:
    assert (
        await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    ).status_code == 200
    receipt = (await plant.post(Batch("gateway", "s", Lane.LIVE, 1, block(3, series=(STRANGER,))))).json()
    assert (receipt["rejected"], receipt["durable_through"]) == (3, 3)
    assert len(plant.service.plant.list_quarantine()) == 3


async def test_streams_of_the_service_are_nobody_elses(plant: Running) -> None:
    assert (await plant.post(batch(stream="readmit.1"))).status_code == 403


async def test_memory_that_equal_values_take_counts_too(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"agent_waiting_bytes": 2**20}) as plant:
        n = 100_000
        rows = make_block(SERIES, np.zeros(n), np.full(n, time.time_ns()), time.time_ns(), np.zeros(n))
        sent = Batch("gateway", "s", Lane.LIVE, 1, rows)
        assert len(encode_batch(sent)) < 10_000
        assert (await plant.post(sent)).status_code == 429
        assert plant.service.backpressure.waiting_bytes == 0


async def test_what_an_attempt_that_failed_left_in_quarantine_stays_refused(
    plant: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full")]

    sent = Batch("gateway", "s", Lane.LIVE, 1, block(4, series=(SERIES[0], STRANGER)))
    monkeypatch.setattr(plant.service.store, "write", unavailable)
    assert (await plant.post(sent)).status_code == 503
    monkeypatch.undo()
    assert len(plant.service.plant.list_quarantine()) == 2
    # Meanwhile the token reaches further.
    receipt = (await plant.post(sent, plant.token(Role.AGENT, "acme"))).json()
    assert receipt["rejections"] == [
        {"seq": 2, "reason": "refused_before"},
        {"seq": 4, "reason": "refused_before"},
    ]
    assert len(plant.service.plant.list_quarantine()) == 2
    assert len((await plant.get("/v1/series"))["series"]) == 1
    more = Batch("gateway", "s", Lane.LIVE, 5, block(4, series=(SERIES[0], STRANGER)))
    assert (await plant.post(more, plant.token(Role.AGENT, "acme"))).json()["rejected"] == 0


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
        (discarded,) = discards.of_streams(plant.service.plant.engine, ["s"])
        assert discarded == ("s", "gateway", 2, 4, 2, discards.Fate.FULL, "outside_scope")
