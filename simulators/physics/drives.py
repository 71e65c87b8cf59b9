"""Drive classes: what a machine draws from the mains, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PHASES: Final = ("close", "inject", "hold", "dose", "cool", "open")
"""Of a cycle, in order; ``cool`` is what is left of cooling after dosing, ``open`` includes ejection."""


@dataclass(frozen=True, slots=True)
class DriveClass:
    """Electrical behaviour of one kind of machine."""

    base_kw: float
    """Drawn while the power unit is on, whatever the machine does: controller, fans, idling pump."""
    base_kw_per_kn: float
    """The same, for each kN of clamping force."""
    shot_kwh_per_kg: float
    """What moving, injecting and plasticising take for each kilogram moulded."""
    phase_share: tuple[float, float, float, float, float, float]
    """How that is spread over the phases; sums to 1."""
    power_factor_running: float
    power_factor_idle: float
    hydraulic: bool
    """Whether it has an oil tank that warms up."""

    def idle_kw(self, clamp_kn: float) -> float:
        """Return the power while the machine stands with its power unit on, without heaters."""
        return self.base_kw + self.base_kw_per_kn * clamp_kn


DRIVES: Final[Mapping[str, DriveClass]] = {
    "electric": DriveClass(
        0.35, 0.00018, 0.74, (0.10, 0.22, 0.12, 0.42, 0.02, 0.12), 0.95, 0.90, hydraulic=False
    ),
    "servo_hydraulic": DriveClass(
        0.60, 0.00025, 0.90, (0.12, 0.18, 0.14, 0.40, 0.03, 0.13), 0.91, 0.82, hydraulic=True
    ),
    "hydraulic": DriveClass(
        2.6, 0.0020, 0.82, (0.13, 0.16, 0.17, 0.34, 0.07, 0.13), 0.84, 0.68, hydraulic=True
    ),
}
"""Set so that a month's specific energy comes out as published: electric 0.9-1.1, servo 1.0-1.2, fixed pump 1.4-1.6
kWh/kg; `tests/unit/test_simulators_calibration.py` holds it."""
