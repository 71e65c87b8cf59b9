"""How much a buffer may take: its own limit, and what its disk has left for others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.buffer import WhenFull

_DISK_CHECK_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """How much the buffer may take, and what it does then."""

    max_bytes: int = 2 * 2**30
    disk_reserve_bytes: int = 256 * 2**20
    """Free space that is left to others on the buffer's disk."""
    when_full: WhenFull = WhenFull.DROP_OLDEST
    repeat_window_samples: int = 200_000
    floor_bytes: int = 4 * 2**20
    """What may lie here even while others fill the disk: what is on its way up has to lie somewhere."""


def disk_free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that holds a folder."""
    return shutil.disk_usage(folder).free


class Room:
    """Tells whether there is room; asks the disk once a second at most.

    ``inside_bytes`` are the free pages of the buffer's own file: rows use them before the file grows.
    """

    def __init__(self, folder: Path, limits: BufferLimits, free_bytes: Callable[[Path], int]) -> None:
        self._folder, self._limits, self._free_bytes = folder, limits, free_bytes
        self._checked_s = 0.0
        self.disk_is_short = False
        """Whether the reserve was found touched, free pages counted as free."""

    def is_full(self, used_bytes: int, inside_bytes: Callable[[], int]) -> bool:
        """Tell whether something has to give way before more may come."""
        if used_bytes > self._limits.max_bytes:
            return True
        if used_bytes <= self._limits.floor_bytes:
            return False
        if time.monotonic() - self._checked_s >= _DISK_CHECK_INTERVAL_S:
            self.look(inside_bytes())
        return self.disk_is_short

    def look(self, inside_bytes: int) -> None:
        """Ask the disk now."""
        self._checked_s = time.monotonic()
        self.disk_is_short = self._may_grow(inside_bytes) < 0

    def reserve_is_touched(self) -> bool:
        """Tell whether the disk itself has less free than the reserve."""
        return self._free_bytes(self._folder) < self._limits.disk_reserve_bytes

    def left_bytes(self, used_bytes: int, pending_bytes: int, inside_bytes: int) -> int:
        """Return how much more may wait: what is delivered already gives way."""
        on_disk = self._may_grow(inside_bytes) + used_bytes - pending_bytes
        return max(0, min(self._limits.max_bytes - pending_bytes, on_disk))

    def _may_grow(self, inside_bytes: int) -> int:
        return self._free_bytes(self._folder) + inside_bytes - self._limits.disk_reserve_bytes
