"""The conditions that a station or workplace is in, one after another, and the truth that follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from simulators.physics.calendar import Calendar, Span
from simulators.physics.unit import Energy, Facts

SEEN_MS: Final = 86_400_000
"""How far ahead working time is looked at."""


class Condition(NamedTuple):
    """What is the matter with a station."""

    state: str
    """Of the truth's table of states."""
    kind: str
    """Of the truth's table of downtime; empty while it runs."""
    cause: str
    """Empty while it runs."""
    shown: str
    """How the station shows it: a condition of `simulators.physics.packml`, or the status of a workplace."""


class Interval(NamedTuple):
    """A condition from a time on, until the next one; UTC ms."""

    begin_ms: int
    condition: Condition
    job: str


class Track(msgspec.Struct):
    """The present condition of a cell, and the ones of this stretch that are over."""

    present: Interval
    over: list[Interval] = []

    def enter(self, now_ms: int, condition: Condition, job: str) -> None:
        """Be in another condition from now on; one that has lasted no time has never been."""
        present = self.present
        if present.condition == condition and present.job == job:
            return
        if present.begin_ms < now_ms:
            self.over.append(present)
        elif self.over and self.over[-1].condition == condition and self.over[-1].job == job:
            self.present = self.over.pop()
            return
        self.present = Interval(now_ms, condition, job)

    def take(self) -> list[Interval]:
        """Return the stretch's intervals, the present one last, and begin the next stretch with that one."""
        taken = [*self.over, self.present]
        self.over = []
        return taken


def working_time(calendar: Calendar, at_ms: int) -> Span:
    """Return the span of work, or of one reason for none, around a time, seen at most a day ahead of it.

    Shifts that follow one another without a gap are one span. The end follows from ``at_ms`` alone, whatever the
    calendar was asked before.
    """
    first = span = calendar.at(at_ms)
    while span.end_ms < at_ms + SEEN_MS:
        after = calendar.at(span.end_ms)
        if (after.shift is None) != (first.shift is None) or after.reason != first.reason:
            return first._replace(end_ms=span.end_ms)
        span = after
    return first._replace(end_ms=at_ms + SEEN_MS)


def interval_facts(cell: str, intervals: Sequence[Interval], begin_ms: int, end_ms: int) -> Iterator[Facts]:
    """Yield states, cut at the stretch's ends, and downtime, told whole when it is over."""
    begins = np.array([each.begin_ms for each in intervals], np.int64)
    ends = np.append(begins[1:], end_ms)
    within = _within(intervals, begin_ms)
    yield Facts(
        "states",
        {
            "asset": cell,
            "begin_ms": np.maximum(begins, begin_ms)[-len(within) :],
            "end_ms": ends[-len(within) :],
            "state": [each.condition.state for each in within],
            "cause": [each.condition.cause or None for each in within],
            "job": [each.job or None for each in within],
        },
    )
    down = [number for number, each in enumerate(intervals[:-1]) if each.condition.kind]
    if down:
        yield Facts(
            "downtime",
            {
                "asset": cell,
                "begin_ms": begins[down],
                "end_ms": ends[down],
                "kind": [intervals[number].condition.kind for number in down],
                "cause": [intervals[number].condition.cause for number in down],
            },
        )


def interval_energy(
    cell: str,
    intervals: Sequence[Interval],
    limits_ms: tuple[int, int],
    kw: Mapping[str, float],
    kwh: float,
    power_factor: float,
) -> tuple[Energy, Facts]:
    """Return the energy of a stretch whose power follows from the state alone, and the same by state interval.

    Args:
        cell: it is about.
        intervals: of the stretch; the first may have begun before.
        limits_ms: begin and end of the stretch, UTC ms.
        kw: power by state.
        kwh: the register at the begin.
        power_factor: over the stretch.
    """
    begin_ms, end_ms = limits_ms
    intervals = _within(intervals, begin_ms)
    times = np.array([begin_ms, *(each.begin_ms for each in intervals[1:]), end_ms], np.int64)
    powers = np.array([kw[each.condition.state] for each in intervals])
    drawn = powers * np.diff(times) / 3.6e6
    facts = Facts(
        "energy",
        {
            "asset": cell,
            "begin_ms": times[:-1],
            "end_ms": times[1:],
            "kwh": drawn,
            "state": [each.condition.state for each in intervals],
        },
    )
    return Energy(times, kwh + np.concatenate(([0.0], np.cumsum(drawn))), power_factor), facts


def _within(intervals: Sequence[Interval], begin_ms: int) -> Sequence[Interval]:
    """Return the intervals without a first one that has ended at the very begin of the stretch."""
    return intervals[1:] if len(intervals) > 1 and intervals[1].begin_ms == begin_ms else intervals
