"""When people work: shifts by local time, their breaks, holidays; materialised as UTC spans."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_DAY: Final = timedelta(days=1)
_CHUNK_DAYS: Final = 14
_LOOK_AHEAD_MS: Final = 180 * 86_400_000


@dataclass(frozen=True, slots=True)
class Shift:
    """Working time that recurs on some days of the week; one that ends at or before its start ends the next day."""

    name: str
    start: time
    end: time
    days: frozenset[int]
    """Of its start: 0 is Monday."""
    breaks: tuple[tuple[time, time], ...] = ()
    """Within the shift, on whichever of its days."""


class Span(NamedTuple):
    """A time of one kind, in UTC ms, begin inclusive, end exclusive."""

    begin_ms: int
    end_ms: int
    shift: str | None
    """Name of the shift whose people work; None where nobody does."""
    reason: str
    """Why nobody works: break, no shift, holiday; empty while they do."""


class Calendar:
    """The working time of a site, or of one cell. Without shifts, people work around the clock but on holidays."""

    def __init__(
        self, zone: ZoneInfo, shifts: tuple[Shift, ...] = (), holidays: frozenset[date] = frozenset()
    ) -> None:
        self._zone = zone
        self._shifts = shifts or (Shift("day and night", time(0), time(0), frozenset(range(7))),)
        self._holidays = holidays
        self._spans: list[Span] = []
        self._begins: list[int] = []
        self._from_ms = self._through_ms = 0

    def at(self, time_ms: int) -> Span:
        """Return the span around a time; the next one may be of the same kind where nobody works for days."""
        if not self._from_ms <= time_ms < self._through_ms:
            self._materialise(time_ms)
        return self._spans[bisect.bisect_right(self._begins, time_ms) - 1]

    def next_shift_ms(self, time_ms: int) -> int:
        """Return when people begin to work next, or the time itself if they do then; looks ahead half a year."""
        at_ms, limit_ms = time_ms, time_ms + _LOOK_AHEAD_MS
        while at_ms < limit_ms and (span := self.at(at_ms)).shift is None:
            at_ms = span.end_ms
        return at_ms

    def _materialise(self, time_ms: int) -> None:
        first = datetime.fromtimestamp(time_ms / 1000.0, self._zone).date() - 2 * _DAY
        first_ms, from_ms, last_ms = (
            _ms(datetime.combine(first + days * _DAY, time(0), self._zone)) for days in (0, 1, _CHUNK_DAYS)
        )
        spans: list[Span] = []
        for number in range(_CHUNK_DAYS):
            day = first + number * _DAY
            for begin, end, name, reason in self._of_day(day):
                begin_ms = max(_ms(begin), spans[-1].end_ms if spans else _ms(begin))
                end_ms = _ms(end)
                if end_ms <= begin_ms:
                    continue
                for idle in self._idle(spans[-1].end_ms if spans else first_ms, begin_ms):
                    _append(spans, idle)
                _append(spans, Span(begin_ms, end_ms, name, reason))
        for idle in self._idle(spans[-1].end_ms if spans else first_ms, last_ms):
            _append(spans, idle)
        self._spans = spans
        self._begins = [span.begin_ms for span in spans]
        # The first day may lack a shift that began the day before.
        self._from_ms = from_ms
        # The last days may still lack a shift that begins later; they are worked out with the next chunk.
        self._through_ms = last_ms - 2 * 86_400_000

    def _idle(self, begin_ms: int, end_ms: int) -> Iterator[Span]:
        """Yield a time in which nobody works, day by local day: some may be holidays."""
        while begin_ms < end_ms:
            day = datetime.fromtimestamp(begin_ms / 1000.0, self._zone).date()
            until_ms = min(_ms(datetime.combine(day + _DAY, time(0), self._zone)), end_ms)
            yield Span(begin_ms, until_ms, None, "holiday" if day in self._holidays else "no shift")
            begin_ms = until_ms

    def _of_day(self, day: date) -> Iterator[tuple[datetime, datetime, str | None, str]]:
        if day in self._holidays:
            return
        for shift in sorted(self._shifts, key=lambda shift: shift.start):
            if day.weekday() not in shift.days:
                continue
            begin = datetime.combine(day, shift.start, self._zone)
            end = datetime.combine(day if shift.end > shift.start else day + _DAY, shift.end, self._zone)
            at = begin
            for pause_begin, pause_end in sorted(self._placed(begin, pause) for pause in shift.breaks):
                yield at, pause_begin, shift.name, ""
                yield pause_begin, pause_end, None, "break"
                at = pause_end
            yield at, end, shift.name, ""

    def _placed(self, begin: datetime, pause: tuple[time, time]) -> tuple[datetime, datetime]:
        start, end = (datetime.combine(begin.date(), each, self._zone) for each in pause)
        return (
            start if start >= begin else start + _DAY,
            end if end > begin else end + _DAY,
        )


def _append(spans: list[Span], span: Span) -> None:
    if spans and spans[-1][2:] == span[2:] and spans[-1].end_ms == span.begin_ms:
        spans[-1] = spans[-1]._replace(end_ms=span.end_ms)
    else:
        spans.append(span)


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
