"""Recognises readings that arrive twice: resent by a publisher, republished, read again from history.

Of every series the newest (source time, digest) is known for ever; of all series together the last
``window_samples`` are known. A reading that is older than all of them and was taken before that window counts as
new: sources repeat what lies around an interruption, not what lies far behind it.

Where a machine gives one time to two different values, the later one is moved by 1 ns, since (series, source
time) is unique further on.

What was admitted is known at once, and kept when it is settled: the disk may refuse it.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.buffer.window import Window
from shopfloor.block import STATUS_CLOCK_AHEAD, Int64, Quality, SampleBlock, UInt64
from shopfloor.signal import SeriesKey

_NEVER: Final = -(2**63)
_NAN_BITS: Final = np.uint64(0x7FF8_0000_0000_0000)
_MAX_MOVES: Final = 1_000
_LOOKUP_ENTRIES: Final = 500_000
"""Series in all remembered tuples together: 12 MB at most."""


class Admitted(NamedTuple):
    """What is left of a block, and what was found on the way."""

    block: SampleBlock
    repeats: int
    moved: int


class RepeatIndex:
    """The memory of what was taken; rebuilt from the buffer's own rows when it opens."""

    def __init__(self, window_samples: int) -> None:
        self._ids: dict[SeriesKey, int] = {}
        self._newest_time = np.full(64, _NEVER, dtype=np.int64)
        self._newest_digest = np.zeros(64, dtype=np.uint64)
        self._recent = Window(window_samples)
        self._lookups: OrderedDict[int, tuple[tuple[SeriesKey, ...], Int64]] = OrderedDict()
        self._lookup_entries = 0
        self._settled_series = 0
        self._before: list[tuple[Int64, Int64, UInt64]] = []
        """Series whose newest reading has changed since the last settlement, and what it was before each change."""

    def admit(self, block: SampleBlock) -> Admitted:
        """Leave out what is known, move what collides, and remember the rest until it is settled or undone."""
        if not len(block):
            return Admitted(block, 0, 0)
        ids, digests = self._ids_of(block), _digests(block)
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        suspects = self._suspects(ids, block.source_time, order, sorted_ids)
        if suspects is None:
            # All lies after what is known, series by series: the last of each is its newest.
            last = order[np.flatnonzero(np.append(sorted_ids[1:] != sorted_ids[:-1], True))]
            self._set_newest(ids[last], block.source_time[last], digests[last])
            self._recent.add(_keys(ids, block.source_time), digests)
            return Admitted(block, 0, 0)
        keep, times, moved = self._examine(ids, block.source_time, digests, suspects)
        repeats = len(block) - int(keep.sum())
        if moved:
            block = _with_source_time(block, times)
        if repeats:
            block, ids, digests = block.take(keep), ids[keep], digests[keep]
        self._remember(ids, block.source_time, digests)
        return Admitted(block, repeats, moved)

    def settle(self) -> None:
        """Keep for good what was admitted since the last time."""
        self._recent.settle()
        self._before.clear()
        self._settled_series = len(self._ids)

    def undo(self) -> None:
        """Know again what was known before the first admission since the last settlement, and nothing else."""
        for ids, times, digests in reversed(self._before):
            self._newest_time[ids] = times
            self._newest_digest[ids] = digests
        self._before.clear()
        self._recent.undo()
        if len(self._ids) > self._settled_series:
            while len(self._ids) > self._settled_series:
                self._ids.popitem()
            # Some of them name the series that are gone; all are made again when they are needed.
            self._lookups.clear()
            self._lookup_entries = 0

    def remember(self, block: SampleBlock) -> None:
        """Take note, for good, of a block that was admitted in an earlier life of the process."""
        if len(block):
            self._remember(self._ids_of(block), block.source_time, _digests(block))
            self.settle()

    def newest(self) -> tuple[tuple[SeriesKey, ...], Int64, UInt64]:
        """Return every series with its newest time and digest, for a checkpoint."""
        count = len(self._ids)
        return tuple(self._ids), self._newest_time[:count].copy(), self._newest_digest[:count].copy()

    def restore(self, series: tuple[SeriesKey, ...], times: Int64, digests: UInt64) -> None:
        """Start from a checkpoint."""
        ids = self._lookup(series)
        self._set_newest(ids, times, digests)
        self.settle()

    def _ids_of(self, block: SampleBlock) -> Int64:
        return self._lookup(block.series)[block.series_index]

    def _lookup(self, series: tuple[SeriesKey, ...]) -> Int64:
        known = self._lookups.get(id(series))
        if known is not None and known[0] is series:
            self._lookups.move_to_end(id(series))
            return known[1]
        ids = np.fromiter(
            (self._ids.setdefault(key, len(self._ids)) for key in series), dtype=np.int64, count=len(series)
        )
        while len(self._ids) > len(self._newest_time):
            grown = len(self._newest_time)
            self._newest_time = np.concatenate([self._newest_time, np.full(grown, _NEVER, dtype=np.int64)])
            self._newest_digest = np.concatenate([self._newest_digest, np.zeros(grown, dtype=np.uint64)])
        self._lookups[id(series)] = (series, ids)
        self._lookup_entries += len(series)
        while self._lookup_entries > _LOOKUP_ENTRIES and len(self._lookups) > 1:
            _, (oldest, _) = self._lookups.popitem(last=False)
            self._lookup_entries -= len(oldest)
        return ids

    def _suspects(
        self, ids: Int64, times: Int64, order: Int64, sorted_ids: Int64
    ) -> npt.NDArray[np.bool_] | None:
        """Return a mask of rows that do not simply lie after everything known of their series, None if none."""
        sorted_times = times[order]
        before = self._newest_time[sorted_ids]
        follows = sorted_ids[1:] == sorted_ids[:-1]
        np.copyto(before[1:], sorted_times[:-1], where=follows)
        doubtful = sorted_times <= before
        if not doubtful.any():
            return None
        # One step back makes the whole series of this block suspect: what follows it may lie before the newest.
        marked = np.zeros(len(self._newest_time), dtype=np.bool_)
        marked[sorted_ids[doubtful]] = True
        return marked[ids]

    def _examine(
        self, ids: Int64, times: Int64, digests: UInt64, suspects: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], Int64, int]:
        rows = np.flatnonzero(suspects)
        keys = _keys(ids[rows], times[rows])
        known, stored = self._stored(ids[rows], times[rows], keys)
        repeated = known & (stored == digests[rows])
        keep = np.ones(len(times), dtype=np.bool_)
        keep[rows[repeated]] = False
        rows, keys, known = rows[~repeated], keys[~repeated], known[~repeated]
        # Of equal readings in one block the first stays: wherever it ends, the others would find it there.
        order = np.lexsort((digests[rows], keys))
        same_key = keys[order][1:] == keys[order][:-1]
        again = order[1:][same_key & (digests[rows[order]][1:] == digests[rows[order]][:-1])]
        keep[rows[again]] = False
        fresh_rows = np.ones(len(rows), dtype=np.bool_)
        fresh_rows[again] = False
        rows, keys, known = rows[fresh_rows], keys[fresh_rows], known[fresh_rows]
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        conflicting = known | (counts[inverse] > 1)
        if not conflicting.any():
            return keep, times, 0
        # Rows that need no look keep their times: a moved one must not land on them.
        settled = set(keys[~conflicting].tolist())
        result, moved = times, 0
        fresh: dict[tuple[int, int], int] = {}
        for row in rows[conflicting].tolist():
            series, digest = int(ids[row]), int(digests[row])
            time = self._free_time(series, int(times[row]), digest, fresh, settled)
            if time is None:
                keep[row] = False
                continue
            fresh[series, time] = digest
            if time != times[row]:
                if result is times:
                    result = times.copy()
                result[row] = time
                moved += 1
        return keep, result, moved

    def _stored(self, ids: Int64, times: Int64, keys: UInt64) -> tuple[npt.NDArray[np.bool_], UInt64]:
        """Return which readings' (series, time) are known, and the digests that are known there."""
        known, stored = self._recent.find(keys)
        newest = times == self._newest_time[ids]
        return known | newest, np.where(newest, self._newest_digest[ids], stored)

    def _free_time(
        self, series: int, time: int, digest: int, fresh: dict[tuple[int, int], int], settled: set[int]
    ) -> int | None:
        """Return the first time from ``time`` on that the series has not used, None if the reading is known."""
        for step in range(_MAX_MOVES):
            candidate = time + step
            if step and int(_key(series, candidate)[0]) in settled:
                continue
            taken = fresh.get((series, candidate))
            if taken is None and candidate == self._newest_time[series]:
                taken = int(self._newest_digest[series])
            if taken is None:
                known, digests = self._recent.find(_key(series, candidate))
                taken = int(digests[0]) if known[0] else None
            if taken is None:
                return candidate
            if taken == digest:
                return None
        return time + _MAX_MOVES

    def _remember(self, ids: Int64, times: Int64, digests: UInt64) -> None:
        if not len(ids):
            return
        # The last row of each series in time order wins; assignment by index keeps the last one written.
        order = np.argsort(times, kind="stable")
        ordered = ids[order]
        later = times[order] > self._newest_time[ordered]
        chosen = order[later]
        self._set_newest(ids[chosen], times[chosen], digests[chosen])
        self._recent.add(_keys(ids, times), digests)

    def _set_newest(self, ids: Int64, times: Int64, digests: UInt64) -> None:
        self._before.append((ids, self._newest_time[ids], self._newest_digest[ids]))
        self._newest_time[ids] = times
        self._newest_digest[ids] = digests


