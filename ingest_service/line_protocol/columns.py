"""Line protocol in bulk: ordinary lines by numpy and Arrow's compute kernels, whatever is unusual by `lines`.

An ordinary line is ``key fields time`` (or all of a body without the time) without spare blanks, with plain numbers,
booleans and simple texts (`masking`). A line that turns out not to be one is read again by itself, so that this
module never decides that a line is wrong. `points.read_slowly` is the same by definition; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest_service.line_protocol.fields import read_fields
from ingest_service.line_protocol.masking import unmasked, view_of
from ingest_service.line_protocol.points import (
    Bool,
    Collector,
    Points,
    TooManySamples,
    joined,
    read_one,
    read_slowly,
)
from shopfloor.block import Int64, UInt8

_SMALL_BYTES: Final = 2048
"""A body of a few lines is read faster without columns."""
_UNUSUAL: Final = tuple(bytes([sign]) for sign in b'\\"\r\t\0\1\2\3#')
_NEWLINE, _SPACE, _HASH = b"\n #"
_PLAIN_TIME: Final = "^-?[0-9]{1,18}$"

Readable = Callable[[bytes], bool]
"""Tells whether `lines.read_key` takes a key; the caller remembers the answers."""


class _Unordinary(Exception):
    """The lines are not all alike."""


def read_body(body: bytes, multiplier: int, limit: int, readable: Readable) -> Points:
    """Read a whole body.

    Args:
        body: line protocol.
        multiplier: nanoseconds of one unit of the lines' times.
        limit: fields of the body, at most.
        readable: tells whether a key can be read.

    Raises:
        TooManySamples: the body holds more fields than ``limit``, or more faults than `MOST_HOMELESS`.
    """
    if len(body) < _SMALL_BYTES:
        return read_slowly(body, multiplier, limit)
    if len(body) > limit and np.count_nonzero(np.frombuffer(body, np.uint8) == _NEWLINE) > 2 * limit + 1024:
        raise TooManySamples
    if body.isascii() and not any(sign in body for sign in _UNUSUAL):
        try:
            return _read_alike(body, multiplier, limit, readable)
        except _Unordinary:
            pass
    return _read_sorted(body, multiplier, limit, readable)


def _read_alike(body: bytes, multiplier: int, limit: int, readable: Readable) -> Points:
    """Read a body whose lines are all ordinary; raises _Unordinary where one is not."""
    first = body.find(b"\n")
    timed = body.count(b" ", 0, first if first >= 0 else len(body)) == 2
    points, odd = _read_ordinary(
        body, None, timed=timed, multiplier=multiplier, limit=limit, readable=readable
    )
    if len(odd):
        raise _Unordinary
    return points


def _read_sorted(body: bytes, multiplier: int, limit: int, readable: Readable) -> Points:
    """Tell ordinary lines from others, and read each kind its way."""
    start, end, masked, unusual, timed = view_of(body)
    careful = Collector(limit)
    # First what may span several lines: a text with newlines in it.
    through = 0
    for number in np.flatnonzero(unusual).tolist():
        if start[number] >= through:
            through = _read_line(body, int(start[number]), int(end[number]), number, multiplier, careful)
            if through > end[number] + 1:
                unusual[number : int(np.searchsorted(start, through))] = True
    numbers = np.flatnonzero(~unusual)
    if not len(numbers):
        return careful.points()
    points, odd = _read_ordinary(
        _picked(masked, start, end, numbers),
        numbers,
        timed=timed,
        multiplier=multiplier,
        limit=limit,
        readable=readable,
    )
    for number in odd.tolist():
        _read_line(body, int(start[number]), int(end[number]), number, multiplier, careful)
    return joined([points, careful.points()])


def _read_line(body: bytes, start: int, end: int, number: int, multiplier: int, into: Collector) -> int:
    """Read a physical line, and return where the next one begins (later than the next, after a long text)."""
    blank = 0
    while start + blank < end and body[start + blank] in b" \t\0":
        blank += 1
    at = start + blank
    if at >= end or body[at] == _HASH or body[at:end] == b"\r":
        return end + 1
    return read_one(body, at, number, multiplier, into) + 1


def _picked(masked: UInt8, start: Int64, end: Int64, numbers: Int64) -> bytes:
    """Return some lines of a body, joined; those that stand together are copied together."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    first = numbers[np.concatenate([[0], breaks])]
    last = numbers[np.concatenate([breaks - 1, [len(numbers) - 1]])]
    runs = zip(start[first].tolist(), end[last].tolist(), strict=True)
    body = masked.data
    return b"\n".join(body[begin:stop] for begin, stop in runs)


