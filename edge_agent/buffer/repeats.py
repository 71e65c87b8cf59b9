"""Recognises readings that arrive twice: resent by a publisher, republished, read again from history.

Of every series the newest (source time, digest) is known for ever; of all series together the last
``window_samples`` are known. A reading that is older than all of them and was taken before that window counts as
new: sources repeat what lies around an interruption, not what lies far behind it.

Where a machine gives one time to two different values, the later one is moved by 1 ns, since (series, source
time) is unique further on.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.block import STATUS_CLOCK_AHEAD, Int64, Quality, SampleBlock, UInt64
from shopfloor.signal import SeriesKey

_NEVER: Final = -(2**63)
_NAN_BITS: Final = np.uint64(0x7FF8_0000_0000_0000)
_MAX_MOVES: Final = 1_000
_TUPLES_REMEMBERED: Final = 4_096


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
        self._recent = _Window(window_samples)
        self._lookups: OrderedDict[int, tuple[tuple[SeriesKey, ...], Int64]] = OrderedDict()

    def admit(self, block: SampleBlock) -> Admitted:
        """Leave out what is known, move what collides, and remember the rest."""
        if not len(block):
            return Admitted(block, 0, 0)
        ids, digests = self._ids_of(block), _digests(block)
        suspects = self._suspects(ids, block.source_time)
        repeats = moved = 0
        if suspects is not None:
            keep, times, moved = self._examine(ids, block.source_time, digests, suspects)
            repeats = len(block) - int(keep.sum())
            if moved:
                block = _with_source_time(block, times)
            if repeats:
                block, ids, digests = block.take(keep), ids[keep], digests[keep]
        self._remember(ids, block.source_time, digests)
        return Admitted(block, repeats, moved)

    def remember(self, block: SampleBlock) -> None:
        """Take note of a block that was admitted in an earlier life of the process."""
        if len(block):
            self._remember(self._ids_of(block), block.source_time, _digests(block))

    def newest(self) -> tuple[tuple[SeriesKey, ...], Int64, UInt64]:
        """Return every series with its newest time and digest, for a checkpoint."""
        count = len(self._ids)
        return tuple(self._ids), self._newest_time[:count].copy(), self._newest_digest[:count].copy()

    def restore(self, series: tuple[SeriesKey, ...], times: Int64, digests: UInt64) -> None:
        """Start from a checkpoint."""
        ids = self._lookup(series)
        self._newest_time[ids] = times
        self._newest_digest[ids] = digests

    def _ids_of(self, block: SampleBlock) -> Int64:
        return self._lookup(block.series)[block.series_index]

    def _lookup(self, series: tuple[SeriesKey, ...]) -> Int64:
        known = self._lookups.get(id(series))
        if known is not None and known[0] is series:
            return known[1]
        ids = np.fromiter(
            (self._ids.setdefault(key, len(self._ids)) for key in series), dtype=np.int64, count=len(series)
        )
        while len(self._ids) > len(self._newest_time):
            grown = len(self._newest_time)
            self._newest_time = np.concatenate([self._newest_time, np.full(grown, _NEVER, dtype=np.int64)])
            self._newest_digest = np.concatenate([self._newest_digest, np.zeros(grown, dtype=np.uint64)])
        self._lookups[id(series)] = (series, ids)
        if len(self._lookups) > _TUPLES_REMEMBERED:
            self._lookups.popitem(last=False)
        return ids

    def _suspects(self, ids: Int64, times: Int64) -> npt.NDArray[np.bool_] | None:
        """Return a mask of rows that do not simply lie after everything known of their series, None if none."""
        order = np.argsort(ids, kind="stable")
        sorted_ids, sorted_times = ids[order], times[order]
        before = self._newest_time[sorted_ids]
        follows = sorted_ids[1:] == sorted_ids[:-1]
        before[1:][follows] = sorted_times[:-1][follows]
        doubtful = sorted_times <= before
        if not doubtful.any():
            return None
        # One step back makes the whole series of this block suspect: what follows it may lie before the newest.
        return np.isin(ids, sorted_ids[doubtful])

    def _examine(
        self, ids: Int64, times: Int64, digests: UInt64, suspects: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], Int64, int]:
        rows = np.flatnonzero(suspects)
        keys = _keys(ids[rows], times[rows])
        known = self._recent.contains(keys) | (times[rows] == self._newest_time[ids[rows]])
        _, first, counts = np.unique(keys, return_index=True, return_counts=True)
        twice = np.zeros(len(rows), dtype=np.bool_)
        twice[np.isin(keys, keys[first[counts > 1]])] = True
        keep = np.ones(len(times), dtype=np.bool_)
        result, moved = times, 0
        fresh: dict[tuple[int, int], int] = {}
        # Rows that need no look keep their times: a moved one must not land on them.
        settled = rows[~(known | twice)]
        settled_keys = _keys(ids[settled], times[settled])
        for row in rows[known | twice].tolist():
            series, digest = int(ids[row]), int(digests[row])
            time = self._free_time(series, int(times[row]), digest, fresh, settled_keys)
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

    def _free_time(
        self, series: int, time: int, digest: int, fresh: dict[tuple[int, int], int], settled_keys: UInt64
    ) -> int | None:
        """Return the first time from ``time`` on that the series has not used, None if the reading is known."""
        for step in range(_MAX_MOVES):
            candidate = time + step
            if step and (settled_keys == _key(series, candidate)).any():
                continue
            taken = fresh.get((series, candidate))
            if taken is None and candidate == self._newest_time[series]:
                taken = int(self._newest_digest[series])
            if taken is None:
                taken = self._recent.digest(series, candidate)
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
        self._newest_time[ids[chosen]] = times[chosen]
        self._newest_digest[ids[chosen]] = digests[chosen]
        self._recent.add(_keys(ids, times), digests)


class _Window:
    """The digests of the last samples by key, in two generations: when the younger is full, the older goes."""

    def __init__(self, samples: int) -> None:
        self._half = max(1, samples // 2)
        self._old = _Generation()
        self._young = _Generation()

    def add(self, keys: UInt64, digests: UInt64) -> None:
        self._young.add(keys, digests)
        if self._young.count >= self._half:
            self._young.settle()
            self._old, self._young = self._young, _Generation()

    def contains(self, keys: UInt64) -> npt.NDArray[np.bool_]:
        return self._young.contains(keys) | self._old.contains(keys)

    def digest(self, series: int, time: int) -> int | None:
        key = _key(series, time)
        young = self._young.digest(key)
        return self._old.digest(key) if young is None else young


class _Generation:
    """Keys and digests: sorted arrays for looking up, and a tail that is sorted in when it is asked."""

    def __init__(self) -> None:
        self.count = 0
        self._keys = np.empty(0, dtype=np.uint64)
        self._digests = np.empty(0, dtype=np.uint64)
        self._tail: list[tuple[UInt64, UInt64]] = []

    def add(self, keys: UInt64, digests: UInt64) -> None:
        self._tail.append((keys, digests))
        self.count += len(keys)

    def settle(self) -> None:
        if self._tail:
            keys = np.concatenate([self._keys, *(keys for keys, _ in self._tail)])
            digests = np.concatenate([self._digests, *(digests for _, digests in self._tail)])
            order = np.argsort(keys, kind="stable")
            self._keys, self._digests = keys[order], digests[order]
            self._tail.clear()

    def contains(self, keys: UInt64) -> npt.NDArray[np.bool_]:
        self.settle()
        if not len(self._keys):
            return np.zeros(len(keys), dtype=np.bool_)
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        matches: npt.NDArray[np.bool_] = self._keys[found] == keys
        return matches

    def digest(self, key: UInt64) -> int | None:
        self.settle()
        found = int(np.searchsorted(self._keys, key, side="right")[0]) - 1
        return int(self._digests[found]) if found >= 0 and self._keys[found] == key[0] else None


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
