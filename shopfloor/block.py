"""The currency: blocks of samples as numpy columns. One object a block, never one a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shopfloor.signal import SeriesKey

Int64: TypeAlias = npt.NDArray[np.int64]
Float64: TypeAlias = npt.NDArray[np.float64]
UInt8: TypeAlias = npt.NDArray[np.uint8]
UInt32: TypeAlias = npt.NDArray[np.uint32]
UInt64: TypeAlias = npt.NDArray[np.uint64]


class Quality(IntEnum):
    """How far a value can be trusted; the numbers are those of the severity bits of an OPC UA StatusCode."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


# Status codes that we give ourselves where the source has none. Their top two bits are the severity of an OPC UA
# StatusCode (Part 4 §7.39); the sub-codes 0xFF0 to 0xFFF are assigned by nobody, so that a number in the column
# has one meaning.
STATUS_NO_SOURCE_TIME: Final = 0x0FF1_0000
"""Good, but the machine gave no time: the received time stands in for it."""
STATUS_CLOCK_AHEAD: Final = 0x4FF2_0000
"""Uncertain: the machine's clock is implausibly far ahead of the agent's."""
STATUS_NOT_A_NUMBER: Final = 0x8FF3_0000
"""Bad: the machine sent NaN or an infinity; the value is null."""
STATUS_NOT_CONVERTIBLE: Final = 0x8FF4_0000
"""Bad: the machine sent something that the configured signal can't be made of; the value is null."""


class Sample(NamedTuple):
    """One row of a block, for edges of the system where a row at a time is natural (tests, exports)."""

    series: SeriesKey
    source_time: int
    received_time: int
    value: float
    quality: int
    status: int
    text: str | None = None


