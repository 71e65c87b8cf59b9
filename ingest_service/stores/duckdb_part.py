"""A part: samples of one UTC day as a Parquet file, sorted by (asset, signal, source time).

`docs/store.md` describes the columns. Times stand in the coarsest unit that is exact for the whole file, values as whole
numbers with a scale wherever that is exact for all of a series: both shrink to a few bits a sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_rows import Rows
from ingest_service.stores.labels import Labels
from shopfloor.block import Float64, Int64
from shopfloor.durable import sync

DENSE_GROUP: Final = 65_536
"""Rows of a row group where series are long: what a reader of one series has to decode."""
SPARSE_GROUP: Final = 16_384
_DENSE: Final = 4_096
"""Rows of a series in a file from which on it is long."""
TRAITS: Final = b"shopfloor"
"""Key of a file's own metadata: which columns hold nothing, or one value, so that readers need not decode them."""
POWERS: Final = 10.0 ** np.arange(7)
_LARGEST: Final = float(2**53)
_UNITS: Final = (("ms", 1_000_000), ("us", 1_000), ("ns", 1))
_NS_PER: Final[Mapping[str, int]] = dict(_UNITS)
_NULL_SCALE: Final = -1


class FileInfo(NamedTuple):
    """What a finished file holds."""

    samples: int
    first_time: int
    last_time: int
    bytes: int
    sha256: str


class Units(NamedTuple):
    """The units of a file's source times and of the delays until samples were received, as Arrow names them."""

    source: str
    delay: str

    def finest(self, other: Units) -> Units:
        """Return those that are exact for both."""
        return Units(max(self.source, other.source, key=_rank), max(self.delay, other.delay, key=_rank))


def units_of(rows: Rows) -> Units:
    """Return the coarsest units that are exact for some rows."""
    return Units(_unit(rows.source_time), _unit(rows.received_time - rows.source_time))


def _rank(unit: str) -> int:
    return [name for name, _ in _UNITS].index(unit)


def _unit(time: Int64) -> str:
    for name, width in _UNITS[:-1]:
        # Most times that are not multiples show it at once.
        if not np.any(time[:64] % width) and not np.any(time % width):
            return name
    return "ns"


def scales_of(value: Float64, starts: npt.NDArray[np.intp]) -> npt.NDArray[np.int8]:
    """Return for each run of values the fewest decimals with which all are exactly whole numbers, else -1.

    ``n / 10**scale`` in float64 gives back the very value; a negative zero therefore has no scale, nor has a run
    without any number. NaN stands for nothing and does not count.
    """
    scales = np.full(len(starts), _NULL_SCALE, np.int8)
    lengths = np.diff(np.append(starts, len(value)))
    missing = np.isnan(value)
    left = np.arange(len(starts))
    for scale, power in enumerate(POWERS):
        if len(left) == len(starts):
            some, gone, begins = value, missing, starts
        else:
            rows = spans_to_rows(starts[left], lengths[left])
            some, gone = value[rows], missing[rows]
            begins = np.concatenate([[0], np.cumsum(lengths[left])[:-1]])
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(some * power)
            exact = (whole / power == some) & (np.abs(whole) < _LARGEST)
        exact &= (some != 0) | ~np.signbit(some)
        fits = np.logical_and.reduceat(exact | gone, begins)
        scales[left[fits]] = scale
        left = left[~fits]
        if not len(left):
            break
    empty = np.logical_and.reduceat(missing, starts)
    scales[empty] = _NULL_SCALE
    return scales


