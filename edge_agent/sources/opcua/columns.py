"""Readings as columns, in the order in which they came."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.normalise import NO_TIME
from shopfloor.block import Float64, Int64, UInt32

_EPOCH_TICKS: Final = 116_444_736_000_000_000
"""1970 in 100 ns since 1601."""
_MIN_TICKS: Final = _EPOCH_TICKS - (2**63 - 1) // 100
_MAX_TICKS: Final = _EPOCH_TICKS + (2**63 - 1) // 100
"""1677 and 2262: what int64 ns can hold."""
NO_TICKS: Final = 0
"""A DateTime of 0 says that there is none (Part 6 §5.2.2.5)."""


def ns_of_ticks(ticks: int) -> int:
    """Return UTC ns for 100 ns since 1601; NO_TIME for "none" (0) and for times that int64 ns can't hold."""
    return (ticks - _EPOCH_TICKS) * 100 if _MIN_TICKS <= ticks <= _MAX_TICKS else NO_TIME


def ticks_of_ns(time_ns: int) -> int:
    """Return 100 ns since 1601 for UTC ns."""
    return time_ns // 100 + _EPOCH_TICKS


def ns_of_tick_column(ticks: Int64) -> Int64:
    """Return `ns_of_ticks` of a column."""
    result: Int64 = (ticks - _EPOCH_TICKS) * 100
    result[(ticks < _MIN_TICKS) | (ticks > _MAX_TICKS)] = NO_TIME
    return result


class Compound(NamedTuple):
    """A value that is made of others: an array, a structure, or a Variant or DataValue inside a Variant."""

    row: int
    """Whose value it is; there, it is null for now."""
    variant: bytes
    """The Variant as it came."""


class Readings(NamedTuple):
    """``n`` readings as arrays."""

    handle: UInt32
    """The client handle, which is the number of the node in the configuration."""
    source_time: Int64
    """UTC ns: the source's, else the server's; NO_TIME where neither was given."""
    value: Float64
    status: UInt32
    text: dict[int, str]
    null: npt.NDArray[np.bool_]
    """Rows whose null is meant."""
    series: UInt32
    """Whose reading it is: the node's, or an element's of its value (`Expansion`). Simply ``handle`` for plain values."""
    compound: tuple[Compound, ...] = ()
    """What has still to be taken apart."""
    not_convertible: int = 0
    integer_rounded: int = 0
    """Integers beyond 2**53 that became the nearest double."""
    element_left_out: int = 0


class Part(NamedTuple):
    """What one response, or a part of one, brought: ``n`` rows to be filled in. Times are in ticks."""

    handle: UInt32
    source: Int64
    server: Int64
    value: Float64
    status: UInt32
    null: npt.NDArray[np.bool_]


class Columns:
    """Readings under construction. Rows are numbered from 0 in the order in which they are added."""

    def __init__(self) -> None:
        self.text: dict[int, str] = {}
        self.compound: list[Compound] = []
        self.not_convertible = 0
        self.integer_rounded = 0
        self._parts: list[Part] = []
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def grow(self, count: int) -> Part:
        """Append ``count`` rows, null, Good and without time, and return them to be filled in."""
        part = Part(
            np.zeros(count, np.uint32),
            np.full(count, NO_TICKS, np.int64),
            np.full(count, NO_TICKS, np.int64),
            np.full(count, np.nan),
            np.zeros(count, np.uint32),
            np.zeros(count, np.bool_),
        )
        self._parts.append(part)
        self._rows += count
        return part

    def readings(self) -> Readings:
        """Return everything so far; it may share memory with these columns."""
        if len(self._parts) == 1:
            (whole,) = self._parts
        else:
            empty = Columns().grow(0)
            whole = Part(*(np.concatenate(columns) for columns in zip(empty, *self._parts, strict=True)))
        time = ns_of_tick_column(whole.source)
        timeless = time == NO_TIME
        if timeless.any():
            time[timeless] = ns_of_tick_column(whole.server[timeless])
        return Readings(
            whole.handle,
            time,
            whole.value,
            whole.status,
            self.text,
            whole.null,
            whole.handle,
            tuple(self.compound),
            self.not_convertible,
            self.integer_rounded,
        )

    def last_time(self) -> int:
        """Return the source time of the last reading as `readings` does; raises IndexError where there is none."""
        part = [part for part in self._parts if len(part.handle)][-1]
        time = ns_of_ticks(int(part.source[-1]))
        return ns_of_ticks(int(part.server[-1])) if time == NO_TIME else time
