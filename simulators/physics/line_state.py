"""All that a line's future depends on; this is its snapshot."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from simulators.physics import line_signals, packml
from simulators.physics.line_intervals import Condition, Interval, Track

NEVER: Final = 2**62
TICK_MS: Final = 20
"""Task cycle of the stations' controllers: everything happens at a multiple of it."""

RUNNING: Final = Condition("RUNNING", "", "", packml.RUN)
STARVED: Final = Condition("IDLE", "starved", line_signals.STARVED, packml.WAIT)
BLOCKED: Final = Condition("IDLE", "blocked", line_signals.BLOCKED, packml.WAIT)
NO_OPERATOR: Final = Condition("IDLE", "starved", line_signals.NO_OPERATOR, packml.WAIT)
BEFORE_PAUSE: Final = Condition("IDLE", "starved", line_signals.BEFORE_PAUSE, packml.WAIT)
BATCH_END: Final = Condition("IDLE", "starved", line_signals.BATCH_END, packml.DONE)
SETUP: Final = Condition("SETUP", "changeover", line_signals.CHANGEOVER, packml.SETUP)
JAM: Final = Condition("DOWN_UNPLANNED", "micro_stop", line_signals.JAM, packml.FAULT)

# What ends when a station's time is up.
REST, HANDS, MACHINE, STOP, CHANGE = range(5)


class UnitInWork(NamedTuple):
    """A unit on its way through the line."""

    serial: int
    batch: int
    product: int
    """Index in the spec."""
    reworked: bool


class UnitDone(NamedTuple):
    """A finished cycle of a station."""

    begin_ms: int
    end_ms: int
    unit: UnitInWork
    worked_ms: int
    quality: str
    good: int
    """1 if a good unit came out for the first time."""
    bad: int
    cycles: int
    """The station's counters afterwards."""
    good_counter: int
    bad_counter: int
    value: float | None
    """What was measured."""


class Batch(msgspec.Struct):
    """A job of the line."""

    number: int
    product: int
    """Index in the spec."""
    size: int
    begin_ms: int
    """When the first station began to change over to it, or if that was not needed, to work at it."""
    came_from: int | None = None
    """Product of the batch before."""
    released: int = 0
    good: int = 0
    bad: int = 0


class Station(msgspec.Struct):
    """One station; it holds at most one unit."""

    track: Track
    entered_from: int = packml.STOPPED
    """PackML state in which it rested before its present condition."""
    until_ms: int = NEVER
    step: int = REST
    left_ms: int = 0
    """Of the machine's share of the cycle, while it stands in the middle of it."""
    unit: UnitInWork | None = None
    begun_ms: int = 0
    drawn_ms: int = 0
    """Time for the next or present unit; 0 until drawn."""
    paused: Condition | None = None
    """What goes on after the pause."""
    queue: list[UnitInWork] = []
    """Between the station before and this one."""
    rework: list[UnitInWork] = []
    """Come back to this station; their place is outside the buffers."""
    batch: int = 0
    """Set up for it."""
    shown_batch: int = 0
    """Whose name it shows: the new one from the end of the changeover on."""
    shown_product: int = 0
    job: str = ""
    """Name of the batch."""
    taken: int = 0
    """Units of the batch begun here, without rework."""
    stop_in_ms: int = 0
    """Machine time until the next stop."""
    jam_in_ms: int = 0
    cycles: int = 0
    good: int = 0
    bad: int = 0
    last: UnitDone | None = None
    kwh: float = 0.0


class LineState(msgspec.Struct):
    """The line between two stretches."""

    now_ms: int
    """When something last happened."""
    stretch: int
    """Number of the next stretch."""
    stretch_begin_ms: int
    stations: list[Station]
    free_operators: int
    batches: dict[int, Batch]
    """Those not finished."""
    work_end_ms: int = 0
    """When the present working time ends, as far as it is seen; meaningless in a pause."""
    look_ms: int = 0
    """When to look into the calendar again."""
    pause_end_ms: int = NEVER
    """When it goes on; NEVER while it works."""
    paused_ms: int = 0
    waiting: list[int] = []
    """Stations that wait for an operator, the longest first."""
    serial: int = 0
    newest: int = 0
    """Number of the newest batch."""


def fresh(condition: Condition, now_ms: int, job: str) -> Track:
    """Return the track of a cell whose life begins."""
    return Track(Interval(now_ms, condition, job))
