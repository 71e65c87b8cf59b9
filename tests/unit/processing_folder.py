"""A sink with rules over a real buffer, whose folder outlives the process; for the tests of processing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Never

from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.intake import BufferThread, Intake
from edge_agent.processing.config import RuleConfig
from edge_agent.processing.stage import Moment, make_stage
from edge_agent.sink import SourceSink
from edge_agent.sources import BlockSink, Source
from shopfloor.block import Sample
from shopfloor.messages import Lane, SeriesDeclaration
from tests.unit.processing_runs import BEGIN, plain

SCOPE: Final = "scope"


class Quiet:
    """A source of which only its name and protocol matter."""

    name, assets = "s", ()

    def __init__(self, protocol: str = "mqtt") -> None:
        self.protocol = protocol

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        return ()

    async def run(self, sink: BlockSink) -> Never:
        raise AssertionError(sink)


def make(
    disk: Any,
    *rules: Mapping[str, Any],
    saved: dict[str, bytes] | None = None,
    protocol: str = "mqtt",
    source: Source | None = None,
) -> SourceSink:
    """Return a sink with rules; its clocks stand still unless it is that of a real source."""
    saved = saved or {}
    stage = make_stage([RuleConfig.model_validate(rule) for rule in rules], "s", protocol, saved)
    sink = SourceSink(source or Quiet(protocol), disk, SCOPE, saved, Counter(), stage)
    if source is None:
        sink.moment = lambda: Moment(BEGIN, 0)
    return sink


class Folder:
    """An agent's disk, over several lives of its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stored: list[Sample] = []
        self.repeats = 0

    @asynccontextmanager
    async def life(
        self, *rules: Mapping[str, Any], source: Source | None = None
    ) -> AsyncIterator[SourceSink]:
        """One life; leaving the context is a kill."""
        with ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            limits = BufferLimits(disk_reserve_bytes=0)
            buffer = await loop.run_in_executor(executor, SqliteBuffer, self._folder, limits, "a")
            thread = BufferThread(buffer, executor)
            intake = Intake(thread)
            saved = await thread.call(lambda buffer: buffer.state(SCOPE))
            writing = asyncio.create_task(intake.run())
            try:
                yield make(intake, *rules, saved=saved, source=source)
            finally:
                writing.cancel()
                await asyncio.wait([writing])
                await loop.run_in_executor(executor, self._drain, buffer)

    def _drain(self, buffer: SqliteBuffer) -> None:
        for lane in Lane:
            while (batch := buffer.peek(1_000, lane)) is not None:
                self.stored += map(plain, batch.block.rows())
                buffer.commit(batch.stream_id, batch.last_seq)
        self.repeats += buffer.stats().repeats_total
        buffer.close()
