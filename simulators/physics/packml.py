"""PackML's state machine: which states a station passes through as it goes from one condition to another.

States are the numbers of StateCurrent in ISA-TR88.00.02 and OPC 30050. A station executes exactly while it runs; what
it passes through on the way there and back lies within the interval in which it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

CLEARING, STOPPED, STARTING, IDLE, SUSPENDED, EXECUTE, STOPPING, ABORTING, ABORTED = range(1, 10)
HOLDING, HELD, UNHOLDING, SUSPENDING, UNSUSPENDING, RESETTING, COMPLETING, COMPLETE = range(10, 18)
PRODUCTION, MAINTENANCE, MANUAL = 1, 2, 3

TRANSITIONS: Final[Mapping[int, frozenset[int]]] = {
    CLEARING: frozenset({STOPPED, ABORTING}),
    STOPPED: frozenset({RESETTING, ABORTING}),
    STARTING: frozenset({EXECUTE, STOPPING, ABORTING}),
    IDLE: frozenset({STARTING, STOPPING, ABORTING}),
    SUSPENDED: frozenset({UNSUSPENDING, STOPPING, ABORTING}),
    EXECUTE: frozenset({COMPLETING, HOLDING, SUSPENDING, STOPPING, ABORTING}),
    STOPPING: frozenset({STOPPED, ABORTING}),
    ABORTING: frozenset({ABORTED}),
    ABORTED: frozenset({CLEARING}),
    HOLDING: frozenset({HELD, STOPPING, ABORTING}),
    HELD: frozenset({UNHOLDING, STOPPING, ABORTING}),
    UNHOLDING: frozenset({EXECUTE, STOPPING, ABORTING}),
    SUSPENDING: frozenset({SUSPENDED, STOPPING, ABORTING}),
    UNSUSPENDING: frozenset({EXECUTE, STOPPING, ABORTING}),
    RESETTING: frozenset({IDLE, STOPPING, ABORTING}),
    COMPLETING: frozenset({COMPLETE, STOPPING, ABORTING}),
    COMPLETE: frozenset({RESETTING, STOPPING, ABORTING}),
}
"""State: the states that may follow it, by completion or by a command."""

# What a station is shown as for the length of an interval.
RUN: Final = "run"
WAIT: Final = "wait"
DONE: Final = "done"
SETUP: Final = "setup"
FAULT: Final = "fault"
HARD_FAULT: Final = "hard fault"
PAUSE: Final = "pause"

MODES: Final[Mapping[str, int]] = {
    RUN: PRODUCTION,
    WAIT: PRODUCTION,
    DONE: PRODUCTION,
    SETUP: MANUAL,
    FAULT: PRODUCTION,
    HARD_FAULT: MAINTENANCE,
    PAUSE: PRODUCTION,
}

_NOMINAL_MS: Final[Mapping[int, int]] = {
    CLEARING: 2_000,
    STOPPED: 1_000,
    STARTING: 800,
    IDLE: 500,
    STOPPING: 900,
    ABORTING: 300,
    HOLDING: 600,
    UNHOLDING: 700,
    SUSPENDING: 200,
    UNSUSPENDING: 300,
    RESETTING: 1_500,
    COMPLETING: 700,
}
_TO_EXECUTE: Final[Mapping[int, tuple[int, ...]]] = {
    EXECUTE: (),
    SUSPENDED: (UNSUSPENDING,),
    HELD: (UNHOLDING,),
    IDLE: (STARTING,),
    STOPPED: (RESETTING, IDLE, STARTING),
    COMPLETE: (RESETTING, IDLE, STARTING),
    ABORTED: (CLEARING, STOPPED, RESETTING, IDLE, STARTING),
}
_TO_IDLE: Final[Mapping[int, tuple[int, ...]]] = {
    IDLE: (),
    STOPPED: (RESETTING,),
    COMPLETE: (RESETTING,),
    HELD: (STOPPING, STOPPED, RESETTING),
    ABORTED: (CLEARING, STOPPED, RESETTING),
}
_TO_STOPPED: Final[Mapping[int, tuple[int, ...]]] = {STOPPED: (), ABORTED: (CLEARING,)}


def settle(state: int, shown: str) -> tuple[tuple[int, ...], int]:
    """Return the states passed on entering a condition from a resting state, and the one it then rests in."""
    if shown == RUN:
        return (), EXECUTE
    if shown == PAUSE:
        return _TO_STOPPED.get(state, (STOPPING,)), STOPPED
    if shown == FAULT and state == EXECUTE:
        return (HOLDING,), HELD
    if shown in {FAULT, HARD_FAULT}:
        return ((), ABORTED) if state == ABORTED else ((ABORTING,), ABORTED)
    if state == EXECUTE:
        return ((SUSPENDING,), SUSPENDED) if shown == WAIT else ((COMPLETING,), COMPLETE)
    if shown == SETUP:
        if state in {COMPLETE, STOPPED, IDLE}:
            return (), state
        return _TO_STOPPED.get(state, (STOPPING,)), STOPPED
    if state == SUSPENDED or (shown == DONE and state == COMPLETE):
        return (), state
    return _TO_IDLE[state], IDLE


def passage(
    state: int, shown: str, begin_ms: int, end_ms: int | None, *, runs_next: bool, known_from_ms: int
) -> list[tuple[int, int]]:
    """Return when a station takes which states in an interval of one condition, as ``(UTC ms, state)``.

    Args:
        state: the resting state from which it comes.
        shown: the condition.
        begin_ms: when it begins.
        end_ms: when it ends, None while that is not known.
        runs_next: whether the station runs from then on; the way to Execute lies before the end.
        known_from_ms: since when the end is known. What was passed before was passed as if it did not end.
    """
    entry, rest = settle(state, shown)
    offsets = accumulate((_NOMINAL_MS[each] for each in entry), initial=0)
    steps = [(begin_ms + offset, each) for offset, each in zip(offsets, (*entry, rest), strict=True)]
    if end_ms is None:
        return steps
    ways: Sequence[int] = _TO_EXECUTE[rest] if runs_next else ()
    backward = accumulate(_NOMINAL_MS[each] for each in reversed(ways))
    leave = [(end_ms - back, each) for back, each in zip(backward, reversed(ways), strict=True)][::-1]
    if steps[-1][0] < (leave[0][0] if leave else end_ms) and (not leave or leave[0][0] >= known_from_ms):
        return steps + leave
    # Too short for the usual pace: what is left to pass shares the time that is left.
    passed = [step for step in steps if step[0] < known_from_ms]
    left = [each for _, each in (*steps[len(passed) :], *leave)]
    from_ms = max(begin_ms, known_from_ms)
    width_ms = end_ms - from_ms
    return passed + [(from_ms + width_ms * number // len(left), each) for number, each in enumerate(left)]
