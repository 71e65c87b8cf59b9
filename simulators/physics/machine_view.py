"""One stretch of a moulding machine as it is seen at single moments: temperatures, pressures, positions, cycles."""

from __future__ import annotations

import bisect
import random
from typing import Final

import numpy as np

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.machine_state import Detail, Equipment
from simulators.physics.shots import TEST, Shots
from simulators.physics.unit import Value

_STROKE_MM: Final = 380.0
_DOSING_RPM: Final = 180.0
_OIL_C: Final = 46.0
_WATER_C: Final = 24.0
_FIGURES: Final = (
    signals.INJECTION_TIME,
    signals.DOSING_TIME,
    signals.CUSHION,
    signals.CUSHION_VOLUME,
    signals.PLASTIFICATION_VOLUME,
    signals.PEAK_PRESSURE,
    signals.CAVITY_PRESSURE,
    signals.HOLD_PRESSURE,
    signals.BACK_PRESSURE,
)
"""As `simulators.physics.shots.FIGURES`."""


class View:
    """A stretch, looked into by time (UTC ms)."""

    def __init__(self, machine: Equipment, detail: Detail) -> None:
        self._detail = detail
        self._clamp_kn = machine.spec.clamp_kn
        self._mould = machine.spec.moulds[detail.job.mould]
        self._standard = machine.standards[detail.job.mould]
        surroundings = detail.surroundings
        self._times = surroundings.barrel.time_ms.tolist()
        self._shown_c = surroundings.shown_c
        self._duty = surroundings.barrel.duty
        self._around_k = surroundings.around_k
        self.ends_ms: list[int] = []
        """When each cycle was over."""
        self._begins_ms: list[int] = []
        if detail.shots is not None:
            self._look_at(detail.begin_ms, detail.shots)

    def _look_at(self, begin_ms: int, shots: Shots) -> None:
        self._shots = shots
        self.ends_ms = (begin_ms + shots.end_ms).tolist()
        self._begins_ms = (begin_ms + shots.end_ms - shots.cycle_ms).tolist()
        cavities = self._mould.cavities
        bad = np.cumsum(shots.bad)
        self._good = (np.cumsum(np.where(shots.quality < TEST, cavities, 0)) - bad).tolist()
        self._bad = bad.tolist()
        self._tests = np.cumsum(np.where(shots.quality == TEST, cavities, 0)).tolist()

    def counters(self, done: int) -> dict[str, Value]:
        """Return the counters after so many cycles of the stretch."""
        job, cycles = self._detail.job, self._detail.cycles
        good, bad, tests = job.good, job.bad, job.test
        if done:
            good, bad = good + self._good[done - 1], bad + self._bad[done - 1]
            tests += self._tests[done - 1]
        return {
            signal.CYCLE_COUNTER: float(cycles + done),
            signals.JOB_CYCLE_COUNTER: float(job.cycles + done),
            signal.PARTS_COUNTER: float(good + bad),
            signal.GOOD_PARTS_COUNTER: float(good),
            signal.BAD_PARTS_COUNTER: float(bad),
            signals.TEST_SAMPLES_COUNTER: float(tests),
        }

    def figures(self, done: int) -> dict[str, Value]:
        """Return what is shown of the newest cycle after so many of the stretch; nothing before the first of a life."""
        if done:
            shots = self._shots
            time_s, quality = int(shots.cycle_ms[done - 1]) / 1000.0, int(shots.quality[done - 1])
            figures = shots.figures(done - 1)
        elif self._detail.last_cycle is not None:
            before = self._detail.last_cycle
            time_s, quality, figures = before.time_s, before.quality, before.figures
        else:
            return {}
        return {
            signal.CYCLE_TIME: time_s,
            signals.CYCLE_QUALITY: float(quality),
            **dict(zip(_FIGURES, figures, strict=True)),
        }

    def cavities(self, done: int) -> dict[str, Value]:
        """Return what only a message about the whole cycle says: which cavity was bad, and how many."""
        return {
            signals.CYCLE_BAD_CAVITY: float(self._shots.bad_cavity[done - 1]),
            signals.CYCLE_BAD_PARTS: float(self._shots.bad[done - 1]),
        }

    def slow(self, time_ms: int, rng: random.Random) -> dict[str, Value]:
        """Return temperatures, heaters and cooling, with the noise of their sensors."""
        times, gauss = self._times, rng.gauss
        after = min(max(bisect.bisect_right(times, time_ms), 1), len(times) - 1)
        row, share = after - 1, 0.0
        if times[after] > times[row]:
            share = min((time_ms - times[row]) / (times[after] - times[row]), 1.0)
        zones = (self._shown_c[row] + share * (self._shown_c[after] - self._shown_c[row])).tolist()
        around = (self._around_k[row] + share * (self._around_k[after] - self._around_k[row])).tolist()
        values = dict[str, Value]()
        for zone, (shown, duty) in enumerate(zip(zones, self._duty[after].tolist(), strict=True), 1):
            values[signals.barrel_temperature(zone)] = round(shown + gauss(0.0, 0.12), 1)
            values[signals.barrel_heater(zone)] = round(100.0 * duty, 1)
        mould_c = self._mould.material.mould_c
        for half in (1, 2):
            values[signals.mould_temperature(half)] = round(mould_c + around[half - 1] + gauss(0.0, 0.1), 1)
        values[signals.POWER_UNIT_TEMPERATURE] = round(_OIL_C + around[2], 1)
        flow = (8.0 + self._clamp_kn / 200.0) * self._detail.effects.cooling_flow
        off = self._detail.pending is not None and self._detail.pending.kind == "off"
        values[signals.COOLING_FLOW] = 0.0 if off else round(flow + gauss(0.0, 0.05), 2)
        values[signals.COOLING_RETURN_TEMPERATURE] = round(_WATER_C + around[3] + gauss(0.0, 0.05), 1)
        return values

    def fast(self, time_ms: int, rng: random.Random) -> dict[str, Value]:
        """Return pressures and positions, with the noise of their sensors."""
        pressure = speed = force = 0.0
        full, opening = self._standard.stroke_mm + self._standard.cushion_mm, _STROKE_MM
        position, gauss = full, rng.gauss
        cycle = bisect.bisect_right(self._begins_ms, time_ms) - 1
        if cycle >= 0:
            shots, phase, progress = self._shots, 6, 0.0
            into = time_ms - self._begins_ms[cycle]
            for number, lasts in enumerate(shots.phase_ms[cycle, :6].tolist()):
                if into < lasts:
                    phase, progress = number, into / lasts
                    break
                into -= lasts
            cushion = float(shots.cushion_mm[cycle])
            if 1 <= phase <= 4:
                force = float(shots.clamp_kn[cycle]) * (1.0 + gauss(0.0, 0.001))
                opening = 0.0
            match phase:
                case 0:
                    opening = _STROKE_MM * (1.0 - progress)
                case 1:
                    pressure = float(shots.peak_bar[cycle]) * (0.15 + 0.85 * progress)
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
