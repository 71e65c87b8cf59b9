"""Fills holes from the server's history, oldest first, while live data flows beside it.

A hole shrinks with every page that became durable; a kill repeats one page. Values that the server keeps within the
overlap are read twice and stored once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final, Never

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.coverage import Hole, Span, State
from edge_agent.sources.opcua.decode import Columns, HistoryPage, MalformedMessage, read_history
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.session import NO, TOO_MUCH, ServiceFault, status_name
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)

_SECOND_NS: Final = 1_000_000_000
_MAX_BACKOFF_S: Final = 60.0
_LEAST_PAGE_VALUES: Final = 10
_MAX_PAGE: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_HISTORY: Final = frozenset(
    {
        StatusCodes.BadHistoryOperationUnsupported,
        StatusCodes.BadHistoryOperationInvalid,
        StatusCodes.BadServiceUnsupported,
        StatusCodes.BadNotImplemented,
        StatusCodes.BadNotSupported,
        StatusCodes.BadNotReadable,
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadAttributeIdInvalid,
    }
)
"""Asking again will not help: there is no history of this node for us."""


_EMPTY: Final = frozenset({StatusCodes.BadNoData, StatusCodes.BadBoundNotFound})
"""There is a history, but nothing in this span."""


class HistoryRefused(Exception):
    """The server did not answer this read as it should; later it may."""


@dataclass(slots=True)
class _Cursor:
    """Where reading one node's part of a slice stands."""

    node: int
    start: int
    """Where its next request begins, unless the server continues by itself."""
    page: int
    """Values asked for at once."""
    reached: int
    """Everything before is in the buffer."""
    continuation: bytes | None = None


