"""The shots of a run, all at once: durations, pressures, cushion, quality, weight, energy, as columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from simulators.physics.drives import DriveClass
from simulators.physics.faults import Effects
from simulators.physics.materials import VISCOSITY_PER_K
from simulators.physics.moulds import Mould, Standard

Numbers: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

GOOD, BAD, TEST, FAILED = 0, 1, 2, 3
QUALITIES: Final = ("good", "bad", "test", "failed")
"""OPC 40083 CycleQualityEnumeration, in its order."""
_SLOW_SHARE: Final = 0.012
"""Cycles lengthened by a part that hesitates or a robot that waits."""
_BEHIND: Final = 0.07
"""How far behind the standard, which is the best that was ever seen, a machine usually stays."""
_BY_HAND: Final = 0.12
_BY_HAND_SIGMA: Final = 0.7
"""A hand at the guard adds a lognormal time: its median, as a share of the standard cycle, and its sigma."""
_ALL_CAVITIES_SHARE: Final = 0.4
"""Of the bad shots, those all of whose parts are bad."""
FIGURES: Final = (
    "injection_s",
    "dosing_s",
    "cushion_mm",
    "cushion_cm3",
    "plasticising_cm3",
    "peak_bar",
    "cavity_bar",
    "hold_bar",
    "back_bar",
)
"""What the machine shows of a cycle, by the names of the columns here."""
_COLUMNS: Final = (
    "quality",
    "bad",
    "bad_cavity",
    "injection_s",
    "hold_s",
    "dosing_s",
    "cooling_s",
    "cushion_mm",
    "cushion_cm3",
    "plasticising_cm3",
    "peak_bar",
    "hold_bar",
    "back_bar",
    "cavity_bar",
    "clamp_kn",
    "weight_g",
)


@dataclass(frozen=True, slots=True)
class Shots:
    """A run of cycles, column by column; row k is the k-th cycle."""

    phase_ms: Integers
    """Shape (cycles, 7): close, inject, hold, dose, rest of cooling, open, and a hesitation before the next cycle."""
    end_ms: Integers
    """When each cycle was over, after the run's begin; a hesitation comes after that."""
    cycle_ms: Integers
    """Each cycle's duration, without the hesitation after it."""
    quality: Integers
    """Index into `QUALITIES`."""
    bad: Integers
    """Bad parts."""
    bad_cavity: Integers
    """The cavity (from 1) of the bad part; 0 where all or none is bad."""
    injection_s: Numbers
    hold_s: Numbers
    dosing_s: Numbers
    cooling_s: Numbers
    cushion_mm: Numbers
    cushion_cm3: Numbers
    plasticising_cm3: Numbers
    peak_bar: Numbers
    hold_bar: Numbers
    back_bar: Numbers
    cavity_bar: Numbers
    clamp_kn: Numbers
    weight_g: Numbers

    def __len__(self) -> int:
        return len(self.end_ms)

    def first(self, count: int) -> Shots:
        """Return the first ``count`` of them; after the last one there is a millisecond in which it is shown."""
        if count < len(self):
            found = Shots(
                *(getattr(self, name)[:count] for name in ("phase_ms", "end_ms", "cycle_ms", *_COLUMNS))
            )
        else:
            found = self
        found.phase_ms[-1, 6] = 1
        return found

    def figures(self, number: int) -> list[float]:
        """Return what the machine shows of a cycle, as `FIGURES`."""
        return [float(getattr(self, name)[number]) for name in FIGURES]


def usual_cycle_ms(standard: Standard, effects: Effects, *, semi_automatic: bool) -> float:
    """Return how long a cycle takes on average while these faults are at work."""
    by_hand = semi_automatic or effects.semi_automatic
    more = _BY_HAND * math.exp(0.5 * _BY_HAND_SIGMA**2) if by_hand else 0.0
    return 1000.0 * standard.cycle_s * (effects.cycle + _BEHIND + more)


