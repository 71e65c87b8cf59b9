"""What meters work out from power and power factor."""

from __future__ import annotations

import math
from typing import Final

_SMALLEST_FACTOR: Final = 0.001


def apparent(power: float, factor: float) -> float:
    """Return the apparent power, in the unit of ``power``; NaN where the power factor is none."""
    return power / factor if abs(factor) >= _SMALLEST_FACTOR else math.nan


def reactive(power: float, factor: float) -> float:
    """Return the reactive power of the fundamental, in the unit of ``power``."""
    return abs(apparent(power, factor)) * math.sqrt(max(1.0 - factor * factor, 0.0))
