"""The process faults of moulding machines: labelled, of a given severity, scripted or random.

A fault acts on the physics alone; what the machine shows follows from that. Its label goes into the truth and nowhere
else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from simulators.physics.unit import Facts
from simulators.physics.zones import Upset

FaultKind: TypeAlias = Literal[
    "sensor_drift",
    "heater_band",
    "cooling_blockage",
    "check_ring_wear",
    "blocked_gate",
    "wet_material",
    "hot_oil",
    "clamp_force_loss",
    "slow_operator",
]
"""The tenth, an air leak, belongs to the compressor."""
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
ZONE_FAULTS: Final[frozenset[FaultKind]] = frozenset({"sensor_drift", "heater_band"})
"""Those of one barrel zone."""
CAVITY_FAULTS: Final[frozenset[FaultKind]] = frozenset({"blocked_gate"})
"""Those of one cavity."""
_H_MS: Final = 3_600_000.0
_DAY_MS: Final = 24 * _H_MS


class Usual(NamedTuple):
    """How a fault usually goes, where it comes by chance."""

    weight: float
    """Relative frequency."""
    median_h: float
    """How long it lasts (lognormal)."""


USUAL: Final[Mapping[FaultKind, Usual]] = {
    "sensor_drift": Usual(2, 20.0),
    "heater_band": Usual(2, 3.0),
    "cooling_blockage": Usual(2, 6.0),
    "check_ring_wear": Usual(1, 72.0),
    "blocked_gate": Usual(3, 2.0),
    "wet_material": Usual(3, 4.0),
    "hot_oil": Usual(1, 5.0),
    "clamp_force_loss": Usual(1, 8.0),
    "slow_operator": Usual(3, 6.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one machine; times in UTC ms."""

    kind: FaultKind
    begin_ms: int
    end_ms: int
    severity: float = 1.0
    """Above 0, at most 1."""
    place: int = 1
    """Barrel zone or cavity, from 1; of no meaning for faults of the whole machine."""

    @property
    def where(self) -> str | None:
        """Its place in words: ``zone 2``, ``cavity 3``; None for a fault of the whole machine."""
        if self.kind in ZONE_FAULTS:
            return f"zone {self.place}"
        return f"cavity {self.place}" if self.kind in CAVITY_FAULTS else None

    def within(self, begin_ms: int, end_ms: int) -> Facts:
        """Return its row of the truth about a stretch, in which it is at work; times in UTC ms."""
        return Facts(
            "faults",
            {
                "begin_ms": max(self.begin_ms, begin_ms),
                "end_ms": min(self.end_ms, end_ms),
                "kind": self.kind,
                "severity": self.severity,
                "place": self.where,
            },
        )


@dataclass(slots=True)
class Effects:
    """What the faults at work do to the shots of a run; factors where not said otherwise."""

    cycle: float = 1.0
    cycle_sd: float = 1.0
    semi_automatic: bool = False
    """An operator opens and closes the guard: a long tail to the right."""
    fill: float = 1.0
    pressure: float = 1.0
    cushion: float = 1.0
    cushion_sd: float = 1.0
    clamp: float = 1.0
    cavity_pressure: float = 1.0
    cooling_flow: float = 1.0
    mould_k: float = 0.0
    """Kelvin that the mould is too hot."""
    return_k: float = 0.0
    """Kelvin that the cooling water comes back hotter."""
    oil_k: float = 0.0
    scrap: float = 0.0
    """Added to the share of bad shots."""
    blocked_cavity: int | None = None
    """From 1; its part is bad in each shot."""
    alarm: tuple[str, str, int] | None = None
    """Id, text and IMMMessageClassificationEnumeration (OPC 40077) of what the machine reports."""