def _read_ordinary(
    body: bytes, numbers: Int64 | None, *, timed: bool, multiplier: int, limit: int, readable: Readable
) -> tuple[Points, Int64]:
    """Read lines of two or three columns.

    Returns:
        The points, and the numbers of the lines that are to be read carefully.
    """
    key, fields, moments = _split(body, timed=timed, alike=numbers is None)
    n = len(key)
    if numbers is None:
        numbers = np.arange(n)
    elif n != len(numbers):
        raise AssertionError("the lines are counted otherwise than before")
    odd = np.zeros(n, np.bool_)
    time = np.zeros(n, np.int64) if moments is None else _times(moments, body, multiplier, odd)
    coded = key.dictionary_encode()
    key_index = coded.indices.to_numpy().astype(np.int64)
    keys: list[bytes] = [unmasked(one) for one in coded.dictionary.to_pylist()]
    wrong = np.array([key[:1] == b"#" or not readable(key) for key in keys], np.bool_)
    if wrong.any():
        odd |= wrong[key_index]
    read = read_fields(fields, odd, limit)
    odd = read.odd
    good = slice(None) if not odd.any() else ~odd
    points = Points(
        keys,
        read.names,
        key_index[good],
        time[good],
        np.full(int(n - np.count_nonzero(odd)), timed),
        numbers[good],
        read.field_line,
        read.name_index,
        read.value,
        read.text,
    )
    return points, numbers[odd]


def _split(body: bytes, *, timed: bool, alike: bool) -> tuple[Any, Any, Any]:
    """Return keys (binary[n]), field sections and times (string[n]; None for lines without) of ordinary lines.

    Args:
        body: ordinary lines.
        timed: whether they have a time.
        alike: whether that is only hoped for; then there are no control characters in them.

    Raises:
        _Unordinary: the hope was in vain.
    """
    body = body if body.endswith(b"\n") else body + b"\n"
    data = np.frombuffer(body, np.uint8)
    separator = np.flatnonzero(data <= _SPACE if alike else (data == _SPACE) | (data == _NEWLINE))
    signs = np.frombuffer(b"  \n" if timed else b" \n", np.uint8)
    n, rest = divmod(len(separator), len(signs))
    if rest or not (data[separator].reshape(n, len(signs)) == signs).all():
        raise _Unordinary
    # Where each column, and each separator behind it, begins: one array over the body itself, copied nowhere.
    bound = np.zeros(2 * len(separator) + 1, np.int32)
    pairs = bound[1:].reshape(-1, 2)
    pairs[:, 0] = separator
    pairs[:, 1] = pairs[:, 0] + 1
    pieces = pa.Array.from_buffers(
        pa.binary(), 2 * len(separator), [None, pa.py_buffer(bound), pa.py_buffer(body)]
    )
    first = np.arange(0, 2 * len(separator), 2 * len(signs))
    key, fields = pieces.take(pa.array(first)), pieces.take(pa.array(first + 2)).view(pa.string())
    return key, fields, pieces.take(pa.array(first + 4)).view(pa.string()) if timed else None


def _times(moments: Any, body: bytes, multiplier: int, odd: Bool) -> Int64:
    """Return times in nanoseconds; lines whose times are not plain become ``odd``."""
    try:
        # Arrow takes hexadecimal numbers for integers.
        column = None if _may_be_hexadecimal(body) else pc.cast(moments, pa.int64())
    except pa.ArrowInvalid:
        column = None
    if column is None:
        plain = pc.match_substring_regex(moments, pattern=_PLAIN_TIME)
        odd |= ~plain.to_numpy(zero_copy_only=False)
        column = pc.cast(pc.if_else(plain, moments, "0"), pa.int64())
    time: Int64 = column.to_numpy()
    bound = (2**63 - 1) // multiplier
    odd |= (time > bound) | (time < -bound)
    return np.where(odd, 0, time) * multiplier if odd.any() else time * multiplier


def _may_be_hexadecimal(body: bytes) -> bool:
    # One letter is found much faster than three, and most bodies have none of it.
    return (b"x" in body and b" 0x" in body) or (b"X" in body and b" 0X" in body)
