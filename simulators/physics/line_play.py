"""What the stations of a line show: PackML states, counters, jobs, finished units."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from shopfloor import signal
from simulators.physics import line_signals, packml, signals
from simulators.physics.line_intervals import Interval
from simulators.physics.line_spec import LineSpec, StationSpec, batch_name
from simulators.physics.line_state import Batch, UnitDone
from simulators.physics.unit import MS, Change, CycleEnd, Moment, Stretch, Value

_PASSED: Final = "passed"
_RESULTS: Final = {"good": "pass", "failed": "rework", "bad": "fail"}
_OF_JOB: Final = (signal.JOB_NAME, signals.JOB_PRODUCT, signal.EXPECTED_CYCLE_TIME)
Seen: TypeAlias = tuple[int, dict[str, Value], bool]
"""When, what is shown from then on, and whether a cycle ended with it."""


class StationDetail(NamedTuple):
    """What a stretch holds for one station, beside the truth."""

    intervals: Sequence[Interval]
    """The first may have begun before the stretch, the last is not over."""
    entered_from: int
    """PackML state before the first of them."""
    done: Sequence[UnitDone]
    batches: Sequence[tuple[int, Batch]]
    """From when on which batch is shown."""
    before: dict[str, Value]
    """What it showed at the begin of the stretch, except what follows from the interval."""


class LineDetail(NamedTuple):
    """What `play` needs of a stretch of a line."""

    stations: Sequence[StationDetail]
    first: bool
    """Nothing has been said before."""


def job_values(spec: LineSpec, station: StationSpec, job: str, product: int) -> dict[str, Value]:
    """Return what a station shows of its job, apart from counters."""
    made = spec.products[product]
    return {
        signal.JOB_NAME: job,
        signals.JOB_PRODUCT: made.name,
        signal.EXPECTED_CYCLE_TIME: round(station.ideal_cycle_s * made.work, 3),
    }


def unit_values(spec: LineSpec, unit: UnitDone) -> dict[str, Value]:
    """Return what a station shows when it has finished a unit, apart from its job."""
    values: dict[str, Value] = {
        signal.CYCLE_COUNTER: float(unit.cycles),
        line_signals.STATION_CYCLE_TIME: unit.worked_ms / 1000.0,
        signal.GOOD_PARTS_COUNTER: float(unit.good_counter),
        signal.BAD_PARTS_COUNTER: float(unit.bad_counter),
        line_signals.UNIT_SERIAL: float(unit.unit.serial),
        line_signals.UNIT_RESULT: _PASSED if unit.value is None else _RESULTS[unit.quality],
    }
    if unit.value is not None:
        values[spec.test.signal] = unit.value
        values[line_signals.TEST_LOWER_LIMIT] = spec.test.lower
        values[line_signals.TEST_UPPER_LIMIT] = spec.test.upper
    return values


def play_station(
    spec: LineSpec, number: int, stretch: Stretch, detail: StationDetail, *, first: bool
) -> Iterator[Moment]:
    """Yield what one station shows in a stretch."""
    own = spec.stations[number]
    said = dict(detail.before)
    present = detail.intervals[0]
    path = next(_paths(detail, stretch))
    said |= _condition_values(own, present)
    state = next((each for time, each in reversed(path) if time < stretch.begin_ms), detail.entered_from)
    said[line_signals.PACKML_STATE] = float(state)
    if first:
        said[line_signals.PACKML_STATE] = float(path[0][1])
        yield from (Change(own.name, name, stretch.begin_ms * MS, value) for name, value in said.items())
    streams: list[Iterable[Seen]] = [
        _conditions(own, detail, stretch),
        _units(spec, detail.done),
        _batches(spec, own, detail.batches),
    ]
    yield from say(own.name, said, streams)


def say(cell: str, said: dict[str, Value], streams: Iterable[Iterable[Seen]]) -> Iterator[Moment]:
    """Yield what a cell says of what it shows: only what is new, and every end of a cycle.

    Args:
        cell: it is about.
        said: what has been said before; goes on with what is said.
        streams: what it shows, each in order of time.
    """
    for time_ms, values, ended in heapq.merge(*streams, key=lambda seen: seen[0]):
        for name, value in values.items():
            if said.get(name) != value:
                said[name] = value
                yield Change(cell, name, time_ms * MS, value)
        if ended:
            yield CycleEnd(cell, time_ms * MS, values | {name: said[name] for name in _OF_JOB})


def _paths(detail: StationDetail, stretch: Stretch) -> Iterator[list[tuple[int, int]]]:
    state = detail.entered_from
    for number, interval in enumerate(detail.intervals):
        after = detail.intervals[number + 1] if number + 1 < len(detail.intervals) else None
        shown = interval.condition.shown
        yield packml.passage(
            state,
            shown,
            interval.begin_ms,
            after.begin_ms if after else None,
            runs_next=after is not None and after.condition.shown == packml.RUN,
            known_from_ms=max(interval.begin_ms, stretch.begin_ms),
        )
        state = packml.settle(state, shown)[1]


def _conditions(own: StationSpec, detail: StationDetail, stretch: Stretch) -> Iterator[Seen]:
    for interval, path in zip(detail.intervals, _paths(detail, stretch), strict=True):
        if interval.begin_ms >= stretch.begin_ms:
            yield interval.begin_ms, _condition_values(own, interval), False
        for time_ms, state in path:
            if stretch.begin_ms <= time_ms < stretch.end_ms:
                yield time_ms, {line_signals.PACKML_STATE: float(state)}, False


def _condition_values(own: StationSpec, interval: Interval) -> dict[str, Value]:
    condition = interval.condition
    runs = condition.shown == packml.RUN
    return {
        line_signals.PACKML_MODE: float(packml.MODES[condition.shown]),
        line_signals.PACKML_SPEED: round(60.0 / own.ideal_cycle_s, 2) if runs else 0.0,
        line_signals.PACKML_STOP_REASON: float(line_signals.STOP_REASONS.get(condition.cause, 0)),
        signal.STANDSTILL_REASON: condition.cause,
        signal.ACTIVE_POWER: own.kw[condition.state],
    }


def _units(spec: LineSpec, done: Iterable[UnitDone]) -> Iterator[Seen]:
    for unit in done:
        yield unit.end_ms, unit_values(spec, unit), True


def _batches(spec: LineSpec, own: StationSpec, batches: Iterable[tuple[int, Batch]]) -> Iterator[Seen]:
    for time_ms, batch in batches:
        counters: dict[str, Value] = {signal.GOOD_PARTS_COUNTER: 0.0, signal.BAD_PARTS_COUNTER: 0.0}
        yield (
            time_ms,
            counters | job_values(spec, own, batch_name(spec, batch.number), batch.product),
            False,
        )
