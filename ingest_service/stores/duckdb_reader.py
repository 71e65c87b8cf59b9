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
from ingest_service.stores.duckdb_pieces import Held, Piece, interleaved
from ingest_service.stores.duckdb_rows import (
    NO_ROWS,
    Rows,
    concat_rows,
    order_of,
)
from shopfloor.block import NO_TEXT, Float64, Int64, Quality, SampleBlock, UInt32

LISTED_SERIES: Final = 50
"""So few series are read as a whole, however many hot rows they have."""

_AGAIN: Final = 8
"""A part of what is wanted that may as well be read twice, or too much."""
_ESTIMATED: Final = 256
"""So many series are estimated at first, and then ever more: a page is often complete with few of all."""
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
        """Return the places of rows and all rows of some series in a span, sorted by both place and time."""
        counts, rows = self.counted(view, ids, span, values_only=values_only)
        return np.repeat(self.places(ids), counts), rows

    def counted(
        self, view: View, ids: UInt32, span: TimeSpan, *, values_only: bool = False
    ) -> tuple[Int64, Rows]:
        """Return how many rows some series have in a span, and these, hot and from files, sorted by series and time.

        Args:
            view: what counts.
            ids: the series, in the question's order.
            span: source times wanted.
            values_only: see `PartReader.read`.
        """
        parts = [
            part
            for part in view.parts
            if part.file is not None and part.last_time >= span.from_ns and part.first_time < span.to_ns
        ]
        parts.sort(key=lambda part: part.first_time)
        pieces = [
            self._piece(part, ids, span, values_only=values_only) for part in parts if part.file is not None
        ]
        hot = self.reader.hot.rows(view.hot, ids, span)
        follows = all(before.last_time < after.first_time for before, after in pairwise(parts))
        if hot.n and parts:
            follows &= int(hot.source_time.min()) > parts[-1].last_time
        pieces = [piece for piece in pieces if len(piece.ids)]
        few = len(ids) * len(pieces) > _SPARSE * (hot.n + sum(int(piece.lengths.sum()) for piece in pieces))
        if not follows or few:
            places, rows = self.sorted(concat_rows([*(piece.rows() for piece in pieces), hot]))
            edges = np.searchsorted(places, self.places(ids))
            return np.diff(np.append(edges, len(places))), rows
        # Each piece is sorted and no two overlap: where every row belongs is known without sorting.
        if hot.n:
            pieces.append(Held(self.sorted(hot)[1]))
        wanted = self.places(ids)
        among = [np.searchsorted(wanted, self.places(piece.ids)) for piece in pieces]
        return interleaved(pieces, among, ids, received=not values_only)

    def _piece(self, part: Part, ids: UInt32, span: TimeSpan, *, values_only: bool) -> Piece:
        file = part.file or ""
        if part.first_time >= span.from_ns and part.last_time < span.to_ns:
            return self.reader.piece(file, ids, values_only=values_only)
        return Held(self.reader.read(file, ids, span, values_only=values_only))

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


def enough(estimate: Float64, rows: float) -> int:
    """Return how many series have about so many rows together, at least one.

    A series of which much would be read that is not wanted stays for the next time, when it comes first.
    """
    total = np.cumsum(estimate)
    count = min(len(estimate), int(np.searchsorted(total, rows)) + 1)
    return count - 1 if count > 1 and (total[count - 1] - rows) * _AGAIN > rows else count


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
    skip, begin = 0, span.from_ns
    if after is not None:
        series = series[bisect_left(series, after[:2], key=lambda one: one.key) :]
        if series and series[0].key == after[:2] and after.source_time >= begin:
            begin, skip = after.source_time, after.rows
    question = Question(cursor, reader, series)
    view = view_of(cursor, span)
    wanted = limit + skip + 1
    # The estimate assumes even times where a part is cut.
    slack = 1.0 if all(_clip(part, span) is None for part in view.parts) else 1.1
    estimate = np.empty(0)
    counts = np.zeros(len(series), np.int64)
    found: list[Rows] = []
    got, first, widening, given = 0, 0, 1.0, 0.0
    if begin > span.from_ns:
        gone = TimeSpan(span.from_ns, min(begin, span.to_ns))
        given = float(Question(cursor, reader, series[:1]).estimate(view, view.parts, gone)[0])
    while first < len(series) and got < wanted:
        # Where the estimate promised too much, more series are read at once.
        room = max(1000.0, (wanted - got + (0.0 if first else given)) * slack) * widening
        while len(estimate) < len(series) and float(estimate[first:].sum()) < room:
            some = series[len(estimate) : 4 * len(estimate) + _ESTIMATED]
            estimate = np.append(estimate, Question(cursor, reader, some).estimate(view, view.parts, span))
        last, whole = first + enough(estimate[first:], room), span
        if first == 0 and max(given * _AGAIN, float(estimate[0])) > wanted and begin > span.from_ns:
            # Rows that were given before are read again with the series that follow, unless they are many.
            last, whole = 1, TimeSpan(begin, span.to_ns)
        promised, read = float(estimate[first:last].sum()), 0
        alone = last - first == 1 and promised > 2 * room
        for window in windows(view.parts, whole) if alone else [whole]:
            numbers, rows = question.counted(view, question.ids[first:last], window)
            read += rows.n
            if first == 0 and window.from_ns < begin:
                before = int(np.searchsorted(rows.source_time[: numbers[0]], begin))
                numbers[0] -= before
                rows = rows.take(slice(before, None))
            counts[first:last] += numbers
            found.append(rows)
            got += rows.n
            if got >= wanted:
                break
        if read < promised / 2:
            widening = min(1e6, widening * 4)
        first = last
    ends = np.clip(np.cumsum(counts), skip, skip + limit)
    rows = concat_rows(found).take(slice(skip, skip + limit))
    return raw_of(series, np.diff(ends, prepend=skip), rows, truncated=got > skip + limit)


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
    return raw_of(series, np.bincount(places, minlength=len(series)), rows, truncated=False)


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


def raw_of(series: Sequence[SeriesInfo], counts: Int64, rows: Rows, *, truncated: bool) -> Raw:
    """Return sorted rows, so many of each series, as what readers get."""
    places = np.flatnonzero(counts)
    present = tuple(series[place] for place in places.tolist())
    text = NO_TEXT
    if rows.text is not None:
        text = {row: one for row, one in enumerate(rows.text.tolist()) if one is not None} or NO_TEXT
    block = SampleBlock(
        tuple(one.key for one in present),
        np.repeat(np.arange(len(present), dtype=np.uint32), counts[places]),
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
