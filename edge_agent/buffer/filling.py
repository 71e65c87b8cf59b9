"""How long the buffer still lasts: bytes left divided by the rate at which what waits grows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_POINTS: Final = 120
_YEAR_HOURS: Final = 8_766


class FillRate:
    """The growth of what waits over a sliding window: yesterday's outage says nothing about today's."""

    def __init__(self, window_s: float = 600.0, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._now_s = window_s, now_s
        self._points: deque[tuple[float, int, int]] = deque()

    def note(self, pending_bytes: int, dropped_total: int = 0) -> None:
        """Take down what waits now, and how many samples were dropped since the start.

        Call it as often as you like; at most 120 points are kept.
        """
        now = self._now_s()
        points = self._points
        if len(points) > 1 and now - points[-2][0] < self._window_s / _POINTS:
            points.pop()
        points.append((now, pending_bytes, dropped_total))
        while len(points) > 1 and points[1][0] <= now - self._window_s:
            points.popleft()

    def bytes_per_s(self) -> float | None:
        """Return the growth of what waits, None before there are two points a second apart; negative while it drains."""
        if not self._points:
            return None
        (then_s, then_bytes, _), (now_s, now_bytes, _) = self._points[0], self._points[-1]
        return (now_bytes - then_bytes) / (now_s - then_s) if now_s - then_s >= 1.0 else None

    def hours_left(self, left_bytes: int) -> float | None:
        """Return hours until ``left_bytes`` are used up at the present rate; None while nothing grows.

        0 where the policy is dropping samples already.
        """
        if self._points and self._points[-1][2] > self._points[0][2]:
            return 0.0
        rate = self.bytes_per_s()
        return hours(left_bytes, rate) if rate is not None else None


def hours(left_bytes: int, bytes_per_s: float) -> float | None:
    """Return hours until ``left_bytes`` are used up, None while nothing grows or where that is over a year away.

    (What is on its way up differs from moment to moment: that is no filling.)
    """
    if bytes_per_s <= 0:
        return None
    left = max(0, left_bytes) / bytes_per_s / 3600
    return round(left, 2) if left <= _YEAR_HOURS else None
