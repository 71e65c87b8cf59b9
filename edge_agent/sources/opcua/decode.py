"""Responses of an OPC UA server (Part 6, binary encoding) as columns, without an object per value.

The times keep their full 100 ns. A body that ends too early is a `MalformedMessage`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.binary import (
    I64,
    U32,
    MalformedMessage,
    read_bytes,
    read_extension,
    read_length,
    skip_diagnostic,
    skip_extension,
    skip_node_id,
)
from edge_agent.sources.opcua.columns import Columns, Readings, ns_of_ticks
from edge_agent.sources.opcua.datavalue import read_data_values
from shopfloor.block import UInt32

_DATA_CHANGE, _STATUS_CHANGE, _HISTORY_DATA, _HISTORY_MODIFIED = 811, 820, 658, 11227
_EVENTS = 916


class Header(NamedTuple):
    """What matters of a response header."""

    server_time: int
    """UTC ns by the server's clock; NO_TIME where it gave none."""
    status: int
    at: int
    """Where the response's own fields begin."""


class Notification(NamedTuple):
    """One publish response, or what Republish brought."""

    subscription: int
    sequence: int
    """Of the message; a keep-alive says which number the next message will have (Part 4 §5.14.1.1)."""
    more: bool
    """The server has more to send at once."""
    publish_time: int
    """UTC ns by the server's clock: what changed before has been sent; NO_TIME where it gave none."""
    has_data: bool
    """Whether the message has to be acknowledged (a keep-alive must not be)."""
    columns: Columns
    status_change: int
    """Good (0), or why the subscription ended."""
    events: tuple[bytes, ...] = ()
    """The contents of its EventNotificationLists (Part 4 §7.25.3), as they came."""


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


def read_republish(body: bytes, subscription: int) -> Notification:
    """Read a RepublishResponse (Part 4 §5.14.6) of a subscription."""
    try:
        header = read_header(body)
        return _read_message(body, header.at, header.server_time, subscription, more=True)
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"republish response: {error}") from error


def read_values(body: bytes, indices: Sequence[int] | UInt32, columns: Columns) -> int:
    """Append the results of a ReadResponse (Part 4 §5.11.2), one for each of ``indices``; return how many."""
    try:
        at = read_header(body).at
        count, at = read_length(body, at)
        if count != len(indices):
            raise MalformedMessage(f"{count} results for {len(indices)} nodes")
        read_data_values(body, at, count, np.asarray(indices, np.uint32), columns)
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
    return _read_message(body, at + 1, header.server_time, subscription, more=body[at] != 0)


def _read_message(body: bytes, at: int, server_time: int, subscription: int, *, more: bool) -> Notification:
    """Read a NotificationMessage (Part 4 §7.26)."""
    (sequence,) = U32.unpack_from(body, at)
    (ticks,) = I64.unpack_from(body, at + 4)
    parts, at = read_length(body, at + 12)
    columns = Columns()
    status_change = 0
    events = []
    for _ in range(parts):
        kind, start, at = read_extension(body, at)
        if kind == _DATA_CHANGE:
            count, inner = read_length(body, start)
            read_data_values(body, inner, count, None, columns)
        elif kind == _STATUS_CHANGE:
            (status_change,) = U32.unpack_from(body, start)
        elif kind == _EVENTS:
            events.append(body[start:at])
    published = ns_of_ticks(ticks)
    return Notification(
        subscription,
        sequence,
        more,
        published if published != NO_TIME else server_time,
        parts > 0,
        columns,
        status_change,
        tuple(events),
    )


def _read_history_page(body: bytes, at: int, index: int, columns: Columns) -> tuple[HistoryPage, int]:
    (status,) = U32.unpack_from(body, at)
    continuation, at = read_bytes(body, at + 4)
    kind, start, at = read_extension(body, at)
    before = len(columns)
    if kind in {_HISTORY_DATA, _HISTORY_MODIFIED}:
        count, inner = read_length(body, start)
        read_data_values(body, inner, count, np.full(count, index, np.uint32), columns)
    added = len(columns) - before
    last = columns.last_time() if added else NO_TIME
    return HistoryPage(status, continuation or None, added, last), at


__all__ = [
    "Columns",
    "Header",
    "HistoryPage",
    "MalformedMessage",
    "Notification",
    "Readings",
    "ns_of_ticks",
    "read_header",
    "read_history",
    "read_publish",
    "read_republish",
    "read_values",
]
