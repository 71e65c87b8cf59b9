"""A garment cell: each operator makes whole garments, one at a time, paced by hand."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from shopfloor import signal
from simulators.physics import line_signals, signals
from simulators.physics.garment_spec import GarmentSpec, OperatorSpec
from simulators.physics.garment_state import FETCHING, Batch, GarmentDone, Workplace
from simulators.physics.garment_work import Work, batch_name
from simulators.physics.line_intervals import Interval, Track, interval_energy, interval_facts
from simulators.physics.line_play import Seen, say
from simulators.physics.unit import MAX_STRETCH_MS, MS, Change, Column, Facts, Moment, Stretch, Value


class _State(msgspec.Struct):
    begin_ms: int
    stretch: int
    workplaces: list[Workplace]


class _Detail(NamedTuple):
    """What a stretch holds for one workplace, beside the truth."""

    intervals: Sequence[Interval]
    work: Work
    before: dict[str, Value]
    first: bool


class GarmentCell:
    """A cell on an injected clock.

    Args:
        spec: what it is.
        seed: of everything random in it.
        start_ms: UTC ms at which its life begins.
    """

    def __init__(self, spec: GarmentSpec, seed: int | str, start_ms: int) -> None:
        self.spec = spec
        self._seed = seed
        rng = random.Random(f"{seed}:start")
        self._state = _State(start_ms, 0, [])
        for operator in spec.operators:
            batch = Batch(0, rng.randrange(len(spec.styles)), 1, start_ms)
            place = Workplace(
                Track(Interval(start_ms, FETCHING, batch_name(spec, operator, 0))),
                start_ms,
                batch,
                thread_ms=round(1000.0 * rng.expovariate(1.0 / spec.between_thread_breaks_s)),
                fault_ms=round(1000.0 * rng.expovariate(1.0 / spec.between_faults_s)),
                cycles=rng.randrange(1_000, 20_000),
                practice={style: rng.uniform(0.0, 20.0) for style in range(len(spec.styles))},
            )
            work = Work(spec, operator, place, rng)
            work.fetch()
            work.consult_calendar()
            self._state.workplaces.append(place)

    @property
    def cells(self) -> Sequence[str]:
        """Its workplaces."""
        return [operator.name for operator in self.spec.operators]

    def plan(self) -> Stretch:
        """Return the next hour."""
        state = self._state
        stretch = Stretch(state.begin_ms, state.begin_ms + MAX_STRETCH_MS)
        details = []
        for operator, place in zip(self.spec.operators, state.workplaces, strict=True):
            before = self._shown(operator, place)
            rng = random.Random(f"{self._seed}:{state.stretch}:{operator.name}")
            work = Work(self.spec, operator, place, rng)
            work.advance(stretch.end_ms)
            intervals = place.track.take()
            details.append(_Detail(intervals, work, before, state.stretch == 0))
            self._tell(stretch, operator, place, details[-1])
        stretch.detail = details
        state.stretch += 1
        state.begin_ms = stretch.end_ms
        return stretch

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """Yield what the workplaces show."""
        details = stretch.detail
        if not isinstance(details, list):
            raise TypeError("not a stretch of a garment cell")
        streams = [_play(self.spec, stretch, detail) for detail in details]
        return heapq.merge(*streams, key=lambda moment: moment.time_ns)

    def snapshot(self) -> bytes:
        """Return the cell between two stretches."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            msgspec.ValidationError: it is none of a garment cell.
            ValueError: it is of a cell with another number of workplaces.
        """
        state = msgspec.msgpack.decode(snapshot, type=_State)
        if len(state.workplaces) != len(self.spec.operators):
            raise ValueError(
                f"garment cell {self.spec.name}: the snapshot has {len(state.workplaces)} workplaces, "
                f"the cell {len(self.spec.operators)}"
            )
        self._state = state

    def _shown(self, operator: OperatorSpec, place: Workplace) -> dict[str, Value]:
        """Return what a workplace shows now, apart from its condition."""
        batch = place.batch
        values = _batch_values(self.spec, operator, batch)
        values |= {
            signal.CYCLE_COUNTER: float(place.cycles),
            signal.PARTS_COUNTER: float(batch.good + batch.bad),
            signal.GOOD_PARTS_COUNTER: float(batch.good),
            signal.BAD_PARTS_COUNTER: float(batch.bad),
            line_signals.OPERATION_NAME: "",
        }
        if place.left_ms:
            operations = self.spec.styles[batch.style].operations
            values[line_signals.OPERATION_NAME] = operations[-len(place.left_ms)][0]
        if place.last is not None:
            values[signal.CYCLE_TIME] = place.last.worked_ms / 1000.0
        return values

    def _tell(self, stretch: Stretch, operator: OperatorSpec, place: Workplace, detail: _Detail) -> None:
        spec, cell = self.spec, operator.name
        limits = stretch.begin_ms, stretch.end_ms
        stretch.facts += interval_facts(cell, detail.intervals, *limits)
        energy, facts = interval_energy(cell, detail.intervals, limits, spec.kw, place.kwh, spec.power_factor)
        place.kwh = float(energy.kwh[-1])
        stretch.energy = {**stretch.energy, cell: energy}
        stretch.facts += [facts, *detail.work.facts]
        if detail.work.done:
            stretch.facts.append(_cycles(spec, operator, detail.work.done))


def _cycles(spec: GarmentSpec, operator: OperatorSpec, done: Sequence[GarmentDone]) -> Facts:
    columns: dict[str, Column] = {
        "asset": operator.name,
        "begin_ms": np.array([each.begin_ms for each in done], np.int64),
        "end_ms": np.array([each.end_ms for each in done], np.int64),
        "job": [batch_name(spec, operator, each.batch) for each in done],
        "product": [spec.styles[each.style].name for each in done],
        "cycle": np.array([each.cycles for each in done], np.int64),
        "quality": [each.quality for each in done],
        "good": np.array([each.quality == "good" for each in done], np.int64),
        "bad": np.array([each.quality == "bad" for each in done], np.int64),
    }
    return Facts("cycles", columns)


def _play(spec: GarmentSpec, stretch: Stretch, detail: _Detail) -> Iterator[Moment]:
    operator = detail.work.operator
    said = detail.before | _condition_values(spec, detail.intervals[0])
    if detail.first:
        yield from (Change(operator.name, name, stretch.begin_ms * MS, value) for name, value in said.items())
    conditions: Iterator[Seen] = (
        (each.begin_ms, _condition_values(spec, each), False)
        for each in detail.intervals
        if each.begin_ms >= stretch.begin_ms
    )
    garments: Iterator[Seen] = ((each.end_ms, _garment_values(each), True) for each in detail.work.done)
    operations: Iterator[Seen] = (
        (time_ms, {line_signals.OPERATION_NAME: name}, False) for time_ms, name in detail.work.operations
    )
    none: dict[str, Value] = dict.fromkeys(
        (signal.PARTS_COUNTER, signal.GOOD_PARTS_COUNTER, signal.BAD_PARTS_COUNTER), 0.0
    )
    batches: Iterator[Seen] = (
        (time_ms, _batch_values(spec, operator, batch) | none, False)
        for time_ms, batch in detail.work.batches
    )
    yield from say(operator.name, said, (conditions, garments, operations, batches))


def _condition_values(spec: GarmentSpec, interval: Interval) -> dict[str, Value]:
    condition = interval.condition
    return {
        line_signals.WORKPLACE_STATUS: condition.shown,
        signal.STANDSTILL_REASON: condition.cause,
        signal.ACTIVE_POWER: spec.kw[condition.state],
    }


def _batch_values(spec: GarmentSpec, operator: OperatorSpec, batch: Batch) -> dict[str, Value]:
    style = spec.styles[batch.style]
    return {
        signal.JOB_NAME: batch_name(spec, operator, batch.number),
        signals.JOB_PRODUCT: style.name,
        signal.EXPECTED_CYCLE_TIME: round(60.0 * style.smv, 3),
    }


def _garment_values(garment: GarmentDone) -> dict[str, Value]:
    return {
        signal.CYCLE_COUNTER: float(garment.cycles),
        signal.CYCLE_TIME: garment.worked_ms / 1000.0,
        signal.PARTS_COUNTER: float(garment.good_counter + garment.bad_counter),
        signal.GOOD_PARTS_COUNTER: float(garment.good_counter),
        signal.BAD_PARTS_COUNTER: float(garment.bad_counter),
    }
