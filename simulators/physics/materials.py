"""Materials: what decides temperatures, pressures and cooling times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Material:
    """One polymer in its processing window; temperatures in degrees Celsius."""

    diffusivity_mm2_s: float
    melt_c: float
    mould_c: float
    ejection_c: float
    melt_window_c: tuple[float, float]
    """Outside it the polymer does not flow, or burns."""
    mould_window_c: tuple[float, float]
    peak_pressure_bar: float
    """Specific injection pressure at the change to holding pressure, walls of 2.5 mm, melt at ``melt_c``."""
    melt_density_g_cm3: float
    hygroscopic: bool = False
    """Whether it has to be dried."""


MATERIALS: Final[Mapping[str, Material]] = {
    "abs": Material(0.080, 235.0, 55.0, 90.0, (199.0, 282.0), (38.0, 82.0), 920.0, 0.94, hygroscopic=True),
    "hips": Material(0.078, 220.0, 45.0, 80.0, (204.0, 246.0), (16.0, 82.0), 780.0, 0.94),
    "pa66": Material(0.085, 285.0, 80.0, 130.0, (271.0, 304.0), (71.0, 116.0), 860.0, 0.97, hygroscopic=True),
    "pc": Material(0.105, 295.0, 95.0, 130.0, (271.0, 321.0), (66.0, 107.0), 1240.0, 1.02, hygroscopic=True),
    "pom": Material(0.060, 205.0, 90.0, 120.0, (193.0, 221.0), (82.0, 104.0), 980.0, 1.16),
    "pp": Material(0.075, 225.0, 40.0, 80.0, (204.0, 260.0), (21.0, 49.0), 700.0, 0.73),
}
"""Processing windows: published moulding guides; diffusivities and pressures: middle of what is usual."""

VISCOSITY_PER_K: Final = 0.02
"""Viscosity, and with it the pressure, falls by this share a kelvin (η ∝ exp(-0.02·ΔT))."""


def cooling_time_s(material: Material, wall_mm: float, melt_c: float, mould_c: float) -> float:
    """Return how long a wall takes until its middle can be ejected: s²/(π²a)·ln[(8/π²)(Tm-Tw)/(Te-Tw)].

    At least 0.5 s; the mould must be colder than the ejection temperature.
    """
    ratio = 8.0 / math.pi**2 * (melt_c - mould_c) / max(material.ejection_c - mould_c, 0.5)
    return max(wall_mm**2 / (math.pi**2 * material.diffusivity_mm2_s) * math.log(max(ratio, 1.05)), 0.5)
