"""Server-sent events against a real server; restarts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from shopfloor import signal as names
from shopfloor.block import make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.integration.ingest_server import IMM, Running, batch, heartbeat, running


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    sites = [{"asset": "acme/hk01", "name": "Hong Kong", "time_zone": "Asia/Hong_Kong"}]
    async with running(tmp_path, sites=sites) as one:
        yield one


class Page:
    """A viewer that reads server-sent events."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        line = await anext(self._lines)
        while line.startswith("id: "):
            self.last_id = line.removeprefix("id: ")
            assert await anext(self._lines) == ""
            line = await anext(self._lines)
        name = line.removeprefix("event: ")
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
        start = [await viewer.next() for _ in range(7)]
        assert [name for name, _ in start] == [
            "hello",
            "series",
            "values",
            "machines",
            "sites",
            "alarms",
            "agents",
        ]
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


async def test_a_unit_that_is_declared_later_reaches_open_pages(plant: Running) -> None:
    await plant.post(batch())
    async with page(plant) as viewer:
        series = await viewer.until("series")
        await viewer.until("agents")
        one = {"asset": series["asset"][0], "signal": series["signal"][0], "unit": "bar", "description": ""}
        body = {"agent_id": "gateway", "config_hash": "h", "series": [one]}
        answer = await plant.client.put("/v1/declarations", json=body, headers=plant.agent)
        assert answer.status_code == 204, answer.text
        # A page that opened before the batch's own tick is told of both series once more first.
        while series["unit"][:1] != ["bar"]:
            series = await viewer.until("series")
        assert (series["asset"][0], series["signal"][0]) == (one["asset"], one["signal"])


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


async def test_a_page_that_comes_back_goes_on_where_it_left_off(plant: Running) -> None:
    await plant.post(batch())
    async with page(plant) as viewer:
        await viewer.until("ping")
    last_id, resumed, ids = viewer.last_id, False, [0]
    deadline = time.monotonic() + 60
    while ids and time.monotonic() < deadline:
        # Values that stood in a snapshot before their tick come once more; then no more.
        headers = {**plant.viewer, "Last-Event-ID": last_id}
        async with plant.client.stream("GET", "/v1/live", headers=headers) as answer:
            again = Page(answer.aiter_lines())
            resumed = (await again.until("hello"))["resumed"]
            ids = (await again.until("values"))["id"]
            await again.until("ping")
            last_id = again.last_id
    assert resumed is True
    assert ids == []