def fire(
    count: int,
    mould: Mould,
    standard: Standard,
    clamp_kn: float,
    scrap_rate: float,
    melt_k: Numbers,
    viscosity: float,
    effects: Effects,
    rng: np.random.Generator,
    *,
    test: bool,
    semi_automatic: bool,
    micro_between_s: float,
) -> Shots:
    """Return ``count`` shots.

    Args:
        count: how many.
        mould: that is filled.
        standard: of the mould on this machine.
        clamp_kn: of the machine.
        scrap_rate: share of the parts that are bad, faults apart.
        melt_k: by shot, how much hotter than it should the melt is.
        viscosity: of the lot of material, relative to the usual one.
        effects: of the faults at work.
        rng: of everything random.
        test: start-up shots: no part of them counts as good or bad.
        semi_automatic: a hand opens and closes the guard.
        micro_between_s: mean time between hesitations (exponential).
    """
    noise = rng.standard_normal((8, count))
    thinner = np.exp(-VISCOSITY_PER_K * melt_k) * viscosity
    fill_s = np.maximum(standard.fill_s * effects.fill * (1.0 + 0.026 * noise[0]), 0.2)
    dose_s = standard.dose_s * (0.7 + 0.3 * thinner) * (1.0 + 0.016 * noise[1])
    # Faults lengthen the wait for a part that is firm.
    cool_s = standard.cool_s + (effects.cycle - 1.0) * standard.cycle_s
    # What the operator, the robot or the part's own mood add comes while the mould is open.
    open_s = standard.open_s * (1.0 + 0.02 * noise[2]) + standard.cycle_s * (_BEHIND + 0.0045 * noise[3])
    open_s = np.maximum(open_s, 0.5)
    slow = rng.random(count)
    open_s += np.where(slow < _SLOW_SHARE, standard.cycle_s * (0.02 + 0.08 * slow / _SLOW_SHARE), 0.0)
    if semi_automatic or effects.semi_automatic:
        open_s += _BY_HAND * standard.cycle_s * rng.lognormal(0.0, _BY_HAND_SIGMA, count)
    phase_s = np.empty((6, count))
    phase_s[0] = standard.close_s * (1.0 + 0.01 * noise[4])
    phase_s[1] = fill_s
    phase_s[2] = standard.hold_s
    phase_s[3] = dose_s
    phase_s[4] = cool_s - dose_s
    phase_s[5] = open_s
    phase_ms = np.zeros((count, 7), dtype=np.int64)
    phase_ms[:, :6] = np.maximum(np.rint(1000.0 * phase_s.T), 1.0)
    cycle_ms = phase_ms.sum(axis=1)
    end_ms = np.cumsum(cycle_ms)
    if not test:
        # A hesitation too short for a reason: 20 to 90 s, memoryless, so that it may be drawn cycle by cycle.
        luck = rng.random(count)
        hesitates = luck < -np.expm1(-cycle_ms / (micro_between_s * 1000.0))
        if hesitates.any():
            phase_ms[hesitates, 6] = rng.integers(20_000, 90_000, int(hesitates.sum()))
            end_ms += np.cumsum(phase_ms[:, 6]) - phase_ms[:, 6]

    peak = standard.peak_pressure_bar * thinner * effects.pressure * (1.0 + 0.012 * noise[5])
    cushion = standard.cushion_mm * effects.cushion * (1.0 + 0.0075 * effects.cushion_sd * noise[6])
    cushion = np.maximum(cushion, 0.0)
    area_cm2 = np.pi / 4.0 * (standard.screw_mm / 10.0) ** 2
    cavity = standard.cavity_pressure_bar * (0.5 + 0.5 * peak / standard.peak_pressure_bar)
    cavity = cavity * effects.cavity_pressure * (1.0 + 0.015 * noise[7])
    weight = mould.shot_g * (1.0 + 0.004 * noise[6] + 0.003 * noise[7])

    luck = rng.random((2, count))
    share = _ALL_CAVITIES_SHARE + (1.0 - _ALL_CAVITIES_SHARE) / mould.cavities
    reject = luck[0] < scrap_rate / share + effects.scrap
    # A cushion that is nearly gone has not held the pressure: a short shot.
    reject |= cushion < 0.35 * standard.cushion_mm
    bad = np.where(reject, np.where(luck[1] < _ALL_CAVITIES_SHARE, mould.cavities, 1), 0)
    bad_cavity = np.where(bad == 1, 1 + (luck[1] * 977.0 % mould.cavities).astype(np.int64), 0)
    if effects.blocked_cavity is not None:
        bad = np.maximum(bad, 1)
        bad_cavity = np.where(bad == 1, min(effects.blocked_cavity, mould.cavities), bad_cavity)
    quality = np.where(bad > 0, BAD, GOOD)
    if test:
        quality, bad, bad_cavity = np.full(count, TEST), np.zeros_like(bad), np.zeros_like(bad_cavity)
    cushion = np.round(cushion, 2)
    return Shots(
        phase_ms=phase_ms,
        end_ms=end_ms,
        cycle_ms=cycle_ms,
        quality=quality,
        bad=bad,
        bad_cavity=bad_cavity,
        injection_s=phase_ms[:, 1] / 1000.0,
        hold_s=phase_ms[:, 2] / 1000.0,
        dosing_s=phase_ms[:, 3] / 1000.0,
        cooling_s=(phase_ms[:, 3] + phase_ms[:, 4]) / 1000.0,
        cushion_mm=cushion,
        cushion_cm3=np.round(cushion / 10.0 * area_cm2, 3),
        plasticising_cm3=np.round(standard.shot_cm3 * (weight / mould.shot_g), 2),
        peak_bar=np.round(peak, 1),
        hold_bar=np.round(standard.hold_pressure_bar * (1.0 + 0.004 * noise[3]), 1),
        back_bar=np.round(standard.back_pressure_bar * (1.0 + 0.02 * noise[1]), 1),
        cavity_bar=np.round(cavity, 1),
        clamp_kn=np.round(0.8 * clamp_kn * effects.clamp * (1.0 + 0.009 * noise[4]), 1),
        weight_g=np.round(weight, 3),
    )


def drive_kwh(shots: Shots, mould: Mould, drive: DriveClass, clamp_kn: float, heaters_kw: float) -> Numbers:
    """Return the energy of each phase of each shot, shape (cycles, 7)."""
    shared = np.array((*drive.phase_share, 0.0)) * (drive.shot_kwh_per_kg * mould.shot_g / 1000.0)
    standing_kw = drive.idle_kw(clamp_kn) + heaters_kw
    wobble = shots.weight_g / mould.shot_g
    return shared * wobble[:, None] + shots.phase_ms * (standing_kw / 3.6e6)
