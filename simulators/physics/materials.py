"""Materials: the temperatures and pressures that they are moulded at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Material:
    """One polymer in the middle of its processing window."""

    melt_temperature_c: float
    mould_temperature_c: float
    peak_pressure_bar: float
    """Specific injection pressure at the change to holding pressure."""


MATERIALS: Final[Mapping[str, Material]] = {
    "abs": Material(235.0, 55.0, 920.0),
    "hips": Material(220.0, 45.0, 780.0),
    "pa66": Material(285.0, 80.0, 860.0),
    "pc": Material(295.0, 95.0, 1240.0),
    "pom": Material(205.0, 90.0, 980.0),
    "pp": Material(225.0, 40.0, 700.0),
}
