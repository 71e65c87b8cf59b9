"""An edge agent around one source: the real sink, intake and buffer, which a test can hold up, break and kill."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pytest

from edge_agent.agent import SourceSink
from edge_agent.buffer import Buffer
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.intake import BufferThread, Intake
from edge_agent.sources import Source
from shopfloor.block import Quality, Sample, SampleBlock, problems
from shopfloor.errors import SourceUnavailable, StoreUnavailable
from shopfloor.messages import Lane, SourceState, SpanRecord

_SCOPE: Final = "scope"
_PATIENCE_S: Final = 30.0
_LIMITS: Final = BufferLimits(disk_reserve_bytes=0)


class Agent:
    """A BlockSink. Its folder outlives its lives, and what left the buffer is not forgotten here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sink: SourceSink | None = None
        self._thread: BufferThread | None = None
        self._earlier = (0, 0)
        self.hold_before = False
        """Whether puts of samples wait before anything is stored."""
        self.hold_after = False
        """Whether puts of numbers wait although everything is stored."""
        self.refusing = False
        self.waiting = 0
        """Puts that are held now."""
        self.puts = 0
        self.delivered: list[Sample] = []
        """What left the buffer, as the service would get it."""
        self.gaps: list[SpanRecord] = []
        self.repeats = 0
        self.moved = 0
        self.reports: list[tuple[SourceState, str]] = []
        self.counts: Counter[str] = Counter()

    @property
    def numbers(self) -> list[Sample]:
        """The good numbers delivered, without the 0 that a variable holds before its machine says anything."""
        return [row for row in self.delivered if row.quality == Quality.GOOD and abs(row.value) > 0]

    @property
    def is_running(self) -> bool:
        """Whether the source says that it works."""
        return bool(self.reports) and self.reports[-1][0] is SourceState.RUNNING

    @asynccontextmanager
    async def alive(self, source: Source) -> AsyncIterator[None]:
        """One life of the process; leaving the context is a kill, after which the disk alone knows anything."""
        with ThreadPoolExecutor(1, "buffer") as executor:
            loop = asyncio.get_running_loop()
            buffer = await loop.run_in_executor(executor, SqliteBuffer, self._folder, _LIMITS, "agent")
            self._thread = BufferThread(buffer, executor)
            intake = Intake(self._thread)
            saved = await self._thread.call(lambda buffer: buffer.state(_SCOPE))
            self._sink = SourceSink(source, intake, _SCOPE, saved, Counter())
            self._earlier = (self.repeats, self.moved)
            writer = asyncio.create_task(intake.run())
            try:
                yield
            finally:
                writer.cancel()
                await asyncio.wait([writer])
                await self._deliver()
                await self._thread.call(lambda buffer: buffer.close())
                self._sink = self._thread = None

    @asynccontextmanager
    async def running(self, source: Source) -> AsyncIterator[asyncio.Task[Any]]:
        """Run a source, from its first RUNNING on; cancelled when the context is left.

        Until then it may be unavailable: brokers refuse a client whose last connection they are still tidying up.
        """
        task = await self._start(source)
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _start(self, source: Source) -> asyncio.Task[Any]:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                self.reports.clear()
                task: asyncio.Task[Any] = asyncio.create_task(source.run(self))
                try:
                    while not self.is_running and not task.done():
                        await asyncio.sleep(0.01)
                    if self.is_running:
                        return task
                    with suppress(SourceUnavailable):
                        task.result()
                except BaseException:
                    task.cancel()
                    await asyncio.wait([task])
                    raise
                await asyncio.sleep(0.1)

    async def until(
        self,
        condition: Callable[[], bool],
        what: Callable[[], str],
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        """Wait for something that this agent can see; raises what ended ``task``, which must not end before."""
        deadline = time.monotonic() + _PATIENCE_S
        await self._deliver()
        while not condition():
            if task is not None and task.done():
                task.result()
            if time.monotonic() > deadline:
                pytest.fail(
                    f"after {_PATIENCE_S:g} s not yet {what()}; reports {self.reports}, counts {self.counts}"
                )
            await asyncio.sleep(0.01)
            await self._deliver()

    async def _deliver(self) -> None:
        """Take everything out of the buffer, as the uplink does."""
        assert self._thread is not None
        rows, gaps, repeats, moved = await self._thread.call(_drain)
        self.delivered += rows
        self.gaps += gaps
        self.repeats, self.moved = self._earlier[0] + repeats, self._earlier[1] + moved

    # What the source is given

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        assert self._sink is not None
        assert problems(block) == []
        await self._hold("hold_before", block)
        if self.refusing:
            raise StoreUnavailable("the disk is full")
        await self._sink.put(block, state)
        self.puts += 1
        # What variables hold before their machines say anything may come at any time: nobody waits for it.
        if (np.abs(block.value) > 0).any():
            await self._hold("hold_after", block)

    async def _hold(self, which: str, block: SampleBlock) -> None:
        if not len(block) or not getattr(self, which):
            return
        self.waiting += 1
        try:
            while getattr(self, which):
                await asyncio.sleep(0.01)
        finally:
            self.waiting -= 1

    def state(self) -> Mapping[str, bytes]:
        assert self._sink is not None
        return MappingProxyType(dict(self._sink.state()))

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None:
        assert self._sink is not None
        await self._sink.gap(reason, from_time, to_time, asset=asset, count=count)

    def report(self, state: SourceState, message: str = "") -> None:
        assert self._sink is not None
        self._sink.report(state, message)
        self.reports.append((state, message))

    def clock_offset(self, offset_ns: int) -> None:
        assert self._sink is not None
        self._sink.clock_offset(offset_ns)

    def count(self, what: str, number: int = 1) -> None:
        assert self._sink is not None
        self._sink.count(what, number)
        self.counts[what] += number


def _drain(buffer: Buffer) -> tuple[list[Sample], list[SpanRecord], int, int]:
    rows: list[Sample] = []
    for lane in Lane:
        while (batch := buffer.peek(10_000, lane)) is not None:
            rows += batch.block.rows()
            buffer.commit(batch.stream_id, batch.last_seq)
    gaps = buffer.spans(100)
    if gaps:
        buffer.commit_spans([gap.record_id for gap in gaps])
    stats = buffer.stats()
    return rows, gaps, stats.repeats_total, stats.moved_total
