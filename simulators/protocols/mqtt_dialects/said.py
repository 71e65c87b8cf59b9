"""What a dialect turns a unit's moments into: messages, and what a correct collector makes of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from shopfloor.asset import AssetPath
from simulators.emission_format import Row
from simulators.physics.meter import MeterReading
from simulators.physics.unit import Moment, Value

Topic: TypeAlias = dict[str, Any]
"""One entry under ``topics:`` of an MQTT source in an edge agent's configuration."""
_EXACT_INTEGER: Final = 2**53


class Message(NamedTuple):
    """One PUBLISH (MQTT 3.1.1 §3.3); also a will."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Stored(NamedTuple):
    """A sample that a correct collector stores for a message."""

    signal: str
    time_ns: int | None
    """Source time, UTC ns; None where the message carries none, and the time of receipt stands in for it."""
    value: Value
    """After unit mapping, to the last bit; NaN is null."""


class Said(NamedTuple):
    """A message and what it means."""

    time_ns: int
    """When it is published, by the plant's clock, UTC ns."""
    message: Message
    rows: tuple[Stored, ...]


class Shown(NamedTuple):
    """How a dialect with free names shows a signal."""

    key: str
    """JSON key, or name in the topic."""
    unit: str = ""
    """UCUM; empty for none."""


class Dialect(Protocol):
    """How one device speaks. What it says next follows from its construction, its snapshot and what it is given."""

    @property
    def asset(self) -> AssetPath:
        """The asset that its signals belong to."""
        ...

    @property
    def signals(self) -> tuple[str, ...]:
        """All signals that it may say."""
        ...

    @property
    def untimed(self) -> frozenset[str]:
        """Those of them whose messages carry no time."""
        ...

    def topics(self) -> list[Topic]:
        """Return the agent's configuration for it; see `distinct_topics` for several devices."""
        ...

    def snapshot(self) -> bytes:
        """Return what it must remember to go on after a restart."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot of the same device."""
        ...


class MeterDialect(Dialect, Protocol):
    """How an energy meter speaks."""

    def reading(self, reading: MeterReading) -> list[Said]:
        """Return what it says of a reading; NaN is what it could not measure."""
        ...


class CellDialect(Dialect, Protocol):
    """How a machine, a station or a workplace speaks."""

    def moments(self, moments: Sequence[Moment], until_ms: int) -> list[Said]:
        """Return what it says of moments of its cell, and of the time that passes until ``until_ms``.

        Args:
            moments: in the order in which they happened; a clock that is behind may make their times go back.
            until_ms: UTC ms; all that happened before it was given. Call with rising times.
        """
        ...


def shown(value: Value) -> float | int | str | None:
    """Return a value as machines write it in JSON: whole numbers without a fraction, null where there is none."""
    if isinstance(value, str):
        return value
    value = float(value)
    if not math.isfinite(value):
        return None
    is_negative_zero = value == 0.0 and math.copysign(1.0, value) < 0
    if value.is_integer() and abs(value) <= _EXACT_INTEGER and not is_negative_zero:
        return int(value)
    return value


def rounded(value: float, digits: int = 0) -> float | int | None:
    """Return a number as a device with so many decimals writes it, null where there is none."""
    if not math.isfinite(value):
        return None
    return float(round(value, digits)) if digits else round(value)


def stored(raw: float | str | None, scale: float = 1.0) -> Value:
    """Return what a collector makes of a JSON value: raw * scale + offset, the offset being 0."""
    if isinstance(raw, str):
        return raw
    if raw is None or not math.isfinite(raw):
        return math.nan
    return float(raw) if scale == 1.0 else float(raw) * scale + 0.0


def log_rows(said: Iterable[Said], numbers: Mapping[str, int]) -> list[Row]:
    """Return the emission log's rows of messages of one device.

    Args:
        said: in order.
        numbers: signal to the log's number of its series.
    """
    return [
        Row(numbers[row.signal], each.time_ns if row.time_ns is None else row.time_ns, row.value)
        for each in said
        for row in each.rows
    ]


def repeated(said: Iterable[Said], copies: int, *, numbered: bool = False) -> list[Said]:
    """Return each message ``copies`` times, as a publisher does that missed the broker's acknowledgement.

    The broker passes the second one on without DUP (MQTT 3.1.1 §3.3.1.1). What carries a time says nothing new by it,
    so its rows stand with the first only; without a time it is another reading.

    Args:
        said: in order.
        copies: at least 1.
        numbered: whether the collector knows that no two messages are equal, and so tells the second one for what it
            is: see `Gateway`.
    """
    found: list[Said] = []
    for each in said:
        again = each._replace(rows=() if numbered else tuple(row for row in each.rows if row.time_ns is None))
        found += [each, *[again] * (copies - 1)]
    return found


def distinct_topics(dialects: Iterable[Dialect]) -> list[Topic]:
    """Return the agent's configuration for several devices, what is the same for some of them once."""
    found: list[Topic] = []
    for dialect in dialects:
        found += [topic for topic in dialect.topics() if topic not in found]
    return found


def signal_entry(path: str, signal: str, unit: str = "", **more: Any) -> dict[str, Any]:
    """Return one entry under ``signals:``."""
    return {"path": path, "signal": signal, **({"unit": unit} if unit else {}), **more}
