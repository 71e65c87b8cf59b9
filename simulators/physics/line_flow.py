"""How units flow through a line: what happens at one station when something ends at another."""

from __future__ import annotations

import math
import random
from typing import Final

from simulators.physics.calendar import Span
from simulators.physics.line_batches import changeover_facts, job_facts, measure, order_batch
from simulators.physics.line_chance import changeover_ms, cycle_ms, stop
from simulators.physics.line_intervals import SEEN_MS, Condition, working_time
from simulators.physics.line_spec import LineSpec, batch_name
from simulators.physics.line_state import (
    BATCH_END,
    BEFORE_PAUSE,
    BLOCKED,
    CHANGE,
    HANDS,
    MACHINE,
    NEVER,
    NO_OPERATOR,
    REST,
    RUNNING,
    SETUP,
    STARVED,
    STOP,
    TICK_MS,
    Batch,
    LineState,
    Station,
    UnitDone,
    UnitInWork,
)
from simulators.physics.packml import PAUSE
from simulators.physics.unit import Facts

_HELD_BACK_MS: Final = 600_000
"""Units that take longer are begun at any time, and lie in the station over the pause."""


class Flow:
    """A line at work within one stretch: takes its state on, and notes what is done.

    Args:
        spec: of the line.
        state: taken over and changed.
        rng: of the stretch; drawn from in the order in which things happen.
    """

    def __init__(self, spec: LineSpec, state: LineState, rng: random.Random) -> None:
        self.spec = spec
        self.state = state
        self.done: list[list[UnitDone]] = [[] for _ in spec.stations]
        self.batches_shown: list[list[tuple[int, Batch]]] = [[] for _ in spec.stations]
        """By station: from when on it shows which batch."""
        self.facts: list[Facts] = []
        """Jobs and changeovers that are over."""
        self._rng = rng

    def due(self) -> tuple[int, int]:
        """Return when something happens next, and at which station; -1 is the calendar."""
        state = self.state
        if state.pause_end_ms != NEVER:
            return state.pause_end_ms, -1
        due_ms, where = state.look_ms, -1
        for number, station in enumerate(state.stations):
            if station.until_ms < due_ms:
                due_ms, where = station.until_ms, number
        return due_ms, where

    def step(self, due_ms: int, number: int) -> None:
        """Let happen what is due: at one station, or to all of them if work begins or ends."""
        state = self.state
        state.now_ms = due_ms
        if number < 0:
            self.consult_calendar()
            return
        station = state.stations[number]
        ended = station.step
        station.until_ms = NEVER
        if ended == HANDS:
            self._release_operator()
            self._run_machine(station, station.left_ms)
        elif ended == MACHINE and station.left_ms:
            self._stop(number, station)
        elif ended == MACHINE:
            self._finish(number, station)
        elif ended == STOP:
            self._enter(station, RUNNING)
            self._run_machine(station, station.left_ms)
        elif ended == CHANGE:
            self._changed(number, station)

    def consult_calendar(self) -> None:
        """Begin or end a pause if it is time; times that run go on after a pause where they stood."""
        state = self.state
        span = working_time(self.spec.calendar, state.now_ms)
        if span.shift is None:
            self._pause(span)
            return
        state.work_end_ms = state.look_ms = span.end_ms
        if span.end_ms - state.now_ms >= SEEN_MS:
            # Work may well go on there: nobody should hold back a unit because the calendar was read no further.
            state.look_ms -= SEEN_MS // 2
        if state.pause_end_ms != NEVER:
            paused_ms = state.now_ms - state.paused_ms
            state.pause_end_ms = NEVER
            for station in state.stations:
                if station.step != REST:
                    station.until_ms += paused_ms
                if station.paused is not None:
                    self._enter(station, station.paused)
                    station.paused = None
        for number in range(len(state.stations)):
            self._begin(number)

    def _pause(self, span: Span) -> None:
        state = self.state
        first = state.pause_end_ms == NEVER
        if first:
            state.paused_ms = state.now_ms
            state.waiting = []
        state.pause_end_ms = span.end_ms
        pause = Condition("DOWN_PLANNED", "planned", span.reason, PAUSE)
        for station in state.stations:
            if first and (station.step != REST or station.unit is not None):
                station.paused = station.track.present.condition
            self._enter(station, pause)

    def _enter(self, station: Station, condition: Condition) -> None:
        station.track.enter(self.state.now_ms, condition, station.job)

    def _until(self, station: Station, step: int, length_ms: float) -> None:
        station.step = step
        ticks = max(math.ceil((self.state.now_ms + length_ms) / TICK_MS), self.state.now_ms // TICK_MS + 1)
        station.until_ms = ticks * TICK_MS

    def _begin(self, number: int) -> None:
        """Begin a unit or a changeover at a station that rests, if there is what it takes."""
        state = self.state
        station = state.stations[number]
        if station.step != REST or station.unit is not None:
            return
        unit = self._next_unit(number, station)
        if unit is None:
            whole = station.batch in state.batches and station.taken < state.batches[station.batch].size
            self._enter(station, STARVED if whole else BATCH_END)
            return
        if unit.batch != station.batch:
            self._change(number, station, unit.batch)
            return
        own = self.spec.stations[number]
        if not station.drawn_ms:
            station.drawn_ms = cycle_ms(own, self.spec.products[unit.product].work, self._rng)
        ready_ms = state.now_ms + station.drawn_ms + 2 * TICK_MS
        if ready_ms > state.work_end_ms and station.drawn_ms <= _HELD_BACK_MS:
            self._enter(station, BEFORE_PAUSE)
            return
        if own.hands_share and not self._take_operator(number, station):
            return
        self._take_unit(number, station, unit)
        station.begun_ms = state.now_ms
        self._enter(station, RUNNING)
        hands_ms = round(own.hands_share * station.drawn_ms)
        station.left_ms = max(station.drawn_ms - hands_ms, TICK_MS)
        if hands_ms:
            self._until(station, HANDS, hands_ms)
        else:
            self._run_machine(station, station.left_ms)
        self._unblock(number - 1)

    def _next_unit(self, number: int, station: Station) -> UnitInWork | None:
        if station.rework:
            return station.rework[0]
        if number:
            return station.queue[0] if station.queue else None
        state = self.state
        newest = state.batches[state.newest]
        if newest.released == newest.size:
            newest = order_batch(self.spec, state, self._rng)
        return UnitInWork(state.serial + 1, newest.number, newest.product, reworked=False)

    def _take_unit(self, number: int, station: Station, unit: UnitInWork) -> None:
        station.unit = unit
        if station.rework:
            del station.rework[0]
            return
        station.taken += not unit.reworked
        if number:
            del station.queue[0]
        else:
            self.state.serial = unit.serial
            self.state.batches[unit.batch].released += 1

    def _take_operator(self, number: int, station: Station) -> bool:
        state = self.state
        if state.free_operators:
            state.free_operators -= 1
            return True
        if number not in state.waiting:
            state.waiting.append(number)
        self._enter(station, NO_OPERATOR)
        return False

    def _release_operator(self) -> None:
        state = self.state
        state.free_operators += 1
        while state.free_operators and state.waiting:
            self._begin(state.waiting.pop(0))

    def _run_machine(self, station: Station, length_ms: int) -> None:
        """Run the rest of a cycle, or as much of it as there is until the next stop or jam."""
        to_stop = min(station.stop_in_ms, station.jam_in_ms)
        runs_ms = min(length_ms, max(to_stop, TICK_MS))
        station.left_ms = length_ms - runs_ms
        station.stop_in_ms -= runs_ms
        station.jam_in_ms -= runs_ms
        self._until(station, MACHINE, runs_ms)

    def _stop(self, number: int, station: Station) -> None:
        condition, length_ms = stop(self.spec.stations[number], self.spec.faults, station, self._rng)
        self._enter(station, condition)
        self._until(station, STOP, length_ms)

    def _finish(self, number: int, station: Station) -> None:
        unit = station.unit
        if unit is None:
            raise AssertionError("a cycle ended without a unit")
        station.step = REST
        station.cycles += 1
        worked_ms, station.drawn_ms = station.drawn_ms, 0
        quality, good, bad, value = "good", int(not unit.reworked), 0, None
        last = number == len(self.state.stations) - 1
        if last:
            quality, value = self._test(unit)
            good, bad = int(quality == "good"), int(quality == "bad")
        station.good += good
        station.bad += bad
        now = self.state.now_ms
        counters = station.cycles, station.good, station.bad
        station.last = UnitDone(station.begun_ms, now, unit, worked_ms, quality, good, bad, *counters, value)
        self.done[number].append(station.last)
        if last:
            station.unit = None
            self._leave(unit, quality)
            self._begin(number)
        else:
            self._enter(station, BLOCKED)
            self._unblock(number)

    def _test(self, unit: UnitInWork) -> tuple[str, float]:
        passes = self._rng.random() >= self.spec.scrap
        value = measure(self.spec.test, self._rng, passes=passes)
        if passes:
            return "good", value
        back = self.state.stations[self.spec.rework_to]
        may = not unit.reworked and back.batch == unit.batch and back.step != CHANGE
        return ("failed" if may and self._rng.random() < self.spec.rework_share else "bad"), value

    def _leave(self, unit: UnitInWork, quality: str) -> None:
        state, spec = self.state, self.spec
        if quality == "failed":
            state.stations[spec.rework_to].rework.append(unit._replace(reworked=True))
            self._begin(len(spec.stations) + spec.rework_to)
            return
        batch = state.batches[unit.batch]
        batch.good += quality == "good"
        batch.bad += quality == "bad"
        if batch.good + batch.bad < batch.size:
            return
        self.facts.append(job_facts(spec, batch, state.now_ms))
        # The newest is kept: the one after it must be of another product.
        if batch.number != state.newest:
            del state.batches[batch.number]

    def _unblock(self, number: int) -> None:
        """Hand on the unit that a station has finished, if there is room for it."""
        if number < 0:
            return
        state = self.state
        station = state.stations[number]
        after = state.stations[number + 1]
        if station.unit is None or station.step != REST:
            return
        if len(after.queue) >= self.spec.stations[number + 1].buffer_before:
            return
        after.queue.append(station.unit)
        station.unit = None
        self._begin(number)
        self._begin(number + 1)

    def _change(self, number: int, station: Station, batch_number: int) -> None:
        if not self._take_operator(number, station):
            return
        state, spec = self.state, self.spec
        before, batch = state.batches.get(station.batch), state.batches[batch_number]
        same = len(spec.products) == 1 or (before is not None and before.product == batch.product)
        length_ms = changeover_ms(spec.stations[number], same_product=same, rng=self._rng)
        station.batch, station.taken, station.job = batch_number, 0, batch_name(spec, batch_number)
        if number == 0:
            batch.begin_ms = state.now_ms
        self._enter(station, SETUP)
        self._until(station, CHANGE, length_ms)

    def _changed(self, number: int, station: Station) -> None:
        state, spec = self.state, self.spec
        batch = state.batches[station.batch]
        station.step = REST
        station.good = station.bad = 0
        station.shown_batch, station.shown_product = batch.number, batch.product
        self.batches_shown[number].append((state.now_ms, batch))
        if number == len(spec.stations) - 1:
            self.facts.append(changeover_facts(spec, batch, state.now_ms))
        self._release_operator()
        self._begin(number)
