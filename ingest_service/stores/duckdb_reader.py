"""Reading from the embedded store: hot rows and files as one, each query on a cursor and a snapshot of its own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import duckdb
import numpy as np

from ingest_service.stores import Position, Raw, Run, SeriesInfo, TimeSpan
from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_catalog import Part, View, view_of
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_rows import (
    NO_ROWS,
    Rows,
    concat_rows,
    interleaved,
    order_of,
)
from shopfloor.block import NO_TEXT, Float64, Quality, SampleBlock, UInt32

LISTED_SERIES: Final = 50
"""So few series are read as a whole, however many hot rows they have."""

_SPARSE: Final = 4
"""So many times more series and pieces than rows: sorting these costs less than counting those."""


class Question:
    """Some series in a snapshot of the store.

    Args:
        cursor: with a transaction of its own, in which it sees one state of everything.
        reader: of the files.
        series: sorted by key.
    """

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, reader: PartReader, series: Sequence[SeriesInfo]
    ) -> None:
        self.cursor = cursor
        self.reader = reader
        self.series = series
        self.ids: UInt32 = np.array([one.id for one in series], np.uint32)
        self._places = np.zeros(int(self.ids.max(initial=0)) + 1, np.uint32)
        self._places[self.ids] = np.arange(len(series), dtype=np.uint32)

    def places(self, ids: UInt32) -> UInt32:
        """Return where series stand among the question's."""
        return self._places[ids]

    def sorted(self, rows: Rows) -> tuple[UInt32, Rows]:
        """Return the places of rows and the rows, sorted by both place and time."""
        places = self.places(rows.series_id)
        order = order_of(places, rows)
        return (places, rows) if order is None else (places[order], rows.take(order))

    def rows(
        self, view: View, ids: UInt32, span: TimeSpan, *, values_only: bool = False
    ) -> tuple[UInt32, Rows]:
        """Return the places and all rows of some series in a span, hot and from files, sorted by place and time."""
        parts = [
            part
            for part in view.parts
            if part.file is not None and part.last_time >= span.from_ns and part.first_time < span.to_ns
        ]
        parts.sort(key=lambda part: part.first_time)
        pieces = [
            self.reader.read(part.file, ids, _clip(part, span), values_only=values_only)
            for part in parts
            if part.file is not None
        ]
        hot = self.reader.hot.rows(view.hot, ids, span)
        follows = all(before.last_time < after.first_time for before, after in pairwise(parts))
        if hot.n and parts:
            follows &= int(hot.source_time.min()) > parts[-1].last_time
        few = len(ids) * len(pieces) > _SPARSE * (hot.n + sum(piece.n for piece in pieces))
        if not follows or few:
            return self.sorted(concat_rows([*pieces, hot]))
        # Each piece is sorted and no two overlap: where every row belongs is known without sorting.
        _, hot = self.sorted(hot)
        return interleaved([(self.places(piece.series_id), piece) for piece in (*pieces, hot) if piece.n])

    def estimate(self, view: View, parts: Sequence[Part], span: TimeSpan) -> Float64:
        """Return float64[series]: about how many rows each has in a span."""
        rows = np.zeros(len(self.ids))
        for part in parts:
            if part.file is None:
                continue
            held = part.last_time - part.first_time + 1
            asked = min(span.to_ns, part.last_time + 1) - max(span.from_ns, part.first_time)
            if asked > 0:
                rows += self.reader.index(part.file).counts(self.ids) * (asked / held)
        if len(self.ids) > LISTED_SERIES:
            for ids in self.reader.hot.series_of(view.hot, span):
                counts = np.bincount(ids, minlength=len(self._places))[: len(self._places)]
                rows += counts[self.ids]
        return rows


def _clip(part: Part, span: TimeSpan) -> TimeSpan | None:
    """Return None where a part lies in a span as a whole, so that no row needs to be looked at."""
    return None if part.first_time >= span.from_ns and part.last_time < span.to_ns else span


def chunks(estimate: Float64, most: float) -> Iterator[slice]:
    """Cut series into neighbours with about ``most`` rows together; each has at least one."""
    begin, total = 0, 0.0
    for place, rows in enumerate(estimate.tolist()):
        if place > begin and total + rows > most:
            yield slice(begin, place)
            begin, total = place, 0.0
        total += rows
    if begin < len(estimate):
        yield slice(begin, len(estimate))


def windows(parts: Sequence[Part], span: TimeSpan) -> list[TimeSpan]:
    """Cut a span where files begin, so that a long series is read piece by piece."""
    cuts = sorted({part.first_time for part in parts if span.from_ns < part.first_time < span.to_ns})
    return [TimeSpan(*pair) for pair in zip([span.from_ns, *cuts], [*cuts, span.to_ns], strict=True)]


