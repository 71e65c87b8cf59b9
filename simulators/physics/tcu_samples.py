"""What units show that look at themselves at fixed times, and the energy that they draw meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from simulators.physics.line_intervals import Interval
from simulators.physics.line_play import Seen, say
from simulators.physics.unit import MS, Change, Energy, Facts, Moment, Stretch, Value


def show_samples(
    cell: str,
    before: dict[str, Value],
    names: Sequence[str],
    times_ms: Sequence[int],
    values: Sequence[Sequence[float]],
) -> Iterator[Moment]:
    """Yield the changes of signals that are looked at at the same times.

    Args:
        cell: it is about.
        before: what was said last; empty at a life's begin.
        names: of the signals.
        times_ms: when they are looked at, UTC ms.
        values: by signal, at each of the times.
    """
    said = dict(before)
    if not said:
        said = {name: column[0] for name, column in zip(names, values, strict=True)}
        yield from (Change(cell, name, times_ms[0] * MS, value) for name, value in said.items())
    rows: Iterator[Seen] = (
        (time_ms, dict(zip(names, row, strict=True)), False)
        for time_ms, row in zip(times_ms, zip(*values, strict=True), strict=True)
    )
    yield from say(cell, said, (rows,))


def energy_facts(
    cell: str, intervals: Sequence[Interval], stretch: Stretch, energy: Energy
) -> Iterator[Facts]:
    """Yield the energy of a stretch by state interval, from what was drawn at the intervals' ends."""
    within = [each for each in intervals[1:] if each.begin_ms > stretch.begin_ms]
    present = intervals[len(intervals) - len(within) - 1]
    edges = [stretch.begin_ms, *(each.begin_ms for each in within), stretch.end_ms]
    kwh = np.interp(edges, energy.time_ms, energy.kwh)
    yield Facts(
        "energy",
        {
            "asset": cell,
            "begin_ms": np.array(edges[:-1], np.int64),
            "end_ms": np.array(edges[1:], np.int64),
            "kwh": np.diff(kwh),
            "state": [each.condition.state for each in (present, *within)],
        },
    )
