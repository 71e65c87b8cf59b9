"""Why machines stand, how often, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True)
class StopReason:
    """A standstill reason (OPC 40083 StandstillReasonId is free text of the machine)."""

    text: str
    weight: float
    """Relative frequency."""
    length: float = 1.0
    """Repair time relative to the machine's usual one."""
    hands_on: bool = False
    """Somebody works at the machine: it is switched to manual."""


REASONS: Final = (
    StopReason("Material missing", 5, 0.8),
    StopReason("Robot fault", 5, 0.7, hands_on=True),
    StopReason("Mould temperature", 4),
    StopReason("Part stuck in mould", 4, 0.6, hands_on=True),
    StopReason("Quality check", 3, 0.9),
    StopReason("No operator", 3, 1.2),
    StopReason("Ejector fault", 2, 1.5, hands_on=True),
    StopReason("Drive fault", 1, 2.0, hands_on=True),
)
_WEIGHTS: Final = np.array([reason.weight for reason in REASONS]) / sum(reason.weight for reason in REASONS)


@dataclass(frozen=True, slots=True)
class StopRates:
    """How a machine's day is interrupted; times in seconds."""

    between_s: float = 10_800.0
    """Mean production time between two stops (exponential); 3 to 8 h is usual."""
    repair_s: float = 540.0
    """Median time to repair (lognormal)."""
    micro_between_s: float = 2_400.0
    """Mean production time between hesitations too short for a reason (exponential)."""
    changeover_s: float = 2_700.0
    """Median time of a mould change (lognormal), 20 to 120 min; a colour change takes 40 % of it."""


def until_stop_ms(rates: StopRates, rng: np.random.Generator) -> int:
    """Return the production time until the next stop."""
    return round(rng.exponential(rates.between_s) * 1000.0)


def pick_reason(rng: np.random.Generator) -> StopReason:
    """Return a reason by its weight."""
    return REASONS[int(rng.choice(len(REASONS), p=_WEIGHTS))]


def repair_ms(rates: StopRates, reason: StopReason, rng: np.random.Generator) -> int:
    """Return how long a stop lasts: lognormal, between 20 s and 8 h."""
    return _lognormal_ms(rates.repair_s * reason.length, 1.2, 20.0, 28_800.0, rng)


def changeover_ms(rates: StopRates, share: float, rng: np.random.Generator) -> int:
    """Return how long a changeover lasts that takes ``share`` of a mould change: lognormal, 4 min to 2 h."""
    return _lognormal_ms(rates.changeover_s * share, 0.35, 240.0, 7_200.0, rng)


def _lognormal_ms(
    median_s: float, sigma: float, least_s: float, most_s: float, rng: np.random.Generator
) -> int:
    return round(min(max(rng.lognormal(math.log(median_s), sigma), least_s), most_s) * 1000.0)
