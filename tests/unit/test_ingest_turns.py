"""Admission in front of a store that is slow: whoever floods, stalls or sends rubbish waits behind itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from ingest_service.admission import Admission
from ingest_service.auth import Identity, Role
from ingest_service.fairness import FairGate
from ingest_service.metrics import Metrics
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Admitted, Outcome, SampleStore, Watermark
from ingest_service.stores.duckdb_group import plan_batch
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane, Receipt
from shopfloor.signal import SeriesKey
from tests.plant_database import empty_plant

T0 = 1_760_000_000_000_000_000
SERIES = (SeriesKey(parse_asset("acme/hk01"), "x"),)


class SlowStore:
    """Writes one call at a time, each when the test lets it."""

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}
        self.written: list[str] = []
        self.inside: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def watermark(self, stream_id: str) -> Watermark:
        mark = self.marks.get(stream_id, 0)
        return Watermark(mark, mark)

    async def write(self, admitted: Sequence[Admitted]) -> Sequence[Outcome | StoreUnavailable]:
        leave = asyncio.Event()
        await self.inside.put(leave)
        await leave.wait()
        outcomes = []
        for one in admitted:
            stream = one.batch.stream_id
            outcomes.append(plan_batch(one, self.marks.get(stream, 0)).outcome)
            self.marks[stream] = outcomes[-1].received_through
            self.written.append(one.batch.agent_id)
        return outcomes

    async def let_one_through(self) -> None:
        (await self.inside.get()).set()


class Everybody:
    def asset_of(self, agent_id: str) -> str | None:
        return f"acme/{agent_id[:4]}" if agent_id.startswith("hk") else None

    def has_reported(self, agent_id: str) -> bool:
        return bool(agent_id)

    def stream_agent(self, stream_id: str) -> str | None:
        return stream_id.partition(".")[0] if stream_id.startswith("known") else None


class World:
    def __init__(self, plant: PlantStore) -> None:
        self.store = SlowStore()
        self.admission = Admission(
            cast("SampleStore", self.store),
            plant,
            Everybody(),
            Metrics(),
            series_limit=1000,
            series_known=lambda _: ([], 0),
            quarantine_limit=100_000,
            clock_ns=lambda: T0,
            gate=FairGate(open_rows=10),
        )
        self.tasks: list[asyncio.Task[Any]] = []

    def send(self, token: int, agent: str, stream: str, *, rubbish: bool = False) -> asyncio.Task[Receipt]:
        values = np.full(10, np.inf) if rubbish else np.arange(10.0)
        batch = Batch(agent, stream, Lane.LIVE, 1, make_block(SERIES, np.zeros(10), T0, T0, values))
        identity = Identity(token, Role.AGENT, "acme/hk01", agent)
        task = asyncio.create_task(self.admission.admit(batch, identity))
        self.tasks.append(task)
        return task


@asynccontextmanager
async def world_of(folder: Path) -> AsyncIterator[World]:
    plant = PlantStore(empty_plant(folder / "plant.sqlite"))
    world = World(plant)
    try:
        yield world
    finally:
        for task in world.tasks:
            task.cancel()
        await asyncio.gather(*world.tasks, return_exceptions=True)
        plant.close()


async def waiting(world: World, batches: int) -> None:
    """Return as soon as so many batches wait for their turn."""
    async with asyncio.timeout(60):
        while world.admission.gate.waiting < batches:
            await asyncio.sleep(0.01)


async def serve_until(world: World, done: asyncio.Task[Receipt]) -> int:
    """Let the store go on until somebody has its receipt; return how many writes that took."""
    writes = 0
    async with asyncio.timeout(60):
        while not done.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await world.store.let_one_through()
                    writes += 1
            await asyncio.sleep(0)
    return writes


async def test_an_agent_that_floods_does_not_hold_up_another(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        for number in range(100):
            world.send(1, "flood", f"f.{number}")
        await waiting(world, 99)
        quiet = world.send(2, "quiet", "q")
        await waiting(world, 100)
        await serve_until(world, quiet)
        assert quiet.result().durable_through == 10
        assert world.store.written.count("flood") <= 3


async def test_an_agent_that_sends_rubbish_does_not_hold_up_another(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        for number in range(50):
            world.send(1, "rubbish", f"r.{number}", rubbish=True)
        await asyncio.sleep(0)
        quiet = world.send(2, "quiet", "q")
        await serve_until(world, quiet)
        assert quiet.result().rejected == 0
        assert world.store.written.count("rubbish") < 50


async def test_a_store_that_fails_gives_its_room_back(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:

        async def fail(_: object) -> list[StoreUnavailable]:
            return [StoreUnavailable("disk full")]

        world.store.write, write = fail, world.store.write  # type: ignore[method-assign, assignment]
        answers = [world.send(1, "a", f"a.{number}") for number in range(5)]
        assert all(
            isinstance(one, StoreUnavailable)
            for one in await asyncio.gather(*answers, return_exceptions=True)
        )
        world.store.write = write  # type: ignore[method-assign]
        again = world.send(1, "a", "a.9")
        await serve_until(world, again)
        assert again.result().durable_through == 10
        assert world.admission.gate.waiting == 0
