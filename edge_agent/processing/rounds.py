"""Thinning across many series at once: one reading of each, all decided by the same few array operations.

`edge_agent.processing.single` decides the same for many readings of one series; the tests hold both to each other.

The swinging door here keeps its promise exactly: a reading may end a line only if the line from the last kept reading
to it passes all readings between within the deviation. The classic form (Bristol 1990) tests only whether the doors
have opened, and lets a line's end lie outside them, which doubles the error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.processing.records import MINUTE_NS, TEXT_TAG, Mask, Records
from shopfloor.block import Float64, Int64, UInt32, UInt64


class Readings(NamedTuple):
    """Columns of readings, at most one of each series."""

    row: Int64
    time: Int64
    value: Float64
    received: Int64
    status: UInt32
    tag: UInt64
    plain: Mask
    """GOOD, and a number or a text: what a rule may leave out."""

    def take(self, positions: Int64) -> Readings:
        """Return the readings at some positions."""
        return Readings(
            self.row[positions],
            self.time[positions],
            self.value[positions],
            self.received[positions],
            self.status[positions],
            self.tag[positions],
            self.plain[positions],
        )


class Decision(NamedTuple):
    """What becomes of a round."""

    keep: Mask
    release: Mask
    """The series whose waiting reading, the newest in ``before``, is kept too, ahead of this one."""
    after: Records


def decide(before: Records, limits: Records, new: Readings, now_ns: int) -> Decision:
    """Decide on one reading of each of ``n`` series; ``before`` and ``limits`` are not changed.

    Args:
        before: MEMORY[n].
        limits: LIMITS[n].
        new: the readings, in the same order.
        now_ns: monotonic ns, for how long a reading has been held.
    """
    with np.errstate(all="ignore"):
        return _decide(before, limits, new, now_ns)


def _decide(before: Records, limits: Records, new: Readings, now_ns: int) -> Decision:
    time, value, tag = new.time, new.value, new.tag
    seen, kept_time, kept_value = before["seen_time"], before["kept_time"], before["kept_value"]
    begun, waits, door, max_ns = before["begun"], before["waits"], limits["door"], limits["max_ns"]
    text = tag >= TEXT_TAG

    # What is out of order, or the same again, or no plain reading.
    same_kind = begun & (tag == before["tag"])
    late = new.plain & (time < seen)
    tie = new.plain & (time == seen)
    again = tie & same_kind & (text | (value == before["seen_value"]))
    stop = ~new.plain | (tie & ~again)
    follows = new.plain & (time > seen)
    start = follows & ~same_kind
    judged = follows & same_kind
    behind = late & begun & (time > kept_time)

    # Deadband and intervals.
    since_kept = time - kept_time
    heartbeat = since_kept >= max_ns
    reach = np.fmax(limits["absolute"], limits["relative"] * np.abs(kept_value))
    within = limits["banded"] & (text | (np.abs(value - kept_value) <= reach))
    soon = (since_kept < limits["min_ns"]) | (
        (before["in_minute"] >= limits["per_minute"]) & (time - before["minute"] < MINUTE_NS)
    )
    banded = judged & ~door
    exception = banded & (~within | heartbeat)
    keep_banded = exception & ~soon
    hold_banded = exception & soon & ~text
    quiet = (banded & ~exception) | (exception & soon & text)

    # The door.
    slope = (value - kept_value) / since_kept
    inside = text | ((before["low"] <= slope) & (slope <= before["high"]))
    swings = judged & door
    keep_inside = swings & inside & heartbeat
    hold_inside = swings & inside & ~heartbeat & ~text
    outside = swings & ~inside
    keep_outside = outside & (time - seen >= max_ns)
    hold_outside = outside & ~keep_outside
    quiet |= swings & inside & ~heartbeat & text

    release = waits & (
        outside
        | behind
        | ((stop | start) & (before["held"] | limits["previous"]))
        | (keep_banded & limits["previous"] & ~within)
    )
    anchors = start | keep_banded | keep_inside | keep_outside
    held = hold_banded | hold_inside | hold_outside
    newest = start | judged

    after = before.copy()
    # A late reading between two that stand for a text would be taken for a change back that never comes.
    after["begun"] = (begun & ~stop & ~(late & (before["tag"] >= TEXT_TAG))) | start
    from_seen = outside | (release & behind)
    after["kept_time"] = np.where(anchors, time, np.where(from_seen, seen, kept_time))
    after["kept_value"] = np.where(anchors, value, np.where(from_seen, before["seen_value"], kept_value))
    after["tag"] = np.where(start, tag, before["tag"])
    after["seen_time"] = np.where(newest, time, seen)
    after["seen_value"] = np.where(newest, value, before["seen_value"])
    after["seen_received"] = np.where(newest, new.received, before["seen_received"])
    after["seen_status"] = np.where(newest, new.status, before["seen_status"])
    after["seen_row"] = np.where(newest, new.row, before["seen_row"])
    after["waits"] = held | (quiet & ~text) | (waits & (again | (late & ~release)))
    after["held"] = held | (before["held"] & after["waits"] & ~newest)
    after["held_since"] = np.where(held, now_ns, before["held_since"])

    after["low"] = np.where(anchors | from_seen | stop, -np.inf, before["low"])
    after["high"] = np.where(anchors | from_seen | stop, np.inf, before["high"])
    base_time = np.where(outside, seen, kept_time)
    base_value = np.where(outside, before["seen_value"], kept_value)
    narrows = hold_inside | hold_outside
    step = time - base_time
    deviation = limits["deviation"]
    low, high = (value - deviation - base_value) / step, (value + deviation - base_value) / step
    after["low"] = np.where(narrows, np.maximum(after["low"], low), after["low"])
    after["high"] = np.where(narrows, np.minimum(after["high"], high), after["high"])

    counts = start | keep_banded
    fresh_minute = counts & ((before["in_minute"] == 0) | (time - before["minute"] >= MINUTE_NS))
    after["minute"] = np.where(fresh_minute, time, before["minute"])
    after["in_minute"] = np.where(fresh_minute, 1, before["in_minute"] + counts)
    return Decision(stop | late | anchors, release, after)


def release_held(before: Records) -> Records:
    """Return the memory of series after their waiting reading was kept: others are compared to it from now on."""
    after = before.copy()
    after["kept_time"], after["kept_value"] = before["seen_time"], before["seen_value"]
    after["waits"] = after["held"] = False
    after["low"], after["high"] = -np.inf, np.inf
    fresh_minute = before["seen_time"] - before["minute"] >= MINUTE_NS
    after["minute"] = np.where(fresh_minute, before["seen_time"], before["minute"])
    after["in_minute"] = np.where(fresh_minute, 1, before["in_minute"] + 1)
    return after
