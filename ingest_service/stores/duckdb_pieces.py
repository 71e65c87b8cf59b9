"""Sorted rows from parts and hot files, copied straight to where they belong among the rows of other pieces.

What a large answer costs is memory that is touched for the first time: so every row is copied once, out of a lot that
fits into the processor's cache, into columns that are as long as the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_rows import Rows, Texts
from shopfloor.block import Float64, Int64, UInt8, UInt32

_LONG_RUN: Final = 200
"""Rows from which on a run is copied by itself more quickly than row by row."""


class Lot(NamedTuple):
    """Some rows of a piece, and which runs of them count; there may be others between these."""

    rows: Rows
    """n rows. A column that holds one value may have the stride 0. ``series_id`` may be empty."""
    series: npt.NDArray[np.intp]
    """intp[r], the place of each run's series among those of the piece."""
    begin: Int64
    """int64[r], first row of each run."""
    length: Int64
    """int64[r], its rows, at least one."""
    offset: Int64
    """int64[r], how many rows of its series stood in earlier lots."""


class Piece(Protocol):
    """Rows of ``k`` series, sorted by series and time."""

    @property
    def ids(self) -> UInt32:
        """uint32[k], the series' numbers."""
        ...

    @property
    def lengths(self) -> Int64:
        """int64[k], how many rows each has, at least one."""
        ...

    def lots(self) -> Iterable[Lot]:
        """Return all rows, lot by lot."""
        ...

    def rows(self) -> Rows:
        """Return all rows as one."""
        ...


class Held:
    """A piece that is in memory."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._starts = run_starts(rows.series_id)
        self.ids: UInt32 = rows.series_id[self._starts]
        self.lengths: Int64 = np.diff(np.append(self._starts, rows.n))

    def lots(self) -> Iterable[Lot]:
        """See Piece."""
        k = len(self.ids)
        return [Lot(self._rows, np.arange(k), self._starts, self.lengths, np.zeros(k, np.int64))]

    def rows(self) -> Rows:
        """See Piece."""
        return self._rows


def _empty(n: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return memory for n numbers of 8 bytes, from Arrow: it keeps large pieces for a while, numpy gives them away."""
    return np.frombuffer(pa.allocate_buffer(8 * max(1, n)), dtype)[:n]


class Columns:
    """``n`` rows that are filled run by run; quality and status are 0 and texts None until then.

    Args:
        n: rows.
        received: False where received times do not matter: they are the source times then.
    """

    def __init__(self, n: int, *, received: bool = True) -> None:
        self.n = n
        self.source_time: Int64 = _empty(n, np.int64)
        self.received_time: Int64 = _empty(n, np.int64) if received else self.source_time
        self.value: Float64 = _empty(n, np.float64)
        # np.zeros gives memory that nobody has touched yet, which costs more than to fill used memory.
        self.quality: UInt8 = np.full(n, 0, np.uint8)
        self.status: UInt32 = np.full(n, 0, np.uint32)
        self.text: Texts | None = None

    def put(self, lot: Lot, to: Int64) -> None:
        """Copy the runs of a lot to the rows ``to``, int64[r]."""
        columns: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = [
            pair
            for pair in (
                (self.source_time, lot.rows.source_time),
                (self.value, lot.rows.value),
                (self.quality, lot.rows.quality),
                (self.status, lot.rows.status),
            )
            if not _is_zero(pair[1])
        ]
        if self.received_time is not self.source_time:
            columns.append((self.received_time, lot.rows.received_time))
        if lot.rows.text is not None:
            if self.text is None:
                self.text = np.full(self.n, None, object)
            columns.append((self.text, lot.rows.text))
        _copy(columns, lot.begin, lot.length, to)

    def rows(self, series_id: UInt32) -> Rows:
        """Return them all as rows of these series, uint32[n]."""
        return Rows(
            series_id, self.source_time, self.received_time, self.value, self.quality, self.status, self.text
        )


def _is_zero(column: npt.NDArray[Any]) -> bool:
    """Return whether a column holds one value by its stride, and that is integer 0, as `Columns` begin."""
    return column.dtype.kind == "u" and column.strides == (0,) and len(column) > 0 and not column[0]


def _copy(
    columns: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]], begin: Int64, length: Int64, to: Int64
) -> None:
    n = int(length.sum())
    if n >= _LONG_RUN * len(length):
        for at, first, rows in zip(to.tolist(), begin.tolist(), length.tolist(), strict=True):
            for column, values in columns:
                column[at : at + rows] = values[first : first + rows]
        return
    before = np.cumsum(length) - length
    row = np.arange(n)
    places = row + np.repeat(to - before, length)
    wanted: npt.NDArray[np.intp] | slice = slice(int(begin[0]), int(begin[0]) + n)
    if np.any(begin - before != begin[0]):
        wanted = row + np.repeat(begin - before, length)
    for column, values in columns:
        column[places] = values[wanted]


def interleaved(
    pieces: Sequence[Piece], places: Sequence[npt.NDArray[np.intp]], ids: UInt32, *, received: bool = True
) -> tuple[Int64, Rows]:
    """Join pieces, of which none begins before the one before it ends, to rows sorted by series and time.

    Args:
        pieces: in the order of time.
        places: for each piece where its series stand among ``ids``, intp[k], ascending.
        ids: the answer's series, in its order.
        received: see Columns.

    Returns:
        How many rows each of ``ids`` has, int64[len(ids)], and the rows.
    """
    counts = np.zeros((len(pieces), len(ids)), np.int64)
    for row, (piece, where) in enumerate(zip(pieces, places, strict=True)):
        counts[row, where] = piece.lengths
    # Series by series, and within each piece by piece.
    ends = np.cumsum(counts.T.ravel()).reshape(len(ids), len(pieces)).T
    totals = counts.sum(axis=0)
    columns = Columns(int(totals.sum()), received=received)
    for piece, where, begins in zip(pieces, places, ends - counts, strict=True):
        at = begins[where]
        for lot in piece.lots():
            columns.put(lot, at[lot.series] + lot.offset)
    return totals, columns.rows(np.repeat(ids, totals))
