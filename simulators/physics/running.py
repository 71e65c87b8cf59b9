"""A stretch in which a moulding machine produces, or makes its start-up shots: cycle by cycle, in columns."""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from simulators.physics import faults as process_faults
from simulators.physics.interruptions import work_end_ms
from simulators.physics.machine_state import Detail, Equipment, LastCycle, State
from simulators.physics.shots import QUALITIES, TEST, Shots, drive_kwh, fire, usual_cycle_ms
from simulators.physics.surroundings import Surroundings, pass_time
from simulators.physics.unit import Energy, Facts, Stretch

_QUALITY_TEXT: Final = np.array(QUALITIES, dtype=object)


def run(machine: Equipment, state: State, horizon_ms: int, rng: np.random.Generator) -> Stretch:
    """Return the next stretch of production: to the horizon, the next stop, or the end of the job or the shift."""
    spec, begin_ms, job = machine.spec, state.now_ms, state.job
    mould, standard = spec.moulds[job.mould], machine.standards[job.mould]
    setpoints = machine.setpoints_c[job.mould]
    faults = machine.at_work(begin_ms)
    effects = process_faults.effects(faults, begin_ms)
    start_up = state.start_up_shots > 0
    cycle_ms = usual_cycle_ms(standard, effects, semi_automatic=spec.semi_automatic)
    room_ms = work_end_ms(machine, begin_ms, horizon_ms) - begin_ms
    wanted = state.start_up_shots if start_up else math.ceil(job.left / mould.cavities)
    most_ms = room_ms if start_up else min(room_ms, state.stop_in_ms + round(cycle_ms))
    count = max(min(wanted, math.ceil(1.02 * most_ms / cycle_ms) + 2), 1)
    surroundings = pass_time(
        machine.barrel,
        state.barrel,
        state.around_k,
        begin_ms,
        begin_ms + max(min(most_ms, round(count * cycle_ms)), 1),
        setpoints,
        1.0,
        faults,
        effects,
        rng,
    )
    barrel = surroundings.barrel
    front_k = barrel.temperature_c[:, :2] @ _HALF - 0.5 * (setpoints[0] + setpoints[1])
    middles = begin_ms + (np.arange(count) + 0.5) * cycle_ms
    shots = fire(
        count,
        mould,
        standard,
        spec.clamp_kn,
        spec.scrap_rate,
        np.interp(middles, barrel.time_ms, front_k),
        job.viscosity,
        effects,
        rng,
        test=start_up,
        semi_automatic=spec.semi_automatic,
        micro_between_s=spec.stops.micro_between_s,
    )
    # A cycle is shown in the millisecond after it, which must lie in the room as well.
    fitting = int(np.searchsorted(shots.end_ms, room_ms - 1, side="right"))
    if not start_up:
        fitting = min(fitting, int(np.searchsorted(shots.end_ms, state.stop_in_ms)) + 1)
    shots = shots.first(max(min(count, fitting), 1))
    stretch = Stretch(begin_ms, begin_ms + int(shots.end_ms[-1]) + 1)
    stretch.detail = Detail(
        state.number,
        begin_ms,
        stretch.end_ms,
        None,
        msgspec.structs.replace(job),
        state.cycles,
        state.last_cycle,
        shots,
        start_up,
        effects,
        surroundings,
    )
    energy = drive_kwh(shots, mould, spec.drive, spec.clamp_kn, surroundings.heaters_kw(machine.barrel))
    _tell_cycles(machine, state, stretch, shots, energy, surroundings)
    _tell_states(state, stretch, shots, energy, start_up=start_up)
    _draw(machine, state, stretch, shots, energy)
    _count(machine, state, shots)
    if start_up:
        state.start_up_shots -= len(shots)
    else:
        state.stop_in_ms -= stretch.end_ms - begin_ms
    state.now_ms = stretch.end_ms
    return stretch


_HALF: Final = np.array([0.5, 0.5])


