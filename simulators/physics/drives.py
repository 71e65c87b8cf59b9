"""Drive classes: what a machine draws from the mains in each phase of its cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DriveClass:
    """Electrical behaviour of one kind of machine; powers are shares of the machine's rated drive power."""

    rated_kw_per_kn: float
    """Drive power in kW for each kN of clamping force."""
    base_kw: float
    """Drawn whenever the power unit is on: controller, pumps that never rest, cabinet fans."""
    idle_share: float
    """Share of the rated power while the machine stands with its power unit on."""
    phase_share: Mapping[str, float]
    """Share of the rated power by phase of the cycle."""
    power_factor_running: float
    power_factor_idle: float


DRIVES: Final[Mapping[str, DriveClass]] = {
    "electric": DriveClass(
        rated_kw_per_kn=0.016,
        base_kw=0.9,
        idle_share=0.01,
        phase_share={"close": 0.50, "inject": 1.15, "hold": 0.28, "dose": 0.62, "cool": 0.06, "open": 0.42},
        power_factor_running=0.95,
        power_factor_idle=0.90,
    ),
    "servo_hydraulic": DriveClass(
        rated_kw_per_kn=0.014,
        base_kw=1.4,
        idle_share=0.03,
        phase_share={"close": 0.70, "inject": 1.10, "hold": 0.45, "dose": 0.80, "cool": 0.10, "open": 0.60},
        power_factor_running=0.91,
        power_factor_idle=0.82,
    ),
    "hydraulic": DriveClass(
        rated_kw_per_kn=0.013,
        base_kw=4.5,
        idle_share=0.28,
        phase_share={"close": 0.80, "inject": 1.05, "hold": 0.75, "dose": 0.95, "cool": 0.42, "open": 0.75},
        power_factor_running=0.84,
        power_factor_idle=0.68,
    ),
}
"""Idle and mean powers follow measured specific energies: 0.9-1.1 kWh/kg electric, 1.0-1.2 servo, 1.4-1.6 fixed
pump."""
