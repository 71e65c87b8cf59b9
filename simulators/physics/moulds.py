"""Moulds, and the standard cycle that a mould has on a machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from simulators.physics.materials import Material, cooling_time_s


@dataclass(frozen=True, slots=True)
class Mould:
    """A mould and the product that it makes."""

    name: str
    product: str
    material_name: str
    material: Material
    cavities: int
    part_g: float
    """Weight of one part."""
    wall_mm: float
    """Thickest wall: decides the cooling time."""
    clamp_kn: float
    """Clamping force that it needs."""
    colours: tuple[str, ...] = ("natural",)
    runner_g: float = 0.0
    """Weight of the runner of a shot, 0 with a hot runner."""

    @property
    def shot_g(self) -> float:
        """Weight of a shot."""
        return self.cavities * self.part_g + self.runner_g


class Standard(NamedTuple):
    """What a mould's cycle is on a machine when all is as it should be; times in seconds."""

    close_s: float
    fill_s: float
    hold_s: float
    dose_s: float
    cool_s: float
    """Of the wall; the machine waits for the longer of cooling and dosing."""
    open_s: float
    peak_pressure_bar: float
    cavity_pressure_bar: float
    hold_pressure_bar: float
    back_pressure_bar: float
    cushion_mm: float
    stroke_mm: float
    """Of the screw, without the cushion."""
    screw_mm: float
    """Its diameter."""
    shot_cm3: float

    @property
    def cycle_s(self) -> float:
        """The standard cycle time."""
        return self.close_s + self.fill_s + self.hold_s + max(self.cool_s, self.dose_s) + self.open_s


def screw_diameter_mm(clamp_kn: float) -> float:
    """Return the usual screw of a machine: 40 mm at 1,600 kN, 79 mm at 6,500 kN."""
    return 1.12 * math.pow(clamp_kn, 0.485)


def standard_cycle(mould: Mould, clamp_kn: float) -> Standard:
    """Return the standard of a mould on a machine of that clamping force."""
    material, root = mould.material, math.sqrt(clamp_kn)
    screw_mm = screw_diameter_mm(clamp_kn)
    shot_cm3 = mould.shot_g / material.melt_density_g_cm3
    stroke_mm = shot_cm3 * 1000.0 / (math.pi / 4.0 * screw_mm**2)
    peak_bar = min(max(material.peak_pressure_bar * (2.5 / mould.wall_mm) ** 0.4, 500.0), 1400.0)
    return Standard(
        close_s=0.8 + 0.022 * root,
        fill_s=min(max(stroke_mm / 80.0 * (2.5 / mould.wall_mm) ** 0.3, 0.3), 4.5),
        hold_s=min(max(0.9 * mould.wall_mm**1.4, 1.0), 8.0),
        dose_s=max(mould.shot_g / (0.006 * screw_mm**2.2), 0.8),
        cool_s=cooling_time_s(material, mould.wall_mm, material.melt_c, material.mould_c),
        open_s=1.4 + 0.052 * root,
        peak_pressure_bar=peak_bar,
        cavity_pressure_bar=min(max(0.42 * peak_bar, 200.0), 600.0),
        hold_pressure_bar=0.62 * peak_bar,
        back_pressure_bar=80.0,
        cushion_mm=min(max(1.0 + 0.08 * screw_mm, 2.1), 5.7),
        stroke_mm=stroke_mm,
        screw_mm=screw_mm,
        shot_cm3=shot_cm3,
    )
