"""Rollups: the partial aggregates of each part by minute and hour, in table ``rollup``.

A rollup belongs to one part and says what that part's samples say, nothing else: so a rewritten part brings its own, and
late samples, which lie in another part or hot, never make one wrong. A reader merges those that lie one after the
other and goes back to the samples where they overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np

from ingest_service.stores.buckets import NO_PARTIALS, Grid, Partials, concat_partials, partials_of
from ingest_service.stores.duckdb_catalog import DAY_NS
from ingest_service.stores.duckdb_rows import Rows
from ingest_service.stores.duckdb_schema import PARTIAL_COLUMNS
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import Int64, UInt32

MINUTE: Final = 1
HOUR: Final = 2
WIDTHS: Final = {MINUTE: 60 * 1_000_000_000, HOUR: 3600 * 1_000_000_000}
WORTH: Final = {MINUTE: 120, HOUR: 32}
"""Samples that a rollup must stand for on average: below, the samples themselves are read as quickly and cost less."""
_HOPELESS: Final = 4
"""Pieces of a part differ; one with so many times fewer samples to an hour will hardly be made up for by the others."""


class Rolled(NamedTuple):
    """Rollups of one level: ``n`` of them, sorted by the order of the series, then time."""

    series_id: UInt32
    start: Int64
    partials: Partials


NOTHING_ROLLED: Final = Rolled(np.empty(0, np.uint32), np.empty(0, np.int64), NO_PARTIALS)


def roll_up(rows: Rows, level: int) -> Rolled:
    """Return the rollups of sorted samples of one UTC day."""
    if not rows.n:
        return NOTHING_ROLLED
    width = WIDTHS[level]
    day = int(rows.source_time[0]) // DAY_NS * DAY_NS
    # The days at both ends of int64 are not whole.
    edges = [min(max(day + step * width, -(2**63)), 2**63 - 1) for step in range(DAY_NS // width + 1)]
    grid = Grid(np.array(edges, np.int64), width)
    series, bucket, partials = partials_of(rows.series_id, rows.source_time, rows.value, rows.quality, grid)
    return Rolled(series.astype(np.uint32), grid.edges[bucket], partials)


def levels_for(series: int, samples: int) -> tuple[int, ...]:
    """Return the levels that can be worth it for a run: each of its series has one rollup at least."""
    return tuple(level for level, worth in WORTH.items() if series * worth <= samples)


class Roller:
    """Rolls up the samples of a part piece by piece, for those of some levels that are worth it."""

    def __init__(self, levels: Sequence[int]) -> None:
        self._levels: dict[int, list[Rolled]] = {level: [] for level in levels}
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Take further samples, sorted, of series of which none was taken before."""
        self._rows += rows.n
        # A part has all rollups of a level or none.
        if MINUTE in self._levels and not _worth(rows, MINUTE):
            del self._levels[MINUTE]
        if HOUR in self._levels and not _worth(rows, HOUR, _HOPELESS):
            del self._levels[HOUR]
        for level, rolled in self._levels.items():
            rolled.append(roll_up(rows, level))

    def finish(self) -> dict[int, Rolled]:
        """Return the levels that are worth keeping."""
        levels = {level: _join(parts) for level, parts in self._levels.items()}
        hours = levels.get(HOUR)
        if hours and len(hours.start) * WORTH[HOUR] > self._rows:
            del levels[HOUR]
        return levels


def _worth(rows: Rows, level: int, share: int = 1) -> bool:
    if not rows.n:
        return True
    cells = rows.source_time // WIDTHS[level]
    changes = np.count_nonzero((cells[1:] != cells[:-1]) | (rows.series_id[1:] != rows.series_id[:-1]))
    return bool((changes + 1) * WORTH[level] <= share * rows.n)


def _join(parts: Sequence[Rolled]) -> Rolled:
    parts = [one for one in parts if len(one.start)]
    if not parts:
        return NOTHING_ROLLED
    return Rolled(
        np.concatenate([one.series_id for one in parts]),
        np.concatenate([one.start for one in parts]),
        concat_partials([one.partials for one in parts]),
    )


def insert_rollups(cursor: duckdb.DuckDBPyConnection, part_id: int, levels: dict[int, Rolled]) -> None:
    """Store the rollups of a part, in the caller's transaction."""
    for level, rolled in levels.items():
        n = len(rolled.start)
        if not n:
            continue
        columns: dict[str, Any] = {
            "part_id": np.full(n, part_id, np.int64),
            "level": np.full(n, level, np.uint8),
            "series_id": rolled.series_id,
            "start": rolled.start,
        }
        columns.update({name: getattr(rolled.partials, name) for name in PARTIAL_COLUMNS})
        cursor.execute("INSERT INTO rollup SELECT * FROM columns")
        del columns


def read_rollups(
    cursor: duckdb.DuckDBPyConnection, part_ids: Sequence[int], level: int, ids: UInt32, span: TimeSpan
) -> Rolled:
    """Return the rollups of some parts and series that begin inside a span, unsorted."""
    if not len(part_ids) or not len(ids):
        return NOTHING_ROLLED
    wanted: dict[str, Any] = {"series_id": ids}
    chosen: dict[str, Any] = {"part_id": np.array(part_ids, np.int64)}
    found = cursor.execute(
        f"SELECT series_id, start, {', '.join(PARTIAL_COLUMNS)} FROM rollup "  # noqa: S608 - our own names
        "WHERE level = $level AND part_id IN (SELECT part_id FROM chosen) "
        "AND part_id BETWEEN $low AND $high "
        "AND series_id IN (SELECT series_id FROM wanted) AND start >= $begin AND start < $end",
        {
            "level": level,
            "low": min(part_ids),
            "high": max(part_ids),
            "begin": span.from_ns,
            "end": span.to_ns,
        },
    ).fetchnumpy()
    del wanted, chosen
    columns: list[Any] = [
        np.ascontiguousarray(np.ma.getdata(found[name]), np.int64)
        if name in {"count", "bad", "first_time", "last_time"}
        else np.ma.filled(np.ma.asarray(found[name], np.float64), np.nan)
        for name in PARTIAL_COLUMNS
    ]
    return Rolled(
        np.ascontiguousarray(np.ma.getdata(found["series_id"]), np.uint32),
        np.ascontiguousarray(np.ma.getdata(found["start"]), np.int64),
        Partials(*columns),
    )
