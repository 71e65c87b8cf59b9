"""Sources that count, over a real buffer; for the tests of what is started, exchanged and stopped."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Never

from edge_agent.buffer import Buffer
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.config import Config, SourceConfig
from edge_agent.intake import BufferThread, Intake
from edge_agent.running import RunningSources
from edge_agent.sources import BlockSink
from shopfloor.asset import parse_asset
from shopfloor.block import Sample, block_of
from shopfloor.messages import Lane, SeriesDeclaration, SourceState
from shopfloor.signal import SeriesKey

BEGIN: Final = time.time_ns() - 3_600 * 10**9


class Counting:
    """A source that hands over 0, 1, 2, … at the pace of the disk, and saves with each how far it is."""

    protocol = "mqtt"

    def __init__(self, entry: SourceConfig, lives: dict[str, list[Counting]]) -> None:
        assert entry.mqtt is not None
        self.name = entry.mqtt.name
        self.assets = (str(entry.mqtt.topics[0].asset),)
        self.series = SeriesKey(parse_asset(self.assets[0]), entry.mqtt.topics[0].signals[0].signal)
        self.began_at = -1
        self.said = 0
        self.speaks = asyncio.Event()
        """Cleared while a test wants it to have nothing to say."""
        self.speaks.set()
        self.ended = asyncio.Event()
        self.lets_go = asyncio.Event()
        """Set unless a test wants this source not to end when it is told to."""
        self.lets_go.set()
        lives[self.name].append(self)

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        return (SeriesDeclaration(str(self.series.asset), self.series.signal),)

    async def run(self, sink: BlockSink) -> Never:
        at = self.began_at = int(sink.state().get("at", b"0"))
        sink.report(SourceState.RUNNING)
        try:
            while True:
                await self.speaks.wait()
                now = BEGIN + at * 1_000_000
                row = Sample(self.series, now, now, float(at), 0, 0)
                at += 1
                await sink.put(block_of([row]), {"at": str(at).encode()})
                self.said += 1
                sink.count("message")
                await asyncio.sleep(0.001)
        finally:
            while not self.lets_go.is_set():
                try:
                    await self.lets_go.wait()
                except asyncio.CancelledError:
                    sink.count("ignored_cancellation")
            self.ended.set()


class Site:
    """All that runs, and what was handed over so far."""

    def __init__(
        self, sources: RunningSources, thread: BufferThread, events: Counter[tuple[str, str]]
    ) -> None:
        self.sources, self.events = sources, events
        self._thread = thread
        self.lives: dict[str, list[Counting]] = defaultdict(list)
        self.stored: dict[str, list[float]] = defaultdict(list)

    async def change_to(self, config: Config) -> tuple[tuple[str, ...], ...]:
        changes = self.sources.changes(config)
        made = self.sources.make(config, (*changes.added, *changes.restarted))
        await self.sources.change_to(config, changes, made)
        return tuple(changes)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def said(self, number: int = 5) -> None:
        """Wait until the newest life of every source has handed over something."""
        await self.until(lambda: all(sink.source.said >= number for sink in self.sources.sinks))  # type: ignore[attr-defined]

    async def drain(self) -> int:
        """Take out of the buffer all that it holds; return how many repeats it has recognised."""
        rows, repeats = await self._thread.call(_drain)
        for row in rows:
            self.stored[f"{row.series.asset} {row.series.signal}"].append(row.value)
        return repeats


@asynccontextmanager
async def site(folder: Path, *, stop_within_s: float = 30.0) -> AsyncIterator[Site]:
    events: Counter[tuple[str, str]] = Counter()
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        limits = BufferLimits(disk_reserve_bytes=0)
        buffer = await loop.run_in_executor(executor, SqliteBuffer, folder, limits, "a")
        thread = BufferThread(buffer, executor)
        intake = Intake(thread)
        made: list[Site] = []

        def make(entry: SourceConfig, _config: Config) -> Any:
            return Counting(entry, made[0].lives)

        sources = RunningSources(intake, thread, events, make=make, stop_within_s=stop_within_s)
        made.append(Site(sources, thread, events))
        writing = asyncio.create_task(intake.run())
        try:
            yield made[0]
        finally:
            await sources.stop()
            writing.cancel()
            await asyncio.wait([writing])
            await loop.run_in_executor(executor, buffer.close)


def _drain(buffer: Buffer) -> tuple[list[Sample], int]:
    rows: list[Sample] = []
    for lane in (Lane.BACKLOG, Lane.LIVE):
        while (batch := buffer.peek(10_000, lane)) is not None:
            rows += batch.block.rows()
            buffer.commit(batch.stream_id, batch.last_seq)
    return rows, buffer.stats().repeats_total


def config(*sources: dict[str, Any], processing: list[dict[str, Any]] | None = None, **more: Any) -> Config:
    """Return a configuration with MQTT sources."""
    return Config.model_validate(
        {
            "agent": {"id": "a", "asset": "acme/hk01"},
            "data": "/nowhere",
            "uplink": {"url": "http://127.0.0.1:1", "token": "${TOKEN}"},
            "status": None,
            "sources": [{"mqtt": each} for each in sources],
            "processing": processing or [],
            **more,
        }
    )


def mqtt(
    name: str, *, broker: str = "", cell: str = "", signal: str = "count.total", **more: Any
) -> dict[str, Any]:
    """Return an MQTT source; its broker and its cell are those of its name unless told otherwise."""
    return {
        "name": name,
        "broker": f"mqtt://{broker or name}:1883",
        "client_id": "gateway",
        "topics": [
            {
                "topic": f"m/{cell or name}",
                "asset": f"acme/hk01/a/l/{cell or name}",
                "signals": [{"path": "n", "signal": signal}],
            }
        ],
        **more,
    }
