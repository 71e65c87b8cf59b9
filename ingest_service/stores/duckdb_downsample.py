"""Aggregates from the embedded store: rollups wherever the grid allows, samples elsewhere, exact in any case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from ingest_service.stores import Buckets, Grid, SeriesInfo, TimeSpan
from ingest_service.stores.buckets import (
    NO_PARTIALS,
    Partials,
    concat_partials,
    merge,
    partials_by,
    partials_of,
    run_starts,
)
from ingest_service.stores.duckdb_catalog import Part, View, view_of
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_reader import Question, chunks
from ingest_service.stores.duckdb_rollup import HOUR, MINUTE, WIDTHS, Rolled, read_rollups
from shopfloor.block import Int64, UInt32

_ROWS_AT_ONCE: Final = 2_000_000.0
_SAMPLES: Final = 0


class _Pieces(NamedTuple):
    """Partials that are to be merged: of ``n`` cells, several of which may be the same cell."""

    place: UInt32
    start: Int64
    """Begin of the cell, UTC ns."""
    partials: Partials


def downsample(
    cursor: duckdb.DuckDBPyConnection,
    reader: PartReader,
    series: Sequence[SeriesInfo],
    grid: Grid,
    limit: int,
) -> Buckets:
    """Return the partial aggregates of series that are sorted by key, at most ``limit``."""
    view = view_of(cursor, grid.span)
    question = Question(cursor, reader, series)
    source = _sources(view.parts, grid)
    sampled = [part for part in view.parts if source[part.part_id] == _SAMPLES]
    estimate = question.estimate(view, sampled, grid.span) + len(grid)
    found: list[tuple[UInt32, Int64, Partials]] = []
    got = 0
    for chunk in chunks(estimate, _ROWS_AT_ONCE):
        pieces = max(1, int(float(estimate[chunk].sum()) / _ROWS_AT_ONCE))
        for window in _cut(grid, pieces):
            one = _answer(question, view, source, question.ids[chunk], window)
            found.append(one)
            got += len(one[0])
        if got > limit:
            break
    places = np.concatenate([np.empty(0, np.uint32), *(one[0] for one in found)])[: limit + 1]
    bucket = np.concatenate([np.empty(0, np.int64), *(one[1] for one in found)])[: limit + 1]
    partials = concat_partials([NO_PARTIALS, *(one[2] for one in found)])
    starts = run_starts(places[:limit])
    present = tuple(series[place] for place in places[starts].tolist())
    lengths = np.diff(np.append(starts, min(limit, len(places))))
    return Buckets(
        present,
        np.repeat(np.arange(len(present), dtype=np.uint32), lengths),
        bucket[:limit],
        grid,
        partials.take(slice(0, limit)),
        len(places) > limit,
    )


def _sources(parts: Sequence[Part], grid: Grid) -> dict[int, int]:
    """Choose for each part the coarsest level whose cells lie in one bucket each; _SAMPLES where there is none."""
    hours = not np.any(grid.edges % WIDTHS[HOUR])
    minutes = hours or not np.any(grid.edges % WIDTHS[MINUTE])
    chosen = {}
    for part in parts:
        if hours and part.hours:
            chosen[part.part_id] = HOUR
        elif part.minutes and (minutes or part.file is None):
            chosen[part.part_id] = MINUTE
        elif part.file is None:
            # Nothing finer was kept: an hour counts to the bucket in which it begins.
            chosen[part.part_id] = HOUR
        else:
            chosen[part.part_id] = _SAMPLES
    return chosen


def _cut(grid: Grid, pieces: int) -> list[tuple[int, Grid]]:
    """Return neighbouring parts of a grid with their first bucket numbers."""
    if pieces == 1 or len(grid) == 1:
        return [(0, grid)]
    cuts = sorted({0, *(len(grid) * piece // pieces for piece in range(1, pieces)), len(grid)})
    return [
        (first, Grid(grid.edges[first : last + 1], grid.every_ns))
        for first, last in pairwise(cuts)
        if last > first
    ]


def _answer(
    question: Question, view: View, source: dict[int, int], ids: UInt32, window: tuple[int, Grid]
) -> tuple[UInt32, Int64, Partials]:
    first_bucket, grid = window
    span = grid.span
    parts = [part for part in view.parts if part.last_time >= span.from_ns and part.first_time < span.to_ns]
    levels = {source[part.part_id] for part in parts} - {_SAMPLES}
    sampled = tuple(part for part in parts if source[part.part_id] == _SAMPLES)
    places, rows = question.rows(View(sampled, view.hot), ids, span, values_only=True)
    if not levels:
        found, bucket, partials = partials_of(places, rows.source_time, rows.value, rows.quality, grid)
        return found.astype(np.uint32), bucket + first_bucket, partials
    fine, coarse = WIDTHS[min(levels)], WIDTHS[max(levels)]
    pieces = [
        _of_samples(places, rows.source_time, rows.value, rows.quality, fine),
        *(
            _of_rollups(question, [part for part in parts if source[part.part_id] == level], level, ids, span)
            for level in sorted(levels)
        ),
    ]
    pieces = _resolve(question, View(tuple(parts), view.hot), source, pieces, coarse, span)
    joined = _concat(pieces)
    bucket = np.searchsorted(grid.edges, joined.start, side="right") - 1
    order = np.lexsort((joined.partials.first_time, bucket, joined.place))
    place, bucket = joined.place[order], bucket[order]
    starts = run_starts(place, bucket)
    merged = merge(joined.partials.take(order), starts)
    return place[starts], bucket[starts] + first_bucket, merged


def _of_samples(
    places: UInt32,
    time: Int64,
    value: npt.NDArray[np.float64],
    quality: npt.NDArray[np.uint8],
    width: int,
) -> _Pieces:
    place, cell, partials = partials_by(places, time // width, time, value, quality)
    return _Pieces(place.astype(np.uint32), cell * width, partials)


def _of_rollups(
    question: Question, parts: Sequence[Part], level: int, ids: UInt32, span: TimeSpan
) -> _Pieces:
    rolled: Rolled = read_rollups(question.cursor, [part.part_id for part in parts], level, ids, span)
    return _Pieces(question.places(rolled.series_id), rolled.start, rolled.partials)


def _concat(pieces: Sequence[_Pieces]) -> _Pieces:
    return _Pieces(
        np.concatenate([one.place for one in pieces]),
        np.concatenate([one.start for one in pieces]),
        concat_partials([one.partials for one in pieces]),
    )


def _resolve(
    question: Question,
    view: View,
    source: dict[int, int],
    pieces: list[_Pieces],
    width: int,
    span: TimeSpan,
) -> list[_Pieces]:
    """Compute the cells anew in which partials overlap in time: late samples lie between those of a rollup.

    What retention left as rollups alone stays as it is, in the order of its first times.
    """
    joined = _concat(pieces)
    cell = joined.start // width
    torn = _overlapping(joined, cell)
    if not len(torn):
        return pieces
    ids = question.ids[np.unique(torn[:, 0])]
    touched = TimeSpan(
        max(span.from_ns, int(torn[:, 1].min()) * width), min(span.to_ns, (int(torn[:, 1].max()) + 1) * width)
    )
    places, rows = question.rows(view, ids, touched, values_only=True)
    inside = _among(places, rows.source_time // width, torn)
    rows, places = rows.take(inside), places[inside]
    bare = [part for part in view.parts if part.file is None]
    kept = np.flatnonzero(~_mask_among(joined.place, cell, torn))
    again = [
        _of_samples(places, rows.source_time, rows.value, rows.quality, width),
        _Pieces(joined.place[kept], joined.start[kept], joined.partials.take(kept)),
    ]
    for level in {source[part.part_id] for part in bare}:
        left = _of_rollups(
            question, [part for part in bare if source[part.part_id] == level], level, ids, touched
        )
        rows_left = _among(left.place, left.start // width, torn)
        again.append(_Pieces(left.place[rows_left], left.start[rows_left], left.partials.take(rows_left)))
    return again


def _overlapping(joined: _Pieces, cell: Int64) -> Int64:
    """Return int64[k, 2]: the places and cells in which partials overlap."""
    live = np.flatnonzero(joined.partials.count)
    first, last = joined.partials.first_time[live], joined.partials.last_time[live]
    place, number = joined.place[live].astype(np.int64), cell[live]
    order = np.lexsort((first, number, place))
    place, number, first, last = place[order], number[order], first[order], last[order]
    torn = (place[1:] == place[:-1]) & (number[1:] == number[:-1]) & (first[1:] <= last[:-1])
    rows = np.flatnonzero(torn)
    return (
        np.unique(np.stack([place[rows], number[rows]], axis=1), axis=0)
        if len(rows)
        else np.empty((0, 2), np.int64)
    )


def _mask_among(place: UInt32, cell: Int64, torn: Int64) -> npt.NDArray[np.bool_]:
    low = int(torn[:, 1].min())
    many = int(torn[:, 1].max()) - low + 1
    keys = torn[:, 0] * many + (torn[:, 1] - low)
    inside = (cell >= low) & (cell < low + many)
    mask: npt.NDArray[np.bool_] = inside & np.isin(place.astype(np.int64) * many + (cell - low), keys)
    return mask


def _among(place: UInt32, cell: Int64, torn: Int64) -> npt.NDArray[np.intp]:
    return np.flatnonzero(_mask_among(place, cell, torn))
