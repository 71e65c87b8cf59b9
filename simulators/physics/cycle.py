"""One shot: how its phases divide the cycle time, and what the machine shows in each of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from simulators.physics import signals

_STROKE_MM: Final = 380.0
_DOSING_RPM: Final = 180.0
_BACK_PRESSURE_BAR: Final = 80.0
_SCREW_STROKE_MM: Final = 95.0
_CYCLE_SD: Final = 0.006
_SLOW_SHARE: Final = 0.015
"""Cycles lengthened by a part that hesitates or a robot that waits."""


class Phase(NamedTuple):
    """A stretch of time in which the machine does one thing; at least a millisecond."""

    name: str
    """close, inject, hold, dose, cool, open; idle, standing, setup or off between cycles."""
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Shot:
    """What distinguishes one cycle from the next."""

    phases: tuple[Phase, ...]
    injection_ms: int
    dosing_ms: int
    peak_pressure_bar: float
    cushion_mm: float

    @property
    def cycle_ms(self) -> int:
        """The time from closing to closing."""
        return sum(phase.duration_ms for phase in self.phases)


def plan_shot(cycle_s: float, peak_pressure_bar: float, rng: random.Random) -> Shot:
    """Return the next shot of a machine whose standard cycle is ``cycle_s``.

    Automatic cycles vary by 0.5 to 1 %; a few take 5 to 20 % longer.
    """
    total_ms = cycle_s * 1000.0 * (1.0 + rng.gauss(0.0, _CYCLE_SD))
    if rng.random() < _SLOW_SHARE:
        total_ms *= rng.uniform(1.05, 1.2)
    standard_ms = cycle_s * 1000.0
    injection_ms = round(standard_ms * 0.06 * max(1.0 + rng.gauss(0.0, 0.02), 0.5))
    dosing_ms = round(standard_ms * 0.30 * max(1.0 + rng.gauss(0.0, 0.015), 0.5))
    close_ms = round(standard_ms * 0.09)
    hold_ms = round(standard_ms * 0.16)
    open_ms = round(standard_ms * 0.14)
    cool_ms = max(round(total_ms) - injection_ms - dosing_ms - close_ms - hold_ms - open_ms, 1)
    return Shot(
        (
            Phase("close", close_ms),
            Phase("inject", injection_ms),
            Phase("hold", hold_ms),
            Phase("dose", dosing_ms),
            Phase("cool", cool_ms),
            Phase("open", open_ms),
        ),
        injection_ms,
        dosing_ms,
        round(peak_pressure_bar * (1.0 + rng.gauss(0.0, 0.012)), 1),
        round(max(4.0 + rng.gauss(0.0, 0.06), 0.5), 2),
    )


def process_values(
    phase: str, progress: float, shot: Shot, clamp_kn: float, rng: random.Random
) -> Iterator[tuple[str, float]]:
    """Yield (signal, value) of what moves during a cycle, ``progress`` (0 to 1) into a phase."""
    pressure = speed = force = 0.0
    position = _SCREW_STROKE_MM
    opening = _STROKE_MM
    if phase in {"inject", "hold", "dose", "cool"}:
        force = 0.8 * clamp_kn * (1.0 + rng.gauss(0.0, 0.002))
        opening = 0.0
    if phase == "close":
        opening = _STROKE_MM * (1.0 - progress)
    elif phase == "open":
        opening = _STROKE_MM * progress
    elif phase == "inject":
        pressure = shot.peak_pressure_bar * (0.15 + 0.85 * progress)
        position = _SCREW_STROKE_MM + (shot.cushion_mm - _SCREW_STROKE_MM) * progress
    elif phase == "hold":
        pressure = shot.peak_pressure_bar * (0.62 - 0.1 * progress) * (1.0 + rng.gauss(0.0, 0.004))
        position = shot.cushion_mm
    elif phase == "dose":
        pressure = _BACK_PRESSURE_BAR * (1.0 + rng.gauss(0.0, 0.02))
        speed = _DOSING_RPM * (1.0 + rng.gauss(0.0, 0.01))
        position = shot.cushion_mm + (_SCREW_STROKE_MM - shot.cushion_mm) * progress
    yield signals.INJECTION_PRESSURE, round(pressure, 1)
    yield signals.SCREW_POSITION, round(position, 1)
    yield signals.SCREW_SPEED, round(speed, 1)
    yield signals.CLAMP_FORCE, round(force, 1)
    yield signals.CLAMP_POSITION, round(opening, 1)
