"""The ledger by HTTP: whatever happened to samples, the figures add up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest_service.auth import Role
from shopfloor.messages import Batch, Lane
from tests.integration.ingest_server import (
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
    async with running(tmp_path) as one:
        yield one


def adds_up(figures: dict[str, Any]) -> bool:
    parts = ("stored", "quarantined", "dropped", "pending", "missing")
    return bool(figures["handed_over"] == sum(figures[part] for part in parts))


def span(
    first: int, last: int, stream: str = "stream-1", kind: str = "dropped", **more: Any
) -> dict[str, Any]:
    return {
        "record_id": f"r.{stream}.{first}.{kind}",
        "stream_id": stream,
        "first_seq": first,
        "last_seq": last,
        "kind": kind,
        "reason": "buffer full",
        "from_time": 0,
        "to_time": 1_000_000,
        "count": last - first + 1,
    } | more


def waiting(first: int, last: int, stream: str = "stream-1", *, spans: int = 0) -> dict[str, Any]:
    beat = heartbeat()
    beat["buffer"] |= {"pending": [[stream, first, last]] if first else [], "waiting_spans": spans}
    return beat


async def tell(plant: Running, beat: dict[str, Any]) -> dict[str, Any]:
    pending = [
        {"stream_id": stream, "first_seq": first, "last_seq": last}
        for stream, first, last in beat["buffer"].get("pending", [])
    ]
    beat = beat | {"buffer": beat["buffer"] | {"pending": pending}}
    answer = await plant.client.post("/v1/heartbeats", json=beat, headers=plant.agent)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


async def lose(plant: Running, *spans: dict[str, Any]) -> None:
    answer = await plant.client.post("/v1/spans", json=list(spans), headers=plant.agent)
    assert answer.status_code == 204, answer.text


async def test_every_fate_is_counted_once(plant: Running) -> None:
    await tell(plant, waiting(1, 40))
    await plant.post(batch())
    await plant.post(batch())
    await plant.post(Batch("gateway", "stream-1", Lane.LIVE, 11, block(10, series=(SERIES[0], STRANGER))))
    await lose(plant, span(21, 25), span(26, 30, kind="quarantined", reason="no batch"))
    await plant.post(batch(34, 2))
    await plant.service._save()
    ledger = await plant.get("/v1/ledger")
    figures = {
        "handed_over": 40,
        "stored": 17,
        "readmitted": 0,
        "quarantined": 10,
        "quarantined_at_edge": 5,
        "dropped": 5,
        "dropped_by_reason": {"buffer full": 5},
        "pending": 5,
        "missing": 3,
        "repeated": 10,
    }
    assert ledger["total"] == {"streams": 1, **figures}
    (stream,) = ledger["streams"]
    assert {name: stream[name] for name in figures} == figures
    assert (stream["stream"], stream["agent"], stream["asset"]) == ("stream-1", "gateway", "acme/hk01")
    assert [(gap["first_seq"], gap["last_seq"], gap["samples"]) for gap in stream["gaps"]] == [(31, 33, 3)]
    assert adds_up(ledger["total"])


async def test_adjoining_spans_add_up(plant: Running) -> None:
    await plant.post(batch())
    await lose(plant, span(11, 20))
    middle = (await plant.get("/v1/ledger"))["now"] + 1
    while plant.service.clock_ns() // 1_000_000 < middle:
        pass
    await plant.post(Batch("gateway", "stream-1", Lane.LIVE, 21, block(10, series=(SERIES[0], STRANGER))))
    before = await plant.get("/v1/ledger", to=middle)
    after = await plant.get("/v1/ledger", **{"from": middle})
    whole = await plant.get("/v1/ledger")
    assert before["total"]["handed_over"] == 20
    assert (after["total"]["handed_over"], after["total"]["quarantined"]) == (10, 5)
    for name, figure in whole["total"].items():
        if isinstance(figure, int) and name not in {"streams", "repeated"}:
            assert figure == before["total"][name] + after["total"][name], name
    assert adds_up(before["total"])
    assert adds_up(after["total"])
    answer = await plant.client.get("/v1/ledger", params={"from": "2", "to": "1"}, headers=plant.viewer)
    assert answer.status_code == 400
    assert (
        await plant.client.get("/v1/ledger", params={"from": "x"}, headers=plant.viewer)
    ).status_code == 400


async def test_what_waited_and_vanished_is_missing_also_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as plant:
        await tell(plant, waiting(1, 30))
        await plant.post(batch())
        await tell(plant, waiting(0, 0, spans=1))
        assert (await plant.get("/v1/ledger"))["total"]["missing"] == 0, "a loss record is on its way"
        await lose(plant, span(11, 15))
        await tell(plant, waiting(0, 0))
        total = (await plant.get("/v1/ledger"))["total"]
        assert (total["handed_over"], total["dropped"], total["missing"]) == (30, 5, 15)
    async with running(tmp_path) as plant:
        ledger = await plant.get("/v1/ledger")
        assert (ledger["total"]["handed_over"], ledger["total"]["missing"]) == (30, 15)
        assert [(gap["first_seq"], gap["last_seq"]) for gap in ledger["streams"][0]["gaps"]] == [(16, 30)]
        await plant.post(batch(11, 20))
        total = (await plant.get("/v1/ledger"))["total"]
        assert (total["stored"], total["missing"], total["dropped"]) == (30, 0, 0)


async def test_an_agent_that_is_retired_keeps_its_ledger(plant: Running) -> None:
    await tell(plant, waiting(1, 15))
    await plant.post(batch())
    operator = plant.token(Role.OPERATOR, "acme/hk01")
    assert (await plant.client.delete("/v1/agents/gateway", headers=plant.viewer)).status_code == 403
    elsewhere = plant.token(Role.OPERATOR, "acme/dg01")
    assert (await plant.client.delete("/v1/agents/gateway", headers=elsewhere)).status_code == 404
    assert (await plant.client.delete("/v1/agents/gateway", headers=operator)).status_code == 204
    assert (await plant.client.delete("/v1/agents/gateway", headers=operator)).status_code == 404
    assert (await plant.get("/v1/agents"))["agents"] == []
    ledger = await plant.get("/v1/ledger", plant.token(Role.VIEWER, "acme/hk01"))
    assert (ledger["total"]["stored"], ledger["total"]["missing"]) == (10, 5)
    assert ledger["streams"][0]["asset"] == "acme/hk01"
    other = plant.token(Role.AGENT, "acme/dg01")
    moved = heartbeat(asset="acme/dg01")
    assert (await plant.client.post("/v1/heartbeats", json=moved, headers=other)).status_code == 200


async def test_who_may_see_which_streams(plant: Running) -> None:
    await tell(plant, waiting(0, 0))
    await plant.post(batch())
    await plant.post(batch(stream="two"))
    await lose(plant, span(0, 0, "", "source_gap", count=0, source="imm-01", agent_id="gateway"))
    for asset, streams in (("acme", 2), ("acme/hk01", 2), ("acme/dg01", 0), ("acme/hk01/moulding", 0)):
        ledger = await plant.get("/v1/ledger", plant.token(Role.VIEWER, asset))
        assert ledger["total"]["streams"] == streams, asset
        assert len(ledger["without_numbers"]) == (1 if streams else 0), asset
    assert [one["stream"] for one in (await plant.get("/v1/ledger", stream="two"))["streams"]] == ["two"]
    assert (await plant.get("/v1/ledger", agent="other"))["total"]["streams"] == 0
    assert (await plant.get("/v1/ledger", asset="acme/hk01"))["total"]["streams"] == 2
    assert (await plant.get("/v1/ledger", asset="acme/dg01"))["total"]["streams"] == 0
    first = await plant.get("/v1/ledger", limit=1)
    assert first["next"] == "stream-1"
    second = await plant.get("/v1/ledger", limit=1, after=first["next"])
    assert (second["streams"][0]["stream"], second["next"]) == ("two", None)
    assert second["total"]["streams"] == 2
    gap = (await plant.get("/v1/ledger"))["without_numbers"][0]
    assert (gap["agent"], gap["source"], gap["kind"]) == ("gateway", "imm-01", "source_gap")


async def test_what_there_is_of_single_machines(plant: Running) -> None:
    await tell(plant, waiting(0, 0))
    rows = block(10, series=(SERIES[0], STRANGER))
    await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))
    begin, end = int(rows.source_time[0]) // 10**6, int(rows.source_time[-1]) // 10**6 + 1
    gap = span(
        0, 0, "", "source_gap", count=0, source="imm-01", asset="acme/hk01/moulding", agent_id="gateway"
    )
    await lose(plant, gap | {"from_time": begin * 10**6, "to_time": end * 10**6})
    asked: dict[str, Any] = {"asset": "acme", "from": begin, "to": end}
    found = await plant.get("/v1/ledger/assets", **asked)
    figures = ("stored", "readmitted", "quarantined", "source_gaps")
    assert {one["asset"]: tuple(one[name] for name in figures) for one in found["assets"]} == {
        str(SERIES[0].asset): (5, 0, 0, 1),
        str(STRANGER.asset): (0, 0, 5, 0),
    }
    assert [one["source"] for one in found["source_gaps"]] == ["imm-01"]
    admin = plant.token(Role.ADMIN, "acme")
    done = await plant.client.post("/v1/quarantine/readmit", json={"stream": "s", "seq": 4}, headers=admin)
    assert done.json()["readmitted"] == 1
    found = await plant.get("/v1/ledger/assets", **(asked | {"asset": STRANGER.asset}))
    assert [tuple(one[name] for name in figures) for one in found["assets"]] == [(1, 1, 4, 0)]
    assert (await plant.get("/v1/ledger/assets", **(asked | {"to": begin})))["assets"] == []
    for refused, status in (({"asset": "acme"}, 403), ({"from": "x", "asset": "acme/hk01"}, 400)):
        answer = await plant.client.get(
            "/v1/ledger/assets", params=asked | refused, headers=plant.token(Role.VIEWER, "acme/hk01")
        )
        assert answer.status_code == status
