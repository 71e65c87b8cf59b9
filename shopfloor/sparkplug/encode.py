"""Encode Sparkplug B payloads: protobuf's wire format, written directly."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from shopfloor.sparkplug.model import DataType, Metric, Payload
from shopfloor.sparkplug.protobuf import MAX_UINT64, write_sized, write_varint

_double: Final = struct.Struct("<d").pack
_float: Final = struct.Struct("<f").pack
_RANGES: Final = {
    DataType.Int8: (-(2**7), 2**7 - 1),
    DataType.Int16: (-(2**15), 2**15 - 1),
    DataType.Int32: (-(2**31), 2**31 - 1),
    DataType.Int64: (-(2**63), 2**63 - 1),
    DataType.UInt8: (0, 2**8 - 1),
    DataType.UInt16: (0, 2**16 - 1),
    DataType.UInt32: (0, 2**32 - 1),
    DataType.UInt64: (0, 2**64 - 1),
    DataType.DateTime: (0, 2**64 - 1),
}
_LONG: Final = frozenset({DataType.Int64, DataType.UInt64, DataType.DateTime})
_TEXTS: Final = frozenset({DataType.String, DataType.Text, DataType.UUID})
_BYTES: Final = frozenset(
    {DataType.Bytes, DataType.File, *range(DataType.Int8Array, DataType.DateTimeArray + 1)}
)


def encode_payload(payload: Payload, *, datatypes: bool = True) -> bytes:
    """Encode a payload; with ``datatypes=False`` they choose the values' fields but are not written (6.4.5).

    A metric without datatype is written by the Python type of its value: bool, int (as uint32 where it fits,
    else as int64), float (double), str, bytes. Raises ValueError, naming the metric, for a value that does not
    fit its datatype and for datatypes that have no encoding here (DataSet, Template).
    """
    out = bytearray()
    if payload.timestamp_ms is not None:
        out += b"\x08" + write_varint(payload.timestamp_ms)
    for metric in payload.metrics:
        encoded = encode_metric(metric, datatype_written=datatypes)
        out += b"\x12"
        out += write_varint(len(encoded))
        out += encoded
    if payload.seq is not None:
        out += b"\x18" + write_varint(payload.seq)
    if payload.uuid is not None:
        out += b"\x22" + write_sized(payload.uuid.encode())
    if payload.body is not None:
        out += b"\x2a" + write_sized(payload.body)
    return bytes(out)


def encode_metric(metric: Metric, *, datatype_written: bool = True) -> bytes:
    """Encode the message of one metric, without the tag and length that a payload puts before it."""
    out = bytearray()
    if metric.name is not None:
        out += b"\x0a" + write_sized(metric.name.encode())
    if metric.alias is not None:
        out += b"\x10" + write_varint(metric.alias)
    if metric.timestamp_ms is not None:
        out += b"\x18" + write_varint(metric.timestamp_ms)
    if metric.datatype is not None and datatype_written:
        out += b"\x20" + write_varint(metric.datatype)
    if metric.is_historical:
        out += b"\x28\x01"
    if metric.is_transient:
        out += b"\x30\x01"
    if metric.is_null:
        out += b"\x38\x01"
    if metric.properties is not None:
        out += b"\x4a" + write_sized(_property_set(metric.properties))
    if metric.value is not None and not metric.is_null:
        try:
            out += _value(metric.value, metric.datatype)
        except ValueError as error:
            raise ValueError(f"metric {metric.name or metric.alias}: {error}") from error
    return bytes(out)


def _value(value: object, datatype: int | None) -> bytes:
    if datatype is None:
        datatype = _natural_type(value)
    if isinstance(value, bool):
        if datatype == DataType.Boolean:
            return b"\x70\x01" if value else b"\x70\x00"
    elif isinstance(value, int | float) and datatype == DataType.Double:
        return b"\x69" + _floating(_double, value, datatype)
    elif isinstance(value, int | float) and datatype == DataType.Float:
        return b"\x65" + _floating(_float, value, datatype)
    elif isinstance(value, int) and datatype in _RANGES:
        return (b"\x58" if datatype in _LONG else b"\x50") + _integer(value, datatype)
    if datatype in _TEXTS and isinstance(value, str):
        return b"\x7a" + write_sized(value.encode())
    if datatype in _BYTES and isinstance(value, bytes):
        return b"\x82\x01" + write_sized(value)
    raise ValueError(f"{value!r} can't be encoded as {_type_name(datatype)}")


def _natural_type(value: object) -> int:
    if isinstance(value, bool):
        return DataType.Boolean
    if isinstance(value, int):
        if 0 <= value < 2**32:
            return DataType.UInt32
        return DataType.Int64 if value < 2**63 else DataType.UInt64
    if isinstance(value, float):
        return DataType.Double
    if isinstance(value, str):
        return DataType.String
    if isinstance(value, bytes):
        return DataType.Bytes
    return DataType.Unknown


def _integer(value: int, datatype: int) -> bytes:
    low, high = _RANGES[DataType(datatype)]
    if not low <= value <= high:
        raise ValueError(f"{value} does not fit {_type_name(datatype)}")
    # The narrow types are sign-extended to the field's 32 bits, as every library does it.
    return write_varint(value & (MAX_UINT64 if datatype in _LONG else 0xFFFFFFFF))


def _floating(pack: Callable[[float], bytes], value: float, datatype: int) -> bytes:
    try:
        return pack(value)
    except (OverflowError, struct.error) as error:
        raise ValueError(f"{value} does not fit {_type_name(datatype)}") from error


def _type_name(datatype: int) -> str:
    try:
        return DataType(datatype).name
    except ValueError:
        return f"data type {datatype}"


def _property_set(properties: Mapping[str, object]) -> bytes:
    out = bytearray()
    for key in properties:
        out += b"\x0a" + write_sized(key.encode())
    for key, value in properties.items():
        out += b"\x12" + write_sized(_property_value(key, value))
    return bytes(out)


def _property_value(key: str, value: object) -> bytes:
    if value is None:
        return b"\x08\x0c\x10\x01"
    if isinstance(value, bool):
        return b"\x08\x0b\x38" + (b"\x01" if value else b"\x00")
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"\x08\x03\x18" + _integer(value, DataType.Int32)
        return b"\x08\x04\x20" + _integer(value, DataType.Int64)
    if isinstance(value, float):
        return b"\x08\x0a\x31" + _double(value)
    if isinstance(value, str):
        return b"\x08\x0c\x42" + write_sized(value.encode())
    if isinstance(value, Mapping):
        return b"\x08\x14\x4a" + write_sized(_property_set(value))
    if isinstance(value, tuple):
        return b"\x08\x15\x52" + write_sized(
            b"".join(b"\x0a" + write_sized(_property_set(each)) for each in value)
        )
    raise ValueError(f"property {key}: {value!r} can't be encoded")
