"""Thinning along one series: many readings of it, one after the other, in plain numbers.

Decides exactly as `edge_agent.processing.rounds` does; where a block holds long runs of few series, arrays of one
element would cost a hundred times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from edge_agent.processing.records import MINUTE_NS, TEXT_TAG

Reading = tuple[int, int, float, int, int, int, bool]
"""Row, time, value, received, status, tag, plain; see `edge_agent.processing.rounds.Readings`."""


class Run(NamedTuple):
    """What becomes of a run."""

    kept: list[int]
    """Rows, in the order in which they are decided."""
    released: bool
    """Whether the reading that waited from an earlier block is kept."""
    after: tuple[Any, ...]
    """The series' memory, a row of MEMORY."""


def decide_run(before: np.void, limits: np.void, readings: Iterable[Reading], now_ns: int) -> Run:
    """Decide on readings of one series, in the order in which they were handed over."""
    (
        begun, kind, kept_time, kept_value, seen_time, seen_value, seen_received, seen_status, seen_row,
        waits, held, held_since, low, high, minute, in_minute,
    ) = before.item()  # fmt: skip
    banded, absolute, relative, previous, door, deviation, min_ns, max_ns, per_minute, _ = limits.item()
    kept: list[int] = []
    released = False

    for row, time, value, received, status, tag, plain in readings:
        text = tag >= TEXT_TAG
        same_kind = begun and tag == kind
        if plain and time == seen_time and same_kind and (text or value == seen_value):
            continue
        if plain and time < seen_time:
            if begun and waits and time > kept_time:
                released, waits, held = _release(kept, seen_row, released=released), False, False
                kept_time, kept_value, low, high = seen_time, seen_value, -math.inf, math.inf
            begun = begun and kind < TEXT_TAG
            kept.append(row)
            continue
        counts = False
        if not plain or time == seen_time or not same_kind:
            if waits and (held or previous):
                released = _release(kept, seen_row, released=released)
            waits = held = False
            low, high = -math.inf, math.inf
            begun = plain and time != seen_time
            if not begun:
                kept.append(row)
                continue
            kind = tag
            keep = counts = True
        elif door:
            keep = time - kept_time >= max_ns
            if not text and not low <= (value - kept_value) / (time - kept_time) <= high:
                released = _release(kept, seen_row, released=released)
                kept_time, kept_value, low, high = seen_time, seen_value, -math.inf, math.inf
                keep = time - seen_time >= max_ns
            waits = held = not keep and not text
            if waits:
                step = time - kept_time
                low = max(low, (value - deviation - kept_value) / step)
                high = min(high, (value + deviation - kept_value) / step)
        else:
            reach = absolute if text else max(absolute, relative * abs(kept_value))
            within = banded and (text or abs(value - kept_value) <= reach)
            exception = not within or time - kept_time >= max_ns
            soon = time - kept_time < min_ns or (in_minute >= per_minute and time - minute < MINUTE_NS)
            keep = counts = exception and not soon
            if keep and waits and previous and not within:
                released = _release(kept, seen_row, released=released)
            waits = not keep and not text
            held = waits and exception
        if counts:
            opens = in_minute == 0 or time - minute >= MINUTE_NS
            minute, in_minute = (time, 1) if opens else (minute, in_minute + 1)
        seen_time, seen_value, seen_received, seen_status, seen_row = time, value, received, status, row
        if keep:
            kept.append(row)
            kept_time, kept_value, low, high = time, value, -math.inf, math.inf
        if held:
            held_since = now_ns
    after = (
        begun, kind, kept_time, kept_value, seen_time, seen_value, seen_received, seen_status, seen_row,
        waits, held, held_since, low, high, minute, in_minute,
    )  # fmt: skip
    return Run(kept, released, after)


def _release(kept: list[int], row: int, *, released: bool) -> bool:
    """Keep the reading that waited; return whether one that came in an earlier block has been kept."""
    if row < 0:
        return True
    kept.append(row)
    return released
