"""The embedded store: one DuckDB file, owned by this process. Acknowledged is durable: rows and ledger in one commit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import duckdb

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
from ingest_service.stores import duckdb_reader as reader
from ingest_service.stores.duckdb_backup import PLANT, back_up, verify
from ingest_service.stores.duckdb_catalog import Pins, next_part_id, remove_stray_files
from ingest_service.stores.duckdb_compactor import Backlog, Compactor
from ingest_service.stores.duckdb_downsample import downsample
from ingest_service.stores.duckdb_keeping import Classes, Rule
from ingest_service.stores.duckdb_ledger import read_ledger
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_requests import RequestFolder
from ingest_service.stores.duckdb_run import Workshop
from ingest_service.stores.duckdb_schema import (
    Tuning,
    begin_hot,
    connect,
    hots,
    load_newest,
    load_series,
    load_stream_agents,
    load_watermarks,
    shrink,
)
from ingest_service.stores.duckdb_writer import Writer
from ingest_service.stores.labels import Labels
from ingest_service.stores.latest import LatestTable, latest_of
from ingest_service.stores.series import SeriesIndex
from shopfloor.errors import StoreUnavailable

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


_FOR_INDEXES: Final = 6
"""Share of the memory that may be taken for where series stand in the files."""


def _nothing(_step: str) -> None:
    return None


def _ignore(_seconds: float, _rows: int) -> None:
    return None


class DuckDBStore:
    """A SampleStore on one file; `docs/specs/http-api.md` says what its readers see.

    Args:
        path: the database file, created where it is missing.
        tuning: memory, threads, checkpoints.
        quarantine: where rows go that the database itself refuses; without it their batch stays unwritten.
        observe_commit: told the seconds and rows of each commit.
        rules: retention; the first rule that means a series counts for it.
        clock_ns: UTC ns.
        at: told of each step of writing and rewriting, for tests.

    Raises:
        StoreUnavailable: the file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        tuning: Tuning | None = None,
        *,
        quarantine: QuarantineSink | None = None,
        observe_commit: Callable[[float, int], None] = _ignore,
        rules: Sequence[Rule] = (),
        clock_ns: Callable[[], int] = time.time_ns,
        at: Callable[[str], None] = _nothing,
    ) -> None:
        self._path = path
        self._tuning = tuning or Tuning()
        self.folder = path.with_suffix("")
        """Where the Parquet files lie."""
        shrink(path)
        self._connection = connect(path, self._tuning)
        self._lock = threading.Lock()
        self._closed = False
        self.index = SeriesIndex()
        self.newest = LatestTable()
        self.listeners: list[CommitListener] = [self.newest.update]
        self.index.restore(load_series(self._connection))
        self._pins = Pins()
        self._files = PartReader(self.folder, self._tuning.memory_bytes // _FOR_INDEXES)
        hot = hots(self._connection)
        self._files.hot.remove_strays(hot)
        remove_stray_files(self.folder, self._connection)
        self._restore_newest()
        if self._files.hot.problems(hot[-1:]):
            # Nothing is appended to what is damaged.
            hot.append(begin_hot(self._connection, self._files.hot, hot[-1].number + 1))
        self._readers = ThreadPoolExecutor(2, "sample-store-reader")
        self._writer = Writer(
            self._connection,
            self._reopen,
            self.index,
            load_watermarks(self._connection),
            load_stream_agents(self._connection),
            self.listeners,
            quarantine,
            observe_commit,
            self._files.hot,
            hot[-1],
            self._tuning.hot_rows if self._tuning.compaction else math.inf,
            self._tuning.hot_commits if self._tuning.compaction else math.inf,
            lambda: shutil.disk_usage(path.parent).free,
            self._tuning.reserve_bytes,
            at,
        )

        ids = itertools.count(next_part_id(self._connection))
        self._compactor = Compactor(
            lambda rest: Workshop(
                self.folder,
                self.index,
                self.newest,
                self._files,
                Classes(rules, self.index),
                self._tuning.part_rows,
                self._tuning.least_rows,
                lambda: next(ids),
                clock_ns,
                at,
                Labels(self.index.keys),
                rest,
            ),
            self._cursor,
            self._writer,
            self._pins,
            self._tuning,
        )
        self._requests = RequestFolder(
            path.parent, {"backup": self._answer_backup, "verify": lambda _: self._verify()}
        )

    @property
    def capabilities(self) -> Capabilities:
        """Everything comes back as it went in, once the write returned."""
        return Capabilities(1, True, True, None, None, "on_write")

    def stream_agent(self, stream_id: str) -> str | None:
        """Return the agent that first wrote a stream."""
        return self._writer.stream_agents.get(stream_id)

    async def write(self, admitted: Sequence[Admitted]) -> Sequence[Outcome | StoreUnavailable]:
        """See `SampleStore.write`."""
        futures = self._writer.submit(admitted)
        return await asyncio.gather(*futures)

    async def watermark(self, stream_id: str) -> Watermark:
        """See `SampleStore.watermark`."""
        mark = self._writer.watermarks.get(stream_id, 0)
        return Watermark(mark, mark)

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
        return await self._query(
            reader.read_samples, self._files, await self._selected(selector), span, limit, after
        )

    async def downsample(self, selector: Selector, grid: Grid, limit: int) -> Buckets:
        """See `SampleStore.downsample`."""
        return await self._query(downsample, self._files, await self._selected(selector), grid, limit)

    async def before(self, selector: Selector, at_ns: int, within_ns: int) -> Raw:
        """See `SampleStore.before`."""
        return await self._query(
            reader.read_before, self._files, await self._selected(selector), at_ns, within_ns
        )

    async def runs(self, stream_id: str) -> Sequence[Run]:
        """See `SampleStore.runs`."""
        return await self._query(reader.read_runs, stream_id)

    async def ledger(self, streams: Collection[str] | None, received: TimeSpan) -> Sequence[Run]:
        """See `SampleStore.ledger`."""
        return await self._query(read_ledger, streams, received)

    async def check(self) -> None:
        """Raise StoreUnavailable where the database does not answer."""
        await self._query(reader.answer)

    async def compact(self) -> None:
        """Rewrite all there is now as files: no hot row stays, and each day becomes as few files as there can be."""
        await asyncio.wrap_future(self._compactor.ask(self._compactor.settle))

    async def back_up(self, to: Path) -> dict[str, Any]:
        """Copy the store as it is now, and the plant model beside it, into a new folder; return the manifest.

        Raises:
            StoreUnavailable, OSError: the copy can't be made; nothing of the store is changed.
        """
        return await asyncio.to_thread(self._back_up, to)

    async def verify(self) -> list[str]:
        """Compare files with their checksums and samples with the ledger; return what is wrong."""
        return await asyncio.to_thread(self._verify)

    def backlog(self) -> Backlog:
        """Return what waits to be rewritten."""
        return self._compactor.backlog()

    async def close(self) -> None:
        """See `SampleStore.close`."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    def _back_up(self, to: Path) -> dict[str, Any]:
        with self._pins.reading(), self._cursor() as cursor:
            return back_up(cursor, self.folder, self._path.parent / PLANT, to)

    def _verify(self) -> list[str]:
        with self._pins.reading(), self._cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return list(verify(cursor, self.folder))

    def _answer_backup(self, request: dict[str, Any]) -> dict[str, int]:
        files = self._back_up(Path(request["to"]))["files"]
        return {"files": len(files), "bytes": sum(entry["bytes"] for entry in files.values())}

    def _close(self) -> None:
        self._requests.close()
        self._compactor.close()
        self._writer.close()
        self._readers.shutdown()
        self._files.hot.close()
        with self._lock:
            self._connection.close()

    async def _selected(self, selector: Selector) -> list[SeriesInfo]:
        # A selector that is new is held against every series: too long for the event loop.
        return await asyncio.to_thread(self.index.select, selector)

    async def _query(
        self,
        function: Callable[Concatenate[duckdb.DuckDBPyConnection, Arguments], Answer],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Answer:
        def run() -> Answer:
            try:
                # What counts is held before it is looked at, and one transaction sees one state of it.
                with self._pins.reading(), self._cursor() as cursor:
                    cursor.execute("BEGIN TRANSACTION READ ONLY")
                    return function(cursor, *args, **kwargs)
            except duckdb.Error as error:
                raise StoreUnavailable(f"the store can't read now: {error}", retry_after_s=2.0) from error

        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _reopen(self) -> duckdb.DuckDBPyConnection:
        """After a fault that DuckDB does not go on from; called by the writer's thread."""
        with self._lock:
            with contextlib.suppress(duckdb.Error):
                self._connection.close()
            self._connection = connect(self._path, self._tuning)
            return self._connection

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            cursor = self._connection.cursor()
        with contextlib.closing(cursor):
            yield cursor

    def _restore_newest(self) -> None:
        hot = self._files.hot.pieces(hots(self._connection))
        for rows in itertools.chain([load_newest(self._connection)], hot):
            text = {} if rows.text is None else dict(enumerate(rows.text.tolist()))
            self.newest.update(
                Committed(
                    rows.series_id,
                    rows.source_time,
                    rows.received_time,
                    rows.value,
                    rows.quality,
                    {row: one for row, one in text.items() if one is not None},
                )
            )
