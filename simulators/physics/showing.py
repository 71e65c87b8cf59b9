"""What somebody sees who watches a moulding machine through a planned stretch, moment by moment."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Final

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.machine import Detail, InjectionMachine, Pending
from simulators.physics.moulds import Mould, Standard
from simulators.physics.shots import BAD, GOOD, TEST, Shots
from simulators.physics.unit import MS, Change, CycleEnd, Moment, Stretch, Value

_AUTOMATIC, _SEMI_AUTOMATIC, _MANUAL, _SETUP, _SLEEP = 1.0, 2.0, 3.0, 4.0, 5.0
_NO_PRODUCTION, _START_UP, _PRODUCTION = 1.0, 2.0, 4.0
_JOB_SET_UP, _JOB_START_UP, _JOB_IN_PRODUCTION, _JOB_INTERRUPTED, _JOB_FINISHED = 2.0, 5.0, 6.0, 7.0, 8.0
_MOULD_CHANGE, _MOULD_INSTALLED = 2.0, 3.0
_STROKE_MM: Final = 380.0
_DOSING_RPM: Final = 180.0
_STEP_MS: Final = 30_000
_OFF_LOOK_MS: Final = 60_000
_OIL_C: Final = 46.0
_WATER_C: Final = 24.0


def show(machine: InjectionMachine, stretch: Stretch) -> Iterator[Moment]:
    """Yield what is to be seen, in order of time; see `simulators.physics.unit.Unit.play`."""
    detail = stretch.detail
    assert isinstance(detail, Detail)
    view = _View(machine, stretch, detail)
    yield from view.say(stretch.begin_ms, view.status(stretch.begin_ms))
    off = detail.pending is not None and detail.pending.power_off
    due = next_slow = next_fast = stretch.begin_ms - 1
    turns = iter(view.turns())
    turn_ms, turn = next(turns, (stretch.end_ms, None))
    while True:
        # Whoever looks may look more often from now on.
        slow_ms, fast_ms = (max(_OFF_LOOK_MS, pace) if off else pace for pace in machine.sampling)
        if due >= next_slow:
            next_slow = (due // slow_ms + 1) * slow_ms
        if due >= next_fast:
            next_fast = (due // fast_ms + 1) * fast_ms
        due = min(turn_ms, next_slow, next_fast)
        if due >= stretch.end_ms:
            return
        if due == next_slow:
            yield from view.say(due, view.slow(due))
        if due == next_fast:
            yield from view.say(due, view.fast(due))
        if due == turn_ms:
            if isinstance(turn, int):
                yield from view.cycle_end(turn, due)
            elif turn is not None:
                yield from view.say(due, turn)
            turn_ms, turn = next(turns, (stretch.end_ms, None))


class _View:
    """One stretch of one machine, as lists that are looked into by time."""

    def __init__(self, machine: InjectionMachine, stretch: Stretch, detail: Detail) -> None:
        spec = machine.spec
        self._machine = machine
        self._cell = spec.cell
        self._shown = machine.shown
        self._detail = detail
        self._begin_ms = stretch.begin_ms
        self._rng = random.Random(f"{machine.seed}:{detail.number}")
        self._mould: Mould = spec.moulds[detail.job.mould]
        self._standard: Standard = machine.standards[detail.job.mould]
        self._zones = detail.shown_c.tolist()
        self._duties = detail.barrel.duty.tolist()
        self._around = detail.around_k.tolist()
        self._shots: Shots | None = detail.shots
        self._cycle = 0
        self._begins: list[int] = []
        self._ends: list[int] = []
        if detail.shots is not None:
            self._ends = (stretch.begin_ms + detail.shots.end_ms).tolist()
            self._begins = (stretch.begin_ms + detail.shots.end_ms - detail.shots.cycle_ms).tolist()
        self._good, self._bad, self._test = detail.job.good, detail.job.bad, detail.job.test

    def say(self, time_ms: int, values: Mapping[str, Value]) -> Iterator[Change]:
        """Yield what differs from what is shown already."""
        shown, cell, time_ns = self._shown, self._cell, time_ms * MS
        for name, value in values.items():
            if shown.get(name) != value:
                shown[name] = value
                yield Change(cell, name, time_ns, value)

    def turns(self) -> Iterator[tuple[int, int | Mapping[str, Value]]]:
        """Yield when something happens by itself: a cycle that ends (its number), or other signals."""
        if self._shots is not None:
            # A cycle's end belongs to the next one; its last millisecond is still its own.
            yield from ((end_ms - 1, number) for number, end_ms in enumerate(self._ends))
            return
        pending = self._detail.pending
        if pending is not None and pending.kind == "stop":
            noticed_ms = self._noticed_ms(pending)
            if noticed_ms > self._begin_ms:
                yield noticed_ms, self._hands(pending)

    def status(self, time_ms: int) -> dict[str, Value]:
        """Return what the machine and its job are, at the begin of the stretch."""
        detail, mould, job = self._detail, self._mould, self._detail.job
        alarm = detail.effects.alarm or ("", "", 0)
        values: dict[str, Value] = {
            signal.JOB_NAME: job.name,
            signals.JOB_LOT: job.lot,
            signals.JOB_PRODUCT: mould.product,
            signals.JOB_MATERIAL: f"{mould.material_name.upper()} {job.colour}",
            signals.MOULD_ID: mould.name,
            signals.JOB_NOMINAL_PARTS: float(job.ordered),
            signals.JOB_CAVITIES: float(mould.cavities),
            signal.EXPECTED_CYCLE_TIME: round(self._standard.cycle_s, 3),
            signal.MOULD_STATUS: _MOULD_INSTALLED,
            signal.POWER_ON: 1.0,
            signals.ALARM: alarm[0],
            signals.ALARM_TEXT: alarm[1],
            signals.ALARM_CLASSIFICATION: float(alarm[2]),
            signal.STANDSTILL_REASON: "",
            **self._counters(detail.cycles, job.cycles),
        }
        for zone, point in enumerate(self._machine.setpoints(job), 1):
            values[signals.barrel_setpoint(zone)] = point
        for half in (1, 2):
            values[signals.mould_setpoint(half)] = mould.material.mould_c
        pending = detail.pending
        if pending is None:
            by_hand = self._machine.spec.semi_automatic or detail.effects.semi_automatic
            values[signal.MACHINE_MODE] = _SEMI_AUTOMATIC if by_hand else _AUTOMATIC
            values[signal.PRODUCTION_STATUS] = _START_UP if detail.start_up else _PRODUCTION
            values[signal.JOB_STATUS] = _JOB_START_UP if detail.start_up else _JOB_IN_PRODUCTION
        else:
            values.update(self._standing(pending, time_ms))
        return values

    def _standing(self, pending: Pending, time_ms: int) -> dict[str, Value]:
        values: dict[str, Value] = {
            signal.MACHINE_MODE: _AUTOMATIC,
            signal.PRODUCTION_STATUS: _NO_PRODUCTION,
            signal.JOB_STATUS: _JOB_INTERRUPTED,
            signal.STANDSTILL_REASON: pending.cause,
        }
        match pending.kind:
            case "stop":
                if time_ms >= self._noticed_ms(pending):
                    values.update(self._hands(pending))
            case "changeover":
                # Setting up is no standstill (OPC 40083): the mode says it.
                values[signal.STANDSTILL_REASON] = ""
                values[signal.MACHINE_MODE] = _SETUP if pending.hands_on else _AUTOMATIC
                values[signal.JOB_STATUS] = _JOB_SET_UP if pending.change else _JOB_FINISHED
                if pending.change is not None and pending.change.kind == "mould":
                    values[signal.MOULD_STATUS] = _MOULD_CHANGE
            case "warm_up":
                values[signal.STANDSTILL_REASON] = ""
                values[signal.MACHINE_MODE] = _SETUP
                values[signal.PRODUCTION_STATUS] = _START_UP
                values[signal.JOB_STATUS] = _JOB_START_UP
            case "off":
                values[signal.MACHINE_MODE] = _SLEEP
                values[signal.POWER_ON] = 0.0
            case _:
                pass
        return values

    def _noticed_ms(self, pending: Pending) -> int:
        """Return when somebody comes to a machine that stands: 5 to 60 s, or half of the whole."""
        rng = random.Random(f"{self._machine.seed}:{pending.begin_ms}")
        return pending.begin_ms + min(
            rng.randrange(5_000, 60_000), (pending.until_ms - pending.begin_ms) // 2
        )

    def _hands(self, pending: Pending) -> dict[str, Value]:
        values: dict[str, Value] = {}
        if pending.hands_on:
            values[signal.MACHINE_MODE] = _MANUAL
        if pending.power_off:
            values[signal.POWER_ON] = 0.0
        return values

    def _counters(self, cycles: int, job_cycles: int) -> dict[str, Value]:
        return {
            signal.CYCLE_COUNTER: float(cycles),
            signals.JOB_CYCLE_COUNTER: float(job_cycles),
            signal.PARTS_COUNTER: float(self._good + self._bad),
            signal.GOOD_PARTS_COUNTER: float(self._good),
            signal.BAD_PARTS_COUNTER: float(self._bad),
            signals.TEST_SAMPLES_COUNTER: float(self._test),
        }

    def cycle_end(self, number: int, time_ms: int) -> Iterator[Moment]:
        """Yield the figures of a cycle and the counters after it."""
        shots, detail = self._shots, self._detail
        assert shots is not None
        cavities, quality, bad = self._mould.cavities, int(shots.quality[number]), int(shots.bad[number])
        if quality in {GOOD, BAD}:
            self._good += cavities - bad
            self._bad += bad
        elif quality == TEST:
            self._test += cavities
        duration_ms = int(shots.phase_ms[number, :6].sum())
        values: dict[str, Value] = {
            signal.CYCLE_TIME: duration_ms / 1000.0,
            signals.CYCLE_QUALITY: float(quality),
            signals.INJECTION_TIME: float(shots.injection_s[number]),
            signals.DOSING_TIME: float(shots.dosing_s[number]),
            signals.CUSHION: float(shots.cushion_mm[number]),
            signals.CUSHION_VOLUME: float(shots.cushion_cm3[number]),
            signals.PLASTIFICATION_VOLUME: float(shots.plasticising_cm3[number]),
            signals.PEAK_PRESSURE: float(shots.peak_bar[number]),
            signals.CAVITY_PRESSURE: float(shots.cavity_bar[number]),
            signals.HOLD_PRESSURE: float(shots.hold_bar[number]),
            signals.BACK_PRESSURE: float(shots.back_bar[number]),
            **self._counters(detail.cycles + number + 1, detail.job.cycles + number + 1),
        }
        yield from self.say(time_ms, values)
        values["cycle.bad_cavity"] = float(shots.bad_cavity[number])
        values["cycle.bad_parts"] = float(bad)
        shown = (signal.JOB_NAME, signal.JOB_STATUS, signals.JOB_LOT, signals.JOB_CAVITIES)
        values.update({name: self._shown[name] for name in shown})
        yield CycleEnd(self._cell, time_ms * MS, values)

    def slow(self, time_ms: int) -> dict[str, Value]:
        """Return temperatures, heaters and cooling."""
        row, into_ms = divmod(time_ms - self._begin_ms, _STEP_MS)
        last = len(self._zones) - 1
        row = min(row, max(last - 1, 0))
        share = into_ms / _STEP_MS
        after = min(row + 1, last)
        gauss, values = self._rng.gauss, dict[str, Value]()
        duties = self._duties[after]
        pairs = zip(self._zones[row], self._zones[after], duties, strict=True)
        for zone, (one, other, duty) in enumerate(pairs, 1):
            values[signals.barrel_temperature(zone)] = round(
                one + share * (other - one) + gauss(0.0, 0.12), 1
            )
            values[signals.barrel_heater(zone)] = round(100.0 * duty, 1)
        around = [
            one + share * (other - one)
            for one, other in zip(self._around[row], self._around[after], strict=True)
        ]
        mould_c = self._mould.material.mould_c
        for half in (1, 2):
            values[signals.mould_temperature(half)] = round(mould_c + around[half - 1] + gauss(0.0, 0.1), 1)
        values[signals.POWER_UNIT_TEMPERATURE] = round(_OIL_C + around[2], 1)
        flow = (8.0 + self._machine.spec.clamp_kn / 200.0) * self._detail.effects.cooling_flow
        off = self._detail.pending is not None and self._detail.pending.power_off
        values[signals.COOLING_FLOW] = 0.0 if off else round(flow + gauss(0.0, 0.05), 2)
        values[signals.COOLING_RETURN_TEMPERATURE] = round(_WATER_C + around[3] + gauss(0.0, 0.05), 1)
        return values

    def fast(self, time_ms: int) -> dict[str, Value]:
        """Return pressures and positions."""
        pressure = speed = force = 0.0
        position, opening = self._standard.stroke_mm + self._standard.cushion_mm, _STROKE_MM
        shots, gauss = self._shots, self._rng.gauss
        if shots is not None:
            while self._cycle + 1 < len(self._begins) and time_ms >= self._begins[self._cycle + 1]:
                self._cycle += 1
            cycle, into = self._cycle, time_ms - self._begins[self._cycle]
            phase, progress = 6, 0.0
            for number, lasts in enumerate(shots.phase_ms[cycle, :6].tolist()):
                if into < lasts:
                    phase, progress = number, into / lasts
                    break
                into -= lasts
            full, cushion = position, float(shots.cushion_mm[cycle])
            peak = float(shots.peak_bar[cycle])
            if 1 <= phase <= 4:
                force = float(shots.clamp_kn[cycle]) * (1.0 + gauss(0.0, 0.001))
                opening = 0.0
            match phase:
                case 0:
                    opening = _STROKE_MM * (1.0 - progress)
                case 1:
                    pressure = peak * (0.15 + 0.85 * progress)
                    position = full + (cushion - full) * progress
                case 2:
                    pressure = float(shots.hold_bar[cycle]) * (1.08 - 0.16 * progress)
                    position = cushion
                case 3:
                    pressure = float(shots.back_bar[cycle]) * (1.0 + gauss(0.0, 0.02))
                    speed = _DOSING_RPM * (1.0 + gauss(0.0, 0.01))
                    position = cushion + (full - cushion) * progress
                case 5:
                    opening = _STROKE_MM * min(progress * 2.0, 1.0)
                case _:
                    pass
        return {
            signals.INJECTION_PRESSURE: round(pressure, 1),
            signals.SCREW_POSITION: round(position, 1),
            signals.SCREW_SPEED: round(speed, 1),
            signals.CLAMP_FORCE: round(force, 1),
            signals.CLAMP_POSITION: round(opening, 1),
        }
