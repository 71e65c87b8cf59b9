"""What clients of InfluxDB send is stored once, whatever fails, comes again, is too much or is forgotten meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest_service.auth import Role, create_token
from ingest_service.line_protocol import door
from ingest_service.stores import Selector, TimeSpan
from shopfloor.block import STATUS_NO_SOURCE_TIME
from shopfloor.errors import StoreUnavailable
from tests.integration.ingest_server import running
from tests.integration.line_protocol_writing import Writing, own, writing_to


@pytest.fixture
async def writing(tmp_path: Path) -> AsyncIterator[Writing]:
    async with writing_to(tmp_path) as found:
        yield found


async def test_an_immediate_retry_stores_nothing_twice_and_hears_the_same(writing: Writing) -> None:
    body = "\n".join([own("value=1", time.time_ns()), "rubbish"])
    first, again, beside = await asyncio.gather(*(writing.post(body) for _ in range(3)))
    assert first.status_code == again.status_code == beside.status_code == 400
    assert first.content == again.content == beside.content
    ((_, values),) = (await writing.samples()).values()
    assert values == [1.0]
    assert len(writing.quarantine()) == 1
    assert await writing.plant.metric("shopfloor_ingest_line_repeats_total") == 2


async def test_a_body_that_is_read_by_its_layout_is_known_when_it_comes_again(writing: Writing) -> None:
    begin = time.time_ns() - 60 * 10**9
    bodies = [
        "\n".join(own(f"value={number}.5", begin + turn * 10**9 + number * 10**6) for number in range(40))
        for turn in range(5)
    ]
    for body in [*bodies, *bodies]:
        assert (await writing.post(body)).status_code == 204
    ((_, values),) = (await writing.samples()).values()
    assert values == [number + 0.5 for number in range(40)] * 5
    assert await writing.plant.metric("shopfloor_ingest_line_repeats_total") == 5


async def test_layouts_of_all_tokens_together_are_bounded(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_LOOK_EVERY", 1)
    engine = writing.plant.service.plant.engine
    tokens = [create_token(engine, Role.AGENT, "acme/hk01", f"t{number}") for number in range(3)]
    begin = time.time_ns() - 60 * 10**9
    app: Any = writing.plant.server.config.app
    kept = app.app.state.line_protocol._tokens

    async def write(turn: int) -> None:
        for number, token in enumerate(tokens):
            at = begin + turn * 10**9 + number * 10**8
            body = "\n".join(own(f"value={line}", at + line * 10**6) for line in range(40))
            header = {"Authorization": f"Token {token}"}
            answer = await writing.plant.client.post("/api/v2/write", content=body, headers=header)
            assert answer.status_code == 204

    for turn in range(2):
        await write(turn)
    (size,) = {token.places.layouts.size for token in kept.values()}
    assert size > 0
    monkeypatch.setattr(door, "_REMEMBERED_BYTES", 2 * size)
    await write(2)
    assert sum(token.places.layouts.size for token in kept.values()) <= 2 * size
    assert len(next(iter((await writing.samples()).values()))[0]) == 3 * 3 * 40


async def test_a_line_without_a_time_takes_ours_and_is_no_repeat(writing: Writing) -> None:
    body = own("value=1", 0).removesuffix(" 0")
    before = time.time_ns() // 10**6
    for _ in range(2):
        assert (await writing.post(body)).status_code == 204
    ((times, values),) = (await writing.samples()).values()
    assert values == [1.0, 1.0]
    assert before <= times[0] <= times[1] <= time.time_ns() // 10**6
    selector, span = Selector(), TimeSpan(0, 2**63 - 1)
    stored = await writing.plant.service.store.read(selector, span, 10)
    assert stored.block.status.tolist() == [STATUS_NO_SOURCE_TIME] * 2


async def test_a_failed_write_is_503_and_its_numbers_are_used_again(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full", retry_after_s=7)]

    now = time.time_ns()
    monkeypatch.setattr(writing.plant.service.store, "write", unavailable)
    answer = await writing.post("\n".join([own("value=1", now), "mem used=1"]))
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (
        503,
        "7",
        "unavailable",
    )
    assert "disk" not in answer.text
    monkeypatch.undo()
    later = "\n".join(
        ["disk used=1", own("value=2", now + 10**6), "swap used=1", own("value=3", now + 2 * 10**6)]
    )
    assert (await writing.post(later)).status_code == 204
    ((_, values),) = (await writing.samples()).values()
    assert values == [2.0, 3.0]
    assert [text for _, _, text in writing.quarantine()] == ["swap used=1"]
    assert await writing.plant.metric("shopfloor_ingest_samples_missing_total") == 0
    assert writing.plant.service.plant.quarantined == 1


async def test_a_unit_that_was_told_with_a_failed_write_is_not_forgotten(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full")]

    body = f"cpu,host=gw usage_user=1 {time.time_ns()}"
    monkeypatch.setattr(writing.plant.service.store, "write", unavailable)
    assert (await writing.post(body)).status_code == 503
    monkeypatch.undo()
    assert (await writing.post(body)).status_code == 204
    assert [one["unit"] for one in (await writing.plant.get("/v1/series"))["series"]] == ["%"]


async def test_what_an_agent_said_of_a_series_in_words_stays(writing: Writing) -> None:
    asset, signal = "acme/hk01/it/gw", "cpu.usage_user"
    declared = {
        "agent_id": "gateway",
        "config_hash": "h",
        "series": [{"asset": asset, "signal": signal, "unit": "", "description": "Load of the gateway"}],
    }
    headers = writing.plant.agent
    assert (
        await writing.plant.client.put("/v1/declarations", json=declared, headers=headers)
    ).status_code == 204
    assert (await writing.post(f"cpu,host=gw usage_user=1 {time.time_ns()}")).status_code == 204
    (one,) = (await writing.plant.get("/v1/series"))["series"]
    assert (one["asset"], one["unit"], one["description"]) == (asset, "%", "Load of the gateway")


async def test_what_a_small_packed_body_becomes_needs_room_as_well(writing: Writing) -> None:
    now = time.time_ns()
    lines = "\n".join(f"cpu,host=gw usage_user=1 {now + number}" for number in range(20_000)).encode()
    # A second member says in its end that it is small, and nothing of the first.
    body = gzip.compress(lines) + gzip.compress(b"\n")
    pressure = writing.plant.service.backpressure
    pressure.waiting_bytes = pressure._limit_bytes - 500_000
    assert len(body) < 250_000
    answer = await writing.post(body, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    pressure.waiting_bytes = 0
    assert (await writing.post(body, **{"Content-Encoding": "gzip"})).status_code == 204
    assert pressure.waiting_bytes == 0


async def test_a_busy_service_says_when_to_come_back(writing: Writing) -> None:
    pressure = writing.plant.service.backpressure
    pressure.waiting_bytes = pressure._limit_bytes
    answer = await writing.post(own("value=1", time.time_ns()))
    assert (answer.status_code, answer.json()["code"]) == (429, "too many requests")
    assert int(answer.headers["retry-after"]) >= 1


async def test_tokens_that_are_forgotten_meanwhile_go_on_with_their_numbers(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_REMEMBERED_TOKENS", 1)
    engine = writing.plant.service.plant.engine
    tokens = [create_token(engine, Role.AGENT, "acme/hk01", f"t{number}") for number in range(4)]
    now = time.time_ns()

    async def write(number: int) -> None:
        header = {"Authorization": f"Token {tokens[number % 4]}"}
        body = own(f"value={number}", now + number * 10**6)
        assert (
            await writing.plant.client.post("/api/v2/write", content=body, headers=header)
        ).status_code == 204

    await asyncio.gather(*(write(number) for number in range(40)))
    ((_, values),) = (await writing.samples()).values()
    assert values == [float(number) for number in range(40)]
    runs = await writing.plant.service.store.ledger(None, TimeSpan(0, 2**63 - 1))
    assert [(run.first_seq, run.last_seq, run.stored) for run in runs] == [(1, 10, 10)] * 4


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    now = time.time_ns()
    async with running(tmp_path) as plant:
        writing = Writing(plant)
        assert (await writing.post(own("value=1", now))).status_code == 204
        assert (await plant.get("/v1/agents"))["agents"][0]["contact"] is True
    async with running(tmp_path) as plant:
        writing.plant = plant
        assert (await writing.post(own("value=2", now + 10**6))).status_code == 204
        ((_, values),) = (await writing.samples()).values()
        assert values == [1.0, 2.0]
        runs = await plant.service.store.ledger(None, TimeSpan(0, 2**63 - 1))
        numbers = [
            (run.first_seq, run.last_seq) for run in runs if run.stream_id.startswith("line-protocol.")
        ]
        assert numbers == [(1, 2)]
