"""Reading parts: only the row groups and columns that a question needs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ingest_service.stores.duckdb_hot import HotFiles
from ingest_service.stores.duckdb_part import POWERS, Units, ns_per, unit_of
from ingest_service.stores.duckdb_part_index import Index, index_of
from ingest_service.stores.duckdb_pieces import Columns, Lot
from ingest_service.stores.duckdb_rows import NO_ROWS, Rows, numbers_of, texts_of
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import Int64, UInt32
from shopfloor.errors import StoreUnavailable

_REMEMBERED_BYTES: Final = 160 * 2**20
"""A merge of 22 runs, the most there are, of 350,000 series fits in and is not read again and again."""
_SERIES_BYTES: Final = 20
_REMEMBERED_PARTS: Final = 512
_VALUES: Final = ["source_time", "value", "scaled", "scale", "quality"]
_LOT_ROWS: Final = 65_536
"""Decoded at once: the columns of so many rows stay in a processor's cache until they are copied."""
_ALL: Final = [*_VALUES, "delay", "delay_unit", "status", "text"]


class PartReader:
    """Opens parts; remembers footers and where their series begin. Any thread.

    Args:
        folder: where the parts lie.
        memory_bytes: that may be taken for what is remembered of series.
    """

    def __init__(self, folder: Path, memory_bytes: int = _REMEMBERED_BYTES) -> None:
        self.hot = HotFiles(folder)
        """The hot files beside the parts."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Index] = OrderedDict()
        self._series = 0
        self._most_series = memory_bytes // _SERIES_BYTES

    def index(self, name: str) -> Index:
        """Return where the series of a file stand; raises StoreUnavailable for a file that can't be read."""
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                self._known.move_to_end(name)
                return known
        index = index_of(self._folder / name)
        with self._lock:
            if name not in self._known:
                self._series += len(index.ids)
            self._known[name] = index
            while len(self._known) > 1 and (
                self._series > self._most_series or len(self._known) > _REMEMBERED_PARTS
            ):
                _, dropped = self._known.popitem(last=False)
                self._series -= len(dropped.ids)
        return index

    def forget(self, name: str) -> None:
        """Drop what is remembered of a file that is gone."""
        with self._lock:
            dropped = self._known.pop(name, None)
            self._series -= len(dropped.ids) if dropped else 0

    def read(
        self, name: str, ids: UInt32, span: TimeSpan | None = None, *, values_only: bool = False
    ) -> Rows:
        """Return the samples of some series, in the file's order.

        Args:
            name: the file.
            ids: series numbers, in any order.
            span: source times wanted; None for all.
            values_only: leave out received times (source times stand there), status codes (0) and texts.

        Raises:
            StoreUnavailable: the file is missing or damaged.
        """
        rows = self.piece(name, ids, values_only=values_only).rows()
        if span is None or not rows.n:
            return rows
        inside = (rows.source_time >= span.from_ns) & (rows.source_time < span.to_ns)
        return rows if inside.all() else rows.take(np.flatnonzero(inside))

    def piece(self, name: str, ids: UInt32, *, values_only: bool = False) -> FilePiece:
        """Return the samples of some series as what is yet to be read, otherwise as `read` does."""
        index = self.index(name)
        return FilePiece(self._folder / name, index, index.places(ids), values_only=values_only)

    def units(self, name: str) -> Units:
        """Return the units of a file's times."""
        index = self.index(name)
        path = self._folder / name
        batch = next(_batches(path, index, [0], ["delay_unit"], 1))
        source = index.metadata.schema.to_arrow_schema().field("source_time").type.unit
        return Units(source, unit_of(batch.column(0)[0].as_py()))


