"""Reads an embedded store that no service runs, in chunks that are the same ones whenever it is read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from ingest_service.config import StoreConfig
from ingest_service.stores import TimeSpan
from ingest_service.stores.duckdb_catalog import DAY_NS, Part, view_of
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_rows import Rows, concat_rows, order_of
from ingest_service.stores.duckdb_schema import Tuning, connect, load_series
from shopfloor.block import NO_TEXT, Int64, SampleBlock, UInt32
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey

_SECOND_NS: Final = 10**9
_LAST_NS: Final = 2**63 - 1


class Chunk(NamedTuple):
    """Some series of a UTC day, or a part of one series' day."""

    day: int
    """Counted from 1970."""
    number: int
    """Its place in the day, from 0."""
    places: UInt32
    """Its series, as they stand in `EmbeddedSource.keys`, by key."""
    span: TimeSpan
    samples: int
    """How many; where a series' day is cut, its pieces are taken for equal."""


class EmbeddedSource:
    """An embedded store, held so that no service opens it meanwhile. For one thread.

    Args:
        data: the service's data folder.
        config: its share of the machine.

    Raises:
        StoreUnavailable: there is none, or a service runs on it.
    """

    def __init__(self, data: Path, config: StoreConfig) -> None:
        path = data / "samples.duckdb"
        if not path.exists():
            raise StoreUnavailable(f"{path}: there is no embedded store")
        try:
            self._connection = connect(path, Tuning(config.memory_bytes, config.threads))
        except StoreUnavailable as error:
            if "lock" in str(error).lower():
                raise StoreUnavailable(
                    f"{path}: a service runs on it; stop it first (agents keep what they have meanwhile)"
                ) from error
            raise
        self._folder = path.with_suffix("")
        self._files = PartReader(self._folder)
        self._view = view_of(self._connection)
        self.keys: list[SeriesKey] = load_series(self._connection)
        """Series ``i + 1`` of the store stands at ``i``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.hot.close()
        self._connection.close()

    def rollups_alone(self) -> int:
        """Return how many days there are of which retention has left nothing but rollups."""
        return len({part.day for part in self._view.parts if part.file is None})

    def ledger(self) -> list[tuple[Any, ...]]:
        """Return the ledger's rows: stream, agent, first and last seq, stored, rejected, received at (UTC ns)."""
        return self._connection.execute(
            "SELECT stream_id, agent_id, first_seq, last_seq, stored, rejected, received_at FROM batch "
            "ORDER BY stream_id, first_seq"
        ).fetchall()

    def chunks(self, most: int, since: int | None = None) -> list[Chunk]:
        """Return everything that there is to read, by day, in chunks of about ``most`` samples.

        Args:
            most: samples; a series' whole second is never cut.
            since: first day, counted from 1970; None for all.
        """
        order = np.array(sorted(range(len(self.keys)), key=self.keys.__getitem__), np.uint32)
        hot = self._hot_counts()
        days = sorted({*hot, *(part.day for part in self._view.parts if part.file is not None)})
        found: list[Chunk] = []
        for day in days:
            if since is not None and day < since:
                continue
            counts = np.zeros(len(self.keys), np.int64)
            for part in self._parts(day):
                counts += self._files.index(part.file or "").counts(
                    np.arange(1, len(self.keys) + 1, dtype=np.uint32)
                )
            if day in hot:
                places, numbers = hot[day]
                counts[places] += numbers
            found += [
                Chunk(day, number, *rest) for number, rest in enumerate(_cut(day, order, counts[order], most))
            ]
        return found

    def read(self, chunk: Chunk) -> SampleBlock:
        """Return a chunk's samples by (series, source time), of equal ones the earliest received first.

        The block's ``series_index`` means ``chunk.places``; it has no table of its own.
        """
        ids = chunk.places + np.uint32(1)
        rows = concat_rows(
            [
                *(
                    self._files.read(part.file or "", ids, _inside(part, chunk.span))
                    for part in self._parts(chunk.day)
                ),
                self._files.hot.rows(self._view.hot, ids, chunk.span),
            ]
        )
        by_place = np.zeros(len(self.keys) + 1, np.uint32)
        by_place[ids] = np.arange(len(ids), dtype=np.uint32)
        index = by_place[rows.series_id]
        order = order_of(index, rows)
        if order is not None:
            index, rows = index[order], rows.take(order)
        order = _earliest_first(index, rows)
        if order is not None:
            index, rows = index[order], rows.take(order)
        text = (
            {}
            if rows.text is None
            else {row: one for row, one in enumerate(rows.text.tolist()) if one is not None}
        )
        return SampleBlock(
            (),
            index,
            np.ascontiguousarray(rows.source_time),
            np.ascontiguousarray(rows.received_time),
            np.ascontiguousarray(rows.value),
            np.ascontiguousarray(rows.quality),
            np.ascontiguousarray(rows.status),
            text or NO_TEXT,
        )

    def _parts(self, day: int) -> Iterator[Part]:
        return (part for part in self._view.parts if part.day == day and part.file is not None)

    def _hot_counts(self) -> dict[int, tuple[Int64, Int64]]:
        """Return day -> places of series and how many hot samples each has."""
        by_day: dict[int, tuple[Int64, Int64]] = {}
        for rows in self._files.hot.pieces(self._view.hot):
            days = rows.source_time // DAY_NS
            for day in np.unique(days).tolist():
                total = np.bincount(rows.series_id[days == day], minlength=len(self.keys) + 1)[1:]
                if day in by_day:
                    total[by_day[day][0]] += by_day[day][1]
                places = np.flatnonzero(total)
                by_day[day] = places, total[places]
        return by_day


