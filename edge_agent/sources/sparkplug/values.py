"""What the value of a Sparkplug metric means as a sample (Eclipse Sparkplug 3.0, section 6.4). Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_agent.normalise import NO_TIME
from edge_agent.sources.mqtt.payload import EXACT_INTEGER, NOT_CONVERTIBLE, NULL, Value, convert
from shopfloor.sparkplug import DataType, Metric, signed

BAD_NO_COMMUNICATION: Final = 0x8031_0000
"""OPC UA Bad_NoCommunication (Part 8, A.4): the edge node or the device behind it is disconnected."""
GOOD_COMMUNICATION_EVENT: Final = 0x00A7_0000
"""OPC UA Good_CommunicationEvent (Part 8, A.4): the value stood already, and is in contact again."""
_BAD: Final = 0x8000_0000
_UNCERTAIN_LAST_USABLE_VALUE: Final = 0x4090_0000
_QUALITIES: Final = {0: _BAD, 500: _UNCERTAIN_LAST_USABLE_VALUE}
"""The property ``Quality`` (6.4.15) as OPC UA StatusCodes: 0 is bad, 500 stale; 192 is good."""
_SIGNED: Final = frozenset({DataType.Int8, DataType.Int16, DataType.Int32, DataType.Int64})
_SCALARS: Final = frozenset(range(DataType.Int8, DataType.UUID + 1))
_MAX_UNIT: Final = 60
_LAST_MS: Final = (2**63 - 1) // 1_000_000


def is_scalar(datatype: int | None) -> bool:
    """Tell whether samples can be made of a data type; of data sets, templates, bytes and arrays they can't."""
    return datatype in _SCALARS


def value_of(metric: Metric, datatype: int | None, scale: float = 1.0, offset: float = 0.0) -> Value | None:
    """Return what a metric says; None where it says nothing that a sample could be made of.

    ``datatype`` is that of the birth, since data leave it out. A DateTime is seconds since 1970 UTC, as it is from
    OPC UA. Null stays null, whatever the scale.
    """
    raw = metric.value
    if metric.is_null:
        return NULL
    kind = type(raw)
    if kind is float:
        value = Value(raw)  # type: ignore[arg-type]
    elif kind is int:
        value = _integer(raw, datatype)  # type: ignore[arg-type]
    elif kind is bool or kind is str:
        value = convert(raw)
    else:
        return None
    if scale == 1.0 and offset == 0.0:
        return value
    if value.text is not None:
        return NOT_CONVERTIBLE
    return value._replace(value=value.value * scale + offset)


def _integer(raw: int, datatype: int | None) -> Value:
    if datatype in _SIGNED:
        raw = signed(raw, datatype)
    elif datatype == DataType.DateTime:
        return Value(raw / 1_000)
    elif datatype == DataType.Boolean:
        return Value(float(raw != 0))
    if -EXACT_INTEGER <= raw <= EXACT_INTEGER:
        return Value(float(raw))
    nearest = float(raw)
    return Value(nearest, rounded=nearest != raw)


def status_of(properties: Mapping[str, object] | None) -> int:
    """Return the OPC UA StatusCode that a metric's ``Quality`` amounts to; 0 where it is good or not given."""
    if not properties:
        return 0
    quality = properties.get("Quality")
    return _QUALITIES.get(quality, 0) if type(quality) is int else 0


def unit_of(properties: Mapping[str, object] | None) -> str:
    """Return the engineering unit that a birth gives for a metric, as it stands there; empty where it gives none."""
    unit = (properties or {}).get("engUnit")
    return unit.strip() if isinstance(unit, str) and len(unit.strip()) <= _MAX_UNIT else ""


def time_of(timestamp_ms: int | None) -> int:
    """Return a timestamp as UTC ns; NO_TIME where there is none, or none that 64 bits hold."""
    return timestamp_ms * 1_000_000 if timestamp_ms is not None and timestamp_ms <= _LAST_MS else NO_TIME
