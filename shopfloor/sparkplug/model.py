"""What a Sparkplug B payload holds (Eclipse Sparkplug 3.0, section 6), as plain tuples."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from shopfloor.errors import Permanent

BD_SEQ: Final = "bdSeq"
"""The metric that ties a node's birth to the death certificate of the same connection (6.4.19)."""
REBIRTH: Final = "Node Control/Rebirth"
"""The command by which a host asks a node for all its births again (6.4.19); never aliased."""
SEQ_MODULO: Final = 256
"""`seq` and `bdSeq` run from 0 to 255."""


class SparkplugDecodeError(Permanent, ValueError):
    """Bytes that are no Sparkplug B payload, or exceed its limits; ``offset`` is where reading ended."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"{problem}, at byte {offset}")
        self.offset = offset


class DataType(IntEnum):
    """The data types of metrics and properties (6.4.16); ``Unknown`` is a placeholder."""

    Unknown = 0
    Int8 = 1
    Int16 = 2
    Int32 = 3
    Int64 = 4
    UInt8 = 5
    UInt16 = 6
    UInt32 = 7
    UInt64 = 8
    Float = 9
    Double = 10
    Boolean = 11
    String = 12
    DateTime = 13
    Text = 14
    UUID = 15
    DataSet = 16
    Bytes = 17
    File = 18
    Template = 19
    PropertySet = 20
    PropertySetList = 21
    Int8Array = 22
    Int16Array = 23
    Int32Array = 24
    Int64Array = 25
    UInt8Array = 26
    UInt16Array = 27
    UInt32Array = 28
    UInt64Array = 29
    FloatArray = 30
    DoubleArray = 31
    BooleanArray = 32
    StringArray = 33
    DateTimeArray = 34


class Unsupported(NamedTuple):
    """Stands for a value that is there but is not decoded; ``kind`` says what it is, in words."""

    kind: str


class Metric(NamedTuple):
    """One metric of a payload."""

    name: str | None = None
    """Absent in data of an aliased metric."""
    alias: int | None = None
    """Unique within the edge node; given together with the name in a birth."""
    timestamp_ms: int | None = None
    """UTC, milliseconds since 1970."""
    datatype: int | None = None
    """A `DataType`; a plain number because peers may send others. Absent outside births."""
    value: int | float | bool | str | bytes | Unsupported | None = None
    """Integers are already signed where `datatype` is present; see `signed`. Arrays stay bytes."""
    is_historical: bool = False
    """Store it, but it is no news: it must not replace a live value."""
    is_transient: bool = False
    """Must not be stored."""
    is_null: bool = False
    """The metric has no value now; `value` is None."""
    properties: Mapping[str, object] | None = None
    """Values are int, float, bool, str, None (null), a nested mapping, a tuple of mappings, or Unsupported."""


class Payload(NamedTuple):
    """One Sparkplug B message."""

    timestamp_ms: int | None = None
    """When it was sent: UTC, milliseconds since 1970."""
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None
    """0 to 255; absent in NDEATH and commands."""
    uuid: str | None = None
    body: bytes | None = None


_BITS: Final = {DataType.Int8: 8, DataType.Int16: 16, DataType.Int32: 32, DataType.Int64: 64}


def signed(value: int, datatype: int) -> int:
    """Return the integer that the unsigned field's ``value`` means for a metric of ``datatype``.

    Negative numbers travel as two's complement in unsigned fields (6.4.16). Peers fill the field's upper bits
    with the sign or with zeros: only the type's own bits count. Any other data type leaves the value as it is.
    """
    bits = _BITS.get(datatype)  # type: ignore[call-overload]
    if bits is None:
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def bd_seq_metric(number: int, timestamp_ms: int | None = None) -> Metric:
    """Return the metric that NBIRTH and NDEATH carry; ``number`` is taken modulo 256."""
    return Metric(BD_SEQ, None, timestamp_ms, DataType.Int64, number % SEQ_MODULO)


def bd_seq_of(payload: Payload) -> int | None:
    """Return the ``bdSeq`` of an NBIRTH or NDEATH, or None if it has none that is an integer."""
    for metric in payload.metrics:
        if metric.name == BD_SEQ and isinstance(metric.value, int):
            return int(metric.value)
    return None
