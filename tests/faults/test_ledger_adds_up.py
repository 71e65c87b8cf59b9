"""The ledger over real parts under faults: a buffer that overflows, answers that are lost, a service that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edge_agent.buffer import BufferStats, Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.delivery import Delivery, DeliveryLimits
from edge_agent.intake import BufferThread, Intake
from edge_agent.uplink import AiohttpExchange, HttpUplink
from ingest_service.auth import Role, create_token
from ingest_service.plant.engine import connect
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import UplinkUnavailable
from shopfloor.messages import BufferReport, Heartbeat, PendingStream
from shopfloor.signal import SeriesKey
from simulators.demo.parts import shopfloor
from tests.faults.actor import Actor
from tests.links import HttpLink
from tests.ports import free_port

pytestmark = pytest.mark.timeout(240)

T0 = 1_760_000_000_000_000_000
SITE = "acme/hk01"
SERIES = (
    SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "x"),
    SeriesKey(parse_asset("acme/dg01/moulding/cell-a/imm-07"), "x"),
)
WORDS = 160
SAMPLES = 200
"""A word of the source: so many samples at once; every tenth belongs to another site."""


def word(number: int) -> SampleBlock:
    """Return samples whose time is their number: no two are alike, wherever they end."""
    numbers = np.arange(number * SAMPLES, (number + 1) * SAMPLES)
    random_values = np.random.default_rng(number).random(SAMPLES)
    return make_block(
        SERIES, (numbers % 10 == 3).astype(np.uint32), T0 + numbers, T0 + numbers, random_values
    )


class Agent:
    """Buffer and delivery of an agent, and its heartbeats."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.executor = ThreadPoolExecutor(1)
        limits = BufferLimits(max_bytes=100_000, disk_reserve_bytes=0, repeat_window_samples=1000)
        self.buffer = SqliteBuffer(folder, limits, "gateway")
        self.thread = BufferThread(self.buffer, self.executor)
        self.exchange = AiohttpExchange(url, token, timeout_s=2.0)
        self.uplink = HttpUplink(self.exchange, agent_id="gateway")
        self.intake = Intake(self.thread)
        pace = DeliveryLimits(batch_samples=700, linger_s=0.0, retry_first_s=0.02, retry_limit_s=0.2)
        self.delivery = Delivery(self.thread, self.intake, self.uplink, pace)

    async def stats(self) -> BufferStats:
        return await self.thread.call(lambda buffer: buffer.stats())

    async def report(self) -> None:
        stats = await self.stats()
        buffer = BufferReport(
            streams=stats.streams,
            pending_samples=stats.pending_samples,
            oldest_pending_time=stats.oldest_pending_time,
            used_bytes=stats.used_bytes,
            limit_bytes=stats.limit_bytes,
            hours_left=None,
            pending=tuple(PendingStream(*one) for one in stats.pending or ()),
            waiting_spans=stats.waiting_spans,
        )
        await self.uplink.send_heartbeat(
            Heartbeat(
                agent_id="gateway",
                asset=SITE,
                version="1",
                wire_version=1,
                config_hash="h",
                started=0,
                sent=time.time_ns(),
                buffer=buffer,
            )
        )

    async def report_for_ever(self) -> None:
        while True:
            with contextlib.suppress(UplinkUnavailable):
                await self.report()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self.exchange.close()
        self.buffer.close()
        self.executor.shutdown()


class World:
    """A service in a process of its own, an agent here, and a link between them that misbehaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.link = HttpLink(self.port)
        config = folder / "ingest.yaml"
        config.write_text(f"listen: 127.0.0.1:{self.port}\ndata: data\n")
        (folder / "data").mkdir()
        engine = connect(folder / "data" / "plant.sqlite")
        self.viewer = create_token(engine, Role.VIEWER, "acme", "viewer")
        token = create_token(engine, Role.AGENT, SITE, "gateway")
        engine.dispose()
        self.service = Actor("ingest", folder, lambda: shopfloor("ingest", "serve", str(config)))
        self.agent = Agent(folder / "buffer", f"http://127.0.0.1:{self.link.port}", token)

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as client:
            answer = await client.get(
                path, params=parameters, headers={"Authorization": f"Bearer {self.viewer}"}
            )
        assert answer.status_code == 200, answer.text
        return answer

    async def ledger(self) -> dict[str, Any]:
        total: dict[str, Any] = (await self.get("/v1/ledger")).json()["total"]
        parts = ("stored", "quarantined", "dropped", "pending", "missing")
        assert total["handed_over"] == sum(total[part] for part in parts), total
        return total

    async def until_delivered(self) -> None:
        async with asyncio.timeout(120):
            while (stats := await self.agent.stats()).pending_samples or stats.waiting_spans:
                await asyncio.sleep(0.05)

    def restart(self) -> None:
        self.service.kill()
        self.service.start()

    async def is_up(self) -> None:
        async with asyncio.timeout(120), httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    world.service.start()
    await world.link.start()
    agent = world.agent
    runs = [agent.intake.run, agent.delivery.run_live, agent.delivery.run_backlog, agent.report_for_ever]
    try:
        await world.is_up()
        # Known from the first word on: of an agent that nobody knows, a batch wholly outside is refused.
        await agent.report()
        tasks = [asyncio.create_task(run()) for run in runs]
        yield world
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await agent.close()
        await world.link.stop()
        await asyncio.to_thread(world.service.kill)


async def test_every_sample_is_in_one_place_and_the_ledger_says_in_which(world: World) -> None:
    link = world.link
    faults: dict[int, Callable[[], object]] = {
        10: lambda: setattr(link, "loses_answers", True),
        20: link.heal,
        30: link.reset,
        40: link.cut,  # for longer than the buffer has room
        110: link.heal,
        120: world.restart,
        140: link.swallow,
        150: link.heal,
    }
    for number in range(WORDS):
        await world.agent.intake.put(Parcel(word(number)))
        if number in faults:
            await asyncio.to_thread(faults[number]) if number == 120 else faults[number]()
        await asyncio.sleep(0.005)
    await world.is_up()
    await world.until_delivered()
    await world.agent.report()

    stats = await world.agent.stats()
    total = await world.ledger()
    handed_over = WORDS * SAMPLES
    assert total["handed_over"] == handed_over == stats.appended_samples_total
    assert (total["missing"], total["pending"]) == (0, 0)
    assert total["dropped"] == stats.dropped_samples_total > 0, "the buffer was made to overflow"
    assert total["quarantined"] > 0
    stored = await numbers(world, "/v1/samples", format="csv", **{"from": 0, "to": 2**42})
    aside = await numbers(world, "/v1/quarantine/export", format="csv")
    assert (len(stored), len(aside)) == (total["stored"], total["quarantined"])
    everything = stored + aside
    assert len(set(everything)) == len(everything), "nothing is in two places"
    assert all(number % 10 == 3 for number in aside)
    assert len(everything) + total["dropped"] == handed_over


async def numbers(world: World, path: str, **parameters: Any) -> list[int]:
    text = (await world.get(path, **parameters)).text
    rows = csv.DictReader(io.StringIO(text))
    column = next(name for name in rows.fieldnames or () if name.startswith("source_time"))
    # Nanoseconds of one second: as a number of them since 1970, or behind the point of a time in ISO 8601.
    return [int(row[column].rpartition(".")[2].rstrip("Z")) % 10**9 for row in rows]
