"""Moulds and what they make, as a user writes them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from shopfloor.configfile import ConfigModel
from simulators.physics.materials import MATERIALS, Material
from simulators.physics.moulds import Mould, screw_diameter_mm
from simulators.scenario.refusal import refuse

MaterialName = Literal["abs", "hips", "pa66", "pc", "pom", "pp"]
Name = Annotated[str, Field(min_length=1, max_length=60)]
_CAVITIES: Final = 4
_STROKE: Final = 5.0
"""Longest metering stroke of a screw, in its diameters."""
_USUAL_SHARE: Final = 0.8
"""Of that, what the usual moulds take at most."""
_USUAL: Final[tuple[tuple[str, MaterialName], ...]] = (("HOUSING", "abs"), ("COVER", "pp"))


class MouldConfig(ConfigModel):
    """A mould and the product that it makes."""

    name: Name
    """Of the mould."""
    product: Name | None = None
    """What it makes; by default it is called like the mould."""
    material: MaterialName
    """What it moulds: decides temperatures, pressures and cooling."""
    cavities: int = Field(ge=1, le=256)
    """Parts of a shot."""
    part_g: float = Field(gt=0.0, le=20_000.0)
    """Weight of a part, in grams."""
    wall_mm: float = Field(ge=0.4, le=20.0)
    """Thickest wall, in millimetres: decides the cooling time."""
    clamp_kn: float = Field(ge=10.0, le=50_000.0)
    """Clamping force that it needs, in kN."""
    colours: tuple[Name, ...] = Field(default=("natural",), min_length=1, max_length=50)
    """In which its product is made."""
    runner_g: float = Field(default=0.0, ge=0.0, le=5_000.0)
    """Weight of the runner, in grams; 0 with a hot runner."""
    melt_c: float | None = Field(default=None, ge=0.0)
    """Melt temperature instead of the material's own, in degrees Celsius."""
    mould_c: float | None = Field(default=None, ge=0.0)
    """Mould temperature instead of the material's own, in degrees Celsius."""

    @model_validator(mode="after")
    def _in_the_window(self) -> Self:
        material = MATERIALS[self.material]
        for key, given, (low, high) in (
            ("melt_c", self.melt_c, material.melt_window_c),
            ("mould_c", self.mould_c, material.mould_window_c),
        ):
            if given is not None and not low <= given <= high:
                refuse(
                    (key,),
                    "{given} °C is outside the window of {material}, {low} to {high} °C",
                    given=f"{given:g}",
                    material=self.material,
                    low=f"{low:g}",
                    high=f"{high:g}",
                )
        return self

    def mould(self) -> Mould:
        """Return its physics."""
        material: Material = MATERIALS[self.material]
        if self.melt_c is not None:
            material = replace(material, melt_c=self.melt_c)
        if self.mould_c is not None:
            material = replace(material, mould_c=self.mould_c)
        return Mould(
            self.name,
            self.product or self.name,
            self.material,
            material,
            self.cavities,
            self.part_g,
            self.wall_mm,
            self.clamp_kn,
            self.colours,
            self.runner_g,
        )


def most_shot_cm3(clamp_kn: float) -> float:
    """Return how much melt the usual screw of a machine injects at most, in cm³."""
    return math.pi / 4.0 * screw_diameter_mm(clamp_kn) ** 3 * _STROKE / 1000.0


def usual_moulds(clamp_kn: float) -> tuple[MouldConfig, ...]:
    """Return two moulds of the size that such a machine usually has."""
    lightest = min(MATERIALS[material].melt_density_g_cm3 for _, material in _USUAL)
    most_g = _USUAL_SHARE * most_shot_cm3(clamp_kn) * lightest / _CAVITIES
    part_g = round(min(20.0 * clamp_kn / 1600.0, most_g), 1)
    return tuple(
        MouldConfig(
            name=name,
            material=material,
            cavities=_CAVITIES,
            part_g=part_g,
            wall_mm=2.5,
            clamp_kn=round(0.7 * clamp_kn, 1),
            colours=("black", "grey"),
        )
        for name, material in _USUAL
    )
