"""Token buckets: so many at once, so many a second, for each of a bounded number of keys."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

_KEYS: Final = 20_000


class Buckets:
    """One bucket a key. Belongs to the event loop.

    Args:
        per_s: what flows back in a second.
        burst: what a full bucket holds.
        keys: how many buckets are remembered; that of the key that was quiet longest is forgotten, as if full.
        clock: seconds, monotonic.
    """

    def __init__(
        self, per_s: float, burst: float, *, keys: int = _KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._most = keys
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> float:
        """Take one; returns 0, or the seconds after which there is one again, and then nothing was taken."""
        now = self._clock()
        left, at = self._left.get(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        if left < 1.0:
            return (1.0 - left) / self._per_s
        self._left[key] = (left - 1.0, now)
        self._left.move_to_end(key)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0.0

    def give_back(self, key: Hashable) -> None:
        """Undo a `take`."""
        if key in self._left:
            left, at = self._left[key]
            self._left[key] = (min(self._burst, left + 1.0), at)
