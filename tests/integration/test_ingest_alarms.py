"""Alarms as operators meet them: listed, pushed to open pages, acknowledged, over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest_service.auth import Role
from tests.integration.ingest_server import Running, batch, heartbeat, running


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as one:
        yield one


async def alarms(plant: Running, count: int, **parameters: Any) -> list[dict[str, Any]]:
    """Return the alarms as soon as there are so many."""
    async with asyncio.timeout(60):
        while True:
            found: list[dict[str, Any]] = (await plant.get("/v1/alarms", **parameters))["alarms"]
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def leave_a_gap(plant: Running) -> None:
    assert (
        await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    ).status_code == 200
    await plant.post(batch())
    await plant.post(batch(21))


async def test_a_gap_is_an_alarm_until_an_operator_has_seen_it(plant: Running) -> None:
    events: list[dict[str, Any]] = []

    async def watch() -> None:
        async with plant.client.stream("GET", "/v1/live", headers=plant.viewer) as answer:
            name = ""
            async for line in answer.aiter_lines():
                name = line[7:] if line.startswith("event: ") else name
                if line.startswith("data: ") and name == "alarms":
                    events.append(json.loads(line[6:]))
                    if len(events) == 3:
                        return

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(60):
        while not events:
            await asyncio.sleep(0.02)
    assert events == [{"alarms": []}]
    await leave_a_gap(plant)
    (alarm,) = await alarms(plant, 1)
    assert (alarm["kind"], alarm["subject"], alarm["asset"], alarm["until"]) == (
        "gap",
        "stream-1",
        "acme/hk01",
        None,
    )
    assert await plant.metric('shopfloor_ingest_alarms{kind="gap"}') == 1
    path = f"/v1/alarms/{alarm['id']}/acknowledge"
    operator = plant.token(Role.OPERATOR, "acme/hk01")
    assert (await plant.client.post(path, headers=plant.viewer)).status_code == 403
    elsewhere = plant.token(Role.OPERATOR, "acme/dg01")
    assert (await plant.client.post(path, headers=elsewhere)).status_code == 404
    assert (await plant.client.post("/v1/alarms/x/acknowledge", headers=operator)).status_code == 404
    answer = await plant.client.post(path, headers=operator)
    assert answer.status_code == 200
    assert answer.json()["acknowledged_by"].startswith("token ")
    await alarms(plant, 0)
    (over,) = await alarms(plant, 1, state="over")
    assert over["id"] == alarm["id"]
    assert over["until"] >= over["since"]
    async with asyncio.timeout(60):
        await watching
    assert [[one["until"] is not None for one in event["alarms"]] for event in events] == [
        [],
        [False],
        [True],
    ]


async def test_alarms_outlive_a_restart_and_are_only_shown_in_reach(tmp_path: Path) -> None:
    async with running(tmp_path) as plant:
        await leave_a_gap(plant)
        (before,) = await alarms(plant, 1)
    async with running(tmp_path) as plant:
        assert await alarms(plant, 1) == [before]
        assert (await plant.get("/v1/alarms", plant.token(Role.VIEWER, "acme/dg01")))["alarms"] == []
        assert (await plant.get("/v1/alarms", state="all"))["alarms"] == [before]
        answer = await plant.client.get(
            "/v1/alarms", params={"state": "all", "cursor": "x"}, headers=plant.viewer
        )
        assert answer.status_code == 400
