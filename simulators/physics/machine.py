"""An injection moulding machine: states, cycles, counters, temperatures, power. It knows no protocol."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.cycle import Phase, Shot, plan_shot, process_values
from simulators.physics.drives import DriveClass
from simulators.physics.materials import Material
from simulators.physics.stops import (
    CHANGEOVER,
    StopRates,
    StopReason,
    changeover_s,
    pick_reason,
    repair_s,
    until_hesitation_s,
    until_stop_s,
)
from simulators.physics.thermal import Zone

Value: TypeAlias = float | str
_MS: Final = 1_000_000
_AMBIENT_C: Final = 27.0
_AUTOMATIC, _MANUAL, _SETUP = 1, 3, 4
_NO_PRODUCTION, _START_UP, _PRODUCTION = 1, 2, 4
_MOULD_CHANGE, _MOULD_INSTALLED = 2, 3
_JOB_SET_UP, _JOB_START_UP, _JOB_IN_PRODUCTION, _JOB_INTERRUPTED = 2, 5, 6, 7


class Change(NamedTuple):
    """A signal that took another value; times are whole milliseconds, as ns."""

    signal: str
    time_ns: int
    value: Value


class Sampling(NamedTuple):
    """How often a machine looks at what moves by itself, in milliseconds."""

    slow_ms: int
    """Temperatures, heaters, cooling."""
    fast_ms: int
    """Pressures and positions."""


LIVE: Final = Sampling(1_000, 500)
COARSE: Final = Sampling(25_000, 30_000)


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is and what it makes."""

    drive: DriveClass
    material: Material
    clamp_kn: float
    cavities: int
    cycle_s: float
    zones: int
    """Barrel zones."""
    stops: StopRates
    scrap_rate: float
    """Share of the shots with a bad part, once started up."""
    products: tuple[str, ...]


