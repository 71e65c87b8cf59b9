"""A workplace of a garment cell at work: garment by garment, batch by batch, with the person's pace."""

from __future__ import annotations

import math
import random
from typing import Final

from simulators.physics.garment_spec import GarmentSpec, OperatorSpec, StyleSpec
from simulators.physics.garment_state import (
    ABSENT,
    CHANGE,
    CHANGEOVER,
    FETCH,
    FETCHING,
    MACHINE_FAULT,
    NEVER,
    OPERATION,
    PARTS_MISSING,
    STOP,
    THREAD_BREAK,
    WORKING,
    Batch,
    GarmentDone,
    Workplace,
)
from simulators.physics.line_intervals import SEEN_MS, Condition, working_time
from simulators.physics.unit import Column, Facts

_SHIFT_MS: Final = 28_800_000


def batch_name(spec: GarmentSpec, operator: OperatorSpec, number: int) -> str:
    """Return the name of a batch, unique within the site."""
    return f"{spec.name}-{operator.name}-{number:04d}"


class Work:
    """A workplace within one stretch: takes its state on, and notes what is done.

    Args:
        spec: of the cell.
        operator: of the workplace.
        state: taken over and changed.
        rng: of the stretch and workplace.
    """

    def __init__(
        self, spec: GarmentSpec, operator: OperatorSpec, state: Workplace, rng: random.Random
    ) -> None:
        self.spec = spec
        self.operator = operator
        self.state = state
        self.done: list[GarmentDone] = []
        self.operations: list[tuple[int, str]] = []
        """From when on which one."""
        self.batches: list[tuple[int, Batch]] = []
        """From when on the workplace shows which one."""
        self.facts: list[Facts] = []
        """Jobs and changeovers that are over."""
        self._rng = rng

    def advance(self, end_ms: int) -> None:
        """Let happen what is due before a time."""
        state = self.state
        while True:
            paused = state.pause_end_ms != NEVER
            due = state.pause_end_ms if paused else min(state.until_ms, state.look_ms)
            if due >= end_ms:
                return
            state.now_ms = due
            if paused or due == state.look_ms:
                self.consult_calendar()
            else:
                self._end()

    def consult_calendar(self) -> None:
        """Begin or end a pause if it is time; what was in hand goes on after it."""
        state = self.state
        span = working_time(self.spec.calendar, state.now_ms)
        state.look_ms = span.end_ms
        if span.end_ms - state.now_ms >= SEEN_MS:
            state.look_ms -= SEEN_MS // 2
        if span.shift is not None and state.was_off:
            state.was_off = False
            state.absent = self._rng.random() < self.operator.absence
            state.shift_ms = 0.0
        if span.shift is None or state.absent:
            reason = span.reason
            condition = ABSENT
            if span.shift is None:
                shown = "break" if reason == "break" else "off"
                condition = Condition("DOWN_PLANNED", "planned", reason, shown)
                state.was_off = state.was_off or reason != "break"
                state.shift_ms *= 2.0 / 3.0 if reason == "break" else 1.0
            if state.pause_end_ms == NEVER:
                state.paused_ms = state.now_ms
                state.paused = state.track.present.condition
            state.pause_end_ms = state.look_ms
            self._enter(condition)
        elif state.pause_end_ms != NEVER:
            state.pause_end_ms = NEVER
            state.until_ms += state.now_ms - state.paused_ms
            if state.paused is not None:
                self._enter(state.paused)
                state.paused = None

    def fetch(self) -> None:
        """Go for the next batch: of another style, if there is another."""
        spec, rng = self.spec, self._rng
        missing = rng.random() < spec.parts_missing
        self._enter(PARTS_MISSING if missing else FETCHING)
        length_s = (
            min(rng.lognormvariate(math.log(240.0), 0.6), 1800.0) if missing else rng.uniform(20.0, 60.0)
        )
        self._until(FETCH, 1000.0 * length_s + 20_000.0)

    def _enter(self, condition: Condition) -> None:
        state = self.state
        job = batch_name(self.spec, self.operator, state.batch.number)
        state.track.enter(state.now_ms, condition, job)

    def _until(self, step: int, length_ms: float) -> None:
        self.state.step = step
        self.state.until_ms = self.state.now_ms + max(round(length_ms), 1)

    def _end(self) -> None:
        state = self.state
        step = state.step
        if step == OPERATION and state.after_stop_ms:
            self._stop()
        elif step == OPERATION:
            self._finish_operation()
        elif step == STOP:
            self._enter(WORKING)
            self._sew(state.after_stop_ms)
        elif step == FETCH:
            self._take_batch()
        else:
            style = self._style(state.batch.style)
            columns: dict[str, Column] = {"asset": self.operator.name, "kind": "style", "to": style.name}
            columns |= {"begin_ms": state.track.present.begin_ms, "end_ms": state.now_ms}
            columns["from"] = None if state.last is None else self._style(state.last.style).name
            self.facts.append(Facts("changeovers", columns))
            self._begin_garment(mends=False)

    def _style(self, number: int) -> StyleSpec:
        return self.spec.styles[number]

    def _take_batch(self) -> None:
        state, spec, rng = self.state, self.spec, self._rng
        before = state.batch
        others = [each for each in range(len(spec.styles)) if each != before.style]
        low, high = (math.log(size) for size in spec.batch_size)
        size = round(math.exp(rng.uniform(low, high)))
        state.batch = Batch(before.number + 1, rng.choice(others or [0]), size, state.now_ms)
        self.batches.append((state.now_ms, state.batch))
        # Hands forget a part of what they had learnt until a style comes round again.
        state.practice[state.batch.style] = 0.4 * state.practice.get(state.batch.style, 0.0)
        if not others:
            self._begin_garment(mends=False)
            return
        self._enter(CHANGEOVER)
        median_ms = 1000.0 * spec.changeover_s
        self._until(CHANGE, min(max(rng.lognormvariate(math.log(median_ms), 0.35), 120_000.0), 600_000.0))

    def _begin_garment(self, *, mends: bool) -> None:
        state, operator, rng = self.state, self.operator, self._rng
        practice = state.practice.get(state.batch.style, 0.0)
        pace = operator.pace * (1.0 + operator.learning * math.exp(-practice / operator.learns_over))
        pace *= 1.0 + operator.fatigue * min(state.shift_ms / _SHIFT_MS, 1.5)
        pace *= math.exp(rng.gauss(-0.5 * operator.pace_sd**2, operator.pace_sd))
        pace *= self.spec.rework_work if mends else 1.0
        state.left_ms = [
            max(round(60_000.0 * minutes * pace * rng.uniform(0.93, 1.07)), 1_000)
            for _, minutes in self._style(state.batch.style).operations
        ]
        state.worked_ms = sum(state.left_ms)
        state.begun_ms = state.now_ms
        state.mends = mends
        self._begin_operation()

    def _begin_operation(self) -> None:
        state = self.state
        operations = self._style(state.batch.style).operations
        self.operations.append((state.now_ms, operations[-len(state.left_ms)][0]))
        self._enter(WORKING)
        self._sew(state.left_ms[0])

    def _sew(self, length_ms: int) -> None:
        """Work at an operation, or at as much of it as there is until something breaks."""
        state = self.state
        runs_ms = max(min(length_ms, state.thread_ms, state.fault_ms), 1)
        state.after_stop_ms = length_ms - runs_ms
        state.thread_ms -= runs_ms
        state.fault_ms -= runs_ms
        state.shift_ms += runs_ms
        self._until(OPERATION, runs_ms)

    def _stop(self) -> None:
        state, spec, rng = self.state, self.spec, self._rng
        if state.fault_ms <= state.thread_ms:
            self._enter(MACHINE_FAULT)
            length_s = min(max(rng.lognormvariate(math.log(spec.repair_s), 0.7), 60.0), 7200.0)
            state.fault_ms = round(1000.0 * rng.expovariate(1.0 / spec.between_faults_s))
        else:
            self._enter(THREAD_BREAK)
            length_s = rng.uniform(20.0, 90.0)
            state.thread_ms = round(1000.0 * rng.expovariate(1.0 / spec.between_thread_breaks_s))
        self._until(STOP, 1000.0 * length_s)

    def _finish_operation(self) -> None:
        state = self.state
        del state.left_ms[0]
        if state.left_ms:
            self._begin_operation()
            return
        rng, spec, batch = self._rng, self.spec, state.batch
        quality = "good"
        if rng.random() < spec.defects:
            quality = "failed" if not state.mends and rng.random() < spec.rework_share else "bad"
        batch.good += quality == "good"
        batch.bad += quality == "bad"
        state.cycles += 1
        if not state.mends:
            state.practice[batch.style] = state.practice.get(batch.style, 0.0) + 1.0
        state.last = GarmentDone(
            state.begun_ms,
            state.now_ms,
            batch.number,
            batch.style,
            state.worked_ms,
            quality,
            state.cycles,
            batch.good,
            batch.bad,
        )
        self.done.append(state.last)
        if batch.good + batch.bad < batch.size:
            self._begin_garment(mends=quality == "failed")
            return
        self.operations.append((state.now_ms, ""))
        name = batch_name(spec, self.operator, batch.number)
        columns: dict[str, Column] = {"asset": self.operator.name, "job": name, "lot": name}
        columns |= {"begin_ms": batch.begin_ms, "end_ms": state.now_ms, "ordered": batch.size}
        columns |= {"product": self._style(batch.style).name, "good": batch.good, "bad": batch.bad}
        self.facts.append(Facts("jobs", columns))
        self.fetch()
