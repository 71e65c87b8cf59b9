"""A line of stations in a U: units flow one by one, through small buffers, worked at by operators who share it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from shopfloor import signal
from simulators.physics import packml
from simulators.physics.line_batches import order_batch
from simulators.physics.line_flow import Flow
from simulators.physics.line_intervals import interval_energy, interval_facts
from simulators.physics.line_play import LineDetail, StationDetail, job_values, play_station, unit_values
from simulators.physics.line_spec import LineSpec, StationSpec, batch_name
from simulators.physics.line_state import BATCH_END, LineState, Station, fresh
from simulators.physics.unit import MAX_STRETCH_MS, Column, Facts, Moment, Stretch, Value

_QUIET_MS: Final = 8_000
"""A stretch ends where nothing happens for so long; rather at an hour's end than there."""
_EARLIEST_MS: Final = 3_000_000
_LEAST_QUIET_MS: Final = 10


class Line:
    """A line on an injected clock.

    Args:
        spec: what it is.
        seed: of everything random in it.
        start_ms: UTC ms at which its life begins.
    """

    def __init__(self, spec: LineSpec, seed: int | str, start_ms: int) -> None:
        self.spec = spec
        self._seed = seed
        rng = random.Random(f"{seed}:start")
        job = batch_name(spec, 1)
        stations = [
            Station(
                fresh(BATCH_END, start_ms, job),
                batch=1,
                shown_batch=1,
                job=job,
                stop_in_ms=round(1000.0 * rng.expovariate(1.0 / own.between_stops_s)),
                jam_in_ms=round(1000.0 * rng.expovariate(1.0 / own.between_jams_s)),
                cycles=rng.randrange(10_000, 400_000),
            )
            for own in spec.stations
        ]
        self._state = LineState(start_ms, 0, start_ms, stations, spec.operators, {})
        flow = Flow(spec, self._state, rng)
        product = order_batch(spec, self._state, rng).product
        for station in stations:
            station.shown_product = product
        flow.consult_calendar()

    @property
    def cells(self) -> Sequence[str]:
        """The line's own cell, then its stations'."""
        return [self.spec.cell, *(station.name for station in self.spec.stations)]

    def plan(self) -> Stretch:
        """Return the next stretch; the line is seen not quite an hour ahead, to where it is quiet for a moment."""
        state = self._state
        begin_ms = state.stretch_begin_ms
        first = state.stretch == 0
        before = [self._shown(number) for number in range(len(state.stations))]
        flow = Flow(self.spec, state, random.Random(f"{self._seed}:{state.stretch}"))
        end_ms = _run(flow, begin_ms)
        stretch = Stretch(begin_ms, end_ms, flow.facts)
        details = []
        for number, station in enumerate(state.stations):
            intervals = station.track.take()
            details.append(
                StationDetail(
                    intervals,
                    station.entered_from,
                    flow.done[number],
                    flow.batches_shown[number],
                    before[number],
                )
            )
            for interval in intervals[:-1]:
                station.entered_from = packml.settle(station.entered_from, interval.condition.shown)[1]
            self._tell(stretch, self.spec.stations[number], station, details[-1])
        stretch.detail = LineDetail(details, first)
        state.stretch += 1
        state.stretch_begin_ms = end_ms
        return stretch

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """Yield what the stations show."""
        detail = stretch.detail
        if not isinstance(detail, LineDetail):
            raise TypeError("not a stretch of a line")
        streams = [
            play_station(self.spec, number, stretch, each, first=detail.first)
            for number, each in enumerate(detail.stations)
        ]
        return heapq.merge(*streams, key=lambda moment: moment.time_ns)

    def snapshot(self) -> bytes:
        """Return the line between two stretches."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            msgspec.ValidationError: it is none of a line.
            ValueError: it is of a line with another number of stations.
        """
        state = msgspec.msgpack.decode(snapshot, type=LineState)
        if len(state.stations) != len(self.spec.stations):
            raise ValueError(
                f"line {self.spec.cell}: the snapshot has {len(state.stations)} stations, "
                f"the line {len(self.spec.stations)}"
            )
        self._state = state

    def _shown(self, number: int) -> dict[str, Value]:
        """Return what a station shows now, apart from its condition."""
        spec, station = self.spec, self._state.stations[number]
        own = spec.stations[number]
        return {
            **job_values(spec, own, batch_name(spec, station.shown_batch), station.shown_product),
            **(unit_values(spec, station.last) if station.last else {}),
            signal.CYCLE_COUNTER: float(station.cycles),
            signal.GOOD_PARTS_COUNTER: float(station.good),
            signal.BAD_PARTS_COUNTER: float(station.bad),
        }

    def _tell(self, stretch: Stretch, own: StationSpec, station: Station, detail: StationDetail) -> None:
        limits = stretch.begin_ms, stretch.end_ms
        stretch.facts += interval_facts(own.name, detail.intervals, *limits)
        energy, facts = interval_energy(
            own.name, detail.intervals, limits, own.kw, station.kwh, own.power_factor
        )
        station.kwh = float(energy.kwh[-1])
        stretch.energy = {**stretch.energy, own.name: energy}
        stretch.facts.append(facts)
        done = detail.done
        if not done:
            return
        columns: dict[str, Column] = {
            "asset": own.name,
            "begin_ms": np.array([each.begin_ms for each in done], np.int64),
            "end_ms": np.array([each.end_ms for each in done], np.int64),
            "job": [batch_name(self.spec, each.unit.batch) for each in done],
            "product": [self.spec.products[each.unit.product].name for each in done],
            "cycle": np.array([each.cycles for each in done], np.int64),
            "quality": [each.quality for each in done],
            "good": np.array([each.good for each in done], np.int64),
            "bad": np.array([each.bad for each in done], np.int64),
        }
        stretch.facts.append(Facts("cycles", columns))


def _run(flow: Flow, begin_ms: int) -> int:
    """Let the line work on and return where its stretch ends."""
    limit_ms = begin_ms + MAX_STRETCH_MS
    while True:
        now = flow.state.now_ms
        due, where = flow.due()
        if due - _LEAST_QUIET_MS >= limit_ms:
            return limit_ms
        late = (now - begin_ms - _EARLIEST_MS) / (MAX_STRETCH_MS - _EARLIEST_MS)
        if late >= 0.0 and due - now > max(_QUIET_MS * (1.0 - late), 2 * _LEAST_QUIET_MS - 1):
            return now + 1
        if due + 1 >= limit_ms:
            return min(max(due - _LEAST_QUIET_MS, now + 1), limit_ms)
        flow.step(due, where)
