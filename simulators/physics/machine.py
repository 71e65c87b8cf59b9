"""An injection moulding machine: plans its days run by run, in columns. What it shows is `showing`'s business."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from simulators.physics import faults as process_faults
from simulators.physics.calendar import Calendar
from simulators.physics.drives import DriveClass
from simulators.physics.faults import Effects, Fault
from simulators.physics.jobs import Change, Job, JobOrder, next_job, what_changes
from simulators.physics.moulds import Mould, Standard, standard_cycle
from simulators.physics.shots import FAILED, GOOD, QUALITIES, Shots, drive_kwh, fire
from simulators.physics.stops import (
    StopRates,
    changeover_ms,
    pick_reason,
    repair_ms,
    until_stop_ms,
)
from simulators.physics.thermal import Barrel, BarrelState, Trace, ZoneSpec
from simulators.physics.unit import MAX_STRETCH_MS, Energy, Facts, Moment, Stretch, Value

_PREHEAT_MS: Final = 40 * 60_000
_SOAK_MS: Final = 20 * 60_000
_WARM_UP_PIECE_MS: Final = 5 * 60_000
_WARM_BAND_K: Final = 6.0
_SHORT_OFF_MS: Final = 2 * 3_600_000
"""A shorter time without people does not pay to cool the barrel down."""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is and what it makes."""

    cell: str
    drive: DriveClass
    clamp_kn: float
    zones: int
    """Barrel zones."""
    moulds: tuple[Mould, ...]
    stops: StopRates = StopRates()
    scrap_rate: float = 0.0115
    """Share of the parts that are bad, once started up."""
    batch: tuple[int, int] = (1_500, 9_000)
    """Least and most parts of a job that is not ordered."""
    orders: tuple[JobOrder, ...] = ()
    faults: tuple[Fault, ...] = ()
    """In order of their begin."""
    semi_automatic: bool = False
    """Somebody opens and closes the guard; nobody does in breaks."""


class Sampling(NamedTuple):
    """How often somebody looks at what moves by itself, in milliseconds."""

    slow_ms: int
    """Temperatures, heaters, cooling."""
    fast_ms: int
    """Pressures and positions."""


LIVE: Final = Sampling(1_000, 500)
COARSE: Final = Sampling(25_000, 30_000)
"""For a past that nobody watched."""


class Pending(msgspec.Struct):
    """An interruption of production that goes on."""

    kind: str
    """stop, changeover, planned, off or warm_up."""
    state: str
    cause: str
    begin_ms: int
    until_ms: int
    hands_on: bool = False
    power_off: bool = False
    change: Change | None = None
    """What is changed, with ``kind`` changeover."""
    next_job: Job | None = None


class State(msgspec.Struct):
    """All that the machine's future depends on."""

    number: int
    """Of stretches so far."""
    now_ms: int
    job: Job
    jobs_total: int
    cycles: int
    """Of the machine's life."""
    stop_in_ms: int
    """Production time until the next stop."""
    start_up_shots: int
    kwh: float
    barrel: BarrelState
    around_k: list[float]
    """How far the mould halves, the oil and the cooling water's return are from where they belong."""
    faults_told: int
    """How many of the faults have their row."""
    pending: Pending | None = None


class Detail(NamedTuple):
    """What is needed to show a stretch."""

    pending: Pending | None
    job: Job
    """As it was at the begin."""
    cycles: int
    """Of the machine's life, at the begin."""
    shots: Shots | None
    start_up: bool
    effects: Effects
    barrel: Trace
    shown_c: npt.NDArray[np.float64]
    """What the barrel's sensors show, shape as ``barrel.temperature_c``."""
    setpoints: Sequence[float] | None
    around_k: npt.NDArray[np.float64]
    """Shape (times, 4): at ``barrel.time_ms``."""
    number: int


