"""One thread writes to the server: what waits becomes one group, its streams are claimed, points first, watermarks after."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from ingest_service.stores import Admitted, Committed, Outcome, QuarantineSink, Refused
from ingest_service.stores.duckdb_group import Plan, plan_batch
from ingest_service.stores.series import SeriesIndex
from ingest_service.stores.server_ledger import Claim, Kept, ServerLedger
from ingest_service.stores.server_live import announcements_of, notices_of
from ingest_service.stores.server_points import PointStore
from shopfloor.block import Int64, SampleBlock, UInt32, concat
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey

MAX_GROUP_ROWS: Final = 200_000
_RETRY_AFTER_S: Final = 2.0
_log = logging.getLogger(__name__)

_OF_ALL: Final = (StoreUnavailable, OperationalError, InterfaceError)
"""Faults that are no batch's own: trying each alone would only take longer."""
_TRIES: Final = 5
_ANNOUNCE_S: Final = 30.0
_ANNOUNCED: Final = 4096

Result = Outcome | StoreUnavailable


class _Waiting(NamedTuple):
    admitted: Admitted
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]


class _Turned(Exception):
    """The server turned rows away; their batches are planned anew without them."""

    def __init__(self, admitted: list[Admitted]) -> None:
        super().__init__("rows were turned away")
        self.admitted = admitted


class Writer:
    """Decides on repeats and writes, in the order of arrival.

    Args:
        origin: what tells this process's notices from those of others.
        tell: called with what became durable, on this thread.
        watched: signals of which other processes are told every sample, not only the newest.
    """

    def __init__(
        self,
        points: PointStore,
        ledger: ServerLedger,
        index: SeriesIndex,
        index_lock: threading.Lock,
        *,
        origin: str,
        tell: Callable[[Committed], None],
        watched: frozenset[str],
        quarantine: QuarantineSink | None,
        observe_commit: Callable[[float, int], None],
    ) -> None:
        self.stream_agents: dict[str, str] = {}
        """Who first wrote the streams that this process has seen."""
        self._points = points
        self._ledger = ledger
        self._index = index
        self._index_lock = index_lock
        self._origin = origin
        self._tell = tell
        self._watched = watched
        self._announced: dict[tuple[str, int], tuple[SeriesKey, ...]] = {}
        self._announced_at = 0.0
        self._quarantine = quarantine
        self._observe_commit = observe_commit
        self._waiting: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._closing = False
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

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _take(self) -> list[_Waiting]:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            group: list[_Waiting] = []
            rows = 0
            while self._waiting and (not group or rows < MAX_GROUP_ROWS):
                group.append(self._waiting.popleft())
                rows += len(group[-1].admitted.batch.block)
            return group

    def _run(self) -> None:
        while group := self._take():
            results = self._write([one.admitted for one in group])
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Result], Result]]] = {}
            for one, result in zip(group, results, strict=True):
                by_loop.setdefault(one.loop, []).append((one.future, result))
            for loop, pairs in by_loop.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, pairs)

    def _write(self, admitted: list[Admitted]) -> list[Result]:
        try:
            return self._tried(admitted)
        except Exception as error:  # noqa: BLE001 - one odd batch must not hold up the others
            if len(admitted) == 1 or isinstance(error, _OF_ALL):
                return [_failed(error)] * len(admitted)
        results: list[Result] = []
        for one in admitted:
            try:
                results += self._tried([one])
            except Exception as error:  # noqa: BLE001 - this thread must outlive any fault; the agents try again
                results.append(_failed(error))
        return results

    def _tried(self, admitted: list[Admitted]) -> list[Result]:
        for _ in range(_TRIES):
            try:
                return list(self._commit(admitted))
            except _Turned as turned:
                # What was written of it already is written again, which changes nothing.
                admitted = turned.admitted
        raise StoreUnavailable("the server turns ever more samples away", retry_after_s=_RETRY_AFTER_S)

    def _commit(self, admitted: list[Admitted]) -> list[Outcome]:
        """Write all as one group; on an error no watermark has moved."""
        started = time.perf_counter()
        agents = {
            one.batch.stream_id: one.batch.agent_id for one in reversed(admitted) if len(one.batch.block)
        }
        with self._ledger.claim(agents) as claim:
            plans = _plan(admitted, claim)
            writing = [plan for plan in plans if plan.writes]
            committed: Committed | None = None
            if writing:
                block, ids = self._join(writing)
                kept = self._put(admitted, plans, writing, ids, block)
                committed = Committed(
                    ids, block.source_time, block.received_time, block.value, block.quality, block.text
                )
                notices = self._notices(writing, committed) if self._ledger.shared else []
                claim.settle(self._ledger.engine, writing, committed, kept, notices)
        for stream_id, agent_id in agents.items():
            self.stream_agents.setdefault(stream_id, agent_id)
        if committed is not None:
            self._tell(committed)
            self._observe_commit(time.perf_counter() - started, len(committed.series_id))
        return [plan.outcome for plan in plans]

    def _notices(self, writing: list[Plan], committed: Committed) -> list[str]:
        notices = notices_of(self._origin, committed, self._index.keys, self._watched)
        now = time.monotonic()
        if now - self._announced_at > _ANNOUNCE_S or len(self._announced) > _ANNOUNCED:
            # Who began to listen in the meantime hears it then.
            self._announced.clear()
            self._announced_at = now
        for plan in writing:
            agent_id, table = plan.batch.agent_id, plan.batch.block.series
            if self._announced.get((agent_id, id(table))) is not table:
                self._announced[agent_id, id(table)] = table
                assets = sorted({str(key.asset) for key in table})
                notices += announcements_of(self._origin, agent_id, assets)
        return notices

    def _join(self, writing: list[Plan]) -> tuple[SampleBlock, UInt32]:
        blocks = [
            plan.batch.block.take(np.arange(len(plan.batch.block))[plan.rows])
            if plan.outcome.stored < len(plan.batch.block)
            else plan.batch.block
            for plan in writing
        ]
        ids = [self._ids(block.series, block.series_index)[block.series_index] for block in blocks]
        # The ids say whose the rows are: nothing needs the tables any more.
        return concat([replace(block, series=()) for block in blocks]), np.concatenate(ids)

    def _ids(self, table: tuple[SeriesKey, ...], used: UInt32) -> UInt32:
        with self._index_lock:
            unknown = set(self._index.unknown(table))
            if unknown:
                wanted = [key for place in np.unique(used).tolist() if (key := table[place]) in unknown]
                # Another process may have numbered some in the meantime: the index takes them all, in their order.
                if wanted:
                    self._index.restore(self._ledger.number(len(self._index), wanted))
            return self._index.ids(table, used, _numbered)

    def _put(
        self,
        admitted: list[Admitted],
        plans: list[Plan],
        writing: list[Plan],
        ids: UInt32,
        block: SampleBlock,
    ) -> list[Kept]:
        unfit = self._points.unfit(ids, block)
        fit = np.flatnonzero(~unfit)
        whole = len(fit) == len(block)
        turned = self._points.write(
            self._index.keys, ids if whole else ids[fit], block if whole else block.take(fit)
        )
        if len(turned.rows):
            raise _Turned(self._without(admitted, plans, fit[turned.rows], turned.reason))
        if whole:
            return []
        kept: list[Kept] = []
        for plan, start in zip(writing, _starts(writing), strict=True):
            rows = np.flatnonzero(unfit[start : start + plan.outcome.stored])
            if len(rows):
                of_batch = np.arange(len(plan.batch.block))[plan.rows][rows]
                place = start + rows
                kept.append(
                    Kept(
                        plan.batch.stream_id,
                        plan.batch.first_seq + of_batch,
                        ids[place].astype(np.int64),
                        block.take(place),
                    )
                )
        return kept

    def _without(
        self, admitted: list[Admitted], plans: list[Plan], turned: Int64, reason: str
    ) -> list[Admitted]:
        """Quarantine the rows that the server turned away, and return the batches that refuse them."""
        if self._quarantine is None:
            raise StoreUnavailable(f"the server turned samples away: {reason}", retry_after_s=_RETRY_AFTER_S)
        again: list[Admitted] = []
        start = 0
        for one, plan in zip(admitted, plans, strict=True):
            stored = plan.outcome.stored
            inside = turned[(turned >= start) & (turned < start + stored)] - start
            start += stored
            if not len(inside):
                again.append(one)
                continue
            rows = np.arange(len(one.batch.block))[plan.rows][inside]
            refused = Refused(rows, np.zeros(len(rows), np.uint8), (f"store_refused: {reason}"[:200],))
            self._quarantine(one.batch, refused)
            again.append(Admitted(one.batch, _united(one.refused, refused)))
        return again