def read_samples(
    cursor: duckdb.DuckDBPyConnection,
    reader: PartReader,
    series: Sequence[SeriesInfo],
    span: TimeSpan,
    limit: int,
    after: Position | None = None,
) -> Raw:
    """Return at most ``limit`` samples of series that are sorted by key, sorted as they are and by source time."""
    skip = 0
    begin = span.from_ns
    if after is not None:
        series = series[bisect_left(series, after[:2], key=lambda one: one.key) :]
        if series and series[0].key == after[:2] and after.source_time >= begin:
            begin, skip = after.source_time, after.rows
    question = Question(cursor, reader, series)
    view = view_of(cursor, span)
    wanted = limit + skip + 1
    estimate = question.estimate(view, view.parts, span)
    places: list[UInt32] = []
    found: list[Rows] = []
    got, first, widening = 0, 0, 1.0
    while first < len(series) and got < wanted:
        # The estimate assumes even times; where it promised too much, more series are read at once.
        room = max(1000.0, (wanted - got) * 1.1) * widening
        chunk = next(chunks(estimate[first:], room))
        last, whole = first + chunk.stop, span
        if first == 0 and begin > span.from_ns:
            last, whole = 1, TimeSpan(begin, span.to_ns)
        promised, before = float(estimate[first:last].sum()), got
        alone = last - first == 1 and promised > 2 * room
        for window in windows(view.parts, whole) if alone else [whole]:
            place, rows = question.rows(view, question.ids[first:last], window)
            places.append(place)
            found.append(rows)
            got += rows.n
            if got >= wanted:
                break
        if got - before < promised / 2:
            widening = min(1e6, widening * 4)
        first = last
    rows = concat_rows(found).take(slice(skip, wanted))
    index = np.concatenate(places or [np.empty(0, np.uint32)])[skip:wanted]
    return raw_of(series, index[:limit], rows.take(slice(0, limit)), truncated=rows.n > limit)


def read_before(
    cursor: duckdb.DuckDBPyConnection,
    reader: PartReader,
    series: Sequence[SeriesInfo],
    at_ns: int,
    within_ns: int,
) -> Raw:
    """Return the newest usable sample of each series before a moment."""
    span = TimeSpan(max(-(2**63), at_ns - within_ns), at_ns)
    question = Question(cursor, reader, series)
    view = view_of(cursor, span)
    places, rows = _last_of_each(question, _usable(reader.hot.rows(view.hot, question.ids, span)))
    newest = np.full(len(series), -(2**63), np.int64)
    known = np.zeros(len(series), np.bool_)
    newest[places], known[places] = rows.source_time, True
    for part in sorted(view.parts, key=lambda one: one.last_time, reverse=True):
        if part.file is None:
            continue
        open_ = np.flatnonzero(~known | (newest <= part.last_time))
        if not len(open_):
            continue
        more = _usable(reader.read(part.file, question.ids[open_], _clip(part, span)))
        if more.n:
            places, rows = _last_of_each(question, concat_rows([rows, more]))
            newest[places], known[places] = rows.source_time, True
    return raw_of(series, places, rows, truncated=False)


def _usable(rows: Rows) -> Rows:
    valued = ~np.isnan(rows.value)
    if rows.text is not None:
        valued |= np.array([one is not None for one in rows.text], np.bool_)
    usable = valued & (rows.quality < Quality.BAD)
    return rows if usable.all() else rows.take(np.flatnonzero(usable))


def _last_of_each(question: Question, rows: Rows) -> tuple[UInt32, Rows]:
    if not rows.n:
        return np.empty(0, np.uint32), NO_ROWS
    places, rows = question.sorted(rows)
    last = np.append(run_starts(places)[1:], rows.n) - 1
    return places[last], rows.take(last)


def raw_of(series: Sequence[SeriesInfo], places: UInt32, rows: Rows, *, truncated: bool) -> Raw:
    """Return sorted rows as what readers get."""
    starts = run_starts(places) if len(places) else np.empty(0, np.intp)
    present = tuple(series[place] for place in places[starts].tolist())
    lengths = np.diff(np.append(starts, len(places)))
    text = NO_TEXT
    if rows.text is not None:
        text = {row: one for row, one in enumerate(rows.text.tolist()) if one is not None} or NO_TEXT
    block = SampleBlock(
        tuple(one.key for one in present),
        np.repeat(np.arange(len(present), dtype=np.uint32), lengths),
        np.ascontiguousarray(rows.source_time),
        np.ascontiguousarray(rows.received_time),
        np.ascontiguousarray(rows.value),
        np.ascontiguousarray(rows.quality),
        np.ascontiguousarray(rows.status),
        text,
    )
    return Raw(present, block, truncated)


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
