"""One value of a built-in type (Part 6 §5.2.2): a number, a text, or nothing."""

from __future__ import annotations

import base64
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.binary import (
    BYTE_STRING,
    DATE_TIME,
    EXPANDED_NODE_ID,
    GUID,
    I64,
    LOCALIZED_TEXT,
    NODE_ID,
    NULL,
    NUMBERS,
    QUALIFIED_NAME,
    STRING,
    XML,
    read_bytes,
    read_guid,
    read_node_id,
    skip_scalar,
)
from edge_agent.sources.opcua.columns import ns_of_ticks

MAX_TEXT_BYTES: Final = 64 * 1024
"""What the wire format takes as one text."""
BOOLEAN, INT64, UINT64 = 1, 8, 9
NUMPY_TYPES: Final = {
    # A Boolean is a byte here: whatever is not 0 is true (Part 6 §5.2.2.1).
    BOOLEAN: "u1",
    2: "i1",
    3: "u1",
    4: "<i2",
    5: "<u2",
    6: "<i4",
    7: "<u4",
    INT64: "<i8",
    UINT64: "<u8",
    10: "<f4",
    11: "<f8",
    DATE_TIME: "<i8",
    19: "<u4",
}
"""Scalar types of a fixed length that become a number."""
_EXACT: Final = 2**53
_NAN: Final = float("nan")


class Scalar(NamedTuple):
    """What one value becomes."""

    value: float = _NAN
    text: str | None = None
    null: bool = False
    """Whether it is nothing because that is what the machine says."""
    convertible: bool = True
    rounded: bool = False
    """Whether an integer beyond 2**53 became the nearest double."""


NOTHING: Final = Scalar(null=True)
NOT_CONVERTIBLE: Final = Scalar(null=True, convertible=False)


def read_scalar(body: bytes, at: int, kind: int) -> tuple[Scalar, int]:
    """Read a value of a built-in type that is not made of others; whatever else it is, is not convertible.

    Raises:
        MalformedMessage, struct.error, IndexError: it ends behind the message.
    """
    number = NUMBERS.get(kind)
    if number is not None:
        (raw,) = number.unpack_from(body, at)
        value = float(raw)
        return Scalar(value, rounded=kind in {INT64, UINT64} and int(value) != raw), at + number.size
    if kind == DATE_TIME:
        time = ns_of_ticks(I64.unpack_from(body, at)[0])
        return (NOTHING if time == NO_TIME else Scalar(time / 1e9)), at + 8
    if kind == NULL:
        return NOTHING, at
    if kind in {STRING, XML}:
        return _text(*read_bytes(body, at))
    if kind == LOCALIZED_TEXT:
        mask, raw = body[at], None
        at += 1
        if mask & 1:
            _, at = read_bytes(body, at)
        if mask & 2:
            raw, at = read_bytes(body, at)
        return _text(raw, at)
    if kind == QUALIFIED_NAME:
        return _text(*read_bytes(body, at + 2))
    if kind == GUID:
        guid, at = read_guid(body, at)
        return Scalar(text=guid), at
    if kind in {NODE_ID, EXPANDED_NODE_ID}:
        name, at = read_node_id(body, at)
        return _bounded(name), at
    if kind == BYTE_STRING:
        raw, at = read_bytes(body, at)
        if raw is not None and len(raw) > MAX_TEXT_BYTES:
            return NOT_CONVERTIBLE, at
        return (NOTHING if raw is None else _bounded(base64.b64encode(raw).decode())), at
    return NOT_CONVERTIBLE, skip_scalar(body, at, kind, 0)


def rounded_count(column: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> int:
    """Return how many of the integers are no double, so that the nearest one stands for them."""
    if not len(column) or (int(column.max()) <= _EXACT and int(column.min()) >= -_EXACT):
        return 0
    # Halves of 32 bits are exact, and so is taking a double apart into them.
    double = column.astype(np.float64)
    high = np.floor(double / 2**32)
    low = double - high * 2**32
    exact = (high == (column >> 32).astype(np.float64)) & (
        low == (column & column.dtype.type(0xFFFF_FFFF)).astype(np.float64)
    )
    return int(len(column) - np.count_nonzero(exact))


def _text(raw: bytes | None, at: int) -> tuple[Scalar, int]:
    if raw is None:
        return NOTHING, at
    if len(raw) > MAX_TEXT_BYTES:
        return NOT_CONVERTIBLE, at
    return _bounded(raw.decode("utf-8", errors="replace")), at


def _bounded(text: str) -> Scalar:
    fits = 4 * len(text) <= MAX_TEXT_BYTES or len(text.encode()) <= MAX_TEXT_BYTES
    return Scalar(text=text) if fits else NOT_CONVERTIBLE
