"""One thread owns the writing connection. It takes everything that waits into one transaction (group commit)."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

import duckdb
import numpy as np

from ingest_service.stores import (
    Admitted,
    CommitListener,
    Committed,
    Outcome,
    QuarantineSink,
    Refused,
)
from ingest_service.stores.duckdb_group import Group, Plan, plan_batch
from ingest_service.stores.duckdb_hot import HotFiles
from ingest_service.stores.duckdb_hot_file import Hot
from ingest_service.stores.duckdb_schema import begin_hot, hots, load_watermarks
from ingest_service.stores.series import SeriesIndex
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch
from shopfloor.signal import SeriesKey

MAX_GROUP_ROWS: Final = 200_000
_RETRY_AFTER_S: Final = 2.0
_LOOK_AT_DISK_S: Final = 0.5
MOST_BEHIND: Final = 64
"""Closed hot files beyond which each further one makes commits wait longer."""
_WAIT_S: Final = 0.05
_log = logging.getLogger(__name__)

Result = Outcome | StoreUnavailable
# Errors that the rows themselves cause; whatever else DuckDB raises may pass, and the same rows go in later.
_CONTENT_FAULTS: Final = (
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.ConstraintException,
    duckdb.InvalidInputException,
    UnicodeEncodeError,
)


class _Job(NamedTuple):
    run: Callable[[duckdb.DuckDBPyConnection], None]
    done: Future[None]


class _Waiting(NamedTuple):
    admitted: Admitted
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]


class Writer:
    """Decides on repeats and writes, in the order of arrival; so two requests can't store the same rows twice."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        reconnect: Callable[[], duckdb.DuckDBPyConnection],
        series: SeriesIndex,
        watermarks: dict[str, int],
        stream_agents: dict[str, str],
        listeners: list[CommitListener],
        quarantine: QuarantineSink | None,
        observe_commit: Callable[[float, int], None],
        files: HotFiles,
        hot: Hot,
        most_hot_rows: float,
        most_commits: float,
        free_bytes: Callable[[], int],
        reserve_bytes: int,
        at: Callable[[str], None],
    ) -> None:
        self.hot = hot
        """The hot file that takes what comes, up to where it counts; changed by this thread alone."""
        self.hot_since = time.monotonic()
        """When the hot file was begun."""
        self._files = files
        self.commits = 0
        """Commits that it holds, as far as they were made since the start."""
        self.watermarks = watermarks
        """Written by this thread alone, after the commit; read by any."""
        self.stream_agents = stream_agents
        self._connection = connection
        self._reconnect = reconnect
        self._series = series
        self._listeners = listeners
        self._quarantine = quarantine
        self._observe_commit = observe_commit
        self.behind = 0
        """Closed hot files that wait to be rewritten; counted again by the compactor."""
        self._most_hot_rows = most_hot_rows
        self._most_commits = most_commits
        self._begins = True
        self._free_bytes = free_bytes
        self._reserve_bytes = reserve_bytes
        self._at = at
        self._looked_at_disk = -math.inf
        self._disk_is_full = False
        self._waiting: deque[_Waiting | _Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="sample-store-writer", daemon=True)
        self._thread.start()

    def submit(self, admitted: Sequence[Admitted]) -> list[asyncio.Future[Result]]:
        """Queue batches; their futures are set once they are durable, or known not to be."""
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(one, loop, loop.create_future()) for one in admitted]
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the store is closing", retry_after_s=_RETRY_AFTER_S)
            self._waiting.extend(waiting)
            self._wake.notify()
        return [one.future for one in waiting]

    def call(self, run: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Run something between two commits, on this thread and its connection; raises what it raises."""
        done: Future[None] = Future()
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the store is closing")
            self._waiting.append(_Job(run, done))
            self._wake.notify()
        done.result()

    def begin_generation(self, still: Callable[[], bool] = lambda: True) -> None:
        """Let what comes go into a new hot file, so that the present one can be rewritten; returns afterwards.

        Args:
            still: asked between two commits whether that is wanted: the file may have been closed meanwhile.
        """
        self.call(lambda connection: self._begin(connection) if still() else None)

    def _begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.hot, self.hot_since = begin_hot(connection, self._files, self.hot.number + 1), time.monotonic()
        self.commits, self._begins = 0, True
        self.behind += 1

    def _end_full(self) -> None:
        """Close a full hot file here, between two commits: the compactor may be busy, and rewrites a whole one at once."""
        full = self.hot.rows >= self._most_hot_rows or self.commits >= self._most_commits
        if not full or not self._begins or self._broken or self._disk_is_full:
            return
        try:
            self._begin(self._connection)
        except Exception as error:  # noqa: BLE001 - what is in it is durable, and this thread must outlive any fault
            self._roll_back(error, "closing a full hot file failed, the compactor tries again")
            self._begins = False

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _take(self) -> list[_Waiting] | _Job:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            group: list[_Waiting] = []
            rows = 0
            while self._waiting and (not group or rows < MAX_GROUP_ROWS):
                one = self._waiting[0]
                if isinstance(one, _Job):
                    if group:
                        return group
                    self._waiting.popleft()
                    return one
                self._waiting.popleft()
                group.append(one)
                rows += len(one.admitted.batch.block)
            return group

    def _do(self, job: _Job) -> None:
        try:
            if self._broken:
                self._renew()
            job.run(self._connection)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for it
            self._roll_back(error)
            job.done.set_exception(error)
        else:
            job.done.set_result(None)

    def _run(self) -> None:
        while group := self._take():
            if isinstance(group, _Job):
                self._do(group)
                continue
            if self.behind > MOST_BEHIND:
                # Acknowledging faster than rows can be rewritten would let the hot part grow without bound.
                time.sleep(min(0.5, _WAIT_S * (self.behind - MOST_BEHIND)))
            try:
                results = self._write([one.admitted for one in group])
            except Exception as error:  # noqa: BLE001 - this thread must outlive any fault; the agents try again
                _log.exception("writing a group of %d batches failed", len(group))
                self._broken = True
                results = [
                    StoreUnavailable(f"store failed: {error}", retry_after_s=_RETRY_AFTER_S) for _ in group
                ]
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Result], Result]]] = {}
            for one, result in zip(group, results, strict=True):
                by_loop.setdefault(one.loop, []).append((one.future, result))
            for loop, pairs in by_loop.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, pairs)
            self._end_full()

    def _renew(self) -> None:
        self._connection = self._reconnect()
        # Whether the commit that failed is in the database all the same, only the database knows.
        self.hot = hots(self._connection)[-1]
        self.watermarks.update(load_watermarks(self._connection))
        self._broken = False

    def _full(self) -> bool:
        """Tell whether the disk's reserve is reached: what frees space needs some itself."""
        now = time.monotonic()
        if now - self._looked_at_disk >= _LOOK_AT_DISK_S:
            self._looked_at_disk = now
            full = self._free_bytes() < self._reserve_bytes
            if full is not self._disk_is_full:
                _log.warning("the disk %s", "is full, nothing is acknowledged" if full else "has room again")
            self._disk_is_full = full
        return self._disk_is_full

    def _write(self, admitted: list[Admitted]) -> list[Result]:
        if self._full():
            return [StoreUnavailable("the disk is full", retry_after_s=_RETRY_AFTER_S) for _ in admitted]
        if self._broken:
            try:
                self._renew()
            except StoreUnavailable as error:
                return [StoreUnavailable(str(error), retry_after_s=_RETRY_AFTER_S) for _ in admitted]
        try:
            return list(self._commit(admitted))
        except _CONTENT_FAULTS as error:
            self._roll_back(error)
        except OSError as error:
            self._roll_back(error)
            return [_unavailable(error) for _ in admitted]
        except duckdb.Error as error:
            self._roll_back(error)
            if len(admitted) == 1 or self._broken:
                return [_unavailable(error) for _ in admitted]
        return [self._write_alone(one) for one in admitted]

    def _write_alone(self, one: Admitted) -> Result:
        if self._broken:
            return StoreUnavailable("the store has to open again", retry_after_s=_RETRY_AFTER_S)
        try:
            return self._commit([one])[0]
        except _CONTENT_FAULTS as error:
            self._roll_back(error)
            if self._quarantine is None:
                return _unavailable(error)
            return self._refuse_whole(one.batch, error)
        except (duckdb.Error, OSError) as error:
            self._roll_back(error)
            return _unavailable(error)

    def _refuse_whole(self, batch: Batch, error: Exception) -> Result:
        """Quarantine a batch whose very content the database refuses, so that its stream goes on."""
        assert self._quarantine is not None
        skip = max(0, self.watermarks.get(batch.stream_id, 0) + 1 - batch.first_seq)
        rows = np.arange(skip, len(batch.block), dtype=np.int64)
        reason = f"store_refused: {type(error).__name__}"
        refused = Refused(rows, np.zeros(len(rows), np.uint8), (reason,))
        try:
            self._quarantine(batch, refused)
            return self._commit([Admitted(batch, refused)])[0]
        except (duckdb.Error, OSError, StoreUnavailable) as fault:
            self._roll_back(fault)
            return _unavailable(fault)

    def _commit(self, admitted: list[Admitted]) -> list[Outcome]:
        """Write all in one transaction; on an error nothing of it is there."""
        started = time.perf_counter()
        marks: dict[str, int] = {}
        plans: list[Plan] = []
        for one in admitted:
            stream = one.batch.stream_id
            mark = marks.get(stream, self.watermarks.get(stream, 0))
            plan = plan_batch(one, mark)
            marks[stream] = plan.outcome.received_through
            plans.append(plan)
        writing = [plan for plan in plans if plan.writes]
        if writing:
            self._series.learn(
                (
                    (plan.batch.block.series, plan.batch.block.series_index[plan.rows])
                    for plan in writing
                    if plan.outcome.stored
                ),
                self._register,
            )
            group = Group(writing, self._series.numbers)
            # Durable before the transaction that lets it count.
            hot = self._files.append(self.hot, group.rows())
            self._at("commit: rows written")
            connection = self._connection
            connection.execute("BEGIN TRANSACTION")
            group.insert_ledger(connection)
            if hot != self.hot:
                connection.execute(
                    "INSERT INTO hot VALUES (?, ?, ?)", [hot.number, hot.bytes, hot.rows - self.hot.rows]
                )
            self._at("commit: in transaction")
            connection.execute("COMMIT")
            self._at("commit: committed")
            # Only now, after the commit, may a later batch count as a repeat.
            self.watermarks.update(marks)
            self.hot = hot
            self.commits += 1
            for plan in writing:
                self.stream_agents.setdefault(plan.batch.stream_id, plan.batch.agent_id)
            self._tell(group.committed)
            self._observe_commit(time.perf_counter() - started, len(group.committed.series_id))
        return [plan.outcome for plan in plans]

    def _register(self, first_id: int, keys: list[SeriesKey]) -> None:
        # A transaction of its own: should the samples fail, series without samples do no harm.
        new = {
            "series_id": np.arange(first_id, first_id + len(keys), dtype=np.uint32),
            "asset": np.array([str(key.asset) for key in keys], dtype=object),
            "signal": np.array([key.signal for key in keys], dtype=object),
        }
        self._connection.execute("INSERT INTO series SELECT * FROM new")
        del new

    def _tell(self, rows: Committed) -> None:
        for listener in self._listeners:
            listener(rows)

    def _roll_back(
        self, error: Exception, what: str = "a commit failed, nothing of it was acknowledged"
    ) -> None:
        _log.warning("%s: %s", what, error)
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.TransactionException:
            pass  # the failed statement ended the transaction already
        except duckdb.Error:
            self._broken = True
        if isinstance(error, duckdb.FatalException | duckdb.InternalException | duckdb.ConnectionException):
            # DuckDB answers nothing more on this database until it is opened again.
            self._broken = True


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the store can't write now: {error}", retry_after_s=_RETRY_AFTER_S)


def _resolve(pairs: list[tuple[asyncio.Future[Result], Result]]) -> None:
    for future, result in pairs:
        if not future.done():
            future.set_result(result)
