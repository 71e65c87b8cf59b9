"""Why machines stand, how often, and for how long."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final


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
    power_off: bool = False
    """The power unit is switched off meanwhile."""


REASONS: Final = (
    StopReason("Material missing", 5, 0.8),
    StopReason("Robot fault", 5, 0.7, hands_on=True),
    StopReason("Mould temperature", 4),
    StopReason("Part stuck in mould", 4, 0.6, hands_on=True),
    StopReason("Quality check", 3, 0.9),
    StopReason("No operator", 3, 1.2),
    StopReason("Ejector fault", 2, 1.5, hands_on=True),
    StopReason("Drive fault", 1, 2.0, hands_on=True, power_off=True),
)
CHANGEOVER: Final = StopReason("Mould change", 0, hands_on=True)


@dataclass(frozen=True, slots=True)
class StopRates:
    """How a machine's day is interrupted; times in seconds."""

    between_s: float
    """Mean production time between two stops (exponential)."""
    repair_s: float
    """Median time to repair (lognormal)."""
    micro_between_s: float = 2400.0
    """Mean time between hesitations too short for a reason."""
    changeover_s: float = 1500.0
    """Median time of a mould change (lognormal)."""


def until_stop_s(rates: StopRates, rng: random.Random) -> float:
    """Return the production time until the next stop."""
    return rng.expovariate(1.0 / rates.between_s)


def until_hesitation_s(rates: StopRates, rng: random.Random) -> float:
    """Return the time until the next hesitation."""
    return rng.expovariate(1.0 / rates.micro_between_s)


def pick_reason(rng: random.Random) -> StopReason:
    """Return a reason by its weight."""
    return rng.choices(REASONS, [reason.weight for reason in REASONS])[0]


def repair_s(rates: StopRates, reason: StopReason, rng: random.Random) -> float:
    """Return how long a stop lasts: lognormal, between 20 s and 2 h."""
    return min(max(rng.lognormvariate(math.log(rates.repair_s * reason.length), 0.7), 20.0), 7200.0)


def changeover_s(rates: StopRates, rng: random.Random) -> float:
    """Return how long a mould change lasts."""
    return min(max(rng.lognormvariate(math.log(rates.changeover_s), 0.4), 240.0), 7200.0)
