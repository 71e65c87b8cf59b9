"""An energy meter on the machine's feed."""

from __future__ import annotations

import math
import random
from typing import Final, NamedTuple

_NOMINAL_V: Final = 400.0
_MS: Final = 1_000_000


class MeterReading(NamedTuple):
    """What the meter shows; the power is the mean since the reading before."""

    time_ns: int
    power_kw: float
    energy_kwh: float
    voltage_v: float
    current_a: float
    power_factor: float


class EnergyMeter:
    """A three-phase meter that reads once an interval; times are whole milliseconds.

    Args:
        start_ns: when the register stood at ``energy_kwh``.
        first_ns: when the first reading is due.
        interval_ms: between two readings.
    """

    def __init__(
        self, seed: int, start_ns: int, energy_kwh: float, first_ns: int, interval_ms: int = 1000
    ) -> None:
        self._rng = random.Random(seed)
        self._interval_ns = interval_ms * _MS
        self._last_ns = start_ns
        self._energy_kwh = energy_kwh
        self._voltage_v = _NOMINAL_V
        self.next_ns = first_ns
        """When the next reading is due."""

    def read(self, energy_kwh: float, power_factor: float) -> MeterReading:
        """Take the reading that is due, from the machine's energy at that very time."""
        time_ns = self.next_ns
        self.next_ns += self._interval_ns
        rng = self._rng
        power_kw = (energy_kwh - self._energy_kwh) * 3.6e12 / (time_ns - self._last_ns)
        self._last_ns = time_ns
        self._energy_kwh = energy_kwh
        self._voltage_v += 0.02 * (_NOMINAL_V - self._voltage_v) + rng.gauss(0.0, 0.25)
        factor = min(max(power_factor + rng.gauss(0.0, 0.004), 0.3), 1.0)
        return MeterReading(
            time_ns,
            round(power_kw, 3),
            round(energy_kwh, 4),
            round(self._voltage_v, 1),
            round(power_kw * 1000.0 / (math.sqrt(3.0) * self._voltage_v * factor), 2),
            round(factor, 3),
        )

    def skip(self, to_ns: int, energy_kwh: float) -> None:
        """Leave out the readings up to a time at which the register stands at ``energy_kwh``."""
        self._last_ns = to_ns
        self._energy_kwh = energy_kwh
        self.next_ns = to_ns + self._interval_ns
