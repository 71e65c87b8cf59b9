"""Line protocol in bulk: ordinary lines by numpy and Arrow's compute kernels, whatever is unusual by `lines`.

An ordinary line is ``key fields time`` (or all of a body without the time) without spare blanks, with plain numbers,
booleans and simple texts (`masking`); bodies like an earlier one are read by `one_number`. A line that turns
out not to be one is read again by itself, so that this module never decides that a line is wrong. `points.read_slowly` is the same by definition; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest_service.line_protocol.fields import read_fields
from ingest_service.line_protocol.layout import Layouts
from ingest_service.line_protocol.masking import unmasked, view_of
from ingest_service.line_protocol.one_number import Unordinary, layout_of, read_known
from ingest_service.line_protocol.points import (
    Collector,
    Points,
    TooManySamples,
    joined,
    read_one,
    read_slowly,
)
from ingest_service.line_protocol.times import read_times
from shopfloor.block import Int64, UInt8

_SMALL_BYTES: Final = 2048
"""A body of a few lines is read faster without columns."""
_UNUSUAL: Final = tuple(bytes([sign]) for sign in b'\\"\r\t\0\1\2\3#')
_NEWLINE, _SPACE, _HASH = b"\n #"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Readable = Callable[[bytes], bool]
"""Tells whether `lines.read_key` takes a key; the caller remembers the answers."""


def read_body(
    body: bytes, multiplier: int, limit: int, readable: Readable, layouts: Layouts | None = None
) -> Points:
    """Read a whole body.

    Args:
        body: line protocol.
        multiplier: nanoseconds of one unit of the lines' times.
        limit: fields of the body, at most.
        readable: tells whether a key can be read.
        layouts: of earlier bodies with the same answers of ``readable``; that of this one may be added.

    Raises:
        TooManySamples: the body holds more fields than ``limit``, or more faults than `MOST_HOMELESS`.
    """
    if len(body) < _SMALL_BYTES:
        return read_slowly(body, multiplier, limit)
    if len(body) > limit and np.count_nonzero(np.frombuffer(body, np.uint8) == _NEWLINE) > 2 * limit + 1024:
        raise TooManySamples
    known, again = layouts.find(body) if layouts is not None else (None, False)
    if known is not None:
        try:
            return read_known(body, known, multiplier, limit)
        except Unordinary:
            pass
    try:
        points = _read_alike(body, multiplier, limit, readable, with_layout=again)
    except Unordinary:
        return _read_sorted(body, multiplier, limit, readable)
    if layouts is not None and points.layout is not None:
        layouts.add(body, points.layout)
    return points


def _read_alike(body: bytes, multiplier: int, limit: int, readable: Readable, *, with_layout: bool) -> Points:
    """Read a body whose lines are all ordinary; raises Unordinary where one is not."""
    if any(sign in body for sign in _UNUSUAL) or not (body.isascii() or _is_text(body)):
        raise Unordinary
    first = body.find(b"\n")
    timed = body.count(b" ", 0, first if first >= 0 else len(body)) == 2
    whole = body if body.endswith(b"\n") else body + b"\n"
    separator = _separators(whole, timed=timed, most=_SPACE)
    points, odd = _read_ordinary(
        whole, separator, np.arange(len(separator)), multiplier=multiplier, limit=limit, readable=readable
    )
    if len(odd):
        raise Unordinary
    return replace(points, layout=layout_of(whole, separator, points)) if with_layout else points


def _is_text(body: bytes) -> bool:
    """Tell whether a body is UTF-8 without byte order marks, which nobody means as a part of a name."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return _BYTE_ORDER_MARK not in body


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
    picked = _picked(masked, start, end, numbers)
    try:
        separator = _separators(picked, timed=timed)
    except Unordinary:
        raise AssertionError("the lines are told apart otherwise than before") from None
    points, odd = _read_ordinary(
        picked, separator, numbers, multiplier=multiplier, limit=limit, readable=readable
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
    """Return some lines of a body with their newlines; those that stand together are copied together."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    first = numbers[np.concatenate([[0], breaks])]
    last = numbers[np.concatenate([breaks - 1, [len(numbers) - 1]])]
    runs = zip(start[first].tolist(), end[last].tolist(), strict=True)
    body = masked.data
    return b"\n".join([*(body[begin:stop] for begin, stop in runs), b""])


def _read_ordinary(
    body: bytes, separator: Int64, numbers: Int64, *, multiplier: int, limit: int, readable: Readable
) -> tuple[Points, Int64]:
    """Read ``n`` ordinary lines.

    Args:
        body: the lines.
        separator: int64[n, 2] or int64[n, 3], where the blanks and the newline of each line are.
        numbers: int64[n], which lines they are.
        multiplier: nanoseconds of one unit of their times.
        limit: fields of all, at most.
        readable: tells whether a key can be read.

    Returns:
        The points, and the numbers of the lines that are to be read carefully.
    """
    key, fields, moments = _split(body, separator)
    n, timed = len(separator), moments is not None
    odd = np.zeros(n, np.bool_)
    time = read_times(moments, multiplier, odd) if timed else np.zeros(n, np.int64)
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


def _separators(body: bytes, *, timed: bool, most: int | None = None) -> Int64:
    """Return int64[n, 3] (int64[n, 2] without times): where the blanks and the newline of each line are.

    Args:
        body: lines, the last one with its newline.
        timed: whether the lines have a time.
        most: the largest sign that is one; None where just blanks and newlines are.

    Raises:
        Unordinary: a line has others.
    """
    data = np.frombuffer(body, np.uint8)
    found = np.flatnonzero((data == _SPACE) | (data == _NEWLINE) if most is None else data <= most)
    signs = np.frombuffer(b"  \n" if timed else b" \n", np.uint8)
    n, rest = divmod(len(found), len(signs))
    if rest or not (data[found].reshape(n, len(signs)) == signs).all():
        raise Unordinary
    return found.reshape(n, len(signs))


def _split(body: bytes, separator: Int64) -> tuple[Any, Any, Any]:
    """Return keys (binary[n]), field sections and times (string[n]; None for lines without) of ordinary lines."""
    count = separator.size
    # Where each column, and each separator behind it, begins: one array over the body itself, copied nowhere.
    bound = np.zeros(2 * count + 1, np.int32)
    pairs = bound[1:].reshape(-1, 2)
    pairs[:, 0] = separator.reshape(-1)
    pairs[:, 1] = pairs[:, 0] + 1
    pieces = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(bound), pa.py_buffer(body)])
    width = separator.shape[1]
    columns = [
        pieces.take(pa.array(np.arange(2 * number, 2 * count, 2 * width))).view(kind)
        for number, kind in enumerate((pa.binary(), pa.string(), pa.string())[:width])
    ]
    return columns[0], columns[1], columns[2] if width == 3 else None
