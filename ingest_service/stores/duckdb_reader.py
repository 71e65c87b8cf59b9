"""Reading from the embedded store: each query on a cursor of its own, so that none waits for a commit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from ingest_service.stores import Buckets, Grid, Position, Raw, Run, SeriesInfo, TimeSpan
from ingest_service.stores.buckets import partials_of
from shopfloor.block import NO_TEXT, Float64, SampleBlock


def read_samples(
    cursor: duckdb.DuckDBPyConnection,
    series: Sequence[SeriesInfo],
    span: TimeSpan,
    limit: int,
    after: Position | None = None,
) -> Raw:
    """Return at most ``limit`` samples of series that are sorted by key, sorted as they are and by source time."""
    skip = 0
    resumed = span.from_ns
    if after is not None:
        series = series[bisect_left(series, after[:2], key=lambda one: one.key) :]
        if series and series[0].key == after[:2]:
            resumed, skip = max(resumed, after.source_time), after.rows if after.source_time >= resumed else 0
    wanted = {
        "series_id": np.array([one.id for one in series], dtype=np.uint32),
        "place": np.arange(len(series), dtype=np.uint32),
    }
    found = cursor.execute(
        "SELECT place, source_time, received_time, value, quality, status, text FROM sample "
        "JOIN wanted USING (series_id) WHERE source_time >= $begin AND source_time < $end "
        "AND (place > 0 OR source_time >= $resumed) "
        "ORDER BY place, source_time, received_time, value, quality, status, text LIMIT $limit OFFSET $skip",
        {
            "begin": span.from_ns,
            "end": span.to_ns,
            "resumed": resumed,
            "limit": limit + 1,
            "skip": skip,
        },
    ).fetchnumpy()
    del wanted
    n = len(found["place"])
    truncated = n > limit
    if truncated:
        found = {name: column[:limit] for name, column in found.items()}
    return _raw(series, found, truncated=truncated)


def read_before(
    cursor: duckdb.DuckDBPyConnection, series: Sequence[SeriesInfo], at_ns: int, within_ns: int
) -> Raw:
    """Return the newest usable sample of each series before a moment."""
    wanted = {
        "series_id": np.array([one.id for one in series], dtype=np.uint32),
        "place": np.arange(len(series), dtype=np.uint32),
    }
    found = cursor.execute(
        "SELECT place, max_by((source_time, received_time, value, quality, status, text), source_time) AS newest, "
        "newest[1] AS source_time, newest[2] AS received_time, newest[3] AS value, newest[4] AS quality, "
        "newest[5] AS status, newest[6] AS text FROM sample JOIN wanted USING (series_id) "
        "WHERE source_time >= ? AND source_time < ? AND quality < 2 AND (value IS NOT NULL OR text IS NOT NULL) "
        "GROUP BY place ORDER BY place",
        [max(-(2**63), at_ns - within_ns), at_ns],
    ).fetchnumpy()
    del wanted
    return _raw(series, found, truncated=False)


def downsample(
    cursor: duckdb.DuckDBPyConnection, series: Sequence[SeriesInfo], grid: Grid, limit: int
) -> Buckets:
    """Return the partial aggregates per series and bucket."""
    raw = read_samples(cursor, series, grid.span, 2**62)
    block = raw.block
    index, bucket, parts = partials_of(
        block.series_index, block.source_time, block.value, block.quality, grid
    )
    truncated = len(index) > limit
    return Buckets(
        raw.series,
        index[:limit].astype(np.uint32),
        bucket[:limit],
        grid,
        parts.take(slice(0, limit)),
        truncated,
    )


def newest_rows(cursor: duckdb.DuckDBPyConnection, tolerance_ns: int) -> dict[str, npt.NDArray[Any]]:
    """Return the newest row of every series as columns, for the start; sums saturate as the live table's do."""
    return dict(
        cursor.execute(
            "SELECT series_id, max_by((source_time, received_time, value, quality, text), "
            "least(source_time, least(received_time, 9223372036854775807 - $tolerance) + $tolerance)) AS newest, "
            "newest[1] AS source_time, newest[2] AS received_time, newest[3] AS value, newest[4] AS quality, "
            "newest[5] AS text FROM sample GROUP BY series_id",
            {"tolerance": tolerance_ns},
        ).fetchnumpy()
    )


def read_runs(cursor: duckdb.DuckDBPyConnection, stream_id: str) -> list[Run]:
    """Return a stream's ledger with neighbouring rows joined."""
    rows = cursor.execute(
        "SELECT any_value(agent_id), min(first_seq), max(last_seq), sum(stored)::BIGINT, sum(rejected)::BIGINT "
        "FROM (SELECT *, sum(begins) OVER (ORDER BY first_seq) AS run FROM (SELECT *, "
        "CASE WHEN lag(last_seq) OVER (ORDER BY first_seq) = first_seq - 1 THEN 0 ELSE 1 END AS begins "
        "FROM batch WHERE stream_id = ?)) GROUP BY run ORDER BY 2",
        [stream_id],
    ).fetchall()
    return [Run(stream_id, *row) for row in rows]


def answer(cursor: duckdb.DuckDBPyConnection) -> None:
    """Ask the simplest question."""
    cursor.execute("SELECT 1").fetchall()


def _raw(series: Sequence[SeriesInfo], found: dict[str, npt.NDArray[Any]], *, truncated: bool) -> Raw:
    places, index = np.unique(_plain(found["place"], np.int64), return_inverse=True)
    present = tuple(series[place] for place in places.tolist())
    block = SampleBlock(
        tuple(one.key for one in present),
        index.astype(np.uint32),
        _plain(found["source_time"], np.int64),
        _plain(found["received_time"], np.int64),
        _floats(found["value"]),
        _plain(found["quality"], np.uint8),
        _plain(found["status"], np.uint32),
        _texts(found["text"]),
    )
    return Raw(present, block, truncated)


def _plain(column: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.ma.getdata(column), dtype=dtype)


def _floats(column: npt.NDArray[Any]) -> Float64:
    if isinstance(column, np.ma.MaskedArray):
        filled: Float64 = np.ma.filled(column.astype(np.float64), np.nan)
        return filled
    return np.ascontiguousarray(column, dtype=np.float64)


def _texts(column: npt.NDArray[Any]) -> dict[int, str] | Any:
    if isinstance(column, np.ma.MaskedArray):
        rows = np.flatnonzero(~np.ma.getmaskarray(column))
        data = column.data
        return {row: data[row] for row in rows.tolist()} or NO_TEXT
    return {row: text for row, text in enumerate(column.tolist()) if text is not None} or NO_TEXT
