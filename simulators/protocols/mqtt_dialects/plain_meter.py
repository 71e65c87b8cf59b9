"""A plain meter: ``{"ts": ms, "power_kw": ...}``, every number exact, UTC in milliseconds."""

from __future__ import annotations

from typing import Final

import msgspec

from shopfloor import signal
from shopfloor.asset import AssetPath
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.protocols.mqtt_dialects.said import Message, Said, Stored, Topic, signal_entry, stored

_MS: Final = 1_000_000

METER_SIGNALS: Final = (
    ("power_kw", signal.ACTIVE_POWER, "kW", "Active power, mean over the interval"),
    ("energy_kwh", signal.ACTIVE_ENERGY, "kW.h", "Active energy register"),
    ("voltage_v", signals.VOLTAGE, "V", "Mean voltage between the phases"),
    ("current_a", signals.CURRENT, "A", "Mean current of the phases"),
    ("power_factor", signals.POWER_FACTOR, "1", "Power factor"),
)
"""What a meter's message holds: (key, signal, unit in UCUM, description); ``ts`` is UTC ms. Scale is 1 throughout."""


def meter_payload(reading: MeterReading) -> bytes:
    """Return a meter's message: ``{"ts": ms, "power_kw": ..., ...}``, every number exact, NaN as null."""
    values: dict[str, float] = {"ts": reading.time_ns // _MS}
    values.update({key: float(getattr(reading, key)) for key, *_ in METER_SIGNALS})
    return msgspec.json.encode(values)


class PlainMeter:
    """The meter of ENTERPRISE/SITE/AREA/LINE/CELL, which publishes to ``meters/SITE/AREA/LINE/CELL``."""

    def __init__(self, asset: AssetPath) -> None:
        self.asset = asset
        self.signals = tuple(name for _, name, *_ in METER_SIGNALS)
        self.untimed: frozenset[str] = frozenset()
        self.topic = "/".join(("meters", *asset.segments[1:]))

    def reading(self, reading: MeterReading) -> list[Said]:
        """Return the reading's message."""
        time_ns = reading.time_ns // _MS * _MS
        rows = tuple(Stored(name, time_ns, stored(getattr(reading, key))) for key, name, *_ in METER_SIGNALS)
        return [Said(reading.time_ns, Message(self.topic, meter_payload(reading)), rows)]

    def topics(self) -> list[Topic]:
        """Return one entry, the same for all meters of a site."""
        enterprise, site, *levels = self.asset.segments
        names = [f"{{{name}}}" for name in ("area", "line", "cell")[: len(levels)]]
        return [
            {
                "topic": "/".join(("meters", site, *names)),
                "asset": "/".join((enterprise, site, *names)),
                "time": {"path": "ts", "format": "ms"},
                "signals": [signal_entry(key, name, unit) for key, name, unit, _ in METER_SIGNALS],
            }
        ]

    def snapshot(self) -> bytes:
        """Return nothing: it remembers nothing."""
        return b""

    def restore(self, _snapshot: bytes) -> None:
        """Do nothing."""
