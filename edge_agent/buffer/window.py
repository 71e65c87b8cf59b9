"""The digests of the last samples by key, bounded; what is not durable yet can be taken back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shopfloor.block import UInt64


class Window:
    """Two generations: when the younger is full, the older goes. A third one holds what is not settled yet."""

    def __init__(self, samples: int) -> None:
        self._half = max(1, samples // 2)
        self._old = _Generation()
        self._young = _Generation()
        self._coming = _Generation()

    def add(self, keys: UInt64, digests: UInt64) -> None:
        """Take keys in: ``uint64[n]`` each, known at once."""
        self._coming.add(keys, digests)

    def settle(self) -> None:
        """Keep what came since the last time."""
        if not self._coming.count:
            return
        self._young.add(*self._coming.columns())
        self._coming.clear()
        if self._young.count >= self._half:
            self._old, self._young = self._young, _Generation()

    def undo(self) -> None:
        """Forget what came since the last time."""
        self._coming.clear()

    def find(self, keys: UInt64) -> tuple[npt.NDArray[np.bool_], UInt64]:
        """Return which keys are known, and their digests."""
        known, digests = self._old.find(keys)
        for generation in (self._young, self._coming):
            if generation.count:
                there, newer = generation.find(keys)
                known, digests = known | there, np.where(there, newer, digests)
        return known, digests


class _Generation:
    """Keys and digests in arrays that grow; they are sorted only when something is looked up.

    Machines whose clocks go forward never ask, and then nothing is ever sorted.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sorted = 0
        self._keys = np.empty(1_024, dtype=np.uint64)
        self._digests = np.empty(1_024, dtype=np.uint64)

    def add(self, keys: UInt64, digests: UInt64) -> None:
        end = self.count + len(keys)
        if end > len(self._keys):
            room = max(end, 2 * len(self._keys))
            self._keys, self._digests = (
                np.concatenate([each[: self.count], np.empty(room - self.count, dtype=np.uint64)])
                for each in (self._keys, self._digests)
            )
        self._keys[self.count : end] = keys
        self._digests[self.count : end] = digests
        self.count = end

    def columns(self) -> tuple[UInt64, UInt64]:
        return self._keys[: self.count], self._digests[: self.count]

    def clear(self) -> None:
        self.count = self._sorted = 0

    def find(self, keys: UInt64) -> tuple[npt.NDArray[np.bool_], UInt64]:
        if not self.count:
            return np.zeros(len(keys), dtype=np.bool_), np.zeros(len(keys), dtype=np.uint64)
        self._sort()
        mine = self._keys[: self.count]
        found = np.minimum(np.searchsorted(mine, keys), self.count - 1)
        matches: npt.NDArray[np.bool_] = mine[found] == keys
        return matches, self._digests[found]

    def _sort(self) -> None:
        if self._sorted == self.count:
            return
        # Stable is a merge sort that makes use of the part that is sorted already.
        order = np.argsort(self._keys[: self.count], kind="stable")
        self._keys[: self.count] = self._keys[order]
        self._digests[: self.count] = self._digests[order]
        self._sorted = self.count
