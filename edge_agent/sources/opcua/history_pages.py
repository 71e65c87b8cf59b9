"""HistoryRead of raw values, page by page (Part 4 §5.11.3, Part 11 §6.4.3): what is asked for, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.decode import Columns, HistoryPage, MalformedMessage, read_history
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.session import NO, TOO_MUCH, YES, ServiceFault
from shopfloor.errors import SourceUnavailable

_LEAST_PAGE_VALUES: Final = 10
_MAX_PAGE: Final = 1_000_000
_MAX_IDLE_PAGES: Final = 100
"""A slow server may answer with nothing but a continuation point; so often in a row it is no slowness any more."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_HISTORY: Final = frozenset(
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


class HistoryRefused(Exception):
    """The server did not answer as it should; later it may.

    Args:
        reason: for people.
        nodes: whose fault it is; none where it is nobody's in particular.
    """

    def __init__(self, reason: str, nodes: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.nodes = tuple(nodes)


@dataclass(slots=True)
class Cursor:
    """Where reading one node's part of a slice stands."""

    node: int
    start: int
    """Where its next request begins, unless the server continues by itself."""
    page: int
    """Values asked for at once."""
    reached: int
    """Everything before is in the buffer."""
    continuation: bytes | None = None
    idle: int = 0
    """Pages in a row that brought nothing later."""

    @property
    def endless(self) -> bool:
        """Whether the server goes on for ever without saying anything."""
        return self.idle > _MAX_IDLE_PAGES

    def moves(self, page: HistoryPage, end: int) -> bool:
        """Go behind what was read; tell whether there is more in the slice."""
        before = self.reached
        self.reached = max(before, page.last_time) if page.last_time != NO_TIME else before
        self.idle = 0 if self.reached > before else self.idle + 1
        self.continuation = page.continuation
        if self.reached > end:
            return False
        if page.continuation is not None:
            return True
        if page.values < self.page:
            return False
        # As many values as asked for and no continuation point: some servers cut off there. Ask from the last value
        # on; if all of them had that one time, only a larger page gets past it.
        if self.reached == before:
            if self.page >= _MAX_PAGE:
                return False
            self.page *= 2
        self.start = self.reached
        return True


class HistoryPages:
    """The history of one session's server, and how much of it is asked for at once."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._page_values = live.config.history.page_values
        self._stated = live.session.limits.history
        self._small: dict[int, int] = {}
        """Values a page of nodes that were too much although they were alone."""
        self._refused_alone: int | None = None
        """The last such node, until something is answered."""

    def cursors(self, nodes: Sequence[int], start: int) -> list[Cursor]:
        """Return where reading of a slice begins."""
        page = max(1, self._page_values // len(nodes))
        return [Cursor(node, start, min(page, self._small.get(node, page)), start) for node in nodes]

    async def request(
        self, cursors: Sequence[Cursor], end: int, columns: Columns
    ) -> list[HistoryPage] | None:
        """Send one HistoryRead.

        Args:
            cursors: of one start and page; all with a continuation point, or none.
            end: of the slice, UTC ns.
            columns: take the values.

        Returns:
            A page for each cursor; None where it was too much for the server and a smaller one is to be tried.

        Raises:
            HistoryRefused: not now.
            SourceUnavailable: the connection is broken.
        """
        request = self._read(cursors, end)
        try:
            pages = read_history(
                await self._live.session.call_history(request), [c.node for c in cursors], columns
            )
        except MalformedMessage as error:
            # Asked again it would say the same: that costs the history of one node, and no session.
            self._ask_for_less(cursors, str(error))
            return None
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
            if fault.code in NO_HISTORY:
                return [HistoryPage(fault.code, None, 0, NO_TIME)] * len(cursors)
            raise HistoryRefused(str(fault)) from fault
        self._refused_alone = None
        return pages

    async def release(self, cursors: Sequence[Cursor]) -> None:
        """Let the server forget where it would go on; it has few such places (Part 4 §5.11.3.2)."""
        held = [cursor for cursor in cursors if cursor.continuation is not None]
        limit = self._live.session.limits.history
        for part in (held[first : first + limit] for first in range(0, len(held), limit)):
            request = self._read(part, part[0].start)
            request.Parameters.ReleaseContinuationPoints = YES
            # Where it does not listen, it forgets them by itself in the end.
            with suppress(ServiceFault):
                try:
                    await self._live.session.call_history(request)
                except SourceUnavailable as error:
                    if not isinstance(error.__cause__, TimeoutError):
                        raise
        for cursor in held:
            cursor.continuation = None

    def _read(self, cursors: Sequence[Cursor], end: int) -> ua.HistoryReadRequest:
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
        return request

    def _ask_for_less(self, cursors: Sequence[Cursor], reason: str) -> None:
        """Ask for fewer nodes at once from now on; of a single one for fewer values, later."""
        limits = self._live.session.limits
        if len(cursors) > 1:
            limits.history = len(cursors) // 2
            return
        cursor = cursors[0]
        before, self._refused_alone = self._refused_alone, cursor.node
        first_time = cursor.node not in self._small
        self._small[cursor.node] = max(_LEAST_PAGE_VALUES, cursor.page // 4)
        if before not in {None, cursor.node}:
            # Not this one nor that one: it is the server that takes less.
            self._page_values = max(_LEAST_PAGE_VALUES, self._page_values // 4)
            raise HistoryRefused(reason)
        if first_time:
            # It was this one all the time, not their number.
            limits.history = self._stated
        raise HistoryRefused(reason, [cursor.node])


def _datetime(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)
