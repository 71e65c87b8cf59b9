"""Bodies whose lines have one number each, in the order of an earlier body: most gateways send such, again and again.

Of these only the newlines are looked for; everything before the values is compared at once, and values and times are
left. This never decides that a line is wrong: `columns` reads whatever is otherwise than before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest_service.line_protocol.fields import Odd, read_values
from ingest_service.line_protocol.layout import Layout
from ingest_service.line_protocol.lines import MAX_FLOAT_BYTES
from ingest_service.line_protocol.points import Points, TooManySamples
from ingest_service.line_protocol.times import read_times
from shopfloor.block import Float64, Int64, UInt8

_NEWLINE, _SPACE, _QUOTE, _PLUS = b'\n "+'
_PIECES: Final = 5
"""Of a line: what stands before the value, the value, a blank, the time, the newline."""
_PREFIX, _VALUE, _TIME = 0, 1, 3
_TIMED: Final = 3
"""Separators of a line with a time: two blanks and the newline."""


class Unordinary(Exception):
    """The lines are not all of one kind."""


def read_known(body: bytes, layout: Layout, multiplier: int, limit: int) -> Points:
    """Read a body that may have a layout.

    Raises:
        Unordinary: it has another one, or something in it is no plain number or time.
        TooManySamples: it has more than ``limit`` lines.
    """
    body = body if body.endswith(b"\n") else body + b"\n"
    data = np.frombuffer(body, np.uint8)
    end = np.flatnonzero(data == _NEWLINE)
    if len(end) != len(layout):
        raise Unordinary
    start = np.empty(len(end), np.int64)
    start[0] = 0
    np.add(end[:-1], 1, out=start[1:])
    value = start + layout.prefix_bytes
    stop = end - (layout.time_bytes + 1) if layout.time_bytes else end
    if (value >= stop).any() or (layout.time_bytes and (data[stop] != _SPACE).any()):
        raise Unordinary
    pieces = _pieces(body, value, stop, end, timed=bool(layout.time_bytes))
    if not _piece(pieces, _PREFIX).buffers()[2].equals(layout.prefixes):
        raise Unordinary
    n = len(layout)
    if n > limit:
        raise TooManySamples
    number = _numbers(_piece(pieces, _VALUE), data, value, stop)
    time = np.zeros(n, np.int64)
    if layout.time_bytes:
        odd = np.zeros(n, np.bool_)
        time = read_times(_piece(pieces, _TIME).view(pa.string()), multiplier, odd)
        if odd.any():
            raise Unordinary
    every = _every(n)
    return Points(
        layout.keys,
        layout.names,
        layout.key_index,
        time,
        np.full(n, layout.time_bytes > 0),
        every,
        every,
        layout.name_index,
        number,
        layout=layout,
    )


def layout_of(body: bytes, separator: Int64, points: Points) -> Layout | None:
    """Return what a body looks like beside its values and times.

    Args:
        body: ordinary lines without anything that is escaped or quoted, the last one with its newline.
        separator: int64[n, 3], where the two blanks and the newline of each line are; int64[n, 2] without times.
        points: what all of its lines say.

    Returns:
        The layout; None where lines have several values, texts, or times that differ in length.
    """
    n, width = separator.shape
    timed = width == _TIMED
    stop, end = separator[:, 1], separator[:, -1]
    time_bytes = int(end[0] - stop[0] - 1) if timed else 0
    if len(points.value) != n or points.text or (timed and (end - stop != time_bytes + 1).any()):
        return None
    name_bytes = np.array([len(name.encode()) for name in points.names])[points.name_index]
    value = separator[:, 0] + name_bytes + 2
    prefix = _piece(_pieces(body, value, stop, end, timed=timed), _PREFIX)
    return Layout(
        prefix.buffers()[2],
        np.diff(np.frombuffer(prefix.buffers()[1], np.int32)[: n + 1]),
        time_bytes,
        points.keys,
        points.names,
        points.key_index,
        points.name_index,
    )


def _pieces(body: bytes, value: Int64, stop: Int64, end: Int64, *, timed: bool) -> Any:
    """Return binary[5n]: all pieces of all lines, as one array over the body itself, copied nowhere."""
    n = len(end)
    bound = np.zeros(_PIECES * n + 1, np.int32)
    columns = bound[1:].reshape(n, _PIECES)
    columns[:, 0] = value
    columns[:, 1] = stop
    columns[:, 2] = stop + 1 if timed else end
    columns[:, 3] = end
    columns[:, 4] = end + 1
    return pa.Array.from_buffers(pa.binary(), _PIECES * n, [None, pa.py_buffer(bound), pa.py_buffer(body)])


def _piece(pieces: Any, which: int) -> Any:
    """Return binary[n], one piece of each line."""
    return pieces.take(pa.array(np.arange(which, len(pieces), _PIECES)))


def _numbers(words: Any, data: UInt8, start: Int64, stop: Int64) -> Float64:
    if (stop - start).max() > MAX_FLOAT_BYTES or (data[start] == _PLUS).any():
        raise Unordinary
    try:
        value: Float64 = words.view(pa.string()).cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        if (data[stop - 1] == _QUOTE).any():
            raise Unordinary from None
        try:
            value, _ = read_values(data, start, stop, _every(len(start)))
        except Odd:
            raise Unordinary from None
    # What Arrow takes beyond line protocol's numbers are words for these.
    if not np.isfinite(value).all():
        raise Unordinary
    return value


@lru_cache(maxsize=4)
def _every(n: int) -> Int64:
    """Return 0 to n - 1; bodies of one size share it."""
    every = np.arange(n)
    every.flags.writeable = False
    return every
