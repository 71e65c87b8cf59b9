"""Closes gaps in events from the server's history of them, where it keeps one (Part 4 §5.11.3, Part 11 §6.5.2)."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.binary import (
    U32,
    MalformedMessage,
    read_bytes,
    read_extension,
    read_length,
)
from edge_agent.sources.opcua.coverage import Coverage, Hole
from edge_agent.sources.opcua.decode import read_header
from edge_agent.sources.opcua.event_rows import EventRow, read_event
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.session import NO, TOO_MUCH, ServiceFault, status_name
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)

_HISTORY_EVENT: Final = 661
_PAGE: Final = 1_000
_LEAST_PAGE: Final = 10
_MAX_PAGES: Final = 1_000
_MAX_BACKOFF_S: Final = 60.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY: Final = frozenset({StatusCodes.Good, StatusCodes.GoodNoData, StatusCodes.BadNoData})
_LATER: Final = frozenset({StatusCodes.BadTooManyOperations, StatusCodes.BadNoContinuationPoints})


class Page(NamedTuple):
    """A part of one notifier's history."""

    status: int
    continuation: bytes | None
    events: list[EventRow]


class Reader(Protocol):
    """Whose events are read."""

    @property
    def coverage(self) -> Coverage:
        """The books of events; others may come in their place."""
        ...

    def wanted(self, number: int) -> tuple[ua.NodeId, ua.EventFilter] | None:
        """Return a listener's notifier and filter, None while it is not listened to."""
        ...

    async def put(self, number: int, rows: Sequence[EventRow], done: Callable[[], dict[str, bytes]]) -> None:
        """Make events durable, and with them the state that ``done`` returns."""
        ...

    async def give_up(self, hole: Hole, reason: str) -> None:
        """Record a hole that will not be filled."""
        ...


def read_history_events(body: bytes) -> Page:
    """Read a HistoryReadResponse of one notifier; raises MalformedMessage."""
    try:
        at = read_header(body).at
        count, at = read_length(body, at)
        if count != 1:
            raise MalformedMessage(f"{count} results for 1 notifier")
        (status,) = U32.unpack_from(body, at)
        continuation, at = read_bytes(body, at + 4)
        kind, start, _ = read_extension(body, at)
        rows: list[EventRow] = []
        if kind == _HISTORY_EVENT:
            many, inner = read_length(body, start)
            for _ in range(many):
                row, inner = read_event(body, inner)
                rows.append(row)
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"history of events: {error}") from error
    return Page(status, continuation or None, rows)


async def fill(live: Live, reader: Reader, wanted: asyncio.Event) -> None:
    """Fill the holes of events for ever, oldest first.

    Args:
        live: the session.
        reader: the listeners.
        wanted: set when there may be a new hole.
    """
    backoff_s, size = live.config.retry_s, _PAGE
    settle_ns = round(live.config.history.settle_s * 1e9)
    while True:
        wanted.clear()
        ready = [hole for hole in reader.coverage.holes.values() if reader.wanted(hole.nodes[0]) is not None]
        hole = min(ready, key=lambda each: each.start, default=None)
        if hole is None:
            await wanted.wait()
            continue
        wait_s = (hole.end + settle_ns - live.session.server_now()) / 1e9
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        try:
            await _fill(live, reader, hole, size)
            backoff_s = live.config.retry_s
        except ServiceFault as fault:
            smaller = max(_LEAST_PAGE, size // 4)
            if fault.code in TOO_MUCH and smaller < size:
                size = smaller
                continue
            if fault.code == StatusCodes.BadTimeout:
                size = smaller
            elif fault.code not in _LATER:
                await reader.give_up(hole, f"events: the server does not give their history ({fault})")
                continue
            live.sink.count("history_refused")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)


async def _fill(live: Live, reader: Reader, hole: Hole, size: int) -> None:
    """Read one hole, page by page; it is gone when the last page is durable."""
    (number,) = hole.nodes
    target = reader.wanted(number)
    if target is None:
        return
    node, select = target
    continuation: bytes | None = None
    for _ in range(_MAX_PAGES):
        page = await _request(live, node, select, hole, size, continuation)
        last = page.continuation is None
        await reader.put(
            number,
            page.events,
            lambda last=last: reader.coverage.forget(hole) if last else {},  # type: ignore[misc]
        )
        live.sink.count("history_events", len(page.events))
        if last:
            return
        continuation = page.continuation
    await reader.give_up(hole, f"events: their history takes more than {_MAX_PAGES} requests")


async def _request(
    live: Live, node: ua.NodeId, select: ua.EventFilter, hole: Hole, size: int, continuation: bytes | None
) -> Page:
    request = ua.HistoryReadRequest()
    request.Parameters.HistoryReadDetails = ua.ReadEventDetails(
        NumValuesPerNode=ua.UInt32(size),
        StartTime=_datetime(hole.start),
        EndTime=_datetime(hole.end + 999),
        Filter=select,
    )
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
    request.Parameters.ReleaseContinuationPoints = NO
    request.Parameters.NodesToRead = [ua.HistoryReadValueId(NodeId=node, ContinuationPoint=continuation)]
    try:
        page = read_history_events(await live.session.call_history(request))
    except MalformedMessage as error:
        # Asked again it would say the same: it costs the events of this hole, which is recorded, and no session.
        raise ServiceFault(f"HistoryRead of events: {error}", StatusCodes.BadUnexpectedError) from error
    except SourceUnavailable as error:
        if not isinstance(error.__cause__, TimeoutError):
            raise
        # A history that takes its time is no dead connection: of that, the watchdog knows more.
        raise ServiceFault(f"HistoryRead of events: {error}", StatusCodes.BadTimeout) from error
    if page.status >> 30 >= 2 and page.status & 0xFFFF_0000 not in _EMPTY:
        raise ServiceFault(f"HistoryRead of events: {status_name(page.status)}", page.status & 0xFFFF_0000)
    return page


def _datetime(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)
