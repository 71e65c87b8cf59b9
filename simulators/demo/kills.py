"""When which part is killed: seeded, so that a run that found a mistake can be had again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

KINDS: Final = ("agent", "ingest", "broker")
ROUND_S: Final = 60.0
"""A demo without an end repeats a schedule of this length."""
QUIET_START_S: Final = 8.0
QUIET_END_S: Final = 9.0
"""The last kill lies this long before the machines stop: 4 s until it starts again, 5 s to catch up live."""
SHORTEST_S: Final = 20.0
RESTART_AFTER_S: Final = (1.0, 4.0)
_PER_KIND: Final = 2
_AT_LEAST: Final = 6
_BETWEEN_S: Final = 1.5
"""Between the latest restart of a part and its next kill, at least."""


@dataclass(frozen=True, slots=True, order=True)
class Kill:
    """One SIGKILL: when (seconds after everything is ready), whom, and how long the part then stays down."""

    at_s: float
    part: str
    down_s: float


def plan_kills(parts: Mapping[str, Sequence[str]], duration_s: float, seed: int) -> tuple[Kill, ...]:
    """Return the kills of a run, in order of time.

    In a run of 60 s each kind is killed at least twice and all together at least six times; longer and shorter
    runs in proportion to the time between the quiet start and the quiet end, at least once a kind.

    Args:
        parts: for each kind (`KINDS`) the names of its parts; they take turns in a seeded order.
        duration_s: time from ready until the machines stop, at least `SHORTEST_S`.
        seed: the same seed gives the same schedule.
    """
    if duration_s < SHORTEST_S:
        raise ValueError(f"a run with kills lasts at least {SHORTEST_S:g} s, not {duration_s:g} s")
    if not parts:
        return ()
    window_s = duration_s - QUIET_START_S - QUIET_END_S
    share = window_s / (ROUND_S - QUIET_START_S - QUIET_END_S)
    per_kind = max(_PER_KIND, -(-_AT_LEAST // len(parts)))
    times = max(1, round(per_kind * share))
    kills: list[Kill] = []
    for kind in sorted(parts):
        dice = random.Random(f"{seed}/{kind}")
        turns = list(parts[kind])
        dice.shuffle(turns)
        slot_s = window_s / times
        # A kill may take any moment of its slot that leaves time to restart before the next slot begins.
        free_s = slot_s - (RESTART_AFTER_S[1] + _BETWEEN_S if times > 1 else 0.0)
        for number in range(times):
            at_s = QUIET_START_S + number * slot_s + dice.uniform(0.0, max(free_s, 0.0))
            kills.append(Kill(at_s, turns[number % len(turns)], dice.uniform(*RESTART_AFTER_S)))
    return tuple(sorted(kills))
