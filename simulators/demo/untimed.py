"""Compares a series whose messages carry no time: what counts is that each value is stored once, and in which order.

The emission log has the time of publishing, the store that of receipt. So both sides are sequences, which are aligned
as a whole (Myers, "An O(ND) difference algorithm and its variations", 1986); two values can be the same one only where
the second time lies behind the first, and not too far. What is left over may be a value that came out of order, where
it came about when its neighbours did: a broker that sends again what was not acknowledged puts it behind newer messages.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shopfloor.block import Int64

EARLY_NS: Final = 1_000_000_000
"""A value may be received so much before it was published: clocks of one computer are put right in steps."""
LATE_NS: Final = 6 * 3600 * 1_000_000_000
"""A value received later than this after it was published is another one."""
REDELIVERY_NS: Final = 120 * 1_000_000_000
"""So much before or after its neighbours a value may have come out of order: several times what brokers wait before
they send again."""
_MAX_EDITS: Final = 1_000
"""Sequences that differ more are matched value by value, without alignment."""

Tokens = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Alignment:
    """How what is stored of one series differs from what was said; positions within the given columns."""

    missing: Numbers
    """Of said values that are not stored."""
    duplicated: Numbers
    """Of stored values too many that were said once."""
    wrong: Numbers
    """Of stored values that were never said, or not within the time."""
    reordered: Numbers
    """Of stored values that are stored once, but before or behind others than when they were said."""


def align(
    said_ns: Int64,
    said: Tokens,
    stored_ns: Int64,
    stored: Tokens,
    *,
    early_ns: int = EARLY_NS,
    late_ns: int = LATE_NS,
) -> Alignment:
    """Align two sequences, each in order of time; times are UTC ns, equal tokens are equal values."""
    sides = _Sides(said_ns.tolist(), said.tolist(), stored_ns.tolist(), stored.tolist(), early_ns, late_ns)
    # A value that the other side lacks altogether can't be aligned, and only makes it dear.
    here = np.flatnonzero(np.isin(said, stored)).tolist()
    there = np.flatnonzero(np.isin(stored, said)).tolist()
    pairs = _aligned(sides, here, there)
    pairs |= _matched(sides, pairs)
    left_said = np.setdiff1d(np.arange(len(said)), list(pairs))
    left_stored = np.setdiff1d(np.arange(len(stored)), list(pairs.values()))
    explained = _explained(sides, left_stored.tolist())
    return Alignment(left_said, left_stored[explained], left_stored[~explained], _out_of_order(pairs))


@dataclass(frozen=True, slots=True)
class _Sides:
    said_ns: list[int]
    said: list[int]
    stored_ns: list[int]
    stored: list[int]
    early_ns: int
    late_ns: int

    def fit(self, one: int, other: int) -> bool:
        """Whether the said value ``one`` may be the stored value ``other``."""
        if self.said[one] != self.stored[other]:
            return False
        return -self.early_ns <= self.stored_ns[other] - self.said_ns[one] <= self.late_ns


def _aligned(sides: _Sides, here: list[int], there: list[int]) -> dict[int, int]:
    """Return a longest common subsequence of the positions given, said to stored; empty where it is too dear."""
    fit = sides.fit
    first = 0
    while first < min(len(here), len(there)) and fit(here[first], there[first]):
        first += 1
    pairs = dict(zip(here[:first], there[:first], strict=True))
    here, there = here[first:], there[first:]
    last = 0
    while last < min(len(here), len(there)) and fit(here[-1 - last], there[-1 - last]):
        last += 1
    if last:
        pairs |= zip(here[-last:], there[-last:], strict=True)
        here, there = here[:-last], there[:-last]
    if here and there:
        pairs |= _shortest_edit(sides, here, there)
    return pairs


def _shortest_edit(sides: _Sides, here: list[int], there: list[int]) -> dict[int, int]:
    """Myers' greedy algorithm: ``reach[k]`` is the furthest x on diagonal k = x - y after d edits."""
    wide, high, fit = len(here), len(there), sides.fit
    reach = {1: 0}
    history: list[dict[int, int]] = []
    for edits in range(min(wide + high, _MAX_EDITS) + 1):
        history.append(reach.copy())
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            y = x - k
            while x < wide and y < high and fit(here[x], there[y]):
                x, y = x + 1, y + 1
            reach[k] = x
            if x >= wide and y >= high:
                return _steps_back(history, here, there)
    return {}


