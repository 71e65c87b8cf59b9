"""Columns of a SampleBlock as compact bytes, exactly reversible.

Nothing here is a general compressor: each step only lines the bytes up so that zstd finds what repeats.

- Integers: divided by the coarsest time unit that leaves no remainder, optionally delta-coded, reduced by their
  minimum, stored in the narrowest unsigned type, bytes of equal weight side by side.
- Floats: where every value is a decimal number of few places, that number as an integer; else their eight bytes.
- A column of one value: that value.

Decoding trusts nothing: lengths, widths and counts are checked before anything is allocated.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from shopfloor.block import Float64, Int64
from shopfloor.errors import WireError

Unsigned = TypeVar("Unsigned", np.uint8, np.uint32)

_CONSTANT, _INTEGERS, _DELTAS, _DECIMALS, _FLOATS = range(5)
_UNITS: Final = (1_000_000_000, 1_000_000, 1_000, 100, 1)
_WIDTHS: Final[dict[int, np.dtype[np.unsignedinteger[Any]]]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}
_MAX_EXPONENT: Final = 6
_PROBE: Final = 32


class Column(msgspec.Struct, frozen=True, array_like=True):
    """One column: how it is coded, its parameters, its bytes, and the packed bits of its nulls."""

    coding: int
    width: int = 0
    minimum: int = 0
    first: int = 0
    factor: int = 1
    """Integers: the unit they were divided by. Decimals: the power of ten they were multiplied by."""
    data: bytes = b""
    nulls: bytes = b""


def pack_integers(values: Int64, *, delta: bool = False, units: bool = False) -> Column:
    """Code an int64[n] column; ``delta`` for columns that move in steps, ``units`` for times."""
    if len(values) == 0:
        return Column(_CONSTANT)
    first = int(values[0])
    if (values == first).all():
        return Column(_CONSTANT, first=first)
    factor = _common_unit(values) if units else 1
    reduced = values // factor if factor > 1 else values
    if not delta:
        low = int(reduced.min())
        width, data = _narrow(reduced.view(np.uint64) - np.uint64(low & _MASK))
        return Column(_INTEGERS, width, low, 0, factor, data)
    # Differences wrap around modulo 2**64, and so does the sum that undoes them: extreme times stay exact.
    steps = np.diff(reduced.view(np.uint64)).view(np.int64)
    low = int(steps.min())
    width, data = _narrow(steps.view(np.uint64) - np.uint64(low & _MASK))
    return Column(_DELTAS, width, low, int(reduced[0]), factor, data)


def unpack_integers(column: Column, count: int) -> Int64:
    """Undo `pack_integers`; raises WireError where the column can't be ``count`` integers."""
    if column.coding == _CONSTANT:
        return np.full(count, _as_int64(column.first), dtype=np.int64)
    if column.coding == _INTEGERS:
        values = _widen(column, count) + np.uint64(column.minimum & _MASK)
    elif column.coding == _DELTAS and count > 0:
        values = np.empty(count, dtype=np.uint64)
        values[0] = column.first & _MASK
        np.add(_widen(column, count - 1), np.uint64(column.minimum & _MASK), out=values[1:])
        np.cumsum(values, out=values)
    else:
        raise WireError(f"unknown integer coding {column.coding}")
    if column.factor not in _UNITS:
        raise WireError(f"unknown unit {column.factor}")
    if column.factor > 1:
        values *= np.uint64(column.factor)
    return values.view(np.int64)


def unpack_small(
    column: Column, count: int, dtype: type[Unsigned], top: int, problem: str
) -> npt.NDArray[Unsigned]:
    """Undo `pack_integers` for a column of numbers from 0 to ``top``, as ``dtype``; raises WireError(problem) beyond."""
    if column.coding == _CONSTANT:
        if count and not 0 <= column.first <= top:
            raise WireError(problem)
        return np.full(count, column.first if count else 0, dtype)
    # Seen as unsigned, what is negative is too large.
    values = unpack_integers(column, count).view(np.uint64)
    if count and values.max() > top:
        raise WireError(problem)
    return values.astype(dtype)


