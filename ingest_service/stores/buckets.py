"""Aggregates by time: grids of buckets, and partial aggregates that can be merged with their neighbours.

A partial says of some samples of one series everything that is needed to join it with the partial of the samples right
after them: so minutes become hours, hours days, and what two tiers of a store know becomes one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest_service.stores.shapes import SeriesInfo, TimeSpan
from shopfloor.block import Float64, Int64, Quality, UInt8, UInt32

MAX_EDGES: Final = 10_000_000
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1


class Grid(NamedTuple):
    """``k`` buckets: bucket ``i`` holds the source times from ``edges[i]`` (inclusive) to ``edges[i + 1]``."""

    edges: Int64
    """int64[k + 1], UTC ns, ascending. Days of a time zone stand here as its midnights."""
    every_ns: int = 0
    """The width of all buckets; 0 where they differ."""

    @property
    def span(self) -> TimeSpan:
        """All of it."""
        return TimeSpan(int(self.edges[0]), int(self.edges[-1]))

    def __len__(self) -> int:
        return len(self.edges) - 1


def regular_grid(span: TimeSpan, every_ns: int) -> Grid:
    """Return the buckets of one width that cover a span, beginning at multiples of the width since 1970.

    Raises:
        ValueError: the span is empty, or has more than MAX_EDGES buckets.
    """
    if every_ns < 1 or span.from_ns >= span.to_ns:
        raise ValueError("a grid needs a span and a width, both above 0")
    first, last = span.from_ns // every_ns, -(-span.to_ns // every_ns)
    if last - first >= MAX_EDGES:
        raise ValueError(f"{last - first} buckets are too many; {MAX_EDGES} are all")
    inner = np.arange(first + 1, last, dtype=np.int64) * every_ns
    # Multiples just outside of what int64 holds stand at its ends.
    ends = max(_LOWEST, first * every_ns), min(_HIGHEST, last * every_ns)
    return Grid(np.concatenate([[ends[0]], inner, [ends[1]]]).astype(np.int64), every_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Partials:
    """``n`` partial aggregates as columns. Usable are samples with a number whose quality is not BAD."""

    count: Int64
    """Usable samples."""
    bad: Int64
    """Samples of quality BAD; nothing else counts them."""
    minimum: Float64
    """NaN where count is 0, as are the other values; times are 0 there."""
    maximum: Float64
    sum: Float64
    first: Float64
    first_time: Int64
    """UTC ns."""
    last: Float64
    last_time: Int64
    area: Float64
    """Integral over time in value x seconds from first_time to last_time, each value held until the next one."""
    increase: Float64
    """Sum of the rises between successive values; a fall is a counter's reset: the new value is the rise then."""

    def __len__(self) -> int:
        return len(self.count)

    @property
    def mean(self) -> Float64:
        """float64[n], NaN where there is nothing."""
        mean: Float64 = np.divide(self.sum, self.count, out=np.full(len(self), np.nan), where=self.count > 0)
        return mean

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice) -> Partials:
        """Return some of them."""
        return Partials(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """``n`` aggregates, sorted by (asset, signal, time); buckets without any sample are left out."""

    series: tuple[SeriesInfo, ...]
    series_index: UInt32
    bucket: Int64
    """int64[n], places in the grid."""
    grid: Grid
    partials: Partials
    truncated: bool

    @property
    def start(self) -> Int64:
        """int64[n], begin of each bucket, UTC ns."""
        start: Int64 = self.grid.edges[self.bucket]
        return start


def seconds_between(earlier: Int64, later: Int64) -> Float64:
    """Return the seconds between times of which none of ``later`` lies before its ``earlier``; any int64 is allowed."""
    gap: Float64 = (later.view(np.uint64) - earlier.view(np.uint64)).astype(np.float64) / 1e9
    return gap


def rises(before: Float64, after: Float64) -> Float64:
    """Return how much a counter rose from one value to the next; after a reset it began at 0 (ISO 22400 counters)."""
    rise: Float64 = np.where(after >= before, after - before, after)
    return rise


def merge(parts: Partials, starts: npt.NDArray[np.integer]) -> Partials:
    """Merge runs of neighbouring partials, seams included.

    Args:
        parts: n partials; inside a run they follow one another in time without overlap.
        starts: intp[g], row numbers at which runs begin, ascending, the first one 0; none for no rows.

    Returns:
        g partials.
    """
    if len(starts) == len(parts):
        return parts
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # values near the end of float64 make infinities, no warnings
        return _merge(parts, starts)


def _merge(parts: Partials, starts: npt.NDArray[np.integer]) -> Partials:
    count, bad = np.add.reduceat(parts.count, starts), np.add.reduceat(parts.bad, starts)
    groups = len(starts)
    # Only those with a usable value take part in the chain of first, last and what lies between them.
    live = np.flatnonzero(parts.count)
    chain = parts if len(live) == len(parts) else parts.take(live)
    of_row = np.repeat(np.arange(groups), np.diff(np.append(starts, len(parts))))[live]
    begins = np.flatnonzero(np.diff(of_row, prepend=-1))
    filled = of_row[begins]
    ends = np.append(begins[1:], len(live))[: len(begins)] - 1

    inside = np.flatnonzero(of_row[1:] == of_row[:-1])
    held = seconds_between(chain.last_time[inside], chain.first_time[inside + 1])
    seam_area = np.zeros(len(live))
    seam_area[inside] = chain.last[inside] * held
    seam_rise = np.zeros(len(live))
    seam_rise[inside] = rises(chain.last[inside], chain.first[inside + 1])

    def spread(values: npt.NDArray[np.generic], empty: float) -> npt.NDArray[np.generic]:
        column = np.full(groups, empty, values.dtype)
        column[filled] = values
        return column

    def reduced(function: np.ufunc, values: Float64) -> Float64:
        return function.reduceat(values, begins) if len(begins) else values[:0]

    columns = {
        "minimum": spread(reduced(np.minimum, chain.minimum), np.nan),
        "maximum": spread(reduced(np.maximum, chain.maximum), np.nan),
        "sum": spread(reduced(np.add, chain.sum), np.nan),
        "first": spread(chain.first[begins], np.nan),
        "first_time": spread(chain.first_time[begins], 0),
        "last": spread(chain.last[ends], np.nan),
        "last_time": spread(chain.last_time[ends], 0),
        "area": spread(reduced(np.add, chain.area + seam_area), np.nan),
        "increase": spread(reduced(np.add, chain.increase + seam_rise), np.nan),
    }
    return Partials(count, bad, **columns)  # type: ignore[arg-type]


def single(source_time: Int64, value: Float64, quality: UInt8) -> Partials:
    """Return each sample as the partial of itself alone."""
    bad = quality >= Quality.BAD
    usable = ~bad & ~np.isnan(value)
    value = np.where(usable, value, np.nan)
    time = np.where(usable, source_time, 0)
    nothing = np.where(usable, 0.0, np.nan)
    return Partials(
        usable.astype(np.int64),
        bad.astype(np.int64),
        *(value, value, value, value, time, value, time, nothing, nothing),
    )


def partials_of(
    series_index: npt.NDArray[np.integer], source_time: Int64, value: Float64, quality: UInt8, grid: Grid
) -> tuple[npt.NDArray[np.integer], Int64, Partials]:
    """Compute the partials of raw columns.

    Args:
        series_index: which series each of the n samples belongs to; samples are sorted by (series, source time).
        source_time: int64[n], UTC ns; samples outside of the grid are left out.
        value: float64[n], NaN for null and text.
        quality: uint8[n].
        grid: the buckets.

    Returns:
        Series index, bucket number and partials of every bucket with a usable or BAD sample.
    """
    bucket = np.searchsorted(grid.edges, source_time, side="right") - 1
    inside = (bucket >= 0) & (bucket < len(grid))
    if not inside.all():
        series_index, source_time, value = series_index[inside], source_time[inside], value[inside]
        quality, bucket = quality[inside], bucket[inside]
    return partials_by(series_index, bucket.astype(np.int64), source_time, value, quality)


def partials_by(
    series_index: npt.NDArray[np.integer],
    bucket: Int64,
    source_time: Int64,
    value: Float64,
    quality: UInt8,
) -> tuple[npt.NDArray[np.integer], Int64, Partials]:
    """Compute the partials of sorted columns whose bucket numbers are known; see `partials_of`."""
    counted = ~np.isnan(value) | (quality >= Quality.BAD)
    if not counted.all():
        series_index, source_time, value = series_index[counted], source_time[counted], value[counted]
        quality, bucket = quality[counted], bucket[counted]
    starts = run_starts(series_index, bucket)
    merged = merge(single(source_time, value, quality), starts)
    return series_index[starts], bucket[starts], merged


def run_starts(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """Return the rows at which any of the columns differs from the row before; row 0 is one of them."""
    changed = np.zeros(len(columns[0]), np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changed)


def concat_partials(parts: list[Partials]) -> Partials:
    """Join partials in order."""
    if len(parts) == 1:
        return parts[0]
    return Partials(
        *(np.concatenate([getattr(one, name.name) for one in parts]) for name in fields(Partials))
    )


NO_PARTIALS: Final = single(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8))
