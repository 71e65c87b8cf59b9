"""Which lines of a body are ordinary; and a view of it in which nothing but a separator looks like one.

Separators inside of simple texts in quotes (``Quality="OK (0x0)"``), and blanks behind a backslash in keys, are replaced by
control characters, so that lines with them can be read by columns, too. `unmasked` turns them back.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ingest_service.line_protocol.points import Bool
from shopfloor.block import Int64, UInt8

_NEWLINE, _SPACE, _HASH, _QUOTE, _BACKSLASH, _EQUALS = b'\n #"\\='
_BYTE_ORDER_MARK: Final = 0xEF
"""Its first byte: nobody means it as a part of a name."""
_SEPARATORS: Final = b" ,="
_MASKS: Final = b"\1\2\3"
_UNUSUAL: Final = b"\r\t\0" + _MASKS
_UNMASKED: Final = bytes.maketrans(_MASKS, _SEPARATORS)
_MASKED: Final = np.frombuffer(bytes(range(256)).translate(bytes.maketrans(_SEPARATORS, _MASKS)), np.uint8)
_BEHIND_TEXT: Final = np.isin(np.arange(256), list(b", \n"))


class View(NamedTuple):
    """A body as lines."""

    start: Int64
    """int64[lines], where each begins."""
    end: Int64
    """int64[lines], where its newline is, or the end of the body."""
    masked: UInt8
    """The body; what is masked in lines that are not ordinary has no meaning."""
    unusual: Bool
    """bool[lines], those that have to be read carefully."""
    timed: bool
    """Whether the others have a time."""


def unmasked(raw: bytes) -> bytes:
    """Return a part of a masked line as it was written."""
    return raw.translate(_UNMASKED)


def view_of(body: bytes) -> View:
    """Tell the ordinary lines of a body from the others."""
    data = np.frombuffer(body, np.uint8)
    start, end = _line_bounds(data)
    unusual = np.zeros(len(start), np.bool_)
    for sign in _UNUSUAL:
        if sign in body:
            unusual[np.searchsorted(end, np.flatnonzero(data == sign))] = True
    inside = np.flatnonzero(start < len(data))
    first = data[start[inside]]
    unusual[inside] |= (first == _HASH) | (first == _BYTE_ORDER_MARK)
    try:
        body.decode()
    except UnicodeDecodeError:
        unusual[np.searchsorted(end, np.flatnonzero(data >= 0x80))] = True
    masked = data
    backslashes = np.flatnonzero(data == _BACKSLASH) if b"\\" in body else None
    if backslashes is not None:
        masked = _without_escaped_spaces(data, end, backslashes, unusual)
    spaces = np.flatnonzero(masked == _SPACE)
    place = np.searchsorted(spaces, start)
    key_end = np.minimum(np.append(spaces, len(data))[place], end)
    if backslashes is not None:
        line = np.searchsorted(end, backslashes)
        unusual[line[backslashes > key_end[line]]] = True
    if b'"' in body:
        hidden = _texts(data, end, key_end, unusual)
        masked = masked.copy()
        masked[hidden] = _MASKED[masked[hidden]]
        spaces = spaces[masked[spaces] == _SPACE]
        place = np.searchsorted(spaces, start)
    count = np.searchsorted(spaces, end) - place
    timed = bool(np.count_nonzero(count == 2) >= np.count_nonzero(count == 1))
    unusual |= count != (2 if timed else 1)
    return View(start, end, masked, unusual, timed)


def _line_bounds(data: UInt8) -> tuple[Int64, Int64]:
    end = np.flatnonzero(data == _NEWLINE)
    if not len(end) or end[-1] != len(data) - 1:
        end = np.append(end, len(data))
    start = np.empty(len(end), np.int64)
    start[0] = 0
    start[1:] = end[:-1] + 1
    return start, end


def _without_escaped_spaces(data: UInt8, end: Int64, backslashes: Int64, unusual: Bool) -> UInt8:
    """Mask blanks behind a backslash; a backslash that escapes another one, or nothing, makes its line unusual."""
    behind = data[np.minimum(backslashes + 1, len(data) - 1)]
    odd = (behind == _BACKSLASH) | (behind == _NEWLINE) | (backslashes + 1 == len(data))
    unusual[np.searchsorted(end, backslashes[odd])] = True
    masked = data.copy()
    masked[backslashes[behind == _SPACE] + 1] = _MASKS[0]
    return masked


def _texts(data: UInt8, end: Int64, key_end: Int64, unusual: Bool) -> Int64:
    """Return where the inner bytes of simple texts are; other lines with quotes become unusual."""
    quotes = np.flatnonzero(data == _QUOTE)
    line = np.searchsorted(end, quotes)
    unusual |= np.bincount(line, minlength=len(end)) % 2 == 1
    chosen = ~unusual[line]
    opening, closing = quotes[chosen][0::2], quotes[chosen][1::2]
    line = line[chosen][0::2]
    behind = data[np.minimum(closing + 1, len(data) - 1)]
    odd = (opening < key_end[line]) | (data[opening - 1] != _EQUALS)
    odd |= ~_BEHIND_TEXT[behind] & (closing + 1 < len(data))
    unusual[line[odd]] = True
    simple = ~unusual[line]
    inside = np.zeros(len(data) + 1, np.int8)
    inside[opening[simple] + 1] += 1
    inside[closing[simple]] -= 1
    return np.flatnonzero(np.cumsum(inside[:-1], dtype=np.int8))
