"""Reading parts: only the row groups and columns that a question needs."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_hot import HotFiles
from ingest_service.stores.duckdb_part import POWERS, TRAITS, Units, ns_per, spans_to_rows, unit_of
from ingest_service.stores.duckdb_rows import NO_ROWS, Rows, numbers_of, texts_of
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import Int64, UInt32
from shopfloor.errors import StoreUnavailable

_REMEMBERED_SERIES: Final = 4_000_000
_REMEMBERED_PARTS: Final = 512
_VALUES: Final = ["source_time", "value", "scaled", "scale", "quality"]
_ALL: Final = [*_VALUES, "delay", "delay_unit", "status", "text"]


class Index(NamedTuple):
    """Where each series stands in a file."""

    metadata: pq.FileMetaData
    ids: UInt32
    """uint32[k], in the order of the file."""
    starts: Int64
    """int64[k + 1], first rows."""
    by_id: npt.NDArray[np.intp]
    """intp[k], places in ``ids``, by id."""
    group_starts: Int64
    """int64[g + 1], first rows of the row groups."""
    empty: frozenset[str]
    """Columns that hold nothing but nulls."""
    constant: Mapping[str, int]
    """Columns that hold one value."""

    def places(self, ids: UInt32) -> npt.NDArray[np.intp]:
        """Return the places of those of ``ids`` that are there, in the file's order."""
        found = np.searchsorted(self.ids, ids, sorter=self.by_id)
        found = self.by_id[np.minimum(found, len(self.ids) - 1)]
        return np.sort(found[self.ids[found] == ids])

    def counts(self, ids: UInt32) -> Int64:
        """Return int64[len(ids)]: how many samples of each series there are."""
        found = np.searchsorted(self.ids, ids, sorter=self.by_id)
        found = self.by_id[np.minimum(found, len(self.ids) - 1)]
        counts: Int64 = np.where(self.ids[found] == ids, np.diff(self.starts)[found], 0)
        return counts