def _batches(
    path: Path, index: Index, groups: list[int], columns: list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield at least the first ``rows`` rows of row groups."""
    # As many batches as there must be, of one size: what is not wanted of the last group is not decoded.
    size = -(-rows // -(-rows // _LOT_ROWS))
    try:
        # Given a path, pyarrow would look for its file system first.
        with (
            pa.memory_map(str(path)) as source,
            pq.ParquetFile(source, metadata=index.metadata, pre_buffer=False) as file,
        ):
            for batch in file.iter_batches(size, row_groups=groups, columns=columns, use_threads=False):
                yield batch
                rows -= batch.num_rows
                if rows <= 0:
                    return
    except (OSError, pa.ArrowException) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    raise StoreUnavailable(f"{path}: has fewer rows than its footer says")


class FilePiece:
    """The samples of some series of a file, decoded as they are asked for, a lot at a time; see `Piece`."""

    def __init__(self, path: Path, index: Index, places: npt.NDArray[np.intp], *, values_only: bool) -> None:
        self._path, self._index, self._values_only = path, index, values_only
        self._starts = index.starts[places]
        self.ids: UInt32 = index.ids[places]
        self.lengths: Int64 = index.starts[places + 1] - self._starts

    def rows(self) -> Rows:
        """Return all rows as one."""
        if not len(self.ids):
            return NO_ROWS
        at = np.cumsum(self.lengths) - self.lengths
        columns = Columns(int(self.lengths.sum()), received=not self._values_only)
        for lot in self.lots():
            columns.put(lot, at[lot.series] + lot.offset)
        return columns.rows(np.repeat(self.ids, self.lengths))

    def lots(self) -> Iterator[Lot]:
        """Yield all rows.

        Raises:
            StoreUnavailable: the file is missing or damaged.
        """
        if not len(self.ids):
            return
        index = self._index
        starts, ends = self._starts, self._starts + self.lengths
        first_group = np.searchsorted(index.group_starts, starts, side="right") - 1
        last_group = np.searchsorted(index.group_starts, ends, side="left") - 1
        needed = np.zeros(len(index.group_starts) - 1, np.bool_)
        for first, last in set(zip(first_group.tolist(), last_group.tolist(), strict=True)):
            needed[first : last + 1] = True
        # Rows of the file become rows of what is read of it.
        skipped = np.cumsum(np.where(needed, 0, np.diff(index.group_starts)))[first_group]
        starts, ends = starts - skipped, ends - skipped
        columns = _VALUES if self._values_only else _ALL
        left_out = {*index.empty, *index.constant, *({"scale"} if "scaled" in index.empty else ())}
        read = [one for one in columns if one not in left_out]
        begin = 0
        groups = np.flatnonzero(needed).tolist()
        for batch in _batches(self._path, index, groups, read, int(ends[-1])):
            end = begin + batch.num_rows
            some = slice(*np.searchsorted(ends, [begin], side="right"), *np.searchsorted(starts, [end]))
            if some.start < some.stop:
                first, last = np.maximum(starts[some], begin), np.minimum(ends[some], end)
                yield Lot(
                    _rows(batch, index, delayed=not self._values_only),
                    np.arange(some.start, some.stop),
                    first - begin,
                    last - first,
                    first - starts[some],
                )
            begin = end


def _rows(batch: pa.RecordBatch, index: Index, *, delayed: bool) -> Rows:
    n = batch.num_rows
    names = batch.schema.names

    def column(name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
        if name not in names:
            return np.broadcast_to(dtype(index.constant.get(name, 0)), n)
        return numbers_of(batch.column(name), dtype)

    time = batch.column("source_time")
    source = numbers_of(time, np.int64)
    if (width := ns_per(time.type.unit)) != 1:
        source = source * width
    received = source
    if "delay" in names:
        received = source + _delays(batch, index)
    elif delayed and (delay := index.constant.get("delay", 0)):
        received = source + delay * index.constant["delay_unit"]
    return Rows(
        NO_ROWS.series_id,
        source,
        received,
        _values(batch, index),
        column("quality", np.uint8),
        column("status", np.uint32),
        texts_of(batch.column("text")) if "text" in names else None,
    )


def _delays(batch: pa.RecordBatch, index: Index) -> Int64:
    delay: Int64 = numbers_of(batch.column("delay"), np.int64)
    unit = index.constant.get("delay_unit", 1)
    if "delay_unit" in batch.schema.names:
        unit = batch.column("delay_unit")[0].as_py()
    return delay if unit == 1 else delay * unit


def _values(batch: pa.RecordBatch, index: Index) -> npt.NDArray[np.float64]:
    names = batch.schema.names
    if "scaled" not in names:
        if "value" not in names:
            return np.broadcast_to(np.float64(np.nan), batch.num_rows)
        return numbers_of(batch.column("value"), np.float64)
    scaled = batch.column("scaled")
    power: Any = POWERS[index.constant.get("scale", 0)]
    if "scale" in names:
        power = POWERS[numbers_of(batch.column("scale").fill_null(0), np.int8)]
    if not scaled.null_count:
        exact: npt.NDArray[np.float64] = numbers_of(scaled, np.int64) / power
        return exact
    value: npt.NDArray[np.float64] = numbers_of(scaled.fill_null(0), np.int64) / power
    gone = scaled.is_null().to_numpy(zero_copy_only=False)
    value[gone] = numbers_of(batch.column("value"), np.float64)[gone] if "value" in names else np.nan
    return value