class InjectionMachine:
    """One machine on an injected clock; a `simulators.physics.unit.Unit`.

    Args:
        spec: what it is.
        calendar: when people work.
        seed: of everything random in it.
        start_ms: UTC ms.
    """

    def __init__(self, spec: MachineSpec, calendar: Calendar, seed: int, start_ms: int) -> None:
        self.spec = spec
        self.sampling = LIVE
        """How often `play` looks at what moves by itself."""
        self.shown: dict[str, Value] = {}
        """What the machine shows, by signal."""
        self.calendar = calendar
        self.seed = seed
        self.standards: list[Standard] = [standard_cycle(mould, spec.clamp_kn) for mould in spec.moulds]
        self._setpoints = [_setpoints(mould.material.melt_c, spec.zones) for mould in spec.moulds]
        rng = np.random.default_rng([seed, 0])
        self.barrel = Barrel(list(_zones(spec, rng)))
        self.fault_edges = sorted({edge for fault in spec.faults for edge in (fault.begin_ms, fault.end_ms)})
        job = next_job(0, spec.orders, spec.moulds, spec.batch, None, start_ms, rng)
        if not spec.orders:
            self._already_begun(job, rng)
        self.state = State(
            0,
            start_ms,
            job,
            1,
            int(rng.integers(20_000, 900_000)),
            until_stop_ms(spec.stops, rng),
            0,
            0.0,
            self.barrel.settled(self.setpoints(job)),
            [0.0, 0.0, 0.0, 0.0],
            0,
        )

    @property
    def cells(self) -> Sequence[str]:
        """The one cell that it is."""
        return (self.spec.cell,)

    def setpoints(self, job: Job) -> list[float]:
        """Return the barrel's set points, in degrees Celsius, from the nozzle to the hopper."""
        return self._setpoints[job.mould]

    def snapshot(self) -> bytes:
        """See `Unit`."""
        return msgspec.json.encode(self.state)

    def restore(self, snapshot: bytes) -> None:
        """See `Unit`."""
        self.state = msgspec.json.decode(snapshot, type=State)

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """See `Unit`."""
        from simulators.physics.showing import show  # noqa: PLC0415 - it needs this module's types

        return show(self, stretch)

    def plan(self) -> Stretch:
        """See `Unit`."""
        state = self.state
        state.number += 1
        rng = np.random.default_rng([self.seed, state.number])
        stretch = Stretch(state.now_ms, state.now_ms)
        self._tell_faults(stretch)
        horizon_ms = min(
            [state.now_ms + MAX_STRETCH_MS, *(edge for edge in self.fault_edges if edge > state.now_ms)][:2]
        )
        if state.pending is None:
            state.pending = self._interruption(rng)
        if state.pending is not None:
            self._stand(stretch, state.pending, horizon_ms, rng)
        else:
            self._run(stretch, horizon_ms, rng)
        state.now_ms = stretch.end_ms
        return stretch

    def _already_begun(self, job: Job, rng: np.random.Generator) -> None:
        """Let the first job be one that others began."""
        cavities = self.spec.moulds[job.mould].cavities
        job.cycles = int(job.ordered / cavities * rng.uniform(0.02, 0.9))
        job.bad = round(job.cycles * cavities * self.spec.scrap_rate)
        job.good = job.cycles * cavities - job.bad

    def _tell_faults(self, stretch: Stretch) -> None:
        state, faults = self.state, self.spec.faults
        while state.faults_told < len(faults) and faults[state.faults_told].begin_ms <= state.now_ms:
            stretch.facts.append(faults[state.faults_told].facts())
            state.faults_told += 1

    def _interruption(self, rng: np.random.Generator) -> Pending | None:
        """Return why there is no production now; None where there is."""
        state, spec, now_ms = self.state, self.spec, self.state.now_ms
        span = self.calendar.at(now_ms)
        if span.shift is None and (span.reason != "break" or spec.semi_automatic):
            return self._unattended(span.end_ms, span.reason)
        if self._is_cold():
            return Pending("warm_up", "SETUP", "warm-up", now_ms, now_ms + 3 * 3_600_000)
        if state.job.left <= 0:
            return self._next_job(rng)
        start_ms = self._ordered_start(state.jobs_total - 1)
        if start_ms is not None and state.job.cycles == 0 and now_ms < start_ms:
            return Pending("planned", "DOWN_PLANNED", "no job", now_ms, start_ms)
        if state.stop_in_ms <= 0:
            state.stop_in_ms = until_stop_ms(spec.stops, rng)
            reason = pick_reason(rng)
            until_ms = now_ms + repair_ms(spec.stops, reason, rng)
            return Pending(
                "stop", "DOWN_UNPLANNED", reason.text, now_ms, until_ms, reason.hands_on, reason.power_off
            )
        # A cycle that could not end before the people leave is not begun.
        left_ms = span.end_ms - now_ms
        if left_ms < 1000.0 * self.standards[state.job.mould].cycle_s * 1.5 and self._ends_work(span.end_ms):
            return Pending("planned", "DOWN_PLANNED", "end of shift", now_ms, span.end_ms)
        return None

    def _ends_work(self, end_ms: int) -> bool:
        after = self.calendar.at(end_ms)
        return after.shift is None and (after.reason != "break" or self.spec.semi_automatic)

    def _unattended(self, end_ms: int, reason: str) -> Pending:
        now_ms = self.state.now_ms
        if reason == "break" or end_ms - now_ms < _SHORT_OFF_MS:
            if self._is_cold():
                return Pending("warm_up", "SETUP", "warm-up", now_ms, end_ms)
            return Pending("planned", "DOWN_PLANNED", reason, now_ms, end_ms)
        return Pending("off", "OFF", reason, now_ms, end_ms - _PREHEAT_MS, power_off=True)

    def _is_cold(self) -> bool:
        pairs = zip(self.setpoints(self.state.job), self.state.barrel.temperature_c, strict=True)
        upset = process_faults.upsets(self._active(self.state.now_ms), self.spec.zones, self.state.now_ms)
        if upset is not None:
            return False  # a broken band is no reason to wait for ever
        return any(point - actual > 25.0 for point, actual in pairs)

    def _ordered_start(self, number: int) -> int | None:
        orders = self.spec.orders
        return orders[number].start_ms if number < len(orders) else None

    def _next_job(self, rng: np.random.Generator) -> Pending:
        state, spec = self.state, self.spec
        job = next_job(state.jobs_total, spec.orders, spec.moulds, spec.batch, state.job, state.now_ms, rng)
        change = what_changes(state.job, job, spec.moulds, rng)
        if change is None:
            lasts_ms = 60_000
        else:
            lasts_ms = changeover_ms(spec.stops, change.share, rng)
        return Pending(
            "changeover",
            "SETUP",
            f"{change.kind} change" if change else "next job",
            state.now_ms,
            state.now_ms + lasts_ms,
            hands_on=change is not None,
            change=change,
            next_job=job,
        )

    def _active(self, now_ms: int) -> list[Fault]:
        return [fault for fault in self.spec.faults if fault.begin_ms <= now_ms < fault.end_ms]

    def _stand(self, stretch: Stretch, pending: Pending, horizon_ms: int, rng: np.random.Generator) -> None:
        state, spec = self.state, self.spec
        begin_ms = state.now_ms
        end_ms = min(pending.until_ms, horizon_ms)
        if pending.kind == "warm_up":
            end_ms = min(end_ms, begin_ms + _WARM_UP_PIECE_MS)
        end_ms = stretch.end_ms = max(end_ms, begin_ms + 1)
        faults = self._active(begin_ms)
        found = process_faults.effects(faults, begin_ms)
        setpoints = None if pending.kind == "off" else self.setpoints(state.job)
        barrel, shown, around = self._temperatures(
            begin_ms, end_ms, setpoints, 0.0, faults, found, rng, cold=pending.kind == "off"
        )
        heaters_kw = self._heaters_kw(barrel)
        idle_kw = spec.drive.idle_kw(spec.clamp_kn)
        kw = heaters_kw + (0.08 if pending.power_off else 1.0) * idle_kw
        kwh = kw * (end_ms - begin_ms) / 3.6e6
        stretch.energy = {
            spec.cell: Energy(
                np.array([begin_ms, end_ms]),
                np.array([state.kwh, state.kwh + kwh]),
                spec.drive.power_factor_idle,
            )
        }
        self._account(stretch, pending.state, pending.cause, kwh)
        stretch.detail = Detail(
            pending,
            _copied(state.job),
            state.cycles,
            None,
            False,  # noqa: FBT003
            found,
            barrel,
            shown,
            setpoints,
            around,
            state.number,
        )
        if pending.kind == "warm_up" and self._is_warm(begin_ms, end_ms, pending):
            pending.until_ms = end_ms
        if end_ms >= pending.until_ms:
            self._resume(stretch, pending, rng)

    def _is_warm(self, begin_ms: int, end_ms: int, pending: Pending) -> bool:
        pairs = zip(self.setpoints(self.state.job), self.state.barrel.temperature_c, strict=True)
        upset = process_faults.upsets(self._active(begin_ms), self.spec.zones, begin_ms)
        warm = upset is not None or all(point - actual < _WARM_BAND_K for point, actual in pairs)
        return warm and end_ms - pending.begin_ms >= _SOAK_MS

    def _resume(self, stretch: Stretch, pending: Pending, rng: np.random.Generator) -> None:
        """End an interruption: its row, what it changed, and the start-up shots after it."""
        state = self.state
        state.pending = None
        kind = "planned" if pending.kind in {"off", "warm_up"} else pending.kind
        span = {"begin_ms": pending.begin_ms, "end_ms": stretch.end_ms}
        stretch.facts.append(Facts("downtime", {**span, "kind": kind, "cause": pending.cause}))
        lasted_ms = stretch.end_ms - pending.begin_ms
        if pending.kind == "stop":
            state.start_up_shots = 1 + min(lasted_ms // 600_000, 10)
        elif pending.kind == "warm_up":
            state.start_up_shots = int(rng.integers(5, 16))
        elif pending.next_job is not None:
            self._finish_job(stretch, pending)
            change = pending.change
            if change is not None:
                state.start_up_shots = int(rng.integers(5, 26))
                stretch.facts.append(
                    Facts(
                        "changeovers",
                        {
                            **span,
                            "kind": change.kind,
                            "from": change.old,
                            "to": change.new,
                            "purge_shots": change.purge_shots,
                            "start_up_scrap": state.start_up_shots,
                        },
                    )
                )
            state.job = pending.next_job
            state.job.begin_ms = stretch.end_ms
            state.jobs_total += 1

    def _finish_job(self, stretch: Stretch, pending: Pending) -> None:
        job = self.state.job
        mould = self.spec.moulds[job.mould]
        stretch.facts.append(
            Facts(
                "jobs",
                {
                    "begin_ms": job.begin_ms,
                    "end_ms": pending.begin_ms,
                    "job": job.name,
                    "product": mould.product,
                    "mould": mould.name,
                    "material": mould.material_name,
                    "colour": job.colour,
                    "lot": job.lot,
                    "ordered": job.ordered,
                    "good": job.good,
                    "bad": job.bad,
                },
            )
        )

    def _run(self, stretch: Stretch, horizon_ms: int, rng: np.random.Generator) -> None:
        state, spec, begin_ms = self.state, self.spec, self.state.now_ms
        job, mould = state.job, spec.moulds[state.job.mould]
        standard = self.standards[job.mould]
        faults = self._active(begin_ms)
        found = process_faults.effects(faults, begin_ms)
        start_up = state.start_up_shots > 0
        cycle_ms = standard.cycle_s * 1000.0 * found.cycle
        span_end_ms = self._work_end_ms(begin_ms, horizon_ms)
        room_ms = min(horizon_ms, span_end_ms) - begin_ms
        production_ms = state.stop_in_ms
        wanted = state.start_up_shots if start_up else math.ceil(job.left / mould.cavities)
        likely = min(room_ms, room_ms if start_up else production_ms) / cycle_ms
        count = max(min(wanted, math.ceil(1.03 * likely) + 2), 1)

        end_guess_ms = begin_ms + max(round(count * cycle_ms), 1)
        barrel, shown, around = self._temperatures(
            begin_ms, end_guess_ms, self.setpoints(job), 1.0, faults, found, rng
        )
        middles = begin_ms + (np.arange(count) + 0.5) * cycle_ms
        front = (
            barrel.temperature_c[:, :2].mean(axis=1) - (self.setpoints(job)[0] + self.setpoints(job)[1]) / 2.0
        )
        melt_k = np.interp(middles, barrel.time_ms, front)
        shots = fire(
            count,
            mould,
            standard,
            spec.clamp_kn,
            spec.scrap_rate,
            melt_k,
            job.viscosity,
            found,
            rng,
            test=start_up,
            semi_automatic=spec.semi_automatic,
            micro_between_s=spec.stops.micro_between_s,
        )
        limits = [np.searchsorted(shots.end_ms, room_ms, side="right")]
        if not start_up:
            limits.append(np.searchsorted(shots.end_ms, production_ms) + 1)
        count = max(min(count, *(int(limit) for limit in limits)), 1)
        shots = shots.first(count)
        end_ms = stretch.end_ms = begin_ms + int(shots.end_ms[-1])
        self._book_run(
            stretch, shots, start_up=start_up, found=found, barrel=barrel, shown=shown, around=around
        )
        lasted_ms = end_ms - begin_ms
        if start_up:
            state.start_up_shots -= count
        else:
            state.stop_in_ms -= lasted_ms

    def _work_end_ms(self, begin_ms: int, horizon_ms: int) -> int:
        """Return when the people leave, or the horizon."""
        at_ms = begin_ms
        while at_ms < horizon_ms:
            at_ms = self.calendar.at(at_ms).end_ms
            if at_ms < horizon_ms and self._ends_work(at_ms):
                return at_ms
        return horizon_ms

    def _book_run(
        self,
        stretch: Stretch,
        shots: Shots,
        *,
        start_up: bool,
        found: Effects,
        barrel: Trace,
        shown: npt.NDArray[np.float64],
        around: npt.NDArray[np.float64],
    ) -> None:
        state, spec, begin_ms = self.state, self.spec, stretch.begin_ms
        job, mould = state.job, spec.moulds[state.job.mould]
        detail = Detail(
            None,
            _copied(job),
            state.cycles,
            shots,
            start_up,
            found,
            barrel,
            shown,
            self.setpoints(job),
            around,
            state.number,
        )
        stretch.detail = detail
        energy = drive_kwh(shots, mould, spec.drive, spec.clamp_kn, self._heaters_kw(barrel))
        # The last column of the last cycle is a hesitation after the end.
        points, times = np.zeros(energy.size), np.empty(energy.size, dtype=np.int64)
        np.cumsum(energy.ravel()[:-1], out=points[1:])
        times[0] = begin_ms
        times[1:] = begin_ms + np.cumsum(shots.phase_ms.ravel()[:-1])
        stretch.energy = {spec.cell: Energy(times, state.kwh + points, spec.drive.power_factor_running)}
        ends = begin_ms + shots.end_ms
        parts = np.where(shots.quality <= 1, mould.cavities, 0)
        middles = ends - shots.cycle_ms // 2
        mould_c = mould.material.mould_c + np.interp(middles, barrel.time_ms, around[:, 0])
        stretch.facts.append(
            Facts(
                "cycles",
                {
                    "begin_ms": ends - shots.cycle_ms,
                    "end_ms": ends,
                    "job": job.name,
                    "product": mould.product,
                    "cycle": state.cycles + 1 + np.arange(len(shots)),
                    "quality": _QUALITY_TEXT[shots.quality],
                    "good": parts - shots.bad,
                    "bad": shots.bad,
                    "injection_time_s": shots.injection_s,
                    "hold_time_s": shots.hold_s,
                    "dosing_time_s": shots.dosing_s,
                    "cooling_time_s": shots.cooling_s,
                    "cushion_mm": shots.cushion_mm,
                    "cushion_volume_cm3": shots.cushion_cm3,
                    "plasticising_volume_cm3": shots.plasticising_cm3,
                    "peak_pressure_bar": shots.peak_bar,
                    "hold_pressure_bar": shots.hold_bar,
                    "back_pressure_bar": shots.back_bar,
                    "cavity_pressure_bar": shots.cavity_bar,
                    "clamp_force_kn": shots.clamp_kn,
                    "melt_temperature_c": np.round(
                        np.interp(middles, barrel.time_ms, shown[:, :2].mean(axis=1)), 1
                    ),
                    "mould_temperature_c": np.round(mould_c, 1),
                    "shot_weight_g": shots.weight_g,
                    "energy_kwh": np.round(energy[:, :6].sum(axis=1), 6),
                },
            )
        )
        bad = int(shots.bad.sum())
        job.cycles += len(shots)
        state.cycles += len(shots)
        job.bad += bad
        job.good += int(parts.sum()) - bad
        if start_up:
            job.test += len(shots) * mould.cavities
        self._account_run(stretch, shots, energy, float(points[-1]), start_up=start_up)

    def _account_run(
        self, stretch: Stretch, shots: Shots, energy: npt.NDArray[np.float64], kwh: float, *, start_up: bool
    ) -> None:
        hesitated = np.flatnonzero(shots.phase_ms[:-1, 6])
        if start_up or not len(hesitated):
            self._account(stretch, "SETUP" if start_up else "RUNNING", "start-up" if start_up else None, kwh)
            return
        begins = stretch.begin_ms + shots.end_ms[hesitated]
        ends = begins + shots.phase_ms[hesitated, 6]
        idle_kwh = energy[hesitated, 6]
        edges = np.sort(np.concatenate([[stretch.begin_ms], begins, ends, [stretch.end_ms]]))
        running = np.arange(len(edges) - 1) % 2 == 0
        states = np.where(running, "RUNNING", "IDLE").tolist()
        causes = [None if runs else "micro-stop" for runs in running.tolist()]
        stretch.facts += [
            Facts(
                "states",
                {
                    "begin_ms": edges[:-1],
                    "end_ms": edges[1:],
                    "state": states,
                    "cause": causes,
                    "job": self.state.job.name,
                },
            ),
            Facts(
                "downtime", {"begin_ms": begins, "end_ms": ends, "kind": "micro_stop", "cause": "micro-stop"}
            ),
        ]
        run_kwh = np.add.reduceat(energy.ravel(), np.concatenate([[0], 7 * (hesitated + 1)])) - np.append(
            idle_kwh, energy[-1, 6]
        )
        both = np.empty(len(edges) - 1)
        both[0::2], both[1::2] = run_kwh, idle_kwh
        stretch.facts.append(
            Facts("energy", {"begin_ms": edges[:-1], "end_ms": edges[1:], "kwh": both, "state": states})
        )
        self.state.kwh += kwh

    def _account(self, stretch: Stretch, state_name: str, cause: str | None, kwh: float) -> None:
        span = {"begin_ms": stretch.begin_ms, "end_ms": stretch.end_ms}
        job = self.state.job.name
        stretch.facts.append(Facts("states", {**span, "state": state_name, "cause": cause, "job": job}))
        stretch.facts.append(Facts("energy", {**span, "kwh": kwh, "state": state_name}))
        self.state.kwh += kwh

    def _heaters_kw(self, barrel: Trace) -> float:
        duty = barrel.mean_duty()
        return float(sum(zone.heater_kw * share for zone, share in zip(self.barrel.zones, duty, strict=True)))

    def _temperatures(
        self,
        begin_ms: int,
        end_ms: int,
        setpoints: Sequence[float] | None,
        load: float,
        faults: Sequence[Fault],
        found: Effects,
        rng: np.random.Generator,
        *,
        cold: bool = False,
    ) -> tuple[Trace, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Let the temperatures go on; return the barrel's, what its sensors show, and the deviations around."""
        state, zones = self.state, self.spec.zones
        wrong = process_faults.upsets(faults, zones, begin_ms)
        barrel = self.barrel.run(state.barrel, begin_ms, end_ms, setpoints, load, rng, wrong)
        shown = barrel.temperature_c
        if wrong is not None:
            hours = (barrel.time_ms - begin_ms)[:, None] / 3.6e6
            offset = np.array([each.sensor_k for each in wrong])
            shown = shown + offset + hours * np.array([each.sensor_k_per_h for each in wrong])
        mould_k = -30.0 if cold else found.mould_k + (0.0 if load else -3.0)
        targets = (mould_k, mould_k, -15.0 if cold else found.oil_k, found.return_k + 4.0 * load)
        around = _relax(state.around_k, targets, barrel.time_ms, rng)
        return barrel, shown, around


_QUALITY_TEXT: Final = np.array(QUALITIES, dtype=object)
_AROUND_TAU_S: Final = np.array([240.0, 260.0, 900.0, 150.0])
_AROUND_SD_K: Final = np.array([0.43, 0.43, 1.0, 0.4])


def _relax(
    state: list[float], targets: Sequence[float], times: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Let four bodies follow their targets: first order, disturbed to a steady deviation. Changes ``state``."""
    passed_s = (times - times[0]) / 1000.0
    steps_s = np.diff(passed_s)
    kicks = rng.standard_normal((len(steps_s), 4))
    keep = np.exp(-steps_s[:, None] / _AROUND_TAU_S)
    # x(t) = x(0)·e(t) + Σ push·e(t)/e(t'), with e(t) = exp(−t/τ): within an hour e stays far from the smallest number.
    fade = np.exp(-passed_s[:, None] / _AROUND_TAU_S)
    pushes = kicks * (_AROUND_SD_K * np.sqrt(1.0 - keep * keep)) + np.array(targets) * (1.0 - keep)
    rows = np.empty((len(times), 4))
    rows[0] = state
    rows[1:] = fade[1:] * (rows[0] + np.cumsum(pushes / fade[1:], axis=0))
    state[:] = rows[-1].tolist()
    return rows


def _setpoints(melt_c: float, zones: int) -> list[float]:
    """Return a profile that falls from the nozzle to the hopper."""
    return [round(melt_c - 6.0 * zone - (15.0 if zone == zones - 1 else 0.0), 1) for zone in range(zones)]


def _zones(spec: MachineSpec, rng: np.random.Generator) -> Iterator[ZoneSpec]:
    heater_kw = min(max(0.4 + spec.clamp_kn / 1600.0, 0.6), 4.0)
    for zone in range(spec.zones):
        yield ZoneSpec(
            tau_s=float(rng.uniform(250.0, 600.0)),
            dead_s=float(rng.uniform(15.0, 40.0)),
            gain_k=700.0,
            heater_kw=heater_kw,
            shear_k=30.0 if 0 < zone < spec.zones - 1 else 12.0,
            wander_k=float(rng.uniform(0.35, 0.9)),
        )


def _copied(job: Job) -> Job:
    return msgspec.structs.replace(job)


assert QUALITIES[GOOD] == "good" and QUALITIES[FAILED] == "failed"  # noqa: PT018
