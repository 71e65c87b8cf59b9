"""Reading from a server and from what the PlantStore keeps beside it, as one: pages, aggregates, newest samples."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest_service.stores import Buckets, Grid, Partials, Position, Raw, SeriesInfo, TimeSpan
from ingest_service.stores.buckets import NO_PARTIALS, concat_partials, merge, partials_of, run_starts
from ingest_service.stores.latest import newest_order
from ingest_service.stores.server_ledger import ServerLedger
from ingest_service.stores.server_points import PointStore
from ingest_service.stores.server_rollups import BucketColumns, RolledReader
from shopfloor.block import NO_TEXT, Quality, SampleBlock, concat, make_block

PAGE: Final = 50_000
"""Samples that one request brings at most, about."""
_MOST_SERIES: Final = 200
_BACK: Final = 1_000_000
"""Samples of a series that are looked through, from the newest on, for a usable one."""
_BACK_AT_START: Final = 100
"""The same for one whose clock is not ahead: where all are, the newest of them is as good as any."""
ALWAYS: Final = TimeSpan(-(2**63), 2**63 - 1)
EMPTY: Final = make_block((), [], [], [], [])

Acceptable = Callable[[SampleBlock], npt.NDArray[np.bool_]]


class Reader:
    """Both places, read as one. Blocking."""

    def __init__(self, points: PointStore, ledger: ServerLedger) -> None:
        self._points = points
        self._ledger = ledger
        self._rolled = RolledReader(points.rollups, ledger.engine, self) if points.rollups else None

    def read(
        self, series: Sequence[SeriesInfo], span: TimeSpan, limit: int, after: Position | None = None
    ) -> Raw:
        """Return a page; ``series`` are sorted by key."""
        skip = 0
        begin = span.from_ns
        if after is not None:
            series = series[bisect_left(series, after[:2], key=lambda one: one.key) :]
            if series and series[0].key == after[:2]:
                begin, skip = max(begin, after.source_time), after.rows if after.source_time >= begin else 0
        if not series or span.from_ns >= span.to_ns:
            return Raw((), EMPTY, truncated=False)
        need = limit + 1 + skip
        parts = [self._one(series[0], TimeSpan(begin, span.to_ns), need)]
        found, at = len(parts[0]), 1
        while at < len(series) and found < need:
            each = max(1.0, found / at)
            size = int(min(_MOST_SERIES, PAGE // each, (need - found) // each + 1))
            part, done = self._some(series[at : at + max(1, size)], span, need - found)
            parts.append(part)
            found += len(part)
            at += done
        block = concat(parts)
        cut = slice(skip, skip + limit)
        chosen = np.arange(len(block))[cut]
        block = block.take(chosen) if len(chosen) < len(block) else block
        return _raw(series, block, truncated=found > skip + limit)

    def downsample(self, series: Sequence[SeriesInfo], grid: Grid, limit: int) -> Buckets:
        """Return partial aggregates, from rollups as far as there are some."""
        inner = self._rolled.span_of(grid) if self._rolled and series else None
        if self._rolled is None or inner is None:
            return self.from_samples(series, grid, limit)
        size = self._rolled.chunk(series, inner)
        found: list[BucketColumns] = []
        known = at = 0
        while at < len(series) and known <= limit:
            part = self._rolled.buckets(series[at : at + size], grid, inner, limit)
            found.append(part._replace(place=part.place + at))
            known += len(part.bucket)
            at += size
        return _buckets(
            series,
            grid,
            limit,
            np.concatenate([one.place for one in found]),
            np.concatenate([one.bucket for one in found]),
            concat_partials([one.partials for one in found]),
        )

    def from_samples(self, series: Sequence[SeriesInfo], grid: Grid, limit: int) -> Buckets:
        """Return partial aggregates, computed from the samples page by page."""
        place_of = {one.id: place for place, one in enumerate(series)}
        places: list[npt.NDArray[np.integer]] = []
        buckets: list[npt.NDArray[np.int64]] = []
        parts = [NO_PARTIALS]
        known = 0
        last: tuple[int, int] | None = None
        after: Position | None = None
        while known <= limit:
            page = self.read(series, grid.span, 4 * PAGE, after)
            block = page.block
            of_page = np.array([place_of[one.id] for one in page.series], np.int64)
            index, bucket, part = partials_of(
                block.series_index, block.source_time, block.value, block.quality, grid
            )
            place = of_page[index]
            places.append(place)
            buckets.append(bucket)
            parts.append(part)
            if len(place):
                # The bucket that the page before ended in the middle of counts once.
                known += len(place) - ((int(place[0]), int(bucket[0])) == last)
                last = int(place[-1]), int(bucket[-1])
            after = page.position(after)
            if not page.truncated:
                break
        all_places, all_buckets = np.concatenate(places), np.concatenate(buckets)
        starts = run_starts(all_places, all_buckets)
        merged = merge(concat_partials(parts), starts)
        return _buckets(series, grid, limit, all_places[starts], all_buckets[starts], merged)

    def earliest(self, series: Sequence[SeriesInfo], span: TimeSpan) -> int | None:
        """Return the source time of the oldest sample of some series in a span; None where there is none."""
        if not series or span.from_ns >= span.to_ns:
            return None
        block, _ = self._fetch(series, span, 1)
        return int(block.source_time.min()) if len(block) else None

    def before(self, series: Sequence[SeriesInfo], span: TimeSpan) -> Raw:
        """Return the newest usable sample of each series in a span."""

        def usable(block: SampleBlock) -> npt.NDArray[np.bool_]:
            filled = ~np.isnan(block.value)
            filled[list(block.text)] = True
            mask: npt.NDArray[np.bool_] = filled & (block.quality < Quality.BAD)
            return mask

        return self._newest(series, span, usable, _BACK, by_order=False)

    def newest(self, series: Sequence[SeriesInfo]) -> Raw:
        """Return the newest sample of each series as `stores.latest` decides it.

        Where a sample's order is its source time, all samples before it by source time are older by order too: so one
        looks from the newest source time on until there is such a sample.
        """

        def decides(block: SampleBlock) -> npt.NDArray[np.bool_]:
            mask: npt.NDArray[np.bool_] = (
                newest_order(block.source_time, block.received_time) == block.source_time
            )
            return mask

        return self._newest(series, ALWAYS, decides, _BACK_AT_START, by_order=True)

    def _newest(
        self, series: Sequence[SeriesInfo], span: TimeSpan, will_do: Acceptable, back: int, *, by_order: bool
    ) -> Raw:
        found: list[tuple[int, SampleBlock]] = []
        left = list(range(len(series)))
        limit = 1
        while left and limit <= back:
            size = max(1, PAGE // limit)
            again: list[int] = []
            for start in range(0, len(left), size):
                places = left[start : start + size]
                block, more = self._fetch([series[place] for place in places], span, limit, newest_first=True)
                bounds = np.searchsorted(block.series_index, np.arange(len(places) + 1))
                accepted = will_do(block)
                for number, place in enumerate(places):
                    rows = np.arange(bounds[number], bounds[number + 1])
                    good = rows[accepted[rows]]
                    if number in more and not len(good) and limit < back:
                        again.append(place)
                    elif by_order and len(rows):
                        order = newest_order(block.source_time[rows], block.received_time[rows])
                        best = len(rows) - 1 - int(np.argmax(order[::-1]))
                        found.append((place, block.take(rows[best : best + 1])))
                    elif len(good):
                        found.append((place, block.take(good[-1:])))
            left = again
            limit *= 100
        found.sort(key=lambda one: one[0])
        present = tuple(series[place] for place, _ in found)
        blocks = [
            SampleBlock((one.key,), np.zeros(1, np.uint32), *_columns(block), block.text)
            for one, (_, block) in zip(present, found, strict=True)
        ]
        return Raw(present, concat(blocks), truncated=False)

    def _one(self, series: SeriesInfo, span: TimeSpan, need: int) -> SampleBlock:
        """Return the first ``need`` samples of a series, page by page."""
        parts: list[SampleBlock] = []
        begin = span.from_ns
        while need > 0 and begin < span.to_ns:
            size = min(PAGE, need)
            block, more = self._fetch([series], TimeSpan(begin, span.to_ns), size)
            parts.append(block)
            if not more:
                break
            need -= len(block)
            # Samples of the last time are all there: `_fetch` sees to it.
            begin = int(block.source_time[-1]) + 1
        return concat(parts) if parts else EMPTY

    def _some(self, series: Sequence[SeriesInfo], span: TimeSpan, need: int) -> tuple[SampleBlock, int]:
        """Return samples of as many of the series as one request brings whole, and how many these are (at least one)."""
        if len(series) == 1:
            return self._one(series[0], span, need), 1
        block, more = self._fetch(series, span, max(100, PAGE // len(series)))
        whole = min(more, default=len(series))
        if whole == 0:
            return self._one(series[0], span, need), 1
        return block.take(np.arange(np.searchsorted(block.series_index, whole))), whole

    def _fetch(
        self, series: Sequence[SeriesInfo], span: TimeSpan, limit: int, *, newest_first: bool = False
    ) -> tuple[SampleBlock, frozenset[int]]:
        """Return samples by (series, source time) and the places of series of which there is more.

        Of such a series those that are there reach from the near end of the span to a time of which all are there.
        """
        fetched = self._points.fetch([one.key for one in series], span, limit, newest_first=newest_first)
        ids = [one.id for one in series]
        kept_ids, kept = self._ledger.kept(ids, span, limit, newest_first=newest_first)
        if not len(kept):
            return fetched.block, fetched.more
        places = {number: place for place, number in enumerate(ids)}
        kept_index = np.array([places[number] for number in kept_ids.tolist()], np.uint32)
        keys = fetched.block.series
        both = concat([fetched.block, SampleBlock(keys, kept_index, *_columns(kept), kept.text)])
        counts = np.bincount(kept_index, minlength=len(series))
        more = fetched.more | frozenset(np.flatnonzero(counts >= limit).tolist())
        keep = np.ones(len(both), np.bool_)
        for place in more:
            # Each of the two may lack what lies beyond its own last sample.
            keep &= ~(
                _beyond(
                    fetched.block, fetched.block.series_index, place, both, limit, newest_first=newest_first
                )
                | _beyond(kept, kept_index, place, both, limit, newest_first=newest_first)
            )
        rows = np.lexsort(
            (both.status, both.quality, both.value, both.received_time, both.source_time, both.series_index)
        )
        return both.take(rows[keep[rows]]), more


def _buckets(
    series: Sequence[SeriesInfo],
    grid: Grid,
    limit: int,
    place: npt.NDArray[np.integer],
    bucket: npt.NDArray[np.int64],
    partials: Partials,
) -> Buckets:
    present, index = np.unique(place[:limit], return_inverse=True)
    return Buckets(
        tuple(series[one] for one in present.tolist()),
        index.astype(np.uint32),
        bucket[:limit],
        grid,
        partials.take(slice(0, limit)),
        len(place) > limit,
    )


def _beyond(
    part: SampleBlock,
    index: npt.NDArray[np.uint32],
    place: int,
    both: SampleBlock,
    limit: int,
    *,
    newest_first: bool,
) -> npt.NDArray[np.bool_]:
    times = part.source_time[index == place]
    if len(times) < limit:
        return np.zeros(len(both), np.bool_)
    far = both.source_time < times.min() if newest_first else both.source_time > times.max()
    beyond: npt.NDArray[np.bool_] = far & (both.series_index == place)
    return beyond


def _columns(
    block: SampleBlock,
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.uint8],
    npt.NDArray[np.uint32],
]:
    return block.source_time, block.received_time, block.value, block.quality, block.status


def _raw(series: Sequence[SeriesInfo], block: SampleBlock, *, truncated: bool) -> Raw:
    by_key = {one.key: one for one in series}
    used, index = np.unique(block.series_index, return_inverse=True)
    present = tuple(by_key[block.series[place]] for place in used.tolist())
    keys = tuple(one.key for one in present)
    text = block.text or NO_TEXT
    return Raw(present, SampleBlock(keys, index.astype(np.uint32), *_columns(block), text), truncated)
