"""Reading from the embedded store: each query on a cursor of its own, so that none waits for a commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from ingest_service.stores import Buckets, Raw, Run, SeriesInfo, TimeSpan
from shopfloor.block import NO_TEXT, Float64, SampleBlock


def read_samples(
    cursor: duckdb.DuckDBPyConnection, series: Sequence[SeriesInfo], span: TimeSpan, limit: int
) -> Raw:
    """Return at most ``limit`` samples, sorted by (series, source time)."""
    wanted = {"series_id": np.array([one.id for one in series], dtype=np.uint32)}
    found = cursor.execute(
        "SELECT series_id, source_time, received_time, value, quality, status, text FROM sample "
        "WHERE series_id IN (SELECT series_id FROM wanted) AND source_time >= ? AND source_time < ? "
        "ORDER BY series_id, source_time, received_time LIMIT ?",
        [*span, limit + 1],
    ).fetchnumpy()
    del wanted
    n = len(found["series_id"])
    truncated = n > limit
    if truncated:
        found = {name: column[:limit] for name, column in found.items()}
    present, index = _positions(series, found["series_id"])
    block = SampleBlock(
        tuple(one.key for one in present),
        index,
        _plain(found["source_time"], np.int64),
        _plain(found["received_time"], np.int64),
        _floats(found["value"]),
        _plain(found["quality"], np.uint8),
        _plain(found["status"], np.uint32),
        _texts(found["text"]),
    )
    return Raw(present, block, truncated)


def downsample(
    cursor: duckdb.DuckDBPyConnection,
    series: Sequence[SeriesInfo],
    span: TimeSpan,
    every_ns: int,
    limit: int,
) -> Buckets:
    """Return count, min, max, mean, first and last per series and bucket."""
    wanted = {"series_id": np.array([one.id for one in series], dtype=np.uint32)}
    # Floor division also before 1970: % takes the dividend's sign.
    found = cursor.execute(
        "SELECT series_id, source_time - ((source_time % $every) + $every) % $every AS start, count(*) AS count, "
        "min(value) AS minimum, max(value) AS maximum, avg(value) AS mean, "
        "arg_min(value, source_time) AS first, arg_max(value, source_time) AS last FROM sample "
        "WHERE series_id IN (SELECT series_id FROM wanted) AND source_time >= $begin AND source_time < $end "
        "AND value IS NOT NULL AND quality < 2 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $limit",
        {"every": every_ns, "begin": span.from_ns, "end": span.to_ns, "limit": limit},
    ).fetchnumpy()
    del wanted
    present, index = _positions(series, found["series_id"])
    return Buckets(
        present,
        index,
        _plain(found["start"], np.int64),
        _plain(found["count"], np.int64),
        _floats(found["minimum"]),
        _floats(found["maximum"]),
        _floats(found["mean"]),
        _floats(found["first"]),
        _floats(found["last"]),
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


def _positions(
    series: Sequence[SeriesInfo], ids: npt.NDArray[Any]
) -> tuple[tuple[SeriesInfo, ...], npt.NDArray[np.uint32]]:
    present_ids, index = np.unique(_plain(ids, np.int64), return_inverse=True)
    by_id = {one.id: one for one in series}
    return tuple(by_id[number] for number in present_ids.tolist()), index.astype(np.uint32)


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
