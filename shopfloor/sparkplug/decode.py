"""Decode Sparkplug B payloads: protobuf's wire format, read directly because it is a hot path.

Whatever the bytes are, the answer is a `Payload` or a `SparkplugDecodeError`; the work is linear in their
number. Fields that the schema does not name are skipped. Where a field occurs twice the last one counts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from shopfloor.sparkplug.model import DataType, Metric, Payload, SparkplugDecodeError, Unsupported, signed
from shopfloor.sparkplug.protobuf import (
    MAX_NESTING,
    read_bytes,
    read_text,
    read_varint,
    refuse_overrun,
    skip_field,
)

MAX_BYTES: Final = 16 * 2**20
"""A longer payload is refused."""
MAX_METRICS: Final = 100_000
"""More metrics in one payload are refused."""

_UINT32: Final = 2**32 - 1
_float: Final = struct.Struct("<f").unpack_from
_double: Final = struct.Struct("<d").unpack_from
_new_metric: Final = tuple.__new__
_SIGNED_TYPES: Final = frozenset({DataType.Int8, DataType.Int16, DataType.Int32, DataType.Int64})


def decode_payload(data: bytes) -> Payload:
    """Decode a payload; raises SparkplugDecodeError, naming the byte, for anything that is none."""
    if len(data) > MAX_BYTES:
        raise SparkplugDecodeError(f"a payload of more than {MAX_BYTES} bytes", MAX_BYTES)
    try:
        return _payload(data)
    except (IndexError, struct.error):
        raise SparkplugDecodeError("the payload ends within a field", len(data)) from None


def _payload(data: bytes) -> Payload:
    end = len(data)
    at = 0
    timestamp: int | None = None
    seq: int | None = None
    uuid: str | None = None
    body: bytes | None = None
    metrics: list[Metric] = []
    # The timestamps of a message are mostly alike: comparing six bytes is cheaper than decoding them.
    times = (b"", 0)
    while at < end:
        tag = data[at]
        at += 1
        if tag == 0x12:
            size = data[at]
            at += 1
            if size > 0x7F:
                size, at = read_varint(data, at - 1)
            if at + size > end:
                refuse_overrun(at, end)
            if len(metrics) == MAX_METRICS:
                raise SparkplugDecodeError(f"more than {MAX_METRICS} metrics", at)
            metric, times = _metric(data, at, at + size, times)
            metrics.append(metric)
            at += size
        elif tag == 0x08:
            timestamp, at = read_varint(data, at)
        elif tag == 0x18:
            seq, at = read_varint(data, at)
        elif tag == 0x22:
            raw, at = read_bytes(data, at, end)
            uuid = read_text(raw, at, "the uuid")
        elif tag == 0x2A:
            body, at = read_bytes(data, at, end)
        else:
            at = skip_field(data, at - 1, end)
    return Payload(timestamp, tuple(metrics), seq, uuid, body)


def _metric(data: bytes, at: int, end: int, times: tuple[bytes, int]) -> tuple[Metric, tuple[bytes, int]]:
    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    value: int | float | bool | str | bytes | Unsupported | None = None
    integral = historical = transient = null = False
    properties: Mapping[str, object] | None = None
    while at < end:
        tag = data[at]
        at += 1
        if tag == 0x10:
            alias = data[at]
            at += 1
            if alias > 0x7F:
                alias, at = read_varint(data, at - 1)
        elif tag == 0x18:
            if data[at : at + 6] == times[0]:
                timestamp = times[1]
                at += 6
            else:
                begin = at
                timestamp, at = read_varint(data, at)
                if at - begin == 6:
                    times = (data[begin:at], timestamp)
        elif tag == 0x69:
            (value,) = _double(data, at)
            at += 8
            integral = False
        elif tag == 0x50:
            value, at = read_varint(data, at)
            value &= _UINT32
            integral = True
        elif tag == 0x58:
            value, at = read_varint(data, at)
            integral = True
        elif tag == 0x65:
            (value,) = _float(data, at)
            at += 4
            integral = False
        elif tag == 0x70:
            number, at = read_varint(data, at)
            value = number != 0
            integral = False
        elif tag == 0x28:
            number, at = read_varint(data, at)
            historical = number != 0
        elif tag == 0x7A:
            raw, at = read_bytes(data, at, end)
            value = _text_value(raw)
            integral = False
        elif tag == 0x20:
            datatype, at = read_varint(data, at)
            datatype &= _UINT32
        elif tag == 0x0A:
            raw, at = read_bytes(data, at, end)
            name = read_text(raw, at, "a metric's name")
        elif tag == 0x4A:
            size, at = read_varint(data, at)
            if at + size > end:
                refuse_overrun(at, end)
            properties = _property_set(data, at, at + size, 0)
            at += size
        elif tag == 0x38:
            number, at = read_varint(data, at)
            null = number != 0
        elif tag == 0x30:
            number, at = read_varint(data, at)
            transient = number != 0
        elif tag in _LARGE_VALUES and data[at] == 0x01:
            raw, at = read_bytes(data, at + 1, end)
            value = raw if tag == 0x82 else Unsupported(_LARGE_VALUES[tag])
            integral = False
        else:
            at = skip_field(data, at - 1, end)
    if at != end:
        refuse_overrun(at, end)
    if null:
        value = None
    elif integral and datatype in _SIGNED_TYPES:
        value = signed(value, datatype)  # type: ignore[arg-type]
    return (
        _new_metric(
            Metric, (name, alias, timestamp, datatype, value, historical, transient, null, properties)
        ),
        times,
    )


# The first byte of the tags of fields 16 to 19, length-delimited; the second is 0x01 for all four.
_LARGE_VALUES: Final = {0x82: "Bytes", 0x8A: "DataSet", 0x92: "Template", 0x9A: "extension"}


def _property_set(data: bytes, at: int, end: int, depth: int) -> dict[str, object]:
    """Keys and values go by their position; what has no counterpart is dropped."""
    if depth > MAX_NESTING:
        raise SparkplugDecodeError(f"properties nested deeper than {MAX_NESTING}", at)
    keys: list[str] = []
    values: list[object] = []
    while at < end:
        tag = data[at]
        if tag == 0x0A:
            raw, at = read_bytes(data, at + 1, end)
            keys.append(read_text(raw, at, "a property's key"))
        elif tag == 0x12:
            size, at = read_varint(data, at + 1)
            if at + size > end:
                refuse_overrun(at, end)
            values.append(_property_value(data, at, at + size, depth))
            at += size
        else:
            at = skip_field(data, at, end)
    if at != end:
        refuse_overrun(at, end)
    return dict(zip(keys, values, strict=False))


def _property_value(data: bytes, at: int, end: int, depth: int) -> object:
    datatype = 0
    null = False
    value: object = None
    while at < end:
        tag = data[at]
        at += 1
        if tag == 0x08:
            datatype, at = read_varint(data, at)
        elif tag == 0x10:
            number, at = read_varint(data, at)
            null = number != 0
        elif tag == 0x18:
            number, at = read_varint(data, at)
            value = number & _UINT32
        elif tag == 0x20:
            value, at = read_varint(data, at)
        elif tag == 0x2D:
            (value,) = _float(data, at)
            at += 4
        elif tag == 0x31:
            (value,) = _double(data, at)
            at += 8
        elif tag == 0x38:
            number, at = read_varint(data, at)
            value = number != 0
        elif tag in {0x42, 0x4A, 0x52, 0x5A}:
            raw, at = read_bytes(data, at, end)
            begin = at - len(raw)
            if tag == 0x42:
                value = _text_value(raw)
            elif tag == 0x4A:
                value = _property_set(data, begin, at, depth + 1)
            elif tag == 0x52:
                value = _property_sets(data, begin, at, depth + 1)
            else:
                value = Unsupported("extension")
        else:
            at = skip_field(data, at - 1, end)
    if at != end:
        refuse_overrun(at, end)
    if null:
        return None
    if type(value) is int:
        return signed(value, datatype)
    return value


def _property_sets(data: bytes, at: int, end: int, depth: int) -> tuple[dict[str, object], ...]:
    found: list[dict[str, object]] = []
    while at < end:
        if data[at] == 0x0A:
            raw, at = read_bytes(data, at + 1, end)
            found.append(_property_set(data, at - len(raw), at, depth + 1))
        else:
            at = skip_field(data, at, end)
    if at != end:
        refuse_overrun(at, end)
    return tuple(found)


def _text_value(raw: bytes) -> str | Unsupported:
    # A machine that speaks another encoding must not cost the values of its neighbours.
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Unsupported("String that is not UTF-8")
