"""A SampleStore on a database server: points there, everything that has to be exact in the PlantStore."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import numpy as np
import sqlalchemy as sa

from ingest_service.stores import (
    Admitted,
    Buckets,
    Capabilities,
    CommitListener,
    Committed,
    Grid,
    Outcome,
    Position,
    QuarantineSink,
    Raw,
    Run,
    Selector,
    SeriesInfo,
    TimeSpan,
    Watermark,
)
from ingest_service.stores.latest import LatestTable, latest_of
from ingest_service.stores.own_points import Point
from ingest_service.stores.series import SeriesIndex
from ingest_service.stores.server_ledger import ServerLedger
from ingest_service.stores.server_live import Follower, with_texts
from ingest_service.stores.server_points import PointStore
from ingest_service.stores.server_reader import Reader
from ingest_service.stores.server_roller import Roller
from ingest_service.stores.server_writer import Writer
from shopfloor.errors import StoreUnavailable

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
_READERS = 4
_HEARD = 10_000


def _ignore(_seconds: float, _rows: int) -> None:
    return None


class ServerStore:
    """A SampleStore on a server. With a PlantStore on PostgreSQL several processes may have one on the same databases.

    Args:
        points: the server; closed together with this.
        engine: the PlantStore's.
        patience_s: seconds that a group may take; streams are held and waited for so long.
        watched: signals of which other processes are told every sample.
        quarantine: where rows go that the server turns away; without it their batch stays unwritten.
        observe_commit: told the seconds and rows of each group.

    Raises:
        StoreUnavailable: one of the two databases does not answer.
    """

    def __init__(
        self,
        points: PointStore,
        engine: sa.Engine,
        *,
        patience_s: float = 60.0,
        watched: frozenset[str] = frozenset(),
        quarantine: QuarantineSink | None = None,
        observe_commit: Callable[[float, int], None] = _ignore,
    ) -> None:
        self._points = points
        self._ledger = ServerLedger(engine, patience_s)
        self._reader = Reader(points, self._ledger)
        self._closed = False
        self.index = SeriesIndex()
        self.newest = LatestTable()
        self._roller = (
            Roller(points.rollups, engine, self._reader, self.index, self._learn) if points.rollups else None
        )
        self.listeners: list[CommitListener] = [self.newest.update]
        self.heard: deque[tuple[str, list[str]]] = deque(maxlen=_HEARD)
        """Agents and assets that they write, as other processes tell; whoever wants to know takes them out."""
        self._index_lock = threading.Lock()
        self._telling = threading.Lock()
        origin = secrets.token_hex(8)
        self._follower: Follower | None = None
        self._readers = ThreadPoolExecutor(_READERS, "sample-store-reader")
        try:
            points.check()
            if self._ledger.shared:
                self._follower = Follower(engine, origin, self._take, self._hear, self._restore)
            self._restore()
        except BaseException as error:
            self._let_go()
            if isinstance(error, sa.exc.SQLAlchemyError):
                raise StoreUnavailable(f"the plant store failed: {error}") from error
            raise
        self._writer = Writer(
            points,
            self._ledger,
            self.index,
            self._index_lock,
            origin=origin,
            tell=self._tell,
            watched=watched,
            quarantine=quarantine,
            observe_commit=observe_commit,
        )

    @property
    def capabilities(self) -> Capabilities:
        """See `SampleStore.capabilities`."""
        return self._points.capabilities

    def stream_agent(self, stream_id: str) -> str | None:
        """Return the agent that first wrote a stream, as far as this process has met it (`watermark` does)."""
        return self._writer.stream_agents.get(stream_id)

    async def write(self, admitted: Sequence[Admitted]) -> Sequence[Outcome | StoreUnavailable]:
        """See `SampleStore.write`."""
        return await asyncio.gather(*self._writer.submit(admitted))

    async def watermark(self, stream_id: str) -> Watermark:
        """See `SampleStore.watermark`."""
        found = await self._query(self._ledger.stream, stream_id)
        if found is None:
            return Watermark(0, 0)
        self._writer.stream_agents[stream_id] = found[0]
        return Watermark(found[1], found[1])

    async def series(self, selector: Selector) -> Sequence[SeriesInfo]:
        """See `SampleStore.series`."""
        return await self._selected(selector)

    async def latest(self, selector: Selector) -> Raw:
        """See `SampleStore.latest`."""
        return await asyncio.to_thread(latest_of, self.index, self.newest, selector)

    async def read(
        self, selector: Selector, span: TimeSpan, limit: int, after: Position | None = None
    ) -> Raw:
        """See `SampleStore.read`."""
        return await self._query(self._reader.read, await self._selected(selector), span, limit, after)

    async def downsample(self, selector: Selector, grid: Grid, limit: int) -> Buckets:
        """See `SampleStore.downsample`."""
        return await self._query(self._reader.downsample, await self._selected(selector), grid, limit)

    async def before(self, selector: Selector, at_ns: int, within_ns: int) -> Raw:
        """See `SampleStore.before`."""
        span = TimeSpan(max(-(2**63), at_ns - within_ns), at_ns)
        return await self._query(self._reader.before, await self._selected(selector), span)

    async def runs(self, stream_id: str) -> Sequence[Run]:
        """See `SampleStore.runs`."""
        return await self._query(self._ledger.runs, [stream_id], None)

    async def ledger(self, streams: Collection[str] | None, received: TimeSpan) -> Sequence[Run]:
        """See `SampleStore.ledger`."""
        return await self._query(self._ledger.runs, streams, received)

    async def report(self, points: Sequence[Point]) -> None:
        """Write points of the service's own; raises StoreUnavailable."""
        await self._query(self._points.report, points)

    @property
    def has_rollups(self) -> bool:
        """Whether the server keeps rollups."""
        return self._roller is not None

    async def roll_up(self, now_ns: int) -> bool:
        """Do one piece of the work on rollups by hour; tell whether there is more. Raises StoreUnavailable."""
        return self._roller is not None and await self._query(self._roller.step, now_ns)

    async def check(self) -> None:
        """Raise StoreUnavailable where the server does not answer."""
        await self._query(self._points.check)

    async def close(self) -> None:
        """See `SampleStore.close`."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._roller is not None:
            self._roller.close()
        self._writer.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._readers.shutdown()
        self._points.close()

    async def _selected(self, selector: Selector) -> list[SeriesInfo]:
        # A selector that is new is held against every series: too long for the event loop.
        return await asyncio.to_thread(self.index.select, selector)

    async def _query(
        self, function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Answer:
        def run() -> Answer:
            try:
                return function(*args, **kwargs)
            except sa.exc.SQLAlchemyError as error:
                raise StoreUnavailable(f"the plant store failed: {error}", retry_after_s=2.0) from error

        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _tell(self, rows: Committed) -> None:
        # The writer's thread and the follower's both come here; the listeners know of one.
        with self._telling:
            for listener in self.listeners:
                listener(rows)

    def _take(self, rows: Committed, without_text: list[int]) -> None:
        """Take what another process stored; on the follower's thread."""
        self._learn(int(rows.series_id.max()))
        if without_text:
            texts: dict[int, str] = {}
            for row in without_text:
                number, at = int(rows.series_id[row]), int(rows.source_time[row])
                one = SeriesInfo(number, self.index.keys[number - 1])
                found = self._reader.read([one], TimeSpan(at, at + 1), 1)
                for text in found.block.text.values():
                    texts[row] = text
            rows = with_texts(rows, texts)
        self._tell(rows)

    def _hear(self, agent_id: str, assets: list[str]) -> None:
        self.heard.append((agent_id, assets))

    def _learn(self, highest: int) -> None:
        with self._index_lock:
            if highest > len(self.index):
                self.index.restore(self._ledger.series_after(len(self.index)))

    def _restore(self) -> None:
        """Load all series and the newest sample of each."""
        with self._index_lock:
            self.index.restore(self._ledger.series_after(len(self.index)))
        series = self.index.select(Selector())
        newest = self._reader.newest(series)
        block = newest.block
        if len(block):
            ids = np.array([one.id for one in newest.series], np.uint32)[block.series_index]
            self._tell(
                Committed(ids, block.source_time, block.received_time, block.value, block.quality, block.text)
            )
