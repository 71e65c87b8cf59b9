"""Rewriting: hot rows become parts, small parts larger ones. Every step is one transaction; a crash undoes it.

A file is durable before the transaction that names it begins, and counts with that transaction's commit, which forgets
at the same time what the file replaces. What nobody names is removed at the next start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import duckdb
import numpy as np

from ingest_service.stores.duckdb_catalog import DAY_NS, Part, delete_parts, insert_parts
from ingest_service.stores.duckdb_hot_file import Hot
from ingest_service.stores.duckdb_part import Units, slices_of, units_of
from ingest_service.stores.duckdb_rollup import insert_rollups, levels_for
from ingest_service.stores.duckdb_rows import Rows, concat_rows, order_of
from ingest_service.stores.duckdb_run import Workshop, Written, discard, write_run
from shopfloor.block import Int64, UInt32

PIECE_ROWS: Final = 500_000
MOST_STAYING: Final = 200_000
"""Rows of days with few of them that may stay hot together."""


class Absorbed(NamedTuple):
    """The rows of hot files as they are to be."""

    hots: tuple[Hot, ...]
    written: list[Written]
    stayed: Hot | None
    """A file of the rows that stay hot."""


def absorb(shop: Workshop, hots: Sequence[Hot], *, everything: bool) -> Absorbed:
    """Write the rows of hot files, which nobody writes to any more, as parts; `commit_absorbed` lets them count.

    Args:
        shop: the workshop.
        hots: closed generations, and rows that stayed hot before.
        everything: write also days with few rows.
    """
    started = time.monotonic()
    rows = shop.files.hot.rows(hots)
    order = order_of(shop.index.ranks()[rows.series_id], rows)
    shop.at("absorb: sorted")
    shop.rest(time.monotonic() - started)
    group = _day_of(rows.source_time) * len(shop.classes.names) + shop.classes.of_series()[rows.series_id]
    numbers, counts = _distinct(group)
    few = counts < (0 if everything else shop.least_rows)
    if int(counts[few].sum()) > MOST_STAYING:
        few[:] = False
    written: list[Written] = []
    try:
        for number in numbers[~few].tolist():
            day, keeping = divmod(number, len(shop.classes.names))
            chosen, arranged = rows, order
            if len(numbers) > 1:
                ours = group == number
                chosen = rows.take(np.flatnonzero(ours) if order is None else order[ours[order]])
                arranged = None
            pieces = slices_of(chosen, PIECE_ROWS, arranged)
            levels = levels_for(int(np.count_nonzero(np.bincount(chosen.series_id))), chosen.n)
            written += write_run(shop, pieces, units_of(chosen), shop.classes.names[keeping], day, levels)
        stayed = None
        if few.any():
            staying = rows.take(np.flatnonzero(np.isin(group, numbers[few])))
            stayed = shop.files.hot.put(-shop.next_id(), staying)
    except BaseException:
        discard(shop, written)
        raise
    return Absorbed(tuple(hots), written, stayed)


def commit_absorbed(shop: Workshop, cursor: duckdb.DuckDBPyConnection, absorbed: Absorbed) -> None:
    """Let the parts of hot files and the rows that stay hot count, and the files no more."""
    # Newest values stand in memory only after their commit: so what is kept here is durable, or hot as well.
    newest = shop.newest.of(np.arange(1, len(shop.index) + 1))
    shop.at("absorb: before commit")
    cursor.execute("BEGIN TRANSACTION")
    try:
        _insert_written(cursor, absorbed.written)
        if absorbed.stayed is not None:
            cursor.execute("INSERT INTO hot VALUES (?, ?, ?)", list(absorbed.stayed))
        ids = newest.series_id.astype(np.uint32)
        numbers = {
            "series_id": ids,
            "source_time": newest.source_time,
            "received_time": newest.received_time,
            "value": newest.value,
            "quality": newest.quality,
        }
        cursor.execute("DELETE FROM newest")
        cursor.execute("INSERT INTO newest SELECT *, NULL FROM numbers")
        if newest.text:
            texts = {
                "series_id": np.array(list(newest.text), np.uint32),
                "text": np.array(list(newest.text.values()), object),
            }
            cursor.execute(
                "UPDATE newest SET text = texts.text FROM texts WHERE newest.series_id = texts.series_id"
            )
            del texts
        del numbers
        for hot in absorbed.hots:
            cursor.execute("DELETE FROM hot WHERE number = ?", [hot.number])
        shop.at("absorb: in commit")
        cursor.execute("COMMIT")
    except BaseException:
        _roll_back(cursor)
        discard(shop, absorbed.written)
        if absorbed.stayed is not None:
            shop.files.hot.forget(absorbed.stayed.number)
        raise
    shop.at("absorb: committed")


def merge_parts(shop: Workshop, cursor: duckdb.DuckDBPyConnection, parts: Sequence[Part]) -> list[Part]:
    """Rewrite parts of one day as one run for each retention rule, and let it count instead; return the new parts.

    Raises:
        StoreUnavailable: a file can't be read; nothing is changed.
        OSError: the disk refuses; nothing is changed.
    """
    units: Units | None = None
    for part in parts:
        assert part.file is not None
        one = shop.files.units(part.file)
        units = one if units is None else units.finest(one)
    assert units is not None
    repeats = sum(part.repeats for part in parts)
    written: list[Written] = []
    try:
        for keeping, ids, counts in _series_by_rule(shop, parts):
            pieces = _merged(shop, parts, ids, counts)
            levels = levels_for(len(ids), int(counts.sum()))
            written += write_run(shop, pieces, units, keeping, parts[0].day, levels, repeats)
            repeats = 0
        shop.at("merge: before commit")
        cursor.execute("BEGIN TRANSACTION")
        delete_parts(cursor, list(parts))
        _insert_written(cursor, written)
        shop.at("merge: in commit")
        cursor.execute("COMMIT")
    except BaseException:
        _roll_back(cursor)
        discard(shop, written)
        raise
    shop.at("merge: committed")
    return [one.part for one in written]


def _insert_written(cursor: duckdb.DuckDBPyConnection, written: Sequence[Written]) -> None:
    insert_parts(cursor, [one.part for one in written])
    for one in written:
        insert_rollups(cursor, one.part.part_id, one.levels)


def _series_by_rule(shop: Workshop, parts: Sequence[Part]) -> Iterator[tuple[str, UInt32, Int64]]:
    """Yield each rule with its series, in the order of their keys, and how many rows each has."""
    counts = np.zeros(len(shop.index) + 1, np.int64)
    for part in parts:
        assert part.file is not None
        index = shop.files.index(part.file)
        counts[index.ids] += np.diff(index.starts)
    ids = np.flatnonzero(counts)
    ids = ids[np.argsort(shop.index.ranks()[ids], kind="stable")]
    classes = shop.classes.of_series()[ids]
    for number in np.unique(classes).tolist():
        chosen = ids[classes == number]
        yield shop.classes.names[number], chosen.astype(np.uint32), counts[chosen]


def _merged(shop: Workshop, parts: Sequence[Part], ids: UInt32, counts: Int64) -> Iterator[Rows]:
    ends = np.cumsum(counts)
    begin = 0
    ranks = shop.index.ranks()
    while begin < len(ids):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + PIECE_ROWS, side="right")))
        chosen = ids[begin:end]
        rows = concat_rows([shop.files.read(part.file, chosen) for part in parts if part.file is not None])
        order = order_of(ranks[rows.series_id], rows)
        yield rows if order is None else rows.take(order)
        begin = end


def _distinct(numbers: Int64) -> tuple[Int64, Int64]:
    """Return the distinct ones among some numbers, ascending, and how often each stands there."""
    low, high = int(numbers.min(initial=2**62)), int(numbers.max(initial=0))
    if high - low >= len(numbers):
        distinct, counts = np.unique(numbers, return_counts=True)
        return distinct, counts
    # Neighbouring days need no sorting.
    counts = np.bincount(numbers - low)
    there = np.flatnonzero(counts)
    return there + low, counts[there]


def _day_of(time_ns: Int64) -> Int64:
    days: Int64 = time_ns // DAY_NS
    return days


def _roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    try:
        cursor.execute("ROLLBACK")
    except duckdb.Error:
        # The failed statement ended the transaction already, or nothing more can be said on this connection.
        return
