"""From the text of a question to what a store understands. Every mistake is an `Unanswerable` that names it."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import zoneinfo
from typing import Final, NamedTuple

import msgspec
import numpy as np

from ingest_service.stores import Grid, Position, TimeSpan, regular_grid
from shopfloor.errors import Permanent

_MAX_MS: Final = 2**63 // 1_000_000 - 1
_HOUR_MS: Final = 3_600_000
_MAX_CALENDAR_BUCKETS: Final = 100_000
_MAX_SKIPPED: Final = 1_000_000
"""Samples of one series at one time that a cursor may stand behind."""
_SECONDS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WIDTH: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d|w|mo|y|)")
_CALENDAR: Final = frozenset({"d", "w", "mo", "y"})
_EPOCH: Final = dt.date(1970, 1, 1)
_FIRST_DAY: Final = dt.date(1678, 1, 1)
_LAST_DAY: Final = dt.date(2262, 1, 1)
"""What int64 nanoseconds hold."""


class Unanswerable(Permanent):
    """A question that makes no sense or asks for too much; the text says what of it."""


class Width(NamedTuple):
    """How wide buckets are: a number of seconds, or of days, weeks, months or years of a calendar."""

    number: float
    unit: str
    """One of ``ms s m h d w mo y``, or empty for seconds."""


def span_of(begin: str | None, end: str | None, now_ns: int) -> TimeSpan:
    """Return the span that two moments mean, the last hour where there are none.

    Raises:
        Unanswerable: a moment is none, or they stand the wrong way round.
    """
    to_ms = moment_ms("to", end) if end else now_ns // 1_000_000 + 1
    from_ms = moment_ms("from", begin) if begin else max(-_MAX_MS, to_ms - _HOUR_MS)
    if from_ms > to_ms:
        raise Unanswerable("from lies after to")
    return TimeSpan(from_ms * 1_000_000, to_ms * 1_000_000)


def moment_ms(name: str, text: str) -> int:
    """Read ms since 1970, or ISO 8601 (UTC where it says nothing else)."""
    try:
        number = int(text)
    except ValueError:
        try:
            # A "+" of an offset arrives as a space where the client did not escape it.
            moment = dt.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            number = round(aware.timestamp() * 1000)
        except (ValueError, OverflowError) as error:
            raise Unanswerable(f"{name}: neither ms since 1970 nor ISO 8601") from error
    if abs(number) > _MAX_MS:
        raise Unanswerable(f"{name}: out of range")
    return number


def width_of(text: str) -> Width:
    """Read a width such as ``60``, ``250ms``, ``15m``, ``1h``, ``1d``, ``1mo``; a bare number is seconds.

    Raises:
        Unanswerable: it is none.
    """
    match = _WIDTH.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise Unanswerable(f"every: {text[:40]!r} is no width such as 60, 250ms, 15m, 1h, 1d, 1w, 1mo or 1y")
    return Width(float(match[1]), match[2])


def grid_of(span: TimeSpan, width: Width, time_zone: str = "") -> Grid:
    """Return the buckets of a span.

    Days, weeks (from Monday), months and years are those of ``time_zone``'s calendar, so that a day has 23 or 25 hours
    twice a year; all other widths, and everything without a time zone, are multiples since 1970 UTC.

    Raises:
        Unanswerable: the time zone is unknown, the span is empty or has too many buckets.
    """
    if span.from_ns >= span.to_ns:
        raise Unanswerable("from and to are the same: there is nothing between them")
    if width.unit in {"mo", "y"} or (time_zone and width.unit in _CALENDAR):
        return _calendar_grid(span, width, time_zone or "UTC")
    if time_zone:
        _zone(time_zone)
    every_ns = max(1, round(width.number * _SECONDS[width.unit] * 1e9))
    try:
        return regular_grid(span, every_ns)
    except ValueError as error:
        raise Unanswerable(f"every: {error}") from error


def points_grid(span: TimeSpan, points: int) -> Grid:
    """Return at most about ``points`` buckets of one width."""
    return grid_of(span, Width(max(1, -(-(span.to_ns - span.from_ns) // points)) / 1e9, ""))


def cursor_text(position: Position) -> str:
    """Return a position as a text that travels in addresses."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_cursor(text: str) -> Position:
    """Read `cursor_text`.

    Raises:
        Unanswerable: it is not one of ours.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        position = msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=Position)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise Unanswerable("cursor: not one that this service gave") from error
    # Whoever makes one up must not have the service read as much as it says.
    if not (-(2**63) <= position.source_time < 2**63 and 0 <= position.rows <= _MAX_SKIPPED):
        raise Unanswerable("cursor: not one that this service gave")
    return position


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Unanswerable(f"time_zone: {name[:60]!r} is no IANA name such as Asia/Hong_Kong") from error


def _calendar_grid(span: TimeSpan, width: Width, time_zone: str) -> Grid:
    zone = _zone(time_zone)
    number = int(width.number)
    if number != width.number:
        raise Unanswerable("every: only whole days, weeks, months and years")
    day = _begin_of(_local_date(span.from_ns, zone), number, width.unit)
    _local_date(span.to_ns - 1, zone)
    edges = [_midnight_ns(day, zone)]
    while edges[-1] < span.to_ns:
        day = _next(day, number, width.unit)
        edge = _midnight_ns(day, zone)
        # A zone that changed sides of the date line left a day out.
        if edge > edges[-1]:
            edges.append(edge)
        if len(edges) > _MAX_CALENDAR_BUCKETS:
            raise Unanswerable(f"every: more than {_MAX_CALENDAR_BUCKETS} buckets")
    # Where clocks go back over midnight, an evening comes again after the next day has begun.
    skipped = int(np.searchsorted(edges, span.from_ns, side="right")) - 1
    return Grid(np.array(edges[skipped:], np.int64))


def _midnight_ns(day: dt.date, zone: zoneinfo.ZoneInfo) -> int:
    at = int(dt.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
    return min(2**63 - 1, at * 1_000_000_000)


def _local_date(at_ns: int, zone: zoneinfo.ZoneInfo) -> dt.date:
    low = dt.datetime(_FIRST_DAY.year, 1, 2, tzinfo=dt.UTC).timestamp()
    high = dt.datetime(_LAST_DAY.year, 1, 1, tzinfo=dt.UTC).timestamp()
    seconds = at_ns // 1_000_000_000
    if not low <= seconds <= high:
        raise Unanswerable("from, to: out of the calendar's range, 1678 to 2262")
    return dt.datetime.fromtimestamp(seconds, zone).date()


def _begin_of(day: dt.date, number: int, unit: str) -> dt.date:
    if unit == "y":
        return dt.date(max(_FIRST_DAY.year, day.year - day.year % number), 1, 1)
    if unit == "mo":
        months = (day.year * 12 + day.month - 1) // number * number
        return max(_FIRST_DAY, dt.date(max(1, months // 12), months % 12 + 1, 1))
    length = number * (7 if unit == "w" else 1)
    # 1970-01-01 was a Thursday.
    since = (day - _EPOCH).days + (3 if unit == "w" else 0)
    return dt.date.fromordinal(max(_FIRST_DAY.toordinal(), day.toordinal() - since % length))


def _next(day: dt.date, number: int, unit: str) -> dt.date:
    try:
        if unit == "y":
            return dt.date(day.year + number, 1, 1)
        if unit == "mo":
            months = day.year * 12 + day.month - 1 + number
            return dt.date(months // 12, months % 12 + 1, 1)
        return day + dt.timedelta(days=number * (7 if unit == "w" else 1))
    except (ValueError, OverflowError) as error:
        raise Unanswerable("every: a bucket that ends after the calendar does") from error


__all__ = [
    "Unanswerable",
    "Width",
    "cursor_text",
    "grid_of",
    "moment_ms",
    "points_grid",
    "read_cursor",
    "span_of",
    "width_of",
]