def _keys(ids: Int64, times: Int64) -> UInt64:
    """Mix series and time into 64 bits; two of a million keys collide about once in 10**7 windows."""
    mixed = ids.view(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) + times.view(np.uint64)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58_476D_1CE4_E5B9)
    mixed ^= mixed >> np.uint64(29)
    return mixed


def _key(series: int, time: int) -> UInt64:
    return _keys(np.array([series], dtype=np.int64), np.array([time], dtype=np.int64))


def _digests(block: SampleBlock) -> UInt64:
    """What makes two readings of one time the same: value, text and quality, not the status' information bits."""
    bits = block.value.view(np.uint64)
    digests = np.where(np.isnan(block.value), _NAN_BITS, bits)
    for row, text in block.text.items():
        digests[row] = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    # Whether a clock counts as ahead depends on when the reading came: it says nothing about the reading itself.
    quality = np.where(block.status == STATUS_CLOCK_AHEAD, np.uint8(Quality.GOOD), block.quality)
    digests ^= quality.astype(np.uint64) << np.uint64(50)
    return digests


def _with_source_time(block: SampleBlock, times: Int64) -> SampleBlock:
    return SampleBlock(
        block.series,
        block.series_index,
        times,
        block.received_time,
        block.value,
        block.quality,
        block.status,
        block.text,
    )