def _steps_back(history: list[dict[int, int]], here: list[int], there: list[int]) -> dict[int, int]:
    pairs: dict[int, int] = {}
    x, y = len(here), len(there)
    for edits in range(len(history) - 1, -1, -1):
        reach = history[edits]
        k = x - y
        down = k == -edits or (k != edits and reach[k - 1] < reach[k + 1])
        before_k = k + 1 if down else k - 1
        before_x = reach[before_k]
        before_y = before_x - before_k
        while x > max(before_x, 0) and y > max(before_y, 0):
            x, y = x - 1, y - 1
            pairs[here[x]] = there[y]
        x, y = before_x, before_y
    return pairs


def _matched(sides: _Sides, pairs: dict[int, int]) -> dict[int, int]:
    """Match what is not in ``pairs`` value by value, the oldest first, with what came about when its neighbours did."""
    taken = set(pairs.values())
    waiting: dict[int, deque[int]] = {}
    for other, token in enumerate(sides.stored):
        if other not in taken:
            waiting.setdefault(token, deque()).append(other)
    if not waiting:
        return {}
    spans = _spans(sides, pairs)
    found: dict[int, int] = {}
    for one, token in enumerate(sides.said):
        queue = waiting.get(token) if one not in pairs else None
        begin_ns, end_ns = spans[one]
        # What is too early for this one is so for all later ones.
        while queue and sides.stored_ns[queue[0]] < begin_ns:
            queue.popleft()
        if queue and sides.stored_ns[queue[0]] <= end_ns:
            found[one] = queue.popleft()
    return found


def _spans(sides: _Sides, pairs: dict[int, int]) -> list[tuple[int, int]]:
    """Return for each said value from when to when it may have come, seen from its aligned neighbours."""
    begins: list[int] = []
    begin_ns = sides.stored_ns[0] - REDELIVERY_NS
    for one, said_ns in enumerate(sides.said_ns):
        if one in pairs:
            begin_ns = sides.stored_ns[pairs[one]] - REDELIVERY_NS
        begins.append(max(begin_ns, said_ns - sides.early_ns))
    ends: list[int] = []
    end_ns = sides.stored_ns[-1] + REDELIVERY_NS
    for one in range(len(sides.said) - 1, -1, -1):
        if one in pairs:
            end_ns = sides.stored_ns[pairs[one]] + REDELIVERY_NS
        ends.append(min(end_ns, sides.said_ns[one] + sides.late_ns))
    return list(zip(begins, reversed(ends), strict=True))


def _explained(sides: _Sides, left: list[int]) -> npt.NDArray[np.bool_]:
    """Tell which stored values that are too many repeat something that was said not too long before."""
    times: dict[int, list[int]] = {}
    for time_ns, token in zip(sides.said_ns, sides.said, strict=True):
        times.setdefault(token, []).append(time_ns)
    explained = np.zeros(len(left), dtype=np.bool_)
    for number, other in enumerate(left):
        known = times.get(sides.stored[other], [])
        first = bisect_left(known, sides.stored_ns[other] - sides.late_ns)
        explained[number] = first < len(known) and known[first] <= sides.stored_ns[other] + sides.early_ns
    return explained


def _out_of_order(pairs: dict[int, int]) -> Numbers:
    """Return the fewest stored positions without which the others stand in the order in which they were said."""
    ordered = [pairs[one] for one in sorted(pairs)]
    ends: list[int] = []
    numbers: list[int] = []
    before: list[int] = []
    for number, position in enumerate(ordered):
        at = bisect_left(ends, position)
        before.append(numbers[at - 1] if at else -1)
        ends[at : at + 1] = [position]
        numbers[at : at + 1] = [number]
    kept: set[int] = set()
    number = numbers[-1] if numbers else -1
    while number >= 0:
        kept.add(ordered[number])
        number = before[number]
    return np.array(sorted(set(ordered) - kept), dtype=np.intp)
