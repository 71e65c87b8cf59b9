"""Responses of an OPC UA server (Part 6, binary encoding) as columns, without an object per value.

The times keep their full 100 ns. A body that ends too early is a `MalformedMessage`. This is the seam for a decoder that reads
runs of equal DataValues as one numpy array.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.binary import (
    DATE_TIME,
    GUID,
    I64,
    LOCALIZED_TEXT,
    NULL,
    NUMBERS,
    QUALIFIED_NAME,
    STRING,
    U32,
    XML,
    MalformedMessage,
    read_bytes,
    read_extension,
    read_length,
    skip_diagnostic,
    skip_extension,
    skip_node_id,
    skip_scalar,
    skip_variant,
)
from shopfloor.block import STATUS_NOT_CONVERTIBLE, Float64, Int64, UInt32

_EPOCH_TICKS: Final = 116_444_736_000_000_000
"""1970 in 100 ns since 1601."""
_MAX_TICKS: Final = _EPOCH_TICKS + (2**63 - 1) // 100
MAX_TEXT_BYTES: Final = 64 * 1024
"""What the wire format takes as one text."""

_DATA_CHANGE, _STATUS_CHANGE, _HISTORY_DATA, _HISTORY_MODIFIED = 811, 820, 658, 11227
_NAN: Final = float("nan")


def ns_of_ticks(ticks: int) -> int:
    """Return UTC ns for 100 ns since 1601; NO_TIME for "none" (0) and for times that int64 ns can't hold."""
    return (ticks - _EPOCH_TICKS) * 100 if 0 < ticks <= _MAX_TICKS else NO_TIME


@dataclass(slots=True)
class Columns:
    """Readings under construction, one list a column."""

    handle: list[int] = field(default_factory=list)
    """The client handle, which is the number of the node in the configuration."""
    source_time: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    text: dict[int, str] = field(default_factory=dict)
    null: list[int] = field(default_factory=list)
    """Rows whose null is meant."""
    not_convertible: int = 0

    def __len__(self) -> int:
        return len(self.handle)


class Readings(NamedTuple):
    """`Columns` as arrays: ``n`` readings."""

    handle: UInt32
    source_time: Int64
    value: Float64
    status: UInt32
    text: dict[int, str]
    null: npt.NDArray[np.bool_]
    not_convertible: int


def arrays(columns: Columns) -> Readings:
    """Return the columns as numpy arrays."""
    null = np.zeros(len(columns), dtype=np.bool_)
    if columns.null:
        null[columns.null] = True
    return Readings(
        np.array(columns.handle, dtype=np.uint32),
        np.array(columns.source_time, dtype=np.int64),
        np.array(columns.value, dtype=np.float64),
        np.array(columns.status, dtype=np.uint32),
        columns.text,
        null,
        columns.not_convertible,
    )


class Header(NamedTuple):
    """What matters of a response header."""

    server_time: int
    """UTC ns by the server's clock; NO_TIME where it gave none."""
    status: int
    at: int
    """Where the response's own fields begin."""


class Notification(NamedTuple):
    """One publish response."""

    subscription: int
    sequence: int
    more: bool
    """The server has more to send at once."""
    publish_time: int
    """UTC ns by the server's clock: what changed before has been sent; NO_TIME where it gave none."""
    has_data: bool
    """Whether the message has to be acknowledged (a keep-alive must not be)."""
    columns: Columns
    status_change: int
    """Good (0), or why the subscription ended."""


class HistoryPage(NamedTuple):
    """One node's part of a HistoryRead response."""

    status: int
    continuation: bytes | None
    values: int
    """Values that it added to the columns."""
    last_time: int
    """Source time of the last of them, NO_TIME if there is none."""


def read_header(body: bytes) -> Header:
    """Read a response's type and header."""
    try:
        at = skip_node_id(body, 0)
        (ticks,) = I64.unpack_from(body, at)
        (status,) = U32.unpack_from(body, at + 12)
        at = skip_diagnostic(body, at + 16, 0)
        count, at = read_length(body, at)
        for _ in range(count):
            _, at = read_bytes(body, at)
        return Header(ns_of_ticks(ticks), status, skip_extension(body, at))
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"response header: {error}") from error


def read_publish(body: bytes) -> Notification:
    """Read a PublishResponse (Part 4 §5.14.5)."""
    try:
        return _read_publish(body)
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"publish response: {error}") from error


def read_values(body: bytes, indices: list[int], columns: Columns) -> int:
    """Append the results of a ReadResponse (Part 4 §5.11.2), one for each of ``indices``; return how many."""
    try:
        at = read_header(body).at
        count, at = read_length(body, at)
        if count != len(indices):
            raise MalformedMessage(f"{count} results for {len(indices)} nodes")
        for index in indices:
            at = _read_data_value(body, at, index, columns)
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"read response: {error}") from error
    return count


def read_history(body: bytes, indices: list[int], columns: Columns) -> list[HistoryPage]:
    """Append the values of a HistoryReadResponse (Part 4 §5.11.3); return a page for each of ``indices``."""
    try:
        at = read_header(body).at
        count, at = read_length(body, at)
        if count != len(indices):
            raise MalformedMessage(f"{count} results for {len(indices)} nodes")
        pages = []
        for index in indices:
            page, at = _read_history_page(body, at, index, columns)
            pages.append(page)
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"history response: {error}") from error
    return pages