def pack_floats(values: Float64) -> Column:
    """Code a float64[n] column bit by bit, NaN as null (its payload bits are not kept)."""
    if len(values) == 0:
        return Column(_CONSTANT)
    nulls = b""
    isnan = np.isnan(values)
    if isnan.any():
        nulls = np.packbits(isnan).tobytes()
        values = np.where(isnan, 0.0, values)
    bits = values.view(np.int64)
    first = int(bits[0])
    if (bits == first).all():
        return Column(_CONSTANT, first=first, nulls=nulls)
    decimals = _decimals(values)
    if decimals is None:
        return Column(_FLOATS, 8, data=_planes(values.view(np.uint64), 8), nulls=nulls)
    scaled, factor = decimals
    low = int(scaled.min())
    width, data = _narrow((scaled - low).view(np.uint64))
    return Column(_DECIMALS, width, low, 0, factor, data, nulls)


def unpack_floats(column: Column, count: int) -> Float64:
    """Undo `pack_floats`; raises WireError where the column can't be ``count`` floats."""
    values: Float64
    if column.coding == _CONSTANT:
        values = np.full(count, _as_int64(column.first), dtype=np.int64).view(np.float64)
    elif column.coding == _DECIMALS:
        if not 1 <= column.factor <= 10**_MAX_EXPONENT:
            raise WireError(f"decimal factor {column.factor} is out of range")
        integers = (_widen(column, count) + np.uint64(column.minimum & _MASK)).view(np.int64)
        values = integers.astype(np.float64)
        if column.factor > 1:
            values /= column.factor
    elif column.coding == _FLOATS:
        values = _widen(column, count).view(np.float64)
    else:
        raise WireError(f"unknown float coding {column.coding}")
    if column.nulls:
        if len(column.nulls) != (count + 7) // 8:
            raise WireError("the null bits do not fit the number of samples")
        values[np.unpackbits(np.frombuffer(column.nulls, np.uint8), count=count).view(np.bool_)] = np.nan
    return values


_MASK: Final = 2**64 - 1


def _as_int64(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise WireError("a constant is outside 64 bits")
    return number


def _common_unit(values: Int64) -> int:
    for unit in _UNITS:
        if unit == 1 or (not (values[:_PROBE] % unit).any() and not (values % unit).any()):
            return unit
    return 1


def _decimals(values: Float64) -> tuple[Int64, int] | None:
    """Return (integers, power of ten) if dividing them gives back every bit of ``values``."""
    probe = values[:: max(1, len(values) // _PROBE)]
    for exponent in range(_MAX_EXPONENT + 1):
        factor = 10**exponent
        if _scaled(probe, factor) is not None:
            scaled = _scaled(values, factor)
            if scaled is not None:
                return scaled, factor
    return None


def _scaled(values: Float64, factor: int) -> Int64 | None:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(values * factor)
    if not (np.abs(rounded) < 2.0**53).all():
        return None
    integers = rounded.astype(np.int64)
    # Through the integers, so that -0.0, which they cannot say, is seen to differ.
    back = integers.astype(np.float64)
    if factor > 1:
        back /= factor
    return integers if np.array_equal(back.view(np.int64), values.view(np.int64)) else None


def _narrow(values: npt.NDArray[np.uint64]) -> tuple[int, bytes]:
    top = int(values.max())
    width = 1 if top < 2**8 else 2 if top < 2**16 else 4 if top < 2**32 else 8
    return width, _planes(values.astype(_WIDTHS[width]), width)


def _planes(values: npt.NDArray[Any], width: int) -> bytes:
    """Bytes of equal weight side by side: the high ones hardly change, and zstd sees it."""
    if width == 1:
        return values.tobytes()
    wide = values.view(np.uint8).reshape(-1, width)
    planes = np.empty((width, len(wide)), np.uint8)
    for place, plane in enumerate(planes):
        plane[:] = wide[:, place]
    return planes.tobytes()


def _widen(column: Column, count: int) -> npt.NDArray[np.uint64]:
    dtype = _WIDTHS.get(column.width)
    if dtype is None or len(column.data) != count * column.width:
        raise WireError(f"a column holds {len(column.data)} bytes for {count} values of {column.width}")
    if column.width == 1:
        return np.frombuffer(column.data, np.uint8).astype(np.uint64)
    planes = np.frombuffer(column.data, np.uint8).reshape(column.width, count)
    # Plane by plane is several times faster than a transposition; little-endian, as the planes are in order of weight.
    wide = np.zeros((count, 8), np.uint8)
    for place, plane in enumerate(planes):
        wide[:, place] = plane
    return wide.view("<u8").reshape(count)
