"""Samples as plain columns with series numbers: what hot files, parts and their rewriting exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shopfloor.block import Float64, Int64, UInt8, UInt32

Texts: TypeAlias = npt.NDArray[np.object_]
Numbers: TypeAlias = npt.NDArray[np.integer]

_STEPS_NS: Final = (1_000_000, 1_000, 1)
COLUMNS: Final = "series_id, source_time, received_time, value, quality, status, text"
_DTYPES: Final[tuple[type[np.generic], ...]] = (
    np.uint32,
    np.int64,
    np.int64,
    np.float64,
    np.uint8,
    np.uint32,
)


class Rows(NamedTuple):
    """``n`` samples."""

    series_id: UInt32
    source_time: Int64
    received_time: Int64
    value: Float64
    """NaN where there is none, or a text."""
    quality: UInt8
    status: UInt32
    text: Texts | None = None
    """object[n] of texts and None; None where no row has a text."""

    @property
    def n(self) -> int:
        """How many."""
        return len(self.series_id)

    def take(self, rows: npt.NDArray[Any] | slice) -> Rows:
        """Return some of them, in the order asked for."""
        return Rows._make(None if column is None else column[rows] for column in self)


NO_ROWS: Final = Rows._make([*(np.empty(0, dtype) for dtype in _DTYPES), None])


def empty_rows(n: int, *, texts: bool) -> Rows:
    """Return columns for ``n`` samples that are yet to be filled; texts are None."""
    text = np.full(n, None, object) if texts else None
    return Rows._make([*(np.empty(n, dtype) for dtype in _DTYPES), text])


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Join samples in order."""
    parts = [one for one in parts if one.n]
    if len(parts) < 2:
        return parts[0] if parts else NO_ROWS
    text = None
    if any(one.text is not None for one in parts):
        text = np.concatenate(
            [one.text if one.text is not None else np.full(one.n, None, object) for one in parts]
        )
    columns: list[Any] = [np.concatenate([one[place] for one in parts]) for place in range(6)]
    return Rows._make([*columns, text])


def rows_of_arrow(table: pa.Table) -> Rows:
    """Return the rows of an Arrow table with COLUMNS."""
    columns: list[Any] = [numbers_of(table.column(place), dtype) for place, dtype in enumerate(_DTYPES)]
    return Rows._make([*columns, texts_of(table.column(6))])


def arrow_of_rows(rows: Rows) -> pa.Table:
    """Return rows as an Arrow table with COLUMNS."""
    text = pa.nulls(rows.n, pa.string()) if rows.text is None else pa.array(rows.text, pa.string())
    return pa.table([*(pa.array(column) for column in rows[:6]), text], list(Rows._fields))


def numbers_of(column: pa.ChunkedArray | pa.Array, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return a column as contiguous numbers; nulls become NaN, which only float columns have."""
    parts = [_chunk(chunk) for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])]
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0], dtype=dtype)
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)


def _chunk(chunk: pa.Array) -> npt.NDArray[Any]:
    if pa.types.is_timestamp(chunk.type):
        chunk = chunk.view(pa.int64())
    array: npt.NDArray[Any] = chunk.to_numpy(zero_copy_only=False)
    return array


def texts_of(column: pa.ChunkedArray | pa.Array) -> Texts | None:
    """Return texts as objects, None where all are null."""
    if column.null_count == len(column):
        return None
    texts = np.empty(len(column), object)
    texts[:] = column.to_pylist()
    return texts


def order_of(place: Numbers, rows: Rows) -> npt.NDArray[np.intp] | None:
    """Return the permutation that sorts rows by place and source time; None where they are sorted already.

    Samples of one place and time are put into an order that depends on nothing but themselves, so that a reader
    finds his place again whatever was rewritten meanwhile.

    Args:
        place: integers[n] below 2**32, the order of the series.
        rows: n rows.
    """
    time = rows.source_time
    order: npt.NDArray[np.intp] | None = None
    sorted_place, sorted_time = place, time
    if len(place) and not _ascending(place, time):
        order = _by_place_and_time(place, time)
        sorted_place, sorted_time = place[order], time[order]
    tied = np.flatnonzero((sorted_place[1:] == sorted_place[:-1]) & (sorted_time[1:] == sorted_time[:-1]))
    if not len(tied):
        return order
    order = np.arange(len(place)) if order is None else order
    involved = np.union1d(tied, tied + 1)
    chosen = order[involved]
    # Of what tells samples of one time apart, the time of receipt comes last: so repeats are neighbours.
    keys: list[npt.NDArray[Any]] = [
        column[chosen]
        for column in (rows.received_time, rows.status, rows.quality, rows.value.view(np.int64))
    ]
    if rows.text is not None:
        keys.insert(1, np.array(["" if one is None else one for one in rows.text[chosen]]))
    order[involved] = chosen[np.lexsort((*keys, time[chosen], place[chosen]))]
    return order


def _ascending(place: Numbers, time: Int64) -> bool:
    later = place[1:] > place[:-1]
    same = place[1:] == place[:-1]
    return bool(np.all(later | (same & (time[1:] >= time[:-1]))))


def _by_place_and_time(place: Numbers, time: Int64) -> npt.NDArray[np.intp]:
    earliest, latest = int(time.min()), int(time.max())
    # Unsigned, as the whole span of int64 does not fit into int64.
    since = time.view(np.uint64) - np.uint64(earliest % 2**64)
    unit = next(width for width in _STEPS_NS if width == 1 or not np.any(since % np.uint64(width)))
    steps = (latest - earliest) // unit
    row_bits = (len(place) - 1).bit_length()
    time_bits = steps.bit_length()
    if int(place.max()).bit_length() + time_bits + row_bits > 64:
        return np.lexsort((time, place))
    # One number for all three: numpy sorts plain numbers several times faster than it finds an order.
    keys = place.astype(np.uint64)
    keys <<= np.uint64(time_bits)
    keys |= since // np.uint64(unit)
    keys <<= np.uint64(row_bits)
    keys |= np.arange(len(place), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << row_bits) - 1)
    return keys.view(np.int64)


def repeats_in(rows: Rows) -> npt.NDArray[np.bool_]:
    """Return bool[n]: which rows of a sorted run say again what the one before says, whenever they were received."""
    same = np.zeros(rows.n, np.bool_)
    if rows.n < 2:
        return same
    time, ids = rows.source_time, rows.series_id
    same[1:] = (time[1:] == time[:-1]) & (ids[1:] == ids[:-1])
    for row in np.flatnonzero(same).tolist():
        # Few rows come this far: those of one series and time.
        same[row] = (
            rows.value.view(np.int64)[row] == rows.value.view(np.int64)[row - 1]
            and rows.quality[row] == rows.quality[row - 1]
            and rows.status[row] == rows.status[row - 1]
            and (rows.text is None or rows.text[row] == rows.text[row - 1])
        )
    return same
