"""Which fault comes when: drawn from a seed, so that a run that found something can be had again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What can go wrong."""

    KILL = "kill"
    """SIGKILL; the process stays away for a while."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT after a while."""
    CUT = "cut"
    """A link resets every connection."""
    SWALLOW = "swallow"
    """A link lets nothing pass and says nothing."""
    DELAY = "delay"
    """A link is slow."""
    UNAVAILABLE = "unavailable"
    """503 in the service's place."""
    LOST_ANSWER = "lost_answer"
    """The service takes what the agent sends, and the agent never hears of it."""
    DISK_FULL = "disk_full"
    """The agent can't make a file longer."""
    DAMAGE = "damage"
    """The agent is killed, and a page of its buffer that holds something undelivered is overwritten."""
    CLOCK = "clock"
    """A process' clock is stepped, and stays so until its next step."""
    SHIFT = "shift"
    """An OPC UA server restarts with other namespaces before its own."""
    REMOVE = "remove"
    """A node is removed, and added again."""


SERVERS: Final = ("history", "plain")
PROCESSES: Final = ("agent", "ingest", "broker", *SERVERS)
LINKS: Final = ("uplink", "broker", *SERVERS)
TARGETS: Final[Mapping[Kind, Sequence[str]]] = {
    Kind.KILL: PROCESSES,
    Kind.FREEZE: PROCESSES,
    Kind.CUT: LINKS,
    Kind.SWALLOW: LINKS,
    Kind.DELAY: LINKS,
    Kind.UNAVAILABLE: ("uplink",),
    Kind.LOST_ANSWER: ("uplink",),
    Kind.DISK_FULL: ("agent",),
    Kind.DAMAGE: ("agent",),
    Kind.CLOCK: ("agent", *SERVERS),
    Kind.SHIFT: SERVERS,
    Kind.REMOVE: SERVERS,
}
INGEST: Final = ("ingest-0", "ingest-1")
DATABASES: Final = ("influxdb", "postgresql")
_LINKS_THERE: Final = ("uplink", *INGEST, *DATABASES)
SEVERAL_SERVED: Final[Mapping[Kind, Sequence[str]]] = {
    Kind.KILL: (*INGEST, *DATABASES),
    Kind.FREEZE: INGEST,
    Kind.CUT: _LINKS_THERE,
    Kind.SWALLOW: _LINKS_THERE,
    Kind.DELAY: _LINKS_THERE,
    Kind.UNAVAILABLE: ("uplink",),
    Kind.LOST_ANSWER: ("uplink",),
}
"""Two processes on one InfluxDB and one PostgreSQL behind a balancer: what can go wrong from the balancer on."""
SEVERAL: Final[Mapping[Kind, Sequence[str]]] = {
    kind: (*2 * tuple(SEVERAL_SERVED.get(kind, ())), *sorted(set(targets) - {"ingest", "uplink"}))
    if kind in SEVERAL_SERVED
    else targets
    for kind, targets in TARGETS.items()
}
"""The same with everything else, what is served hit twice as often."""
_WEIGHT: Final[Mapping[Kind, int]] = {Kind.KILL: 4, Kind.FREEZE: 3, Kind.CUT: 2}
"""Others count once."""
_HOLD_S: Final[Mapping[Kind, tuple[float, float]]] = {
    Kind.KILL: (0.2, 4.0),
    Kind.FREEZE: (0.5, 7.0),
    Kind.CLOCK: (0.0, 0.0),
    Kind.DAMAGE: (2.0, 3.0),
    Kind.SHIFT: (0.1, 2.0),
}
_HOLD_OTHERS_S: Final = (0.5, 5.0)
CLOCK_STEP_S: Final = (2.0, 10.0)
"""How far a clock is put ahead or behind."""
_MAX_NAMESPACES: Final = 4


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; what belongs to the other kinds stands at 0."""

    at_s: float
    """Seconds after the machines began to speak."""
    kind: Kind
    target: str
    hold_s: float
    """How long it lasts."""
    amount: float
    """0 to 1: how much of it, whatever that means for its kind."""

    @property
    def clock_offset_s(self) -> float:
        """By how much the clock differs from the true one after a CLOCK fault."""
        low, high = CLOCK_STEP_S
        size = low + (high - low) * abs(2 * self.amount - 1)
        return round(size if self.amount >= 0.5 else -size, 1)

    @property
    def namespaces(self) -> int:
        """How many foreign namespaces a server has before its own after a SHIFT fault."""
        return int(self.amount * _MAX_NAMESPACES)


def plan_faults(
    count: int, seed: int, duration_s: float, targets: Mapping[Kind, Sequence[str]] = TARGETS
) -> list[Fault]:
    """Return so many faults in order of time, spread over the duration; the same arguments give the same ones.

    From as many faults as there are kinds (of which there are targets) on every kind occurs, and each kind's targets take turns in a seeded order. Faults may overlap; two that
    need the same process or link come one after the other (`Inflictor`).
    """
    dice = random.Random(f"{seed}/{count}")
    kinds = _kinds(count, dice, list(targets))
    turns: dict[Kind, list[str]] = {}
    faults: list[Fault] = []
    slot_s = duration_s / max(count, 1)
    for number, kind in enumerate(kinds):
        if not turns.get(kind):
            turns[kind] = dice.sample(targets[kind], len(targets[kind]))
        target = turns[kind].pop()
        hold_s = dice.uniform(*_HOLD_S.get(kind, _HOLD_OTHERS_S))
        at_s = number * slot_s + dice.uniform(0.0, slot_s / 2)
        faults.append(Fault(round(at_s, 2), kind, target, round(hold_s, 2), dice.random()))
    return faults


def _kinds(count: int, dice: random.Random, kinds: Sequence[Kind]) -> list[Kind]:
    once = list(kinds)
    dice.shuffle(once)
    rest: list[Kind] = []
    while len(once) + len(rest) < count:
        deck = [kind for kind in kinds for _ in range(_WEIGHT.get(kind, 1))]
        dice.shuffle(deck)
        rest += deck
    chosen = (once + rest)[:count]
    dice.shuffle(chosen)
    return chosen
