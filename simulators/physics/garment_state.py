"""All that a workplace's future depends on; this is a garment cell's snapshot."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from simulators.physics import line_signals
from simulators.physics.line_intervals import Condition, Track

NEVER: Final = 2**62
WORKING: Final = Condition("RUNNING", "", "", "working")
FETCHING: Final = Condition("IDLE", "starved", "Fetching bundle", "waiting")
PARTS_MISSING: Final = Condition("IDLE", "starved", "Cut parts missing", "waiting")
CHANGEOVER: Final = Condition("SETUP", "changeover", line_signals.CHANGEOVER, "changeover")
THREAD_BREAK: Final = Condition("DOWN_UNPLANNED", "micro_stop", "Thread break", "stopped")
MACHINE_FAULT: Final = Condition("DOWN_UNPLANNED", "stop", "Sewing machine fault", "stopped")
ABSENT: Final = Condition("DOWN_UNPLANNED", "stop", "Operator absent", "absent")

# What ends when the time is up.
OPERATION, STOP, FETCH, CHANGE = range(4)


class GarmentDone(NamedTuple):
    """A garment made, or mended."""

    begin_ms: int
    end_ms: int
    batch: int
    style: int
    worked_ms: int
    quality: str
    cycles: int
    """Counters afterwards."""
    good_counter: int
    bad_counter: int


class Batch(msgspec.Struct):
    """The bundle that a workplace has."""

    number: int
    style: int
    """Index in the spec."""
    size: int
    begin_ms: int
    good: int = 0
    bad: int = 0


class Workplace(msgspec.Struct):
    """All that a workplace's future depends on."""

    track: Track
    now_ms: int
    batch: Batch
    until_ms: int = NEVER
    step: int = FETCH
    left_ms: list[int] = []
    """Of the garment's operations, the present one first."""
    after_stop_ms: int = 0
    """Of the present operation, while the machine stands."""
    worked_ms: int = 0
    """At the present garment."""
    begun_ms: int = 0
    mends: bool = False
    look_ms: int = 0
    pause_end_ms: int = NEVER
    """When work goes on; NEVER while it does."""
    paused_ms: int = 0
    paused: Condition | None = None
    was_off: bool = True
    """The pause is not just a break."""
    absent: bool = False
    shift_ms: float = 0.0
    """Work that makes tired."""
    practice: dict[int, float] = {}
    """Garments made by style, as far as not forgotten."""
    thread_ms: int = 0
    """Work until the thread breaks."""
    fault_ms: int = 0
    cycles: int = 0
    last: GarmentDone | None = None
    kwh: float = 0.0
