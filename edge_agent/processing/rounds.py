"""Thinning across many series at once: one reading of each, all decided by the same few array operations.

`edge_agent.processing.single` decides the same for many readings of one series; the tests hold both to each other.

The swinging door here keeps its promise exactly: a reading may end a line only if the line from the last kept reading
to it passes all readings between within the deviation. The classic form (Bristol 1990) tests only whether the doors
have opened, and lets a line's end lie outside them, which doubles the error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.processing.records import MINUTE_NS, TEXT_TAG, Mask, Records, copied
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
    time, value = new.time, new.value
    seen_time, kept_time = before["seen_time"].copy(), before["kept_time"].copy()
    kept_value, waits = before["kept_value"].copy(), before["waits"].copy()
    door, max_ns = limits["door"].copy(), limits["max_ns"]
    text = new.tag >= TEXT_TAG

    # What is out of order, or the same again, or no plain reading.
    same_kind = before["begun"] & (new.tag == before["tag"])
    since_seen = time - seen_time
    follows = new.plain & (time > seen_time)
    start, judged = follows & ~same_kind, follows & same_kind
    late = new.plain & (time < seen_time)
    again = new.plain & (time == seen_time) & same_kind & (text | (value == before["seen_value"]))
    stop = ~(follows | late | again)
    behind = late & before["begun"] & (time > kept_time)

    since_kept = time - kept_time
    heartbeat = since_kept >= max_ns
    step = value - kept_value
    nothing = np.zeros(len(time), dtype=np.bool_)
    within = keep_banded = hold_banded = outside = nothing
    keep = start
    if not door.all():
        banded = judged & ~door
        reach = np.fmax(limits["absolute"], limits["relative"] * np.abs(kept_value))
        within = limits["banded"] & (text | (np.abs(step) <= reach))
        soon = (since_kept < limits["min_ns"]) | (
            (before["in_minute"] >= limits["per_minute"]) & (time - before["minute"] < MINUTE_NS)
        )
        exception = banded & (~within | heartbeat)
        keep_banded = exception & ~soon
        hold_banded = exception & soon & ~text
        keep = keep | keep_banded
    hold = hold_banded
    if door.any():
        swings = judged & door
        slope = step / since_kept
        inside = text | ((before["low"] <= slope) & (slope <= before["high"]))
        outside = swings & ~inside
        keep_swinging = np.where(outside, since_seen, since_kept) >= max_ns
        keep = keep | (swings & keep_swinging)
        hold = hold | (swings & ~keep_swinging & ~text)
    previous = limits["previous"]
    release = waits & (
        outside | behind | ((stop | start) & (before["held"] | previous)) | (keep_banded & previous & ~within)
    )

    after = copied(before)
    # A late reading between two that stand for a text would be taken for a change back that never comes.
    after["begun"] &= ~(stop | (late & (before["tag"] >= TEXT_TAG)))
    after["begun"] |= start
    newest = start | judged
    after["waits"] = hold | (judged & ~keep & ~text) | (waits & ~newest & ~stop & ~release)
    after["held"] &= after["waits"] & ~newest
    after["held"] |= hold
    for name, column in (
        ("seen_time", time), ("seen_value", value), ("seen_received", new.received),
        ("seen_status", new.status), ("seen_row", new.row),
    ):  # fmt: skip
        np.copyto(after[name], column, where=newest)
    np.copyto(after["held_since"], now_ns, where=hold)
    np.copyto(after["tag"], new.tag, where=start)
    from_seen = outside | (release & behind)
    np.copyto(kept_time, seen_time, where=from_seen)
    np.copyto(kept_value, before["seen_value"], where=from_seen)
    if door.any():
        anew = keep | from_seen | stop
        np.copyto(after["low"], -np.inf, where=anew)
        np.copyto(after["high"], np.inf, where=anew)
        run, narrows = time - kept_time, hold & door
        low = (value - limits["deviation"] - kept_value) / run
        high = (value + limits["deviation"] - kept_value) / run
        np.copyto(after["low"], np.maximum(after["low"], low), where=narrows)
        np.copyto(after["high"], np.minimum(after["high"], high), where=narrows)
    np.copyto(kept_time, time, where=keep)
    np.copyto(kept_value, value, where=keep)
    after["kept_time"], after["kept_value"] = kept_time, kept_value

    counts = start | keep_banded
    opens = counts & ((before["in_minute"] == 0) | (time - before["minute"] >= MINUTE_NS))
    np.copyto(after["minute"], time, where=opens)
    after["in_minute"] += counts
    np.copyto(after["in_minute"], 1, where=opens)
    return Decision(stop | late | keep, release, after)


def release_held(before: Records) -> Records:
    """Return the memory of series after their waiting reading was kept: others are compared to it from now on."""
    after = copied(before)
    after["kept_time"], after["kept_value"] = before["seen_time"], before["seen_value"]
    after["waits"] = after["held"] = False
    after["low"], after["high"] = -np.inf, np.inf
    fresh_minute = before["seen_time"] - before["minute"] >= MINUTE_NS
    after["minute"] = np.where(fresh_minute, before["seen_time"], before["minute"])
    after["in_minute"] = np.where(fresh_minute, 1, before["in_minute"] + 1)
    return after