def spans_to_rows(starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Return the row numbers of several spans, one after the other."""
    ends = np.cumsum(lengths)
    rows = np.arange(int(ends[-1]) if len(ends) else 0)
    moved: npt.NDArray[np.intp] = rows + np.repeat(starts - (ends - lengths), lengths)
    return moved


class PartWriter:
    """Writes one file in pieces; what is not finished is removed. Samples must come sorted.

    Args:
        path: the file; it must not exist.
        units: exact for all that will come.
        labels: the assets and signals of all series.
    """

    def __init__(self, path: Path, units: Units, labels: Labels) -> None:
        self.path = path
        self.samples = 0
        self._units, self._labels = units, labels
        self._first, self._last = 2**63 - 1, -(2**63)
        self._holds = {"value": False, "scaled": False, "text": False}
        self._seen: dict[str, set[int]] = {name: set() for name in ("quality", "status", "delay", "scale")}
        path.parent.mkdir(parents=True, exist_ok=True)
        label = pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [
                pa.field("asset", label, nullable=False),
                pa.field("signal", label, nullable=False),
                pa.field("source_time", pa.timestamp(units.source), nullable=False),
                pa.field("delay", pa.int64(), nullable=False),
                pa.field("delay_unit", pa.int32(), nullable=False),
                pa.field("value", pa.float64()),
                pa.field("scaled", pa.int64()),
                pa.field("scale", pa.int8()),
                pa.field("quality", pa.uint8(), nullable=False),
                pa.field("status", pa.uint32(), nullable=False),
                pa.field("text", pa.string()),
                pa.field("series_id", pa.uint32(), nullable=False),
            ]
        )
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[
                "asset",
                "signal",
                "delay_unit",
                "scale",
                "quality",
                "status",
                "text",
                "series_id",
            ],
            column_encoding={
                "source_time": "DELTA_BINARY_PACKED",
                "delay": "DELTA_BINARY_PACKED",
                "scaled": "DELTA_BINARY_PACKED",
                "value": "BYTE_STREAM_SPLIT",
            },
            write_statistics=["source_time", "series_id"],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()

    def discard(self) -> None:
        """Remove what was written."""
        # The disk that refused the rows refuses the footer too.
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        self.path.unlink(missing_ok=True)

    def write(self, rows: Rows) -> None:
        """Write further samples, sorted, of series of which none was written before."""
        if not rows.n:
            return
        self.samples += rows.n
        self._first = min(self._first, int(rows.source_time.min()))
        self._last = max(self._last, int(rows.source_time.max()))
        starts = run_starts(rows.series_id)
        lengths = np.diff(np.append(starts, rows.n))
        scales = scales_of(rows.value, starts)
        scale = np.repeat(scales, lengths)
        number = ~np.isnan(rows.value)
        is_scaled = number & (scale >= 0)
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(rows.value * POWERS[np.maximum(scale, 0)])
        scaled = np.where(is_scaled, whole, 0).astype(np.int64)
        delay = _in_unit(rows.received_time - rows.source_time, self._units.delay)
        self._notice(rows, plain=bool(np.any(number & (scale < 0))), scaled=bool(is_scaled.any()))
        self._notice_values(quality=rows.quality, status=rows.status, delay=delay, scale=scales)
        columns = [
            *self._labels.columns(rows.series_id[starts], lengths),
            pa.array(_in_unit(rows.source_time, self._units.source)).view(pa.timestamp(self._units.source)),
            # Where the difference does not fit it wraps around, and wraps back when it is added again.
            pa.array(delay),
            pa.array(np.full(rows.n, _NS_PER[self._units.delay], np.int32)),
            pa.array(rows.value, mask=~(number & (scale < 0))),
            pa.array(scaled, mask=~is_scaled),
            pa.array(scale, mask=~is_scaled),
            pa.array(rows.quality),
            pa.array(rows.status),
            pa.nulls(rows.n, pa.string()) if rows.text is None else pa.array(rows.text, pa.string()),
            pa.array(rows.series_id),
        ]
        group = DENSE_GROUP if rows.n >= _DENSE * len(starts) else SPARSE_GROUP
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=group)

    def _notice(self, rows: Rows, *, plain: bool, scaled: bool) -> None:
        self._holds["value"] |= plain
        self._holds["scaled"] |= scaled
        self._holds["text"] |= rows.text is not None

    def _notice_values(self, **columns: npt.NDArray[np.integer]) -> None:
        for name, column in columns.items():
            if len(self._seen[name]) < 2:
                self._seen[name] |= {int(column.min()), int(column.max())}

    def finish(self) -> FileInfo:
        """End the file and make it durable."""
        constant = {name: seen.pop() for name, seen in self._seen.items() if len(seen) == 1}
        traits = {
            "empty": [name for name, held in self._holds.items() if not held],
            "constant": {**constant, "delay_unit": _NS_PER[self._units.delay]},
        }
        self._writer.add_key_value_metadata({TRAITS: json.dumps(traits)})
        self._writer.close()
        digest = make_durable(self.path)
        return FileInfo(self.samples, self._first, self._last, self.path.stat().st_size, digest)


def make_durable(path: Path) -> str:
    """Bring a file and its name to the disk; return the SHA-256 of what it holds."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    sync(path.parent)
    sync(path.parent.parent)
    return digest


def _in_unit(time: Int64, unit: str) -> Int64:
    whole: Int64 = time if unit == "ns" else time // _NS_PER[unit]
    return whole


def ns_per(unit: str) -> int:
    """Return how many nanoseconds a unit has."""
    return _NS_PER[unit]


def unit_of(ns: int) -> str:
    """Return the name of a unit of so many nanoseconds."""
    return next(name for name, width in _UNITS if width == ns)


def slices_of(rows: Rows, most: int, order: npt.NDArray[np.intp] | None = None) -> Iterator[Rows]:
    """Cut sorted rows where series change, into pieces of about ``most``.

    Args:
        rows: sorted samples, or samples that ``order`` sorts: each piece is put in order by itself then.
        most: rows.
        order: intp[n].
    """
    starts = np.append(run_starts(rows.series_id if order is None else rows.series_id[order]), rows.n)
    begin = 0
    while begin < rows.n:
        place = int(np.searchsorted(starts, begin + most, side="right")) - 1
        end = int(starts[place])
        if end <= begin:
            end = int(starts[place + 1])
        yield rows.take(slice(begin, end) if order is None else order[begin:end])
        begin = end