def effects(faults: Iterable[Fault], now_ms: int) -> Effects:
    """Return what these faults, all at work, do to shots around a time."""
    found = Effects()
    for fault in faults:
        much = fault.severity
        days = max(now_ms - fault.begin_ms, 0) / _DAY_MS
        match fault.kind:
            case "heater_band":
                if now_ms - fault.begin_ms > 300_000:
                    zone = fault.place
                    found.alarm = (f"T{zone:02d}-LOW", f"Barrel zone {zone}: temperature too low", 111)
            case "cooling_blockage":
                found.cooling_flow *= 1.0 - 0.3 * much
                found.mould_k += 5.0 + 10.0 * much
                found.return_k += 4.0 * much
                found.cycle *= 1.05 + 0.15 * much
                if now_ms - fault.begin_ms > 300_000:
                    found.alarm = ("COOL-FLOW", "Cooling circuit: flow too low", 112)
            case "check_ring_wear":
                found.cushion *= max(1.0 - 0.01 * much * days, 0.5)
                found.cushion_sd *= 1.0 + 4.0 * much
                found.scrap += 0.02 * much
            case "blocked_gate":
                found.cavity_pressure *= 1.0 - 0.4 * much
                found.fill *= 1.0 - 0.08 * much
                found.blocked_cavity = fault.place
            case "wet_material":
                found.pressure *= 1.0 - 0.05 * much
                found.scrap += 0.03 + 0.07 * much
            case "hot_oil":
                found.oil_k += 8.0 + 7.0 * much
                found.fill *= 1.0 + 0.10 * much
                found.cycle *= 1.0 + 0.04 * much
            case "clamp_force_loss":
                found.clamp *= 1.0 - 0.08 * much
                found.scrap += 0.05 * much
            case "slow_operator":
                found.semi_automatic = True
                found.cycle *= 1.0 + 0.2 * much
            case _:
                pass  # sensor_drift acts on the barrel only; see `upsets`
    return found


def upsets(faults: Iterable[Fault], zones: int, now_ms: int) -> list[Upset] | None:
    """Return what these faults together do to each barrel zone from a time on; None where nothing."""
    found: dict[int, Upset] = {}
    for fault in faults:
        if fault.kind not in ZONE_FAULTS:
            continue
        zone = min(fault.place, zones) - 1
        upset = found.get(zone, Upset())
        if fault.kind == "sensor_drift":
            rate = 0.3 * fault.severity
            so_far_k = rate * max(now_ms - fault.begin_ms, 0) / _H_MS
            upset = upset._replace(
                sensor_k_per_h=upset.sensor_k_per_h + rate, sensor_k=upset.sensor_k + so_far_k
            )
        else:
            # A zone has one band: of two labels on it, the worse one tells what it still gives.
            upset = upset._replace(short_k=max(upset.short_k, 15.0 + 22.0 * fault.severity))
        found[zone] = upset
    return [found.get(zone, Upset()) for zone in range(zones)] if found else None


def schedule(
    seed: int,
    begin_ms: int,
    days: float,
    per_day: float,
    kinds: Sequence[FaultKind],
    zones: int,
    cavities: int,
) -> list[Fault]:
    """Return random faults in order of their begin: a Poisson process, one at a time of each kind."""
    rng = np.random.default_rng([seed, 0xFA])
    weights = np.array([USUAL[kind].weight for kind in kinds])
    at_ms, faults = float(begin_ms), list[Fault]()
    busy_until = dict.fromkeys(kinds, 0.0)
    while per_day > 0.0:
        at_ms += rng.exponential(_DAY_MS / per_day)
        if at_ms >= begin_ms + days * _DAY_MS:
            break
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        lasts_ms = USUAL[kind].median_h * _H_MS * rng.lognormal(0.0, 0.5)
        severity = round(float(rng.uniform(0.3, 1.0)), 2)
        place = int(rng.integers(1, (cavities if kind in CAVITY_FAULTS else zones) + 1))
        if at_ms >= busy_until[kind]:
            busy_until[kind] = at_ms + lasts_ms
            faults.append(Fault(kind, round(at_ms), round(at_ms + lasts_ms), severity, place))
    return faults
