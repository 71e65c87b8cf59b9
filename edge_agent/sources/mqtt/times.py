"""When a machine says that something was: numbers counted from 1970, and ISO 8601. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

TimeFormat = Literal["s", "ms", "us", "ns", "iso"]
Fold = Literal["first", "second", "nearest"]
TimeReader = Callable[[Any, int], int | None]
"""From a decoded value and the time of receipt (UTC ns) to the machine's time (UTC ns); None where it is none."""

LAST_TIME: Final = 2**63 - 1
"""UTC ns, in 2262; its negative is the first one, since one below that is NO_TIME."""
_SECOND_NS: Final = 1_000_000_000
_SCALE_NS: Final = {"s": _SECOND_NS, "ms": 1_000_000, "us": 1_000, "ns": 1}
_FRACTION: Final = re.compile(r"([^.,]+)[.,](\d{1,18})(.*)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  a local clock's own
_ONE_SECOND: Final = timedelta(seconds=1)
_FAR_NS: Final = 2.0**64


def time_reader(form: TimeFormat, zone: str | None = None, fold: Fold = "first") -> TimeReader:
    """Return the function that reads a machine's time.

    Numbers with a fraction are taken to the microsecond, which is what a double holds today; text to the
    nanosecond.

    Args:
        form: the unit of a number, or ``iso`` for text.
        zone: IANA name of the zone whose local time the machine gives: of text without an offset, and of numbers
            that count local seconds. Local times that a clock put forward skips count as if it had not been.
        fold: which one is meant of a local time that comes twice because the clock was put back; ``nearest`` is the
            second one if that lies within half the difference of the time of receipt.
    """
    local = _local(zone, fold) if zone else None
    if form == "iso":
        return lambda raw, received_time: _iso(raw, received_time, local) if type(raw) is str else None
    unit = _SCALE_NS[form]

    def read(raw: Any, _received_time: int = 0) -> int | None:
        kind = type(raw)
        if kind is int:
            time_ns = raw * unit
            return time_ns if -LAST_TIME <= time_ns <= LAST_TIME else None
        # NaN, the infinities, and what becomes infinite in ns are all not below this.
        if kind is float and abs(raw * unit) < _FAR_NS:
            return _in_range(round(raw * (unit / 1_000)) * 1_000 if unit > 1 else round(raw))
        if kind is str and len(raw) < 40:
            try:
                number = Decimal(raw.strip().replace(",", ".", 1))
                return (
                    _in_range(int(number * unit)) if number.is_finite() and number.adjusted() < 40 else None
                )
            except InvalidOperation:
                return None
        return None

    if local is None:
        return read

    def read_local(raw: Any, received_time: int) -> int | None:
        counted = read(raw)
        if counted is None:
            return None
        seconds, fraction_ns = divmod(counted, _SECOND_NS)
        try:
            return local(_NAIVE_EPOCH + timedelta(seconds=seconds), fraction_ns, received_time)
        except OverflowError:
            return None

    return read_local


_Local = Callable[[datetime, int, int], int | None]


def _local(zone: str, fold: Fold) -> _Local:
    """Return the function from a naive local time, a fraction in ns and the time of receipt to UTC ns."""
    where = ZoneInfo(zone)

    def utc(moment: datetime, fraction_ns: int, received_time: int) -> int | None:
        first = _utc_ns(moment.replace(tzinfo=where), fraction_ns)
        if fold == "first":
            return _in_range(first)
        second = _utc_ns(moment.replace(tzinfo=where, fold=1), fraction_ns)
        # Where a clock put forward skips times, "second" lies before "first" and is no other reading of it.
        if second <= first:
            return _in_range(first)
        is_second = fold == "second" or 2 * abs(received_time - second) <= second - first
        return _in_range(second if is_second else first)

    return utc


def _iso(text: str, received_time: int, local: _Local | None) -> int | None:
    fraction_ns = 0
    if match := _FRACTION.fullmatch(text.strip()):
        text = match[1] + match[3]
        fraction_ns = int(match[2][:9].ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return _in_range(_utc_ns(moment, fraction_ns))
        return None if local is None else local(moment, fraction_ns, received_time)
    except (ValueError, OverflowError):
        return None


def _utc_ns(moment: datetime, fraction_ns: int) -> int:
    return (moment - _EPOCH) // _ONE_SECOND * _SECOND_NS + fraction_ns


def _in_range(time_ns: int) -> int | None:
    return time_ns if -LAST_TIME <= time_ns <= LAST_TIME else None
