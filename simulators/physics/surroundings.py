"""What is warm about a machine: its barrel, the mould's halves, the oil, and the cooling water's return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulators.physics import faults as process_faults
from simulators.physics.faults import Effects, Fault
from simulators.physics.thermal import Barrel
from simulators.physics.zones import BarrelState, Trace, ZoneSpec

_TAU_S: Final = np.array([240.0, 260.0, 900.0, 150.0])
_SD_K: Final = np.array([0.43, 0.43, 1.0, 0.4])


class Surroundings(NamedTuple):
    """How temperatures went in a stretch."""

    barrel: Trace
    shown_c: npt.NDArray[np.float64]
    """What the barrel's sensors show, shape as ``barrel.temperature_c``."""
    around_k: npt.NDArray[np.float64]
    """How far the two mould halves, the oil and the cooling water's return are from where they belong, shape (times,
    4), at ``barrel.time_ms``."""

    def heaters_kw(self, barrel: Barrel) -> float:
        """Return what the barrel's heaters draw on average."""
        heat = self.barrel.mean_heat().tolist()
        return float(sum(zone.heater_kw * share for zone, share in zip(barrel.zones, heat, strict=True)))


def pass_time(
    barrel: Barrel,
    state: BarrelState,
    around_k: list[float],
    begin_ms: int,
    end_ms: int,
    setpoints: Sequence[float] | None,
    load: float,
    faults: Sequence[Fault],
    effects: Effects,
    rng: np.random.Generator,
) -> Surroundings:
    """Let the temperatures go on from ``state`` and ``around_k``, which change.

    Args:
        barrel: whose zones.
        state: of its zones.
        around_k: of what is around; see `Surroundings`.
        begin_ms: UTC ms.
        end_ms: UTC ms.
        setpoints: of the zones, in degrees Celsius; None while the machine is off and cools down.
        load: how much is plasticised, 0 to 1.
        faults: those at work.
        effects: what they do.
        rng: of the disturbances.
    """
    wrong = process_faults.upsets(faults, len(barrel.zones), begin_ms)
    trace = barrel.run(state, begin_ms, end_ms, setpoints, load, rng, wrong)
    shown = trace.temperature_c
    if wrong is not None:
        hours = (trace.time_ms - begin_ms)[:, None] / 3.6e6
        offset = np.array([each.sensor_k for each in wrong])
        shown = shown + offset + hours * np.array([each.sensor_k_per_h for each in wrong])
    off = setpoints is None
    mould_k = -30.0 if off else effects.mould_k + (0.0 if load else -3.0)
    targets = (mould_k, mould_k, -15.0 if off else effects.oil_k, effects.return_k + 4.0 * load)
    return Surroundings(trace, shown, _relax(around_k, targets, trace.time_ms, rng))


def zones(count: int, clamp_kn: float, rng: np.random.Generator) -> Iterator[ZoneSpec]:
    """Yield the zones of the barrel that such a machine usually has, from the nozzle to the hopper."""
    heater_kw = min(max(0.4 + clamp_kn / 1600.0, 0.6), 4.0)
    for zone in range(count):
        yield ZoneSpec(
            tau_s=float(rng.uniform(250.0, 600.0)),
            dead_s=float(rng.uniform(15.0, 40.0)),
            gain_k=700.0,
            heater_kw=heater_kw,
            shear_k=30.0 if 0 < zone < count - 1 else 12.0,
            wander_k=float(rng.uniform(0.35, 0.9)),
        )


def setpoints(melt_c: float, count: int) -> list[float]:
    """Return a profile that falls from the nozzle to the hopper, in degrees Celsius."""
    return [round(melt_c - 6.0 * zone - (15.0 if zone == count - 1 else 0.0), 1) for zone in range(count)]


def _relax(
    state: list[float], targets: Sequence[float], times: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Let four bodies follow their targets: first order, disturbed to a steady deviation. Changes ``state``."""
    passed_s = (times - times[0]) / 1000.0
    steps_s = np.diff(passed_s)
    kicks = rng.standard_normal((len(steps_s), 4))
    keep = np.exp(-steps_s[:, None] / _TAU_S)
    # x(t) = x(0)·e(t) + Σ push·e(t)/e(t'), with e(t) = exp(-t/τ): within an hour e stays far from the smallest number.
    fade = np.exp(-passed_s[:, None] / _TAU_S)
    pushes = kicks * (_SD_K * np.sqrt(1.0 - keep * keep)) + np.array(targets) * (1.0 - keep)
    rows = np.empty((len(times), 4))
    rows[0] = state
    rows[1:] = fade[1:] * (rows[0] + np.cumsum(pushes / fade[1:], axis=0))
    state[:] = rows[-1].tolist()
    return rows