class PartReader:
    """Opens parts; remembers footers and where their series begin. Any thread."""

    def __init__(self, folder: Path) -> None:
        self.hot = HotFiles(folder)
        """The hot files beside the parts."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Index] = OrderedDict()
        self._series = 0

    def index(self, name: str) -> Index:
        """Return where the series of a file stand; raises StoreUnavailable for a file that can't be read."""
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                self._known.move_to_end(name)
                return known
        try:
            file = pq.ParquetFile(self._folder / name, memory_map=True)
            with file:
                ids = numbers_of(file.read(["series_id"], use_threads=False).column(0), np.uint32)
                metadata = file.metadata
        except (OSError, pa.ArrowException) as error:
            raise StoreUnavailable(f"{self._folder / name}: {error}") from error
        starts = run_starts(ids)
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        traits = json.loads((metadata.metadata or {}).get(TRAITS, b'{"empty": [], "constant": {}}'))
        index = Index(
            metadata,
            ids[starts],
            np.append(starts, len(ids)),
            np.argsort(ids[starts], kind="stable"),
            np.concatenate([[0], np.cumsum(np.array(groups, np.int64))]),
            frozenset(traits["empty"]),
            traits["constant"],
        )
        with self._lock:
            self._known[name] = index
            self._series += len(index.ids)
            while len(self._known) > 1 and (
                self._series > _REMEMBERED_SERIES or len(self._known) > _REMEMBERED_PARTS
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
            values_only: leave received times and status codes 0, and texts out.

        Raises:
            StoreUnavailable: the file is missing or damaged.
        """
        index = self.index(name)
        places = index.places(ids)
        if not len(places):
            return NO_ROWS
        starts, lengths = index.starts[places], np.diff(index.starts)[places]
        first_group = np.searchsorted(index.group_starts, starts, side="right") - 1
        last_group = np.searchsorted(index.group_starts, starts + lengths, side="left") - 1
        needed = np.zeros(len(index.group_starts) - 1, np.bool_)
        for first, last in set(zip(first_group.tolist(), last_group.tolist(), strict=True)):
            needed[first : last + 1] = True
        groups = np.flatnonzero(needed)
        columns = _VALUES if values_only else _ALL
        skipped_columns = {*index.empty, *index.constant, *({"scale"} if "scaled" in index.empty else ())}
        read = [one for one in columns if one not in skipped_columns]
        table = self._read(name, index, groups.tolist(), read)
        # Rows of the file become rows of what was read of it.
        group_rows = np.diff(index.group_starts)
        skipped = np.cumsum(np.where(needed, 0, group_rows))
        starts = starts - skipped[first_group]
        wanted: npt.NDArray[np.intp] | slice = slice(0, table.num_rows)
        if int(lengths.sum()) != table.num_rows:
            wanted = (
                slice(int(starts[0]), int(starts[-1] + lengths[-1]))
                if np.all(starts[1:] == starts[:-1] + lengths[:-1])
                else spans_to_rows(starts, lengths)
            )
        delayed = not values_only
        return _rows(table, index, index.ids[places], lengths, wanted, span, delayed=delayed)

    def _read(self, name: str, index: Index, groups: list[int], columns: list[str]) -> pa.Table:
        try:
            with pq.ParquetFile(self._folder / name, metadata=index.metadata, memory_map=True) as file:
                return file.read_row_groups(groups, columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise StoreUnavailable(f"{self._folder / name}: {error}") from error

    def units(self, name: str) -> Units:
        """Return the units of a file's times."""
        index = self.index(name)
        table = self._read(name, index, [0], ["delay_unit"])
        source = index.metadata.schema.to_arrow_schema().field("source_time").type.unit
        return Units(source, unit_of(table.column(0)[0].as_py()))


def _rows(
    table: pa.Table,
    index: Index,
    ids: UInt32,
    lengths: npt.NDArray[np.integer],
    wanted: npt.NDArray[np.intp] | slice,
    span: TimeSpan | None,
    *,
    delayed: bool,
) -> Rows:
    n = int(lengths.sum())
    series_id = np.repeat(ids, lengths)
    source = _times(table, "source_time")[wanted]
    if span is not None and n:
        inside = (source >= span.from_ns) & (source < span.to_ns)
        if not inside.all():
            kept = np.flatnonzero(inside)
            series_id, source = series_id[kept], source[kept]
            wanted = wanted[kept] if not isinstance(wanted, slice) else kept + wanted.start
            n = len(kept)

    def column(name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
        if name not in table.column_names:
            return np.full(n, index.constant.get(name, 0), dtype)
        return numbers_of(table.column(name), dtype)[wanted]

    text = texts_of(table.column("text")) if "text" in table.column_names else None
    received = source
    if "delay" in table.column_names:
        received = source + _delays(table, index)[wanted]
    elif delayed and (delay := index.constant.get("delay", 0)):
        received = source + delay * index.constant["delay_unit"]
    return Rows(
        series_id,
        source,
        received,
        _values(table, index)[wanted],
        column("quality", np.uint8),
        column("status", np.uint32),
        None if text is None else text[wanted],
    )


def _times(table: pa.Table, name: str) -> Int64:
    column = table.column(name)
    time: Int64 = numbers_of(column, np.int64)
    width = ns_per(column.type.unit)
    return time if width == 1 else time * width


def _delays(table: pa.Table, index: Index) -> Int64:
    delay: Int64 = numbers_of(table.column("delay"), np.int64)
    unit = index.constant.get("delay_unit", 1)
    if "delay_unit" in table.column_names and len(delay):
        unit = table.column("delay_unit")[0].as_py()
    return delay if unit == 1 else delay * unit


def _values(table: pa.Table, index: Index) -> npt.NDArray[np.float64]:
    names = table.column_names
    if "scaled" not in names:
        if "value" not in names:
            return np.full(table.num_rows, np.nan)
        return numbers_of(table.column("value"), np.float64)
    scaled = table.column("scaled")
    power: Any = POWERS[index.constant.get("scale", 0)]
    if "scale" in names:
        power = POWERS[numbers_of(table.column("scale").fill_null(0), np.int8)]
    if not scaled.null_count:
        exact: npt.NDArray[np.float64] = numbers_of(scaled, np.int64) / power
        return exact
    value: npt.NDArray[np.float64] = numbers_of(scaled.fill_null(0), np.int64) / power
    gone = scaled.is_null().to_numpy()
    value[gone] = numbers_of(table.column("value"), np.float64)[gone] if "value" in names else np.nan
    return value