class Backfill:
    """The reader of history of one session."""

    def __init__(self, live: Live) -> None:
        self._live = live
        history = live.config.history
        self._settle_ns = round(history.settle_s * _SECOND_NS)
        self._page_values = history.page_values
        self._slice_ns = round(history.slice_h * 3_600 * _SECOND_NS)

    async def run(self) -> Never:
        """Fill holes for ever, one request at a time."""
        backoff_s = self._live.config.retry_s
        while True:
            hole = self._oldest()
            wait_s = await self._until_readable(hole)
            if wait_s is None or wait_s > 0:
                await self._pause(wait_s)
                continue
            assert hole is not None
            try:
                await self._read_slice(hole)
                backoff_s = self._live.config.retry_s
            except HistoryRefused as error:
                self._live.sink.count("history_refused")
                log.warning("reading history: %s; trying again in %g s", error, backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    def _oldest(self) -> Hole | None:
        """Return the hole that begins first among those with a node that works now."""
        working = self._live.nodes.ids
        ready = (
            hole for hole in self._live.coverage.holes.values() if any(node in working for node in hole.nodes)
        )
        return min(ready, key=lambda hole: hole.start, default=None)

    async def _until_readable(self, hole: Hole | None) -> float | None:
        """Return how long to wait before a slice of the hole can be read; None for "until something happens"."""
        if hole is None:
            return None
        settled = self._live.session.server_now() - self._settle_ns
        if hole.end <= settled or settled - hole.start >= _SECOND_NS:
            return 0.0
        return (hole.end - settled) / 1e9

    async def _pause(self, wait_s: float | None) -> None:
        self._live.history_wanted.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._live.history_wanted.wait()
        except TimeoutError:
            return

    async def _read_slice(self, hole: Hole) -> None:
        await self._sort_out(hole)
        if not hole.nodes:
            return
        settled = self._live.session.server_now() - self._settle_ns
        end = min(hole.end, settled, hole.start + self._slice_ns)
        page = max(1, self._page_values // len(hole.nodes))
        cursors = [_Cursor(node, hole.start, page, hole.start) for node in hole.nodes]
        while cursors:
            cursors = await self._read_page(hole, cursors, end)

    async def _sort_out(self, hole: Hole) -> None:
        """Leave in the hole only nodes that can be read now; the others wait, or are lost."""
        live = self._live
        away = [node for node in hole.nodes if node not in live.nodes.ids]
        mute = [node for node in hole.nodes if node in live.nodes.ids and node not in live.nodes.readable]
        if mute:
            await self._give_up(hole, mute, "the server keeps no history of it")
        if away:
            start, end = hole.start, hole.end
            state = live.coverage.narrow(hole, away) | live.coverage.add_hole(away, start, end)
            await self._save(state)

    async def _read_page(self, hole: Hole, cursors: list[_Cursor], end: int) -> list[_Cursor]:
        """Read the next page of one group of cursors, put it, and return what is still to be read."""
        # A request has one start: cursors that go on by continuation point share it, others go one by one.
        first = cursors[0]
        together = [
            cursor
            for cursor in cursors
            if (cursor.start, cursor.page, cursor.continuation is None)
            == (first.start, first.page, first.continuation is None)
        ][: self._live.session.limits.history]
        chosen = set(map(id, together))
        rest = [cursor for cursor in cursors if id(cursor) not in chosen]
        columns = Columns()
        pages = await self._request(together, end, columns)
        if pages is None:
            return cursors
        refused: dict[int, list[_Cursor]] = {}
        for cursor, page in zip(together, pages, strict=True):
            if page.status >> 30 >= 2 and page.status & 0xFFFF_0000 not in _EMPTY:
                refused.setdefault(page.status, []).append(cursor)
            elif self._goes_on(cursor, page, end):
                rest.append(cursor)
        block, _ = await self._live.samples(columns, self._live.clock())
        reached = min((cursor.reached for cursor in chain(rest, *refused.values())), default=end)
        block = self._live.nodes.worded(block)
        await self._live.sink.put(block, self._live.coverage.progress(hole, reached))
        self._live.sink.count("history_values", len(block))
        for status, failed in refused.items():
            await self._refuse(hole, [cursor.node for cursor in failed], status)
        return rest

    def _goes_on(self, cursor: _Cursor, page: HistoryPage, end: int) -> bool:
        """Move a cursor behind what was read; tell whether there is more in the slice."""
        before = cursor.reached
        cursor.reached = max(before, page.last_time) if page.last_time != NO_TIME else before
        if page.continuation is not None:
            cursor.continuation = page.continuation
            return True
        if page.values < cursor.page or cursor.reached > end:
            return False
        # As many values as asked for and no continuation point: some servers cut off there. Ask from the last value
        # on; if all of them had that one time, only a larger page gets past it.
        if cursor.reached == before:
            if cursor.page >= _MAX_PAGE:
                return False
            cursor.page *= 2
        cursor.start, cursor.continuation = cursor.reached, None
        return True

    async def _request(
        self, cursors: Sequence[_Cursor], end: int, columns: Columns
    ) -> list[HistoryPage] | None:
        """Send one HistoryRead; None where it was too much for the server and a smaller one is to be tried."""
        request = ua.HistoryReadRequest()
        parameters = request.Parameters
        parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
            IsReadModified=NO,
            StartTime=_datetime(cursors[0].start),
            EndTime=_datetime(end + 999),
            NumValuesPerNode=ua.UInt32(cursors[0].page),
            ReturnBounds=NO,
        )
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ReleaseContinuationPoints = NO
        parameters.NodesToRead = [
            ua.HistoryReadValueId(
                NodeId=self._live.nodes.ids[cursor.node], ContinuationPoint=cursor.continuation
            )
            for cursor in cursors
        ]
        try:
            return read_history(
                await self._live.session.call_history(request), [c.node for c in cursors], columns
            )
        except MalformedMessage as error:
            raise SourceUnavailable(str(error)) from error
        except SourceUnavailable as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            # A history that takes its time is no dead connection: of that, the watchdog knows more.
            self._ask_for_less(cursors, str(error))
            return None
        except ServiceFault as fault:
            if fault.code in TOO_MUCH:
                self._ask_for_less(cursors, str(fault))
                return None
            if fault.code in _NO_HISTORY:
                return [HistoryPage(fault.code, None, 0, NO_TIME)] * len(cursors)
            raise HistoryRefused(str(fault)) from fault

    def _ask_for_less(self, cursors: Sequence[_Cursor], reason: str) -> None:
        """Ask for fewer nodes at once from now on; of a single one for fewer values, later."""
        if len(cursors) > 1:
            self._live.session.limits.history = len(cursors) // 2
            return
        self._page_values = max(_LEAST_PAGE_VALUES, self._page_values // 4)
        raise HistoryRefused(reason)

    async def _refuse(self, hole: Hole, nodes: list[int], status: int) -> None:
        """Deal with nodes whose history the server would not give."""
        code = status & 0xFFFF_0000
        if code in _NO_HISTORY:
            await self._give_up(hole, nodes, f"the server does not give its history ({status_name(status)})")
        elif code == StatusCodes.BadNoContinuationPoints and self._live.session.limits.history > 1:
            self._live.session.limits.history = max(1, self._live.session.limits.history // 2)
            raise HistoryRefused("the server is out of continuation points")
        else:
            raise HistoryRefused(f"{self._live.nodes.configs[nodes[0]].label}: {status_name(status)}")

    async def _give_up(self, hole: Hole, nodes: list[int], reason: str) -> None:
        self._live.nodes.readable.difference_update(nodes)
        await self._live.record_lost([Span(tuple(nodes), hole.start, hole.end)], reason)
        await self._save(self._live.coverage.narrow(hole, nodes))

    async def _save(self, state: State) -> None:
        await self._live.sink.put(NO_SAMPLES, state)


def _datetime(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)
