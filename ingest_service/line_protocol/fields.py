"""The fields of ordinary lines, as columns: names by their dictionary, numbers by Arrow's kernels."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from ingest_service.line_protocol.lines import BOOLEANS, MAX_FLOAT_BYTES, MAX_INTEGER_DIGITS, MAX_TEXT_BYTES
from ingest_service.line_protocol.masking import unmasked
from ingest_service.line_protocol.points import Bool, TooManySamples
from shopfloor.block import Float64, Int64, UInt8

_EQUALS, _COMMA, _PLUS, _QUOTE, _X = b'=,+"x'
_SMALL: Final = 0x20
"""What makes a small letter of a large one."""
_FLOAT, _INTEGER, _UNSIGNED, _WORD, _TEXT = range(5)
_WIDE_NAME_BYTES: Final = 16
_LEADING_BYTES: Final = np.array(
    [int.from_bytes(b"\xff" * count, "little") for count in range(9)], np.uint64
).astype("<u8")
"""Masks for the first so many bytes of a word."""


_KIND: Final = np.full(256, _WORD, np.uint8)
_KIND[list(b"0123456789.")] = _FLOAT
_KIND[list(b"i")] = _INTEGER
_KIND[list(b"u")] = _UNSIGNED
_KIND[_QUOTE] = _TEXT


class _Number(NamedTuple):
    """How the numbers of one kind are read; Arrow would take more than line protocol has."""

    type: pa.DataType
    most_bytes: int
    plain: str
    """What is read for sure, where one of a body is not."""


_NUMBERS: Final = {
    _FLOAT: _Number(pa.float64(), MAX_FLOAT_BYTES, r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"),
    _INTEGER: _Number(pa.int64(), MAX_INTEGER_DIGITS, "^-?[0-9]{1,18}$"),
    _UNSIGNED: _Number(pa.uint64(), MAX_INTEGER_DIGITS, "^[0-9]{1,18}$"),
}


class Fields(NamedTuple):
    """``m`` fields of the ``k`` lines that were read, and which of the ``n`` lines were not."""

    names: list[str]
    field_line: Int64
    """int64[m], positions among the lines that were read."""
    name_index: Int64
    value: Float64
    text: dict[int, str]
    """Field to text."""
    odd: Bool
    """bool[n], the lines that are to be read carefully."""


class Odd(Exception):
    """Some lines are not ordinary."""

    def __init__(self, lines: Bool | Int64) -> None:
        super().__init__()
        self.lines = lines


def read_fields(column: pa.Array, odd: Bool, limit: int) -> Fields:
    """Read the field sections of lines.

    Args:
        column: string[n], such as ``usage=0.5,count=3i``.
        odd: bool[n], lines to leave out.
        limit: fields in all, at most.

    Raises:
        TooManySamples: there are more.
    """
    while True:
        left = np.flatnonzero(~odd)
        if not len(left):
            nothing = np.empty(0, np.int64)
            return Fields([], nothing, nothing, np.empty(0), {}, odd)
        try:
            # Each round leaves out whatever one check finds: there are only a handful of checks.
            chosen = column if len(left) == len(odd) else column.take(pa.array(left))
            return _read(chosen, limit)._replace(odd=odd)
        except Odd as found:
            odd = odd.copy()
            odd[left[found.lines]] = True


def _read(column: pa.Array, limit: int) -> Fields:
    n = len(column)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + n + 1]
    content = column.buffers()[2]
    data = np.frombuffer(content if content is not None else b"", np.uint8)[offsets[0] : offsets[-1]]
    bound: Int64 = offsets.astype(np.int64) - int(offsets[0])
    equals, comma = np.flatnonzero(data == _EQUALS), np.flatnonzero(data == _COMMA)
    start, end, line = bound[:-1], bound[1:], np.arange(n)
    if len(comma):
        count = np.diff(np.searchsorted(comma, bound)) + 1
        start = np.sort(np.concatenate([start, comma + 1]), kind="stable")
        end = np.sort(np.concatenate([comma, end]), kind="stable")
        line = np.repeat(line, count)
    if len(start) > limit:
        raise TooManySamples
    if len(equals) != len(start):
        wanted = np.bincount(line, minlength=n)
        raise Odd(np.diff(np.searchsorted(equals, bound)) != wanted)
    wrong = (equals <= start) | (equals + 1 >= end)
    if wrong.any():
        raise Odd(line[wrong])
    names, name_index = _names(data, start, equals)
    value, text = read_values(data, equals + 1, end, line)
    return Fields(names, line, name_index, value, text, np.empty(0, np.bool_))


def _names(data: UInt8, start: Int64, end: Int64) -> tuple[list[str], Int64]:
    length = end - start
    if int(length.max()) > _WIDE_NAME_BYTES:
        coded = _cut(data, start, end).dictionary_encode()
    else:
        coded = _wide(data, start, length).dictionary_encode()
    names = [name.rstrip(b"\0").decode() for name in coded.dictionary.to_pylist()]
    return names, coded.indices.to_numpy().astype(np.int64)


def _wide(data: UInt8, start: Int64, length: Int64) -> Any:
    """Return binary(16)[m] of short names, filled up with zeros, which no name holds: hashed faster than others."""
    padded = np.zeros(len(data) + _WIDE_NAME_BYTES, np.uint8)
    padded[: len(data)] = data
    # One unaligned word a byte of the data.
    words = np.ndarray((len(data) + 1,), "<u8", padded, strides=(1,))
    wide = np.empty((len(start), 2), np.uint64)
    wide[:, 0] = words[start] & _LEADING_BYTES[np.minimum(length, 8)]
    wide[:, 1] = words[np.minimum(start + 8, len(data))] & _LEADING_BYTES[np.maximum(length - 8, 0)]
    return pa.Array.from_buffers(pa.binary(_WIDE_NAME_BYTES), len(start), [None, pa.py_buffer(wide)])


def read_values(data: UInt8, start: Int64, end: Int64, line: Int64) -> tuple[Float64, dict[int, str]]:
    """Read numbers, booleans and texts.

    Args:
        data: bytes.
        start: int64[m], where in them each value begins.
        end: int64[m], and ends; none is empty.
        line: int64[m], what is told of a value that is none.

    Returns:
        float64[m], NaN for a text; and position to text.

    Raises:
        Odd: some are none of these.
    """
    kind = _KIND[data[end - 1]]
    plus = data[start] == _PLUS
    if plus.any():
        raise Odd(line[plus])
    if not kind.any():
        return _numbers(data, start, end, line, _NUMBERS[_FLOAT]), {}
    value = np.full(len(start), np.nan)
    for number, how in _NUMBERS.items():
        rows = np.flatnonzero(kind == number)
        if len(rows):
            stop = end[rows] - (number != _FLOAT)
            value[rows] = _numbers(data, start[rows], stop, line[rows], how)
    rows = np.flatnonzero(kind == _WORD)
    if len(rows):
        coded = _cut(data, start[rows], end[rows]).dictionary_encode()
        known = np.array([BOOLEANS.get(word, np.nan) for word in coded.dictionary.to_pylist()])
        value[rows] = known[coded.indices.to_numpy()]
        unknown = np.isnan(value[rows])
        if unknown.any():
            raise Odd(line[rows[unknown]])
    return value, _texts(data, start, end, line, np.flatnonzero(kind == _TEXT))


def _texts(data: UInt8, start: Int64, end: Int64, line: Int64, rows: Int64) -> dict[int, str]:
    """Read the texts among the values; their quotes have been looked at already."""
    if not len(rows):
        return {}
    begin, stop = start[rows] + 1, end[rows] - 1
    odd = (data[begin - 1] != _QUOTE) | (begin > stop) | (stop - begin > MAX_TEXT_BYTES)
    if odd.any():
        raise Odd(line[rows[odd]])
    filled = begin < stop
    coded = _cut(data, begin[filled], stop[filled]).dictionary_encode()
    words = [unmasked(word).decode() for word in coded.dictionary.to_pylist()]
    text = dict.fromkeys(rows[~filled].tolist(), "")
    text.update(zip(rows[filled].tolist(), [words[code] for code in coded.indices.to_pylist()], strict=True))
    return text


def _numbers(data: UInt8, start: Int64, end: Int64, line: Int64, how: _Number) -> Float64:
    import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a start, and few are sent any line

    length = end - start
    odd = (length <= 0) | (length > how.most_bytes)
    if odd.any():
        raise Odd(line[odd])
    words = _cut(data, start, end)
    if how.type != pa.float64() and (foreign := _hexadecimal(data, start, end)).any():
        raise Odd(line[foreign])
    text = words.view(pa.string())
    try:
        value: Float64 = pc.cast(text, how.type).to_numpy().astype(np.float64, copy=False)
    except pa.ArrowInvalid:
        plain = pc.match_substring_regex(text, pattern=how.plain).to_numpy(zero_copy_only=False)
        raise Odd(line if plain.all() else line[~plain]) from None
    beyond = ~np.isfinite(value)
    if beyond.any():
        raise Odd(line[beyond])
    return value


def _hexadecimal(data: UInt8, start: Int64, end: Int64) -> Bool:
    """Tell which integers Arrow would take for hexadecimal: those with an x behind their first or second sign."""
    second, third = data[np.minimum(start + 1, end - 1)], data[np.minimum(start + 2, end - 1)]
    found: Bool = (second | _SMALL == _X) | (third | _SMALL == _X)
    return found


def _cut(data: UInt8, start: Int64, end: Int64) -> Any:
    """Return binary[m] of the bytes from each start to its end; the pieces stand in order, apart from one another."""
    if not len(start):
        return pa.array([], pa.binary())
    bound = np.empty(2 * len(start), np.int32)
    bound[0::2] = start
    bound[1::2] = end
    # Every other one is what stands between two of them.
    pieces = pa.Array.from_buffers(
        pa.binary(), len(bound) - 1, [None, pa.py_buffer(bound), pa.py_buffer(data)]
    )
    return pieces.take(pa.array(np.arange(0, len(bound), 2)))
