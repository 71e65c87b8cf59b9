"""Heated zones: what they are, what their future depends on, what can be wrong with them, and how they went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ZoneSpec:
    """One heated zone."""

    tau_s: float
    """Time constant, 250 to 600 s."""
    dead_s: float
    """Until the sensor notices the heater, 15 to 40 s: what the controller is tuned for."""
    gain_k: float
    """Kelvin over ambient that full heating holds."""
    heater_kw: float
    shear_k: float
    """Kelvin over ambient that shear heat would hold while plasticising."""
    wander_k: float
    """Random disturbance, kelvin a square root of a minute."""


class BarrelState(msgspec.Struct):
    """What the zones' future depends on."""

    temperature_c: list[float]
    integral: list[float]
    duty: list[float]
    """Of the last step: it acts in the next one."""


class Trace(NamedTuple):
    """How temperatures and heater duties (0 to 1) went; row by row, at rising times."""

    time_ms: npt.NDArray[np.int64]
    temperature_c: npt.NDArray[np.float64]
    """Shape (times, zones)."""
    duty: npt.NDArray[np.float64]
    """What the controllers ask for."""
    most: npt.NDArray[np.float64]
    """By zone: what its heater gives at most, 1 where it is well."""

    def mean_heat(self) -> npt.NDArray[np.float64]:
        """Return what each zone's heater gave on average, 0 to 1."""
        mean: npt.NDArray[np.float64] = np.minimum(self.duty, self.most).mean(axis=0)
        return mean


class Upset(NamedTuple):
    """What is wrong with one zone."""

    sensor_k_per_h: float = 0.0
    """The sensor shows so much more each hour."""
    sensor_k: float = 0.0
    """The sensor shows so much more already."""
    short_k: float = 0.0
    """At full heating the zone only comes this close to its set point from below, with neighbours at theirs; 0 where
    the heater is well."""
