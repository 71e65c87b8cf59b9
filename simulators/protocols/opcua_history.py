"""The past of a site's variables, in memory, and HistoryRead of raw values over it (OPC UA Part 11 §6.4.3)."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.history import HistoryManager
from asyncua.server.internal_server import InternalServer
from asyncua.ua.status_codes import StatusCodes

from simulators.protocols.opcua_variable import TEXTS, Kind, Raw

MAX_NODES_PER_READ: Final = 100
MAX_VALUES_PER_NODE: Final = 5_000
MAX_VALUES_PER_RESPONSE: Final = 10_000
"""Encoding is done in one go and holds up everything else meanwhile: some 10 µs a value."""

_VARIANTS: Final = {
    kind: ua.VariantType[kind]
    for kind in ("Null", "Boolean", "Int32", "UInt16", "UInt32", "UInt64", "Double", "String")
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_POINT: Final = struct.Struct("<4sqqIBB")
_POINT_MAGIC: Final = b"SFh1"
_TRIM_ROWS: Final = 512
_FOREVER_MS: Final = 2**62


def data_value(
    raw: Raw | None,
    kind: Kind | Literal["Null"],
    source_ms: int,
    server_time: Any = None,
    status: Any = StatusCodes.Good,
) -> ua.DataValue:
    """Return a value with the source time in UTC ms since 1970, as a datetime that asyncua packs without loss."""
    source_time: Any = _EPOCH + source_ms * _MILLISECOND
    return ua.DataValue(
        ua.Variant(raw, _VARIANTS[kind]) if kind in _VARIANTS else _text(raw, kind),
        ua.StatusCode(status),
        SourceTimestamp=source_time,
        ServerTimestamp=server_time,
    )


def _text(raw: Raw | None, kind: str) -> ua.Variant:
    if kind == "LocalizedText":
        return ua.Variant(ua.LocalizedText(str(raw)), ua.VariantType.LocalizedText)
    return ua.Variant([raw] if raw else [], ua.VariantType.String, is_array=True)


class SeriesHistory:
    """Raw values of one variable in order of time, for as long as ``span_ms`` before the newest."""

    __slots__ = ("_is_text", "_numbers", "_span_ms", "_texts", "_times", "kind")

    def __init__(self, kind: Kind, span_ms: int) -> None:
        self.kind = kind
        self._is_text = kind in TEXTS
        self._span_ms = span_ms
        self._times = array("q")
        self._numbers = array("d")
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._times)

    def append(self, time_ms: int, raw: Raw) -> None:
        """Add a value; times rise strictly."""
        times = self._times
        if times and time_ms <= times[-1]:
            raise ValueError(f"{time_ms} does not lie after {times[-1]}")
        times.append(time_ms)
        if isinstance(raw, str):
            self._texts.append(raw)
        else:
            self._numbers.append(raw)
        if len(times) > _TRIM_ROWS and times[_TRIM_ROWS] < time_ms - self._span_ms:
            # The newest value before the span stays: it is the one that held when the span began.
            drop = bisect_left(times, time_ms - self._span_ms) - 1
            del times[:drop]
            del (self._texts if self._is_text else self._numbers)[:drop]

    def time_ms(self, row: int) -> int:
        """Return the time of a row."""
        return self._times[row]

    def raw(self, row: int) -> Raw:
        """Return the value of a row, as the type that the variable has."""
        if self._is_text:
            return self._texts[row]
        number = self._numbers[row]
        if self.kind == "Double":
            return number
        return bool(number) if self.kind == "Boolean" else int(number)

    def from_time(self, time_ms: int) -> int:
        """Return the first row at or after a time."""
        return bisect_left(self._times, time_ms)

    def after_time(self, time_ms: int) -> int:
        """Return the first row after a time."""
        return bisect_right(self._times, time_ms)


class _Query(NamedTuple):
    """What is left to be read of one node; also what a continuation point holds."""

    first_ms: int
    """Inclusive."""
    end_ms: int
    """Exclusive; before ``first_ms`` where time runs backwards."""
    limit: int
    """At most so many values in this answer; 0 is no limit."""
    backwards: bool
    pages: bool
    """``limit`` is the size of a page, and not of the whole."""
    bounds: bool

    def pack(self) -> bytes:
        flags = self.backwards | self.pages << 1 | self.bounds << 2
        return _POINT.pack(_POINT_MAGIC, self.first_ms, self.end_ms, self.limit, flags, _check(self))


def _check(query: _Query) -> int:
    return (query.first_ms * 31 + query.end_ms * 17 + query.limit) % 251


def _unpack(point: bytes) -> _Query | None:
    if len(point) != _POINT.size:
        return None
    magic, first_ms, end_ms, count, flags, check = _POINT.unpack(point)
    query = _Query(first_ms, end_ms, count, bool(flags & 1), bool(flags & 2), bool(flags & 4))
    return query if magic == _POINT_MAGIC and check == _check(query) and flags < 8 else None


class RawHistory(HistoryManager):
    """Answers HistoryRead for the series that it is given; nothing else of Part 11 is offered.

    Continuation points hold all that they mean, so the server keeps nothing for them and none is ever lost.
    """

    def __init__(self, server: InternalServer) -> None:
        super().__init__(server)
        self.series: dict[ua.NodeId, SeriesHistory] = {}

    async def init(self) -> None:
        """Nothing has to be prepared."""

    async def stop(self) -> None:
        """Nothing has to be closed."""

    async def read_history(self, params: ua.HistoryReadParameters) -> list[ua.HistoryReadResult]:
        """Answer one HistoryRead call, a result for each node."""
        nodes = params.NodesToRead
        if not nodes:
            raise ServiceError(StatusCodes.BadNothingToDo)
        if len(nodes) > MAX_NODES_PER_READ:
            raise ServiceError(StatusCodes.BadTooManyOperations)
        if params.ReleaseContinuationPoints:
            return [ua.HistoryReadResult() for _ in nodes]
        if params.TimestampsToReturn == ua.TimestampsToReturn.Neither:
            raise ServiceError(StatusCodes.BadTimestampsToReturnInvalid)
        if params.TimestampsToReturn == ua.TimestampsToReturn.Server:
            raise ServiceError(StatusCodes.BadTimestampNotSupported)
        limit = min(MAX_VALUES_PER_NODE, MAX_VALUES_PER_RESPONSE // len(nodes))
        return [self._read(node, params.HistoryReadDetails, limit) for node in nodes]

    def _read(self, node: ua.HistoryReadValueId, details: Any, limit: int) -> ua.HistoryReadResult:
        if not isinstance(details, ua.ReadRawModifiedDetails) or details.IsReadModified:
            return _failed(StatusCodes.BadHistoryOperationUnsupported)
        series = self.series.get(node.NodeId)
        if series is None:
            known = node.NodeId in self.iserver.aspace
            return _failed(
                StatusCodes.BadHistoryOperationUnsupported if known else StatusCodes.BadNodeIdUnknown
            )
        query: _Query | None
        if node.ContinuationPoint:
            query = _unpack(node.ContinuationPoint)
            if query is None:
                return _failed(StatusCodes.BadContinuationPointInvalid)
            return _answer(series, query, limit, start_bound=False)
        query = _query(details)
        if query is None:
            return _failed(StatusCodes.BadInvalidTimestampArgument)
        return _answer(series, query, limit, start_bound=query.bounds)


def _query(details: ua.ReadRawModifiedDetails) -> _Query | None:
    """Return what is asked for; None where start, end and count don't say it (two of the three have to)."""
    start, end = _time_us(details.StartTime), _time_us(details.EndTime)
    count, bounds = details.NumValuesPerNode, bool(details.ReturnBounds)
    if start is None and end is None:
        return None
    if start is None or end is None:
        if not count:
            return None
        if start is not None:
            return _Query(-(-start // 1000), _FOREVER_MS, count, backwards=False, pages=False, bounds=bounds)
        assert end is not None
        return _Query(end // 1000, -_FOREVER_MS, count, backwards=True, pages=False, bounds=bounds)
    if start > end:
        return _Query(start // 1000, end // 1000, count, backwards=True, pages=True, bounds=bounds)
    # Equal times ask for the value at that very time.
    last = -(-end // 1000) if start < end or start % 1000 else start // 1000 + 1
    return _Query(-(-start // 1000), last, count, backwards=False, pages=True, bounds=bounds)


def _answer(series: SeriesHistory, query: _Query, limit: int, *, start_bound: bool) -> ua.HistoryReadResult:
    rows = _rows(series, query)
    values: list[ua.DataValue] = []
    if start_bound and not (rows and series.time_ms(rows[0]) == query.first_ms):
        values.append(_bound(series, query, at_end=False))
    room = min(query.limit or limit, limit)
    taken = rows[: max(room - len(values), 0)]
    values.extend(_data_value(series, row) for row in taken)
    result = ua.HistoryReadResult()
    complete = query.limit and not query.pages and len(values) >= query.limit
    if len(taken) < len(rows) and not complete:
        left = query.limit - len(values) if query.limit and not query.pages else query.limit
        following = query._replace(first_ms=series.time_ms(rows[len(taken)]), limit=left)
        result.ContinuationPoint = following.pack()
    elif query.bounds and query.pages:
        values.append(_bound(series, query, at_end=True))
    result.StatusCode = _status(StatusCodes.Good if values else StatusCodes.GoodNoData)
    result.HistoryData = ua.HistoryData(DataValues=values)
    return result


def _rows(series: SeriesHistory, query: _Query) -> Sequence[int]:
    if query.backwards:
        return range(series.after_time(query.first_ms) - 1, series.after_time(query.end_ms) - 1, -1)
    return range(series.from_time(query.first_ms), series.from_time(query.end_ms))


def _bound(series: SeriesHistory, query: _Query, *, at_end: bool) -> ua.DataValue:
    """Return the bounding value at one end of the time domain (Part 11 §4.4)."""
    at_ms = query.end_ms if at_end else query.first_ms
    earlier = query.backwards == at_end
    row = series.after_time(at_ms) - 1 if earlier else series.from_time(at_ms)
    if 0 <= row < len(series):
        return _data_value(series, row)
    return data_value(None, "Null", at_ms, status=StatusCodes.BadBoundNotFound)


def _data_value(series: SeriesHistory, row: int) -> ua.DataValue:
    return data_value(series.raw(row), series.kind, series.time_ms(row))


def _time_us(time: datetime | None) -> int | None:
    """Return µs since 1970; None for DateTime.MinValue, which stands for "not stated"."""
    if time is None or time.replace(tzinfo=UTC) <= ua.get_win_epoch().replace(tzinfo=UTC):
        return None
    return (time.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def _status(code: Any) -> ua.StatusCode:
    return ua.StatusCode(code)


def _failed(code: int) -> ua.HistoryReadResult:
    return ua.HistoryReadResult(StatusCode=_status(code), HistoryData=ua.HistoryData())
