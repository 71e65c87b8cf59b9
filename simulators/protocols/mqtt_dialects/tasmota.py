"""A Tasmota plug's telemetry: ``tele/TOPIC/SENSOR`` with the local time and no zone, and its retained last will.

Power is in W, energy in kWh. ``Time`` is local and in whole seconds: where summer time ends, an hour comes twice and
nobody can tell the second one from the first. Rows hold what a collector that reads the first one stores. None of the
simulated sites has summer time.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from shopfloor import signal
from shopfloor.asset import AssetPath
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.protocols.mqtt_dialects.power import apparent, reactive
from simulators.protocols.mqtt_dialects.said import (
    Message,
    Said,
    Stored,
    Topic,
    rounded,
    signal_entry,
    stored,
)

CONNECTION: Final = "meter.connection"
"""What its last will says: Online or Offline; without a time."""
_S_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

FIELDS: Final = (
    ("Total", signal.ACTIVE_ENERGY, "kW.h", 1.0),
    ("Yesterday", "energy.yesterday", "kW.h", 1.0),
    ("Today", "energy.today", "kW.h", 1.0),
    ("Power", signal.ACTIVE_POWER, "kW", 0.001),
    ("ApparentPower", "energy.apparent_power", "kV.A", 0.001),
    ("ReactivePower", "energy.reactive_power", "kV.A", 0.001),
    ("Factor", signals.POWER_FACTOR, "1", 1.0),
    ("Voltage", signals.VOLTAGE, "V", 1.0),
    ("Current", signals.CURRENT, "A", 1.0),
)
"""(key in ENERGY, signal, unit in UCUM after scaling, scale)."""


class _Day(msgspec.Struct):
    """What a plug remembers of the local day."""

    date: date
    began_kwh: float
    """The register when the day began."""
    yesterday_kwh: float
    last_kwh: float


class Tasmota:
    """A meter with Tasmota's firmware.

    Args:
        asset: of the machine that it measures.
        topic: the device's own, such as ``plug-imm-01``.
        zone: IANA name of the local time.
        since_ns: when its register began, for TotalStartTime.
    """

    def __init__(self, asset: AssetPath, topic: str, zone: str, since_ns: int) -> None:
        self.asset = asset
        self.signals = (*(name for _, name, *_ in FIELDS), CONNECTION)
        self.untimed = frozenset({CONNECTION})
        self.will = Message(f"tele/{topic}/LWT", b"Offline", 1, retain=True)
        self._zone_name = zone
        self._zone = ZoneInfo(zone)
        self._topic = f"tele/{topic}/SENSOR"
        self._since = self._local(since_ns).strftime("%Y-%m-%dT%H:%M:%S")
        self._day: _Day | None = None

    def reading(self, reading: MeterReading) -> list[Said]:
        """Return the telemetry of a reading."""
        local = self._local(reading.time_ns)
        power_w, factor = reading.power_kw * 1000.0, reading.power_factor
        yesterday_kwh, today_kwh = self._energies(local.date(), reading.energy_kwh)
        energy: dict[str, float | str | None] = {
            "TotalStartTime": self._since,
            "Total": rounded(reading.energy_kwh, 3),
            "Yesterday": rounded(yesterday_kwh, 3),
            "Today": rounded(today_kwh, 3),
            "Power": rounded(power_w),
            "ApparentPower": rounded(apparent(power_w, factor)),
            "ReactivePower": rounded(reactive(power_w, factor)),
            "Factor": rounded(factor, 2),
            "Voltage": rounded(reading.voltage_v),
            "Current": rounded(reading.current_a, 3),
        }
        text = local.strftime("%Y-%m-%dT%H:%M:%S")
        time_ns = self._read_back(local)
        rows = tuple(Stored(name, time_ns, stored(energy[key], scale)) for key, name, _, scale in FIELDS)
        payload = msgspec.json.encode({"Time": text, "ENERGY": energy})
        return [Said(reading.time_ns, Message(self._topic, payload), rows)]

    def connection(self, time_ns: int, *, online: bool) -> Said:
        """Return what it says (retained) when it has connected, or before it leaves in good order.

        The will says ``Offline`` where it leaves otherwise; then the broker speaks, and no log knows of it.
        """
        word = "Online" if online else "Offline"
        message = self.will._replace(payload=word.encode())
        return Said(time_ns, message, (Stored(CONNECTION, None, word),))

    def topics(self) -> list[Topic]:
        """Return the entries for its telemetry and for its last will."""
        return [
            {
                "topic": self._topic,
                "asset": str(self.asset),
                "time": {"path": "Time", "format": "iso", "zone": self._zone_name},
                "signals": [
                    signal_entry(f"ENERGY.{key}", name, unit, **({"scale": scale} if scale != 1.0 else {}))
                    for key, name, unit, scale in FIELDS
                ],
            },
            {
                "topic": self.will.topic,
                "asset": str(self.asset),
                "payload": "text",
                "signals": [{"signal": CONNECTION}],
            },
        ]

    def snapshot(self) -> bytes:
        """Return the day's energy."""
        return msgspec.json.encode(self._day)

    def restore(self, snapshot: bytes) -> None:
        """Go on with a day's energy."""
        self._day = msgspec.json.decode(snapshot, type=_Day | None)

    def _energies(self, today: date, kwh: float) -> tuple[float, float]:
        """Return yesterday's and today's kWh; midnight's register is that of the last reading before it."""
        if math.isnan(kwh):
            return (self._day.yesterday_kwh if self._day else 0.0), math.nan
        day = self._day
        if day is None:
            day = self._day = _Day(today, kwh, 0.0, kwh)
        elif today > day.date:
            follows = today - day.date == timedelta(days=1)
            yesterday_kwh = day.last_kwh - day.began_kwh if follows else 0.0
            day = self._day = _Day(today, day.last_kwh, yesterday_kwh, kwh)
        # A clock that was put back over midnight does not bring yesterday back.
        day.last_kwh = kwh
        return day.yesterday_kwh, kwh - day.began_kwh

    def _local(self, time_ns: int) -> datetime:
        return (_EPOCH + timedelta(seconds=time_ns // _S_NS)).astimezone(self._zone)

    def _read_back(self, local: datetime) -> int:
        first = local.replace(fold=0)
        return (first - _EPOCH) // timedelta(seconds=1) * _S_NS