def _tell_cycles(
    machine: Equipment,
    state: State,
    stretch: Stretch,
    shots: Shots,
    energy: npt.NDArray[np.float64],
    surroundings: Surroundings,
) -> None:
    mould = machine.spec.moulds[state.job.mould]
    ends = stretch.begin_ms + shots.end_ms
    begins = ends - shots.cycle_ms
    middles, times = 0.5 * (begins + ends), surroundings.barrel.time_ms
    mould_c = mould.material.mould_c + np.interp(middles, times, surroundings.around_k[:, 0])
    stretch.facts.append(
        Facts(
            "cycles",
            {
                "begin_ms": begins,
                "end_ms": ends,
                "job": state.job.name,
                "product": mould.product,
                "cycle": np.arange(state.cycles + 1, state.cycles + 1 + len(shots)),
                "quality": _QUALITY_TEXT[shots.quality],
                "good": _parts(shots, mould.cavities) - shots.bad,
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
                    np.interp(middles, times, surroundings.shown_c[:, :2] @ _HALF), 1
                ),
                "mould_temperature_c": np.round(mould_c, 1),
                "shot_weight_g": shots.weight_g,
                "energy_kwh": np.round(energy[:, :6].sum(axis=1), 6),
            },
        )
    )


def _parts(shots: Shots, cavities: int) -> npt.NDArray[np.int64]:
    """Return the parts of each shot that are counted."""
    return np.where(shots.quality < TEST, cavities, 0)


def _tell_states(
    state: State, stretch: Stretch, shots: Shots, energy: npt.NDArray[np.float64], *, start_up: bool
) -> None:
    """Tell states and energy, and hesitations as micro-stops."""
    job, span = state.job.name, {"begin_ms": stretch.begin_ms, "end_ms": stretch.end_ms}
    hesitated = np.flatnonzero(shots.phase_ms[:-1, 6])
    if start_up or not len(hesitated):
        name, cause = ("SETUP", "start-up") if start_up else ("RUNNING", None)
        stretch.facts += [
            Facts("states", {**span, "state": name, "cause": cause, "job": job}),
            Facts("energy", {**span, "kwh": float(energy.sum()), "state": name}),
        ]
        return
    begins = stretch.begin_ms + shots.end_ms[hesitated]
    ends = begins + shots.phase_ms[hesitated, 6]
    edges = np.empty(2 * len(hesitated) + 2, dtype=np.int64)
    edges[0], edges[1:-1:2], edges[2:-1:2], edges[-1] = stretch.begin_ms, begins, ends, stretch.end_ms
    spans = {"begin_ms": edges[:-1], "end_ms": edges[1:]}
    names = ["RUNNING", "IDLE"] * len(hesitated) + ["RUNNING"]
    causes = [None, "micro-stop"] * len(hesitated) + [None]
    kwh = np.empty(len(names))
    kwh[0::2] = np.add.reduceat(energy.sum(axis=1), np.append(0, hesitated + 1))
    kwh[1::2] = energy[hesitated, 6]
    kwh[0:-1:2] -= kwh[1::2]
    stretch.facts += [
        Facts("states", {**spans, "state": names, "cause": causes, "job": job}),
        Facts("energy", {**spans, "kwh": kwh, "state": names}),
        Facts("downtime", {"begin_ms": begins, "end_ms": ends, "kind": "micro_stop", "cause": "micro-stop"}),
    ]


def _draw(
    machine: Equipment, state: State, stretch: Stretch, shots: Shots, energy: npt.NDArray[np.float64]
) -> None:
    """Let the energy register rise, phase by phase."""
    lasting = np.flatnonzero(shots.phase_ms)
    times = np.empty(len(lasting) + 1, dtype=np.int64)
    points = np.empty(len(lasting) + 1)
    times[0], points[0] = stretch.begin_ms, state.kwh
    times[1:] = stretch.begin_ms + np.cumsum(shots.phase_ms.ravel()[lasting])
    points[1:] = state.kwh + np.cumsum(energy.ravel()[lasting])
    stretch.energy = {machine.spec.cell: Energy(times, points, machine.spec.drive.power_factor_running)}
    state.kwh = float(points[-1])


def _count(machine: Equipment, state: State, shots: Shots) -> None:
    """Count shots and parts, and keep what is shown of the last cycle."""
    job, cavities, total = state.job, machine.spec.moulds[state.job.mould].cavities, len(shots)
    bad, counted = int(shots.bad.sum()), int((shots.quality < TEST).sum()) * cavities
    state.cycles += total
    job.cycles += total
    job.bad += bad
    job.good += counted - bad
    job.test += int((shots.quality == TEST).sum()) * cavities
    state.last_cycle = LastCycle(
        int(shots.cycle_ms[-1]) / 1000.0, int(shots.quality[-1]), shots.figures(total - 1)
    )