def _read_publish(body: bytes) -> Notification:
    header = read_header(body)
    (subscription,) = U32.unpack_from(body, header.at)
    available, at = read_length(body, header.at + 4)
    at += 4 * available
    more = body[at] != 0
    (sequence,) = U32.unpack_from(body, at + 1)
    (ticks,) = I64.unpack_from(body, at + 5)
    parts, at = read_length(body, at + 13)
    columns = Columns()
    status_change = 0
    for _ in range(parts):
        kind, start, at = read_extension(body, at)
        if kind == _DATA_CHANGE:
            count, inner = read_length(body, start)
            for _ in range(count):
                (handle,) = U32.unpack_from(body, inner)
                inner = _read_data_value(body, inner + 4, handle, columns)
        elif kind == _STATUS_CHANGE:
            (status_change,) = U32.unpack_from(body, start)
    published = ns_of_ticks(ticks)
    return Notification(
        subscription,
        sequence,
        more,
        published if published != NO_TIME else header.server_time,
        parts > 0,
        columns,
        status_change,
    )


def _read_history_page(body: bytes, at: int, index: int, columns: Columns) -> tuple[HistoryPage, int]:
    (status,) = U32.unpack_from(body, at)
    continuation, at = read_bytes(body, at + 4)
    kind, start, at = read_extension(body, at)
    before = len(columns)
    if kind in {_HISTORY_DATA, _HISTORY_MODIFIED}:
        count, inner = read_length(body, start)
        for _ in range(count):
            inner = _read_data_value(body, inner, index, columns)
    added = len(columns) - before
    last = columns.source_time[-1] if added else NO_TIME
    return HistoryPage(status, continuation or None, added, last), at


def _read_data_value(body: bytes, at: int, index: int, columns: Columns) -> int:
    mask = body[at]
    at += 1
    value: float = _NAN
    text: str | None = None
    null = convertible = True
    if mask & 0x01:
        kind = body[at]
        number = NUMBERS.get(kind)
        if number is not None:
            (value,) = number.unpack_from(body, at + 1)
            at += 1 + number.size
            null = False
        else:
            value, text, null, convertible, at = _read_odd_variant(body, at)
    status = 0
    if mask & 0x02:
        (status,) = U32.unpack_from(body, at)
        at += 4
    time = NO_TIME
    if mask & 0x04:
        time = ns_of_ticks(I64.unpack_from(body, at)[0])
        at += 8
    if mask & 0x10:
        at += 2
    if mask & 0x08:
        if time == NO_TIME:
            time = ns_of_ticks(I64.unpack_from(body, at)[0])
        at += 8
    if mask & 0x20:
        at += 2
    if at > len(body):
        raise MalformedMessage("a value ends behind the message")
    row = len(columns.handle)
    if not convertible:
        columns.not_convertible += 1
        null = True
        if status >> 30 < 2:
            status = STATUS_NOT_CONVERTIBLE
    if text is not None:
        columns.text[row] = text
    elif null:
        columns.null.append(row)
    columns.handle.append(index)
    columns.source_time.append(time)
    columns.value.append(value)
    columns.status.append(status)
    return at


def _read_odd_variant(body: bytes, at: int) -> tuple[float, str | None, bool, bool, int]:
    """Return value, text, whether it is null, whether it could be converted, and the position behind it."""
    encoding = body[at]
    kind = encoding & 0x3F
    if encoding & 0xC0:
        return _NAN, None, True, False, skip_variant(body, at, 0)
    at += 1
    if kind == NULL:
        return _NAN, None, True, True, at
    if kind in {STRING, XML}:
        raw, at = read_bytes(body, at)
        return _text(raw, at)
    if kind == LOCALIZED_TEXT:
        mask = body[at]
        at += 1
        if mask & 1:
            _, at = read_bytes(body, at)
        raw = None
        if mask & 2:
            raw, at = read_bytes(body, at)
        return _text(raw, at)
    if kind == QUALIFIED_NAME:
        raw, at = read_bytes(body, at + 2)
        return _text(raw, at)
    if kind == DATE_TIME:
        time = ns_of_ticks(I64.unpack_from(body, at)[0])
        return (
            (_NAN, None, True, True, at + 8) if time == NO_TIME else (time / 1e9, None, False, True, at + 8)
        )
    if kind == GUID:
        raw = body[at : at + 16]
        if len(raw) < 16:
            raise MalformedMessage("a Guid ends behind the message")
        return _NAN, str(uuid.UUID(bytes_le=raw)), False, True, at + 16
    return _NAN, None, True, False, skip_scalar(body, at, kind, 0)


def _text(raw: bytes | None, at: int) -> tuple[float, str | None, bool, bool, int]:
    if raw is None:
        return _NAN, None, True, True, at
    text = raw.decode("utf-8", errors="replace")
    fits = len(raw) <= MAX_TEXT_BYTES and (len(text) == len(raw) or len(text.encode()) <= MAX_TEXT_BYTES)
    return (_NAN, text, False, True, at) if fits else (_NAN, None, True, False, at)


__all__ = [
    "Columns",
    "Header",
    "HistoryPage",
    "MalformedMessage",
    "Notification",
    "Readings",
    "arrays",
    "ns_of_ticks",
    "read_header",
    "read_history",
    "read_publish",
    "read_values",
]