def _cut(day: int, order: UInt32, counts: Int64, most: int) -> Iterator[tuple[UInt32, TimeSpan, int]]:
    """Cut a day into neighbouring series, and the day of a series that is too long by time."""
    whole = TimeSpan(max(-_LAST_NS - 1, day * DAY_NS), min(_LAST_NS, (day + 1) * DAY_NS))
    there = np.flatnonzero(counts)
    begin, total = 0, 0
    for at, count in enumerate(counts[there].tolist()):
        if at > begin and total + count > most:
            yield order[there[begin:at]], whole, total
            begin, total = at, 0
        if count > most:
            for number, span in enumerate(spans := _pieces(whole, -(-count // most))):
                share = count * (number + 1) // len(spans) - count * number // len(spans)
                yield order[there[at : at + 1]], span, share
            begin, total = at + 1, 0
            continue
        total += count
    if begin < len(there):
        yield order[there[begin:]], whole, total


def _pieces(whole: TimeSpan, pieces: int) -> list[TimeSpan]:
    step = -(-(DAY_NS // _SECOND_NS) // pieces) * _SECOND_NS
    return [
        TimeSpan(first, min(whole.to_ns, first + step)) for first in range(whole.from_ns, whole.to_ns, step)
    ]


def _inside(part: Part, span: TimeSpan) -> TimeSpan | None:
    return None if span.from_ns <= part.first_time and part.last_time < span.to_ns else span


def _earliest_first(index: UInt32, rows: Rows) -> np.ndarray[Any, Any] | None:
    """Return the permutation that puts sorted samples of one series and time in the order of their receipt.

    What is the first one stays the first one when others come later: a server holds that one, and only that one.
    """
    same = (index[1:] == index[:-1]) & (rows.source_time[1:] == rows.source_time[:-1])
    tied = np.flatnonzero(same)
    if not len(tied):
        return None
    involved = np.union1d(tied, tied + 1)
    order = np.arange(rows.n)
    received, time, place = rows.received_time[involved], rows.source_time[involved], index[involved]
    order[involved] = involved[np.lexsort((received, time, place))]
    return order