def _numbered(_first_id: int, _keys: list[SeriesKey]) -> None:
    raise AssertionError("all series have their numbers already")


def _plan(admitted: list[Admitted], claim: Claim) -> list[Plan]:
    marks: dict[str, int] = {}
    plans: list[Plan] = []
    for one in admitted:
        stream = one.batch.stream_id
        plan = plan_batch(one, marks.get(stream, claim.marks.get(stream, 0)))
        marks[stream] = plan.outcome.received_through
        plans.append(plan)
    return plans


def _starts(writing: list[Plan]) -> list[int]:
    sizes = [plan.outcome.stored for plan in writing]
    return [sum(sizes[:place]) for place in range(len(sizes))]


def _united(one: Refused, more: Refused) -> Refused:
    rows = np.concatenate([one.rows, more.rows])
    reasons = np.concatenate([one.reason_index, more.reason_index + np.uint8(len(one.reasons))]).astype(
        np.uint8
    )
    order = np.argsort(rows, kind="stable")
    return Refused(rows[order], reasons[order], one.reasons + more.reasons)


def _failed(error: Exception) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        _log.warning("nothing of a group was acknowledged: %s", error)
        return error
    if isinstance(error, SQLAlchemyError):
        _log.warning("nothing of a group was acknowledged, the plant store failed: %s", error)
    else:
        _log.error("nothing of a group was acknowledged", exc_info=error)
    return StoreUnavailable(f"store failed: {error}", retry_after_s=_RETRY_AFTER_S)


def _resolve(pairs: list[tuple[asyncio.Future[Result], Result]]) -> None:
    for future, result in pairs:
        if not future.done():
            future.set_result(result)