NO_TEXT: Final[Mapping[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class SampleBlock:
    """``n`` samples as columns of equal length.

    Times are UTC nanoseconds since 1970. ``value`` holds numbers, booleans as 0 and 1, and integers exactly up
    to 2**53; NaN in it means "null or text" and nothing else: what a machine sends as NaN or infinity becomes
    null with Quality.BAD.
    """

    series: tuple[SeriesKey, ...]
    """The distinct series of this block."""
    series_index: UInt32
    """For each sample the position of its series in ``series``."""
    source_time: Int64
    """The machine's clock."""
    received_time: Int64
    """The agent's clock."""
    value: Float64
    quality: UInt8
    status: UInt32
    """The source's own status code (OPC UA StatusCode), 0 where it has none."""
    text: Mapping[int, str] = field(default_factory=lambda: NO_TEXT)
    """Row number to text, for the rows that are text."""

    def __len__(self) -> int:
        return len(self.source_time)

    def rows(self) -> Iterator[Sample]:
        """Yield the samples one by one; for tests and exports, not for the hot path."""
        text = self.text
        columns = zip(
            self.series_index.tolist(),
            self.source_time.tolist(),
            self.received_time.tolist(),
            self.value.tolist(),
            self.quality.tolist(),
            self.status.tolist(),
            strict=True,
        )
        for row, (index, source_time, received_time, value, quality, status) in enumerate(columns):
            yield Sample(
                self.series[index], source_time, received_time, value, quality, status, text.get(row)
            )

    def take(self, rows: npt.NDArray[Any]) -> SampleBlock:
        """Return the rows that ``rows`` selects: a boolean mask[n], or row numbers in the order wanted.

        The series tuple stays as it is, so that caches keyed by it go on working.
        """
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        text: Mapping[int, str] = NO_TEXT
        if self.text:
            old = self.text
            text = {new: old[row] for new, row in enumerate(numbers.tolist()) if row in old}
        return SampleBlock(
            self.series,
            self.series_index[numbers],
            self.source_time[numbers],
            self.received_time[numbers],
            self.value[numbers],
            self.quality[numbers],
            self.status[numbers],
            text,
        )


def make_block(
    series: Sequence[SeriesKey],
    series_index: npt.ArrayLike,
    source_time: npt.ArrayLike,
    received_time: npt.ArrayLike,
    value: npt.ArrayLike,
    quality: npt.ArrayLike = 0,
    status: npt.ArrayLike = 0,
    text: Mapping[int, str] = NO_TEXT,
) -> SampleBlock:
    """Build a block from anything array-like; scalars are repeated to the length of ``series_index``."""
    index = np.ascontiguousarray(series_index, dtype=np.uint32)

    def column(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        array = np.asarray(values, dtype=dtype)
        return np.ascontiguousarray(array) if array.ndim else np.full(len(index), array, dtype=dtype)

    return SampleBlock(
        tuple(series),
        index,
        column(source_time, np.int64),
        column(received_time, np.int64),
        column(value, np.float64),
        column(quality, np.uint8),
        column(status, np.uint32),
        text,
    )


def block_of(samples: Iterable[Sample]) -> SampleBlock:
    """Build a block from single samples; for tests and slow paths."""
    rows = list(samples)
    positions: dict[SeriesKey, int] = {}
    index = [positions.setdefault(sample.series, len(positions)) for sample in rows]
    return make_block(
        tuple(positions),
        index,
        [sample.source_time for sample in rows],
        [sample.received_time for sample in rows],
        [sample.value for sample in rows],
        [sample.quality for sample in rows],
        [sample.status for sample in rows],
        {row: sample.text for row, sample in enumerate(rows) if sample.text is not None},
    )


def concat(blocks: Sequence[SampleBlock]) -> SampleBlock:
    """Join blocks in order; series that stand in several of them become one."""
    if len(blocks) == 1:
        return blocks[0]
    if not blocks:
        return make_block((), [], [], [], [])
    series, indexes = _joined_index(blocks)
    text: dict[int, str] = {}
    offset = 0
    for block in blocks:
        if block.text:
            text.update({row + offset: line for row, line in block.text.items()})
        offset += len(block)
    return SampleBlock(
        series,
        np.concatenate(indexes),
        np.concatenate([block.source_time for block in blocks]),
        np.concatenate([block.received_time for block in blocks]),
        np.concatenate([block.value for block in blocks]),
        np.concatenate([block.quality for block in blocks]),
        np.concatenate([block.status for block in blocks]),
        text or NO_TEXT,
    )


def _joined_index(blocks: Sequence[SampleBlock]) -> tuple[tuple[SeriesKey, ...], list[UInt32]]:
    first = blocks[0].series
    if all(block.series is first for block in blocks):
        return first, [block.series_index for block in blocks]
    positions: dict[SeriesKey, int] = {}
    indexes: list[UInt32] = []
    maps: dict[int, UInt32] = {}
    for block in blocks:
        lookup = maps.get(id(block.series))
        if lookup is None:
            lookup = np.array(
                [positions.setdefault(key, len(positions)) for key in block.series], dtype=np.uint32
            )
            maps[id(block.series)] = lookup
        indexes.append(lookup[block.series_index] if len(lookup) else block.series_index)
    return tuple(positions), indexes


def problems(block: SampleBlock) -> list[str]:
    """Name what makes a block malformed as a whole (lengths, types, indices); an empty list means sound."""
    found: list[str] = []
    n = len(block.source_time)
    for name, dtype in _DTYPES.items():
        column = getattr(block, name)
        if column.dtype != dtype or column.shape != (n,):
            found.append(f"{name} is {column.dtype}{list(column.shape)}, expected {dtype}[{n}]")
    if not found and n and int(block.series_index.max()) >= len(block.series):
        found.append(
            f"series_index reaches {int(block.series_index.max())}, there are {len(block.series)} series"
        )
    if any(row < 0 or row >= n for row in block.text):
        found.append("text stands at a row that does not exist")
    return found


_DTYPES: Final[Mapping[str, npt.DTypeLike]] = {
    "series_index": np.dtype(np.uint32),
    "source_time": np.dtype(np.int64),
    "received_time": np.dtype(np.int64),
    "value": np.dtype(np.float64),
    "quality": np.dtype(np.uint8),
    "status": np.dtype(np.uint32),
}
