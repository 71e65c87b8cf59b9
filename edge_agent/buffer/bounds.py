"""Keeps a buffer within its size and its disk's reserve: merges, forgets what was delivered, drops by policy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge_agent.buffer import BufferStats, WhenFull
from edge_agent.buffer.holding import Holding
from edge_agent.buffer.inventory import Row
from edge_agent.buffer.losses import dropped, extended
from edge_agent.buffer.merging import mergeable
from edge_agent.buffer.room import BufferLimits, Room
from edge_agent.buffer.shape import named_only
from edge_agent.trouble import Trouble
from shopfloor.block import concat
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SpanRecord

log = logging.getLogger(__name__)

_MAINTENANCE_APPENDS: Final = 256
_ROOM_AGAIN_AFTER_S: Final = 60.0
"""A buffer that is full drops something every now and then."""


class Bounds:
    """Belongs to the thread of its buffer."""

    def __init__(
        self,
        folder: Path,
        limits: BufferLimits,
        holding: Holding,
        stats: BufferStats,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._folder, self._holding, self._stats, self._free_bytes = folder, holding, stats, free_bytes
        self.limits = limits
        self.room = Room(folder, limits, free_bytes)
        self.open_drop: SpanRecord | None = None
        """The last record of dropped samples: while nobody has seen it, the next drop extends it."""
        self.trouble = Trouble(log, "buffer")
        self._appends = 0

    def limit(self, limits: BufferLimits) -> None:
        """Keep within other limits from now on; the window for repeats stays as it was when the buffer was opened."""
        self.limits = replace(limits, repeat_window_samples=self.limits.repeat_window_samples)
        self.room = Room(self._folder, self.limits, self._free_bytes)
        self._stats.limit_bytes = limits.max_bytes

    def must_wait(self) -> bool:
        """Tell whether nothing may come until something is delivered."""
        if self.limits.when_full is not WhenFull.BLOCK or not self.is_full():
            return False
        self.trim()
        return self.is_full()

    def is_full(self) -> bool:
        """Tell whether something has to give way before more may come."""
        with self._holding.reading():
            return self.room.is_full(self._holding.rows.used_bytes, self._holding.file.free_bytes)

    def left_bytes(self) -> int:
        """Return how much more may wait."""
        rows = self._holding.rows
        with self._holding.reading():
            inside = self._holding.file.free_bytes()
        return self.room.left_bytes(rows.used_bytes, rows.pending_bytes, inside)

    def appended(self, newest: Sequence[Row]) -> None:
        """Make room again after an append, if it is time or there is none."""
        self._appends += 1
        if self._appends < _MAINTENANCE_APPENDS and not self.is_full():
            return
        try:
            self.maintain(newest)
        except StoreUnavailable as error:
            # What came is durable and stays so.
            self.trouble.met(f"can't make room: {error}")

    def maintain(self, newest: Sequence[Row]) -> None:
        """Forget delivered rows beyond the window; where that is not enough, drop by policy."""
        is_due = self._appends >= _MAINTENANCE_APPENDS
        self._appends = 0
        self.trim()
        if self.is_full() and self.limits.when_full is not WhenFull.BLOCK:
            self._drop(newest)
        else:
            total = self._stats.dropped_samples_total
            self.trouble.over(
                f"has room again, {total} samples dropped since the start", well_s=_ROOM_AGAIN_AFTER_S
            )
        if is_due:
            self._merge()

    def trim(self) -> None:
        """Delete delivered rows, newest kept for the repeat window unless space is short."""
        holding, full = self._holding, self.is_full()
        window = 0 if full else self.limits.repeat_window_samples
        holding.delete(holding.rows.delivered_beyond(window), ())
        if full and self.room.disk_is_short:
            with holding.reading():
                self.room.look(holding.file.free_bytes())
        if self.room.reserve_is_touched():
            holding.give_back()

    def _merge(self) -> None:
        """Make few large rows of the many small ones that came since the last time."""
        holding = self._holding
        for run in mergeable(holding.rows, 2 * _MAINTENANCE_APPENDS):
            with holding.reading():
                blocks = [block for row in run if (block := holding.file.read_block(row)) is not None]
            if len(blocks) == len(run):
                with holding.transaction():
                    merged = holding.file.merge_blocks(run, named_only(concat(blocks)))
                holding.rows.replace(run, merged)

    def _drop(self, newest: Sequence[Row]) -> None:
        """Drop undelivered rows until there is room for a tenth more; each run becomes one span record."""
        held = self._holding.rows
        goal = self.limits.max_bytes if self.room.disk_is_short else int(self.limits.max_bytes * 0.9)
        came = sum(row.size for row in newest)
        doomed = held.droppable(max(held.used_bytes - goal, came or 1))
        if self.limits.when_full is WhenFull.DROP_NEWEST:
            doomed = [row for row in newest if row.number in held]
        reason = "disk reserve reached" if self.room.disk_is_short else "buffer full"
        records = dropped(doomed, held.streams, reason)
        if not records:
            return
        merged = extended(self.open_drop, records)
        self._holding.delete(doomed, merged, records)
        self.open_drop = merged[-1]
        self._stats.dropped_samples_total += sum(record.count for record in records)
        self.trouble.met(f"dropping samples ({reason}, {self.limits.when_full})", level=logging.ERROR)
