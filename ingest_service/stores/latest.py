"""The newest value of every series, in memory, kept by whole columns.

"Newest" is decided by min(source time, received time + tolerance): a sample from a clock that is years ahead does
not stay newest for ever, and late data never replaces a newer live value.
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest_service.stores import Committed, Raw, Selector
from ingest_service.stores.series import SeriesIndex
from shopfloor.block import NO_TEXT, Float64, Int64, SampleBlock, UInt8

TOLERANCE_NS: Final = 60 * 1_000_000_000
_MAX: Final = 2**63 - 1
_NEVER: Final = -(2**63)


def newest_order(source_time: Int64, received_time: Int64) -> Int64:
    """Return int64[n] by which "newest" is decided; no time is too extreme for it."""
    order: Int64 = np.minimum(source_time, np.minimum(received_time, _MAX - TOLERANCE_NS) + TOLERANCE_NS)
    return order


class Newest(NamedTuple):
    """The newest values of ``n`` series, as columns."""

    series_id: Int64
    source_time: Int64
    received_time: Int64
    value: Float64
    quality: UInt8
    text: dict[int, str]
    """Series id to text, for those whose newest value is a text."""


class LatestTable:
    """One row a series; row 0 is unused, ids begin at 1. Thread-safe: each call holds a lock briefly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order: Int64 = np.full(1024, _NEVER, np.int64)
        self._source = np.zeros(1024, np.int64)
        self._received = np.zeros(1024, np.int64)
        self._value = np.full(1024, np.nan)
        self._quality = np.zeros(1024, np.uint8)
        self._is_text = np.zeros(1024, np.bool_)
        self._dirty = np.zeros(1024, np.bool_)
        self._text: dict[int, str] = {}

    def update(self, rows: Committed) -> None:
        """Take rows that became durable; of equal times the one further down wins."""
        if len(rows.series_id) == 0:
            return
        ids = rows.series_id
        order = newest_order(rows.source_time, rows.received_time)
        with self._lock:
            self._grow(int(ids.max()))
            np.maximum.at(self._order, ids, order)
            won = np.flatnonzero(order == self._order[ids])
            # numpy assigns in order: where a series stands twice, its last row stays.
            won_ids = ids[won]
            self._source[won_ids] = rows.source_time[won]
            self._received[won_ids] = rows.received_time[won]
            self._value[won_ids] = rows.value[won]
            self._quality[won_ids] = rows.quality[won]
            self._dirty[won_ids] = True
            if rows.text or self._text:
                self._take_text(rows, won, won_ids)

    def take_dirty(self) -> Newest:
        """Return what changed since the last call."""
        with self._lock:
            ids = np.flatnonzero(self._dirty)
            self._dirty[ids] = False
            return self._copy(ids)

    def of(self, ids: npt.NDArray[np.integer]) -> Newest:
        """Return the newest values of some series, leaving out those without any."""
        with self._lock:
            known = ids[ids < len(self._order)].astype(np.int64)
            return self._copy(known[self._order[known] != _NEVER])

    def _copy(self, ids: Int64) -> Newest:
        texts = {number: self._text[number] for number in ids[self._is_text[ids]].tolist()}
        return Newest(
            ids, self._source[ids], self._received[ids], self._value[ids], self._quality[ids], texts
        )

    def _take_text(self, rows: Committed, won: Int64, won_ids: npt.NDArray[np.uint32]) -> None:
        for number in np.unique(won_ids[self._is_text[won_ids]]).tolist():
            self._is_text[number] = False
            del self._text[number]
        if not rows.text:
            return
        # Only the last winning row of a series counts, be it a text or a number.
        last = dict(zip(won_ids.tolist(), won.tolist(), strict=True))
        for number, row in last.items():
            text = rows.text.get(row)
            if text is not None:
                self._is_text[number] = True
                self._text[number] = text

    def _grow(self, highest: int) -> None:
        size = len(self._order)
        if highest < size:
            return
        more = max(size, highest + 1 - size)
        self._order = np.concatenate([self._order, np.full(more, _NEVER, np.int64)])
        self._value = np.concatenate([self._value, np.full(more, np.nan)])
        for name in ("_source", "_received", "_quality", "_is_text", "_dirty"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros(more, column.dtype)]))


def latest_of(index: SeriesIndex, table: LatestTable, selector: Selector) -> Raw:
    """Return the newest sample of each series that a selector means; from any thread."""
    chosen = index.select(selector)
    newest = table.of(np.array([one.id for one in chosen], dtype=np.int64))
    by_id = {one.id: one for one in chosen}
    series = tuple(by_id[number] for number in newest.series_id.tolist())
    rows = {number: row for row, number in enumerate(newest.series_id.tolist())} if newest.text else {}
    n = len(series)
    block = SampleBlock(
        tuple(one.key for one in series),
        np.arange(n, dtype=np.uint32),
        newest.source_time,
        newest.received_time,
        newest.value,
        newest.quality,
        np.zeros(n, np.uint32),
        {rows[number]: text for number, text in newest.text.items()} or NO_TEXT,
    )
    return Raw(series, block, truncated=False)