class InjectionMachine:
    """One machine on an injected clock.

    The same spec, seed and start give the same changes, however the time is cut into calls of `advance`.

    Args:
        spec: what it is.
        seed: of everything random in it.
        start_ns: UTC ns, whole milliseconds; every signal has its first value then.
        restored: the newest value of each signal from an earlier life. The machine goes on from there: counters,
            job and temperatures continue, and what has not changed is not said again.
    """

    def __init__(
        self,
        spec: MachineSpec,
        seed: int | str,
        start_ns: int,
        restored: Mapping[str, Value] | None = None,
        sampling: Sampling = LIVE,
    ) -> None:
        self.spec = spec
        start_ms = start_ns // _MS
        self._rng = rng = random.Random(f"{seed}:{start_ms}" if restored else seed)
        self._values: dict[str, Value] = dict(restored or {})
        self._changes: list[Change] = []
        self._now = self._to = self._phase_end = self._next_slow = self._next_fast = start_ms
        self._last_slow = start_ms
        self._sampling = sampling
        self._energy_kwh = self._number(signal.ACTIVE_ENERGY, round(rng.uniform(1e3, 9e4), 3))
        self._power_kw = 0.0
        self._heaters_kw = 0.0
        self._heater_rated_kw = 0.6 + spec.clamp_kn / 2500.0
        self._zones = self._make_zones()
        self._cooling_flow = Zone(8.0 + spec.clamp_kn / 200.0, 8.0 + spec.clamp_kn / 200.0, 30.0, 0.15, 0.05)
        self._phase = Phase("idle", 1)
        self._shot: Shot = plan_shot(spec.cycle_s, spec.material.peak_pressure_bar, rng)
        self._startup_shots = 0
        self._stop_at = start_ms + round(until_stop_s(spec.stops, rng) * 1000)
        self._hesitate_at = start_ms + round(until_hesitation_s(spec.stops, rng) * 1000)
        self._life = self._live()

    def advance(self, to_ns: int) -> list[Change]:
        """Let the time pass to ``to_ns`` (inclusive) and return what changed, in order of time."""
        self._to = to_ms = to_ns // _MS
        changes: list[Change] = []
        self._changes = changes
        while True:
            due = min(self._phase_end, self._next_slow, self._next_fast)
            if due > to_ms:
                return changes
            self._energy_kwh += self._power_kw * (due - self._now) / 3.6e6
            self._now = due
            if due == self._phase_end:
                self._phase = next(self._life)
                self._phase_end = due + max(self._phase.duration_ms, 1)
                self._power_kw = self._drive_kw() + self._heaters_kw
            if due == self._next_slow:
                self._look_slowly()
                self._next_slow = due + self._sampling.slow_ms
            if due == self._next_fast:
                self._look_fast()
                self._next_fast = due + self._sampling.fast_ms

    def sample(self, sampling: Sampling) -> None:
        """Look at another pace from the time that `advance` has reached."""
        self._sampling = sampling
        self._next_slow = min(self._next_slow, self._to + sampling.slow_ms)
        self._next_fast = min(self._next_fast, self._to + sampling.fast_ms)

    def energy_kwh(self, at_ns: int) -> float:
        """Return the energy drawn so far, at the time that `advance` has reached."""
        return self._energy_kwh + self._power_kw * (at_ns // _MS - self._now) / 3.6e6

    @property
    def power_kw(self) -> float:
        """What it draws now."""
        return self._power_kw

    @property
    def power_factor(self) -> float:
        """The power factor of its present phase."""
        drive = self.spec.drive
        running = self._phase.name in drive.phase_share
        return drive.power_factor_running if running else drive.power_factor_idle

    def _set(self, name: str, value: Value) -> None:
        if self._values.get(name) != value:
            self._values[name] = value
            self._changes.append(Change(name, self._now * _MS, value))

    def _number(self, name: str, default: float) -> float:
        value = self._values.get(name, default)
        return default if isinstance(value, str) else value

    def _live(self) -> Iterator[Phase]:
        """Yield phase after phase, for ever; changes are set where they happen between them."""
        spec, rng = self.spec, self._rng
        if signal.JOB_NAME in self._values:
            self._cycles = int(self._number(signal.CYCLE_COUNTER, 0))
            self._job_cycles = int(self._number(signals.JOB_CYCLE_COUNTER, 0))
            self._good = int(self._number(signal.GOOD_PARTS_COUNTER, 0))
            self._bad = int(self._number(signal.BAD_PARTS_COUNTER, 0))
            self._nominal = int(self._number(signals.JOB_NOMINAL_PARTS, spec.cavities))
        else:
            self._cycles = rng.randrange(20_000, 900_000)
            self._begin_job()
            self._job_cycles = int(self._nominal / spec.cavities * rng.uniform(0.02, 0.95))
            self._bad = round(self._job_cycles * spec.cavities * spec.scrap_rate)
            self._good = self._job_cycles * spec.cavities - self._bad
        self._set(signal.POWER_ON, 1.0)
        self._set(signal.MOULD_STATUS, float(_MOULD_INSTALLED))
        self._set(signal.EXPECTED_CYCLE_TIME, spec.cycle_s)
        self._set(signals.JOB_CAVITIES, float(spec.cavities))
        for name, value in self._setpoints():
            self._set(name, value)
        if signal.CYCLE_TIME not in self._values:
            self._show_shot()
        self._show_counters()
        yield from self._cycle()
        while True:
            if self._good + self._bad >= self._nominal:
                yield from self._change_mould()
            elif self._now >= self._stop_at:
                yield from self._stand(pick_reason(rng))
            elif self._now >= self._hesitate_at:
                self._hesitate_at = self._now + round(until_hesitation_s(spec.stops, rng) * 1000)
                yield Phase("idle", round(rng.uniform(20_000, 90_000)))
            else:
                yield from self._cycle()

    def _begin_job(self) -> None:
        rng, spec = self._rng, self.spec
        cycles = min(max(rng.lognormvariate(math.log(1400.0), 0.5), 300.0), 6000.0)
        self._nominal = round(cycles) * spec.cavities
        self._job_cycles = self._good = self._bad = 0
        self._set(signal.JOB_NAME, f"{rng.choice(spec.products)}-{rng.randrange(10_000, 99_999)}")
        self._set(signals.JOB_NOMINAL_PARTS, float(self._nominal))

    def _cycle(self) -> Iterator[Phase]:
        starting = self._startup_shots > 0
        self._set(signal.MACHINE_MODE, float(_AUTOMATIC))
        self._set(signal.PRODUCTION_STATUS, float(_START_UP if starting else _PRODUCTION))
        self._set(signal.JOB_STATUS, float(_JOB_START_UP if starting else _JOB_IN_PRODUCTION))
        self._set(signal.STANDSTILL_REASON, "")
        self._set(signal.POWER_ON, 1.0)
        self._shot = plan_shot(self.spec.cycle_s, self.spec.material.peak_pressure_bar, self._rng)
        yield from self._shot.phases
        self._cycles += 1
        self._job_cycles += 1
        bad = 0
        if starting:
            self._startup_shots -= 1
            bad = self.spec.cavities
        elif self._rng.random() < self.spec.scrap_rate:
            bad = self._rng.choice((1, self.spec.cavities))
        self._bad += bad
        self._good += self.spec.cavities - bad
        self._show_shot()
        self._show_counters()

    def _stand(self, reason: StopReason) -> Iterator[Phase]:
        """Stop with a reason until repaired; the next cycle clears the reason (OPC 40083)."""
        whole_ms = round(repair_s(self.spec.stops, reason, self._rng) * 1000)
        noticed_ms = min(round(self._rng.uniform(5_000, 60_000)), whole_ms // 2)
        self._set(signal.PRODUCTION_STATUS, float(_NO_PRODUCTION))
        self._set(signal.JOB_STATUS, float(_JOB_INTERRUPTED))
        self._set(signal.STANDSTILL_REASON, reason.text)
        yield Phase("standing", noticed_ms)
        if reason.hands_on:
            self._set(signal.MACHINE_MODE, float(_MANUAL))
        if reason.power_off:
            self._set(signal.POWER_ON, 0.0)
        yield Phase("off" if reason.power_off else "standing", whole_ms - noticed_ms)
        self._startup_shots = 1 + whole_ms // 600_000
        self._stop_at = self._now + round(until_stop_s(self.spec.stops, self._rng) * 1000)

    def _change_mould(self) -> Iterator[Phase]:
        self._set(signal.PRODUCTION_STATUS, float(_NO_PRODUCTION))
        self._set(signal.MACHINE_MODE, float(_SETUP))
        self._set(signal.JOB_STATUS, float(_JOB_SET_UP))
        self._set(signal.STANDSTILL_REASON, CHANGEOVER.text)
        self._set(signal.MOULD_STATUS, float(_MOULD_CHANGE))
        yield Phase("setup", round(changeover_s(self.spec.stops, self._rng) * 1000))
        self._set(signal.MOULD_STATUS, float(_MOULD_INSTALLED))
        self._begin_job()
        self._show_counters()
        self._startup_shots = self._rng.randrange(5, 20)
        yield Phase("idle", 5_000)

    def _show_shot(self) -> None:
        shot = self._shot
        self._set(signal.CYCLE_TIME, shot.cycle_ms / 1000.0)
        self._set(signals.INJECTION_TIME, shot.injection_ms / 1000.0)
        self._set(signals.DOSING_TIME, shot.dosing_ms / 1000.0)
        self._set(signals.CUSHION, shot.cushion_mm)
        self._set(signals.PEAK_PRESSURE, shot.peak_pressure_bar)

    def _show_counters(self) -> None:
        self._set(signal.CYCLE_COUNTER, float(self._cycles))
        self._set(signals.JOB_CYCLE_COUNTER, float(self._job_cycles))
        self._set(signal.PARTS_COUNTER, float(self._good + self._bad))
        self._set(signal.GOOD_PARTS_COUNTER, float(self._good))
        self._set(signal.BAD_PARTS_COUNTER, float(self._bad))

    def _drive_kw(self) -> float:
        drive = self.spec.drive
        if self._phase.name == "off":
            return 0.1 * drive.base_kw
        share = drive.phase_share.get(self._phase.name, drive.idle_share)
        return drive.base_kw + share * drive.rated_kw_per_kn * self.spec.clamp_kn

    def _setpoints(self) -> Iterator[tuple[str, float]]:
        for number in range(1, self.spec.zones + 1):
            # The profile falls from the nozzle to the hopper.
            fall = 6.0 * (number - 1) + (15.0 if number == self.spec.zones else 0.0)
            yield signals.barrel_setpoint(number), round(self.spec.material.melt_temperature_c - fall, 1)
        for half in (1, 2):
            yield signals.mould_setpoint(half), self.spec.material.mould_temperature_c

    def _make_zones(self) -> dict[str, Zone]:
        rng, zones = self._rng, {}
        for setpoint_name, setpoint in self._setpoints():
            name = setpoint_name.removesuffix("setpoint") + "temperature"
            barrel = name.startswith("barrel")
            tau_s = rng.uniform(60.0, 140.0) if barrel else rng.uniform(30.0, 60.0)
            zones[name] = Zone(setpoint, self._number(name, setpoint), tau_s, 0.6 if barrel else 0.4)
        oil = 45.0 + 3.0 * rng.random()
        name = signals.POWER_UNIT_TEMPERATURE
        zones[name] = Zone(oil, self._number(name, oil), 600.0, 1.5, 0.1)
        name = signals.COOLING_RETURN_TEMPERATURE
        zones[name] = Zone(_AMBIENT_C, self._number(name, _AMBIENT_C), 90.0, 0.5, 0.1)
        return zones

    def _look_slowly(self) -> None:
        rng = self._rng
        step_ms = self._now - self._last_slow
        self._last_slow = self._now
        heaters_kw = 0.0
        for name, zone in self._zones.items():
            zone.advance(step_ms, rng)
            self._set(name, zone.reading(rng))
            if name.startswith("barrel"):
                need = 22.0 * (zone.setpoint - _AMBIENT_C) / 200.0 + 9.0 * (zone.setpoint - zone.temperature)
                duty = min(max(need + rng.gauss(0.0, 0.8), 0.0), 100.0)
                heaters_kw += duty / 100.0 * self._heater_rated_kw
                self._set(name.removesuffix("temperature") + "heater_output", round(duty, 1))
        self._cooling_flow.advance(step_ms, rng)
        self._set(signals.COOLING_FLOW, round(self._cooling_flow.temperature, 2))
        self._heaters_kw = heaters_kw
        self._power_kw = self._drive_kw() + heaters_kw

    def _look_fast(self) -> None:
        phase = self._phase
        progress = 1.0 - (self._phase_end - self._now) / max(phase.duration_ms, 1)
        for name, value in process_values(phase.name, progress, self._shot, self.spec.clamp_kn, self._rng):
            self._set(name, value)
