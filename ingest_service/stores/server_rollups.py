"""Reads rollups by hour from a server that keeps them, instead of the samples.

`ingest_service.plant.rollups` knows which hours are right; of all others the samples are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from ingest_service.plant import rollups
from ingest_service.plant.rollups import BLOCK_BITS, HOUR_NS
from ingest_service.stores import Buckets, Grid, Partials, SeriesInfo, TimeSpan
from ingest_service.stores.buckets import NO_PARTIALS, concat_partials, merge, run_starts
from ingest_service.stores.server_points import RollupStore
from shopfloor.block import Int64

_MOST_ROLLUPS: Final = 100_000
"""Rollups that one request brings, about."""
_MOST_SERIES: Final = 200
_MOST_SPANS: Final = 50
"""Spans of hours that are due, beyond which all is read from samples."""


class _Pieces(NamedTuple):
    """Partial aggregates of pieces of time, ``n`` of them, that do not overlap."""

    place: npt.NDArray[np.integer]
    """int[n], of which series."""
    start: Int64
    """int64[n], no later than the first sample, and after the last one of the piece before."""
    partials: Partials


class BucketColumns(NamedTuple):
    """Partial aggregates of buckets, ``n`` of them, by series and time."""

    place: npt.NDArray[np.integer]
    """int[n], of which series."""
    bucket: Int64
    """int64[n], places in the grid."""
    partials: Partials


class Samples(Protocol):
    """Reads aggregates from samples."""

    def from_samples(self, series: Sequence[SeriesInfo], grid: Grid, limit: int) -> Buckets:
        """Return partial aggregates, computed from the samples page by page."""
        ...


class RolledReader:
    """Reads hours from rollups where they are right, and from samples elsewhere."""

    def __init__(self, store: RollupStore, engine: sa.Engine, samples: Samples) -> None:
        self._store = store
        self._engine = engine
        self._samples = samples

    def span_of(self, grid: Grid) -> TimeSpan | None:
        """Return the part of a grid that rollups may answer; None for one that does not lie on whole hours."""
        if (grid.edges % HOUR_NS).any():
            return None
        known = rollups.span(self._engine)
        if known is None:
            return None
        inner = TimeSpan(max(known.begin, grid.span.from_ns), min(known.through, grid.span.to_ns))
        return inner if inner.from_ns < inner.to_ns else None

    def chunk(self, series: Sequence[SeriesInfo], inner: TimeSpan) -> int:
        """Return how many of the series to ask for at once."""
        hours = (inner.to_ns - inner.from_ns) // HOUR_NS
        return min(len(series), _MOST_SERIES, max(1, _MOST_ROLLUPS // hours))

    def buckets(self, series: Sequence[SeriesInfo], grid: Grid, inner: TimeSpan, limit: int) -> BucketColumns:
        """Return the partial aggregates of some series.

        Args:
            series: few.
            grid: on whole hours.
            inner: as `span_of` returned it.
            limit: more buckets than that need not be complete.
        """
        due = rollups.due_in(
            self._engine, rollups.blocks_of(one.id for one in series), inner.from_ns, inner.to_ns
        )
        known = rollups.span(self._engine)
        # Hours that are not counted any more are not due either.
        is_counted = known is not None and known.begin <= inner.from_ns
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(series):
            groups.setdefault(tuple(due.get(one.id >> BLOCK_BITS, ())), []).append(place)
        found: list[_Pieces] = []
        for hours, places in groups.items():
            chosen = [series[place] for place in places]
            to_read, is_rolled = _spans(grid.span, inner, hours) if is_counted else ([grid.span], False)
            if is_rolled:
                rolled = self._store.fetch_rollups([one.key for one in chosen], inner)
                right = ~np.isin(rolled.start, hours)
                right &= (rolled.partials.count > 0) | (rolled.partials.bad > 0)
                found.append(
                    _Pieces(
                        np.array(places)[rolled.place[right]],
                        rolled.start[right],
                        rolled.partials.take(right),
                    )
                )
            for span in to_read:
                buckets = self._samples.from_samples(chosen, _cut(grid, span), limit)
                of_chosen = {one.id: place for one, place in zip(chosen, places, strict=True)}
                present = np.array([of_chosen[one.id] for one in buckets.series], np.intp)
                found.append(_Pieces(present[buckets.series_index], buckets.start, buckets.partials))
        return _joined(found, grid)


def _spans(whole: TimeSpan, inner: TimeSpan, due: Sequence[int]) -> tuple[list[TimeSpan], bool]:
    """Return the spans of which samples have to be read, and whether rollups are of use."""
    spans = [TimeSpan(whole.from_ns, inner.from_ns)]
    for hour in due:
        if spans[-1].to_ns == hour:
            spans[-1] = TimeSpan(spans[-1].from_ns, hour + HOUR_NS)
        else:
            spans.append(TimeSpan(hour, hour + HOUR_NS))
    if spans[-1].to_ns == inner.to_ns:
        spans[-1] = TimeSpan(spans[-1].from_ns, whole.to_ns)
    else:
        spans.append(TimeSpan(inner.to_ns, whole.to_ns))
    if len(spans) > _MOST_SPANS:
        return [whole], False
    return [span for span in spans if span.from_ns < span.to_ns], len(
        due
    ) * HOUR_NS < inner.to_ns - inner.from_ns


def _cut(grid: Grid, span: TimeSpan) -> Grid:
    """Return the buckets of a grid inside a span, those at its ends cut off there."""
    edges = grid.edges
    inside = edges[(edges > span.from_ns) & (edges < span.to_ns)]
    return Grid(np.concatenate([[span.from_ns], inside, [span.to_ns]]).astype(np.int64))


def _joined(pieces: Sequence[_Pieces], grid: Grid) -> BucketColumns:
    if not pieces:
        return BucketColumns(np.empty(0, np.intp), np.empty(0, np.int64), NO_PARTIALS)
    place = np.concatenate([one.place for one in pieces])
    start = np.concatenate([one.start for one in pieces])
    order = np.lexsort((start, place))
    place = place[order]
    bucket = np.searchsorted(grid.edges, start[order], side="right").astype(np.int64) - 1
    starts = run_starts(place, bucket)
    partials = merge(concat_partials([one.partials for one in pieces]).take(order), starts)
    return BucketColumns(place[starts], bucket[starts], partials)
