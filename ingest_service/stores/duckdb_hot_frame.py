"""One group of hot rows as bytes: a frame, the unit in which hot files grow.

A frame is a header of 64 bytes and the columns one after the other, each padded to 8 bytes, everything little-endian::

    magic "SFH1", CRC-32 of all that follows it, length of the frame, rows, flags,
    first and last source time, lowest and highest series id, quality and status where all rows have the same
    source_time int64[n], received_time int64[n], value float64[n], series_id uint32[n],
    status uint32[n] and quality uint8[n] where they differ, then the texts: their number, rows, lengths, UTF-8

Plain columns, because a frame is written once, read a few times and gone within minutes: what it costs to write counts.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ingest_service.stores.duckdb_rows import Rows

Column: TypeAlias = npt.NDArray[Any]

MAGIC: Final = b"SFH1"
_HEADER: Final = struct.Struct("<4sIQIIqqIIIB11x")
HEADER_BYTES: Final = _HEADER.size
_UNCHECKED: Final = 8
_SAME_QUALITY: Final = 1
_SAME_STATUS: Final = 2
_TEXTS: Final = 4
_PADDING: Final = bytes(8)


class Header(NamedTuple):
    """What a frame says of itself, in the order of its bytes."""

    magic: bytes
    crc: int
    bytes: int
    """Of the whole frame."""
    rows: int
    flags: int
    first_time: int
    last_time: int
    lowest_id: int
    highest_id: int
    status: int
    quality: int


def header_of(head: bytes | memoryview) -> Header | None:
    """Return the header that 64 bytes hold; None where they hold none."""
    header = Header(*_HEADER.unpack(head))
    sound = header.magic == MAGIC and header.rows > 0 and header.bytes >= texts_at(header)
    return header if sound else None


def encode(rows: Rows) -> tuple[Header, list[bytes | memoryview]]:
    """Return rows (at least one) as a frame: its header, and its bytes in pieces.

    Raises:
        UnicodeEncodeError: a text holds what is no character.
    """
    flags = 0
    columns: list[Column] = [rows.source_time, rows.received_time, rows.value, rows.series_id]
    if _all_same(rows.status):
        flags |= _SAME_STATUS
    else:
        columns.append(rows.status)
    if _all_same(rows.quality):
        flags |= _SAME_QUALITY
    else:
        columns.append(rows.quality)
    pieces: list[bytes | memoryview] = []
    for column in columns:
        pieces.append(np.ascontiguousarray(column).data.cast("B"))
        if column.nbytes % 8:
            pieces.append(_PADDING[column.nbytes % 8 :])
    if rows.text is not None:
        flags |= _TEXTS
        pieces.append(_encode_texts(rows.text))
    length = HEADER_BYTES + sum(map(len, pieces))
    header = Header(
        MAGIC,
        0,
        length,
        rows.n,
        flags,
        int(rows.source_time.min()),
        int(rows.source_time.max()),
        int(rows.series_id.min()),
        int(rows.series_id.max()),
        int(rows.status[0]),
        int(rows.quality[0]),
    )
    crc = zlib.crc32(_HEADER.pack(*header)[_UNCHECKED:])
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    header = header._replace(crc=crc)
    return header, [_HEADER.pack(*header), *pieces]


def is_sound(frame: bytes | memoryview, header: Header) -> bool:
    """Tell whether a whole frame is what was written."""
    return zlib.crc32(memoryview(frame)[_UNCHECKED:]) == header.crc


class Layout(NamedTuple):
    """Where the columns of a frame begin, counted from its first byte; None for one that the header stands for."""

    source_time: int
    received_time: int
    value: int
    series_id: int
    status: int | None
    quality: int | None
    end: int
    """Where texts begin, if there are any."""


def layout_of(header: Header) -> Layout:
    """Return where the columns of a frame stand."""
    n = header.rows
    at = HEADER_BYTES
    source_time, received_time, value, series_id = at, at + 8 * n, at + 16 * n, at + 24 * n
    at = series_id + _padded(4 * n)
    status = quality = None
    if not header.flags & _SAME_STATUS:
        status, at = at, at + _padded(4 * n)
    if not header.flags & _SAME_QUALITY:
        quality, at = at, at + _padded(n)
    return Layout(source_time, received_time, value, series_id, status, quality, at)


def texts_at(header: Header) -> int:
    """Return where the texts of a frame begin, which is its end where it has none."""
    return layout_of(header).end


def has_texts(header: Header) -> bool:
    """Tell whether any row of a frame has a text."""
    return bool(header.flags & _TEXTS)


def fill(header: Header, into: Rows, read: Callable[[Column, int], None]) -> None:
    """Fill columns with the rows of a frame.

    Args:
        header: the frame's.
        into: contiguous columns of as many rows; with ``text``, objects, where the frame has texts.
        read: fills a column from the byte of the frame that it is told.
    """
    layout = layout_of(header)
    for name in ("source_time", "received_time", "value", "series_id"):
        read(getattr(into, name), getattr(layout, name))
    for name, same in (("status", header.status), ("quality", header.quality)):
        at = getattr(layout, name)
        if at is None:
            getattr(into, name)[:] = same
        else:
            read(getattr(into, name), at)
    if has_texts(header):
        assert into.text is not None
        blob = np.empty(header.bytes - layout.end, np.uint8)
        read(blob, layout.end)
        _decode_texts(blob.tobytes(), into.text)


def _all_same(column: Column) -> bool:
    return bool(column[0] == column[-1]) and bool((column == column[0]).all())


def _padded(size: int) -> int:
    return size + -size % 8


def _encode_texts(texts: npt.NDArray[np.object_]) -> bytes:
    there = [(row, text.encode()) for row, text in enumerate(texts.tolist()) if text is not None]
    rows = np.array([row for row, _ in there], np.uint32)
    lengths = np.array([len(text) for _, text in there], np.uint32)
    body = b"".join(
        [struct.pack("<I", len(there)), rows.tobytes(), lengths.tobytes(), *(text for _, text in there)]
    )
    return body + _PADDING[: -len(body) % 8]


def _decode_texts(blob: bytes, into: npt.NDArray[np.object_]) -> None:
    (count,) = struct.unpack_from("<I", blob)
    rows = np.frombuffer(blob, np.uint32, count, 4)
    lengths = np.frombuffer(blob, np.uint32, count, 4 + 4 * count)
    at = 4 + 8 * count
    for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
        into[row] = blob[at : at + length].decode()
        at += length
