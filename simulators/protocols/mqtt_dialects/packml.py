"""Stations with PackML states (ISA-TR88.00.02): ISO 8601 times with the zone's offset, milliseconds.

``TOPIC/status`` holds all of the station's status each time that something in it changes, ``TOPIC/unit`` what is known
of a finished unit (its serial, result, measured value). A number that is none is printed as ``NaN``, which is no JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from shopfloor.asset import AssetPath
from simulators.physics.unit import MS, Change, Moment, Value
from simulators.protocols.mqtt_dialects.said import (
    Message,
    Said,
    Shown,
    Stored,
    Topic,
    shown,
    signal_entry,
    stored,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PackML:
    """One station.

    Args:
        asset: of the station; its topics are ``ASSET/packml/status`` and ``ASSET/packml/unit``.
        zone: IANA name of the local time.
        status: signal to JSON key, such as StateCurrent, UnitModeCurrent, StopReason and the counters.
        unit: the same of a finished unit's values, such as Serial, Result, Value.

    Raises:
        ValueError: a signal stands in both, a key twice, or a key is Time.
    """

    def __init__(
        self, asset: AssetPath, zone: str, status: Mapping[str, Shown], unit: Mapping[str, Shown]
    ) -> None:
        twice = status.keys() & unit.keys()
        if twice:
            raise ValueError(f"{asset}: {', '.join(sorted(twice))} is of the status and of the unit")
        for fields in (status, unit):
            keys = ["Time", *(each.key for each in fields.values())]
            if len(set(keys)) != len(keys):
                raise ValueError(f"{asset}: a JSON key stands there twice: {', '.join(keys)}")
        self.asset = asset
        self.signals = (*status, *unit)
        self.untimed: frozenset[str] = frozenset()
        self._zone = ZoneInfo(zone)
        self._status = dict(status)
        self._unit = dict(unit)
        self._values: dict[str, Value] = {}

    def moments(self, moments: Sequence[Moment], until_ms: int) -> list[Said]:
        """Return a message for each time at which the status changed, and one a unit."""
        del until_ms  # it says nothing on its own
        said: list[Said] = []
        open_ns: int | None = None
        for moment in moments:
            if open_ns is not None and open_ns != moment.time_ns:
                said.append(self._say(open_ns, "status", self._status, self._values))
                open_ns = None
            if isinstance(moment, Change):
                if moment.signal in self._status:
                    self._values[moment.signal] = moment.value
                    open_ns = moment.time_ns
            else:
                said.append(self._say(moment.time_ns, "unit", self._unit, moment.values))
        if open_ns is not None:
            said.append(self._say(open_ns, "status", self._status, self._values))
        return said

    def topics(self) -> list[Topic]:
        """Return the entries for status and units."""
        return [
            {
                "topic": f"{self.asset}/packml/{name}",
                "asset": str(self.asset),
                "time": {"path": "Time", "format": "iso"},
                "signals": [signal_entry(each.key, name, each.unit) for name, each in fields.items()],
            }
            for name, fields in (("status", self._status), ("unit", self._unit))
            if fields
        ]

    def snapshot(self) -> bytes:
        """Return the status."""
        return msgspec.json.encode([(name, shown(value)) for name, value in self._values.items()])

    def restore(self, snapshot: bytes) -> None:
        """Go on with a status."""
        kept = msgspec.json.decode(snapshot, type=list[tuple[str, float | str | None]])
        self._values = {name: math.nan if value is None else value for name, value in kept}

    def _say(self, time_ns: int, name: str, fields: Mapping[str, Shown], values: Mapping[str, Value]) -> Said:
        time_ms = time_ns // MS
        content: dict[str, Any] = {"Time": self._iso(time_ms)}
        rows = []
        for signal, each in fields.items():
            if signal in values:
                raw = shown(values[signal])
                content[each.key] = math.nan if raw is None else raw
                rows.append(Stored(signal, time_ms * MS, stored(raw)))
        payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        return Said(time_ns, Message(f"{self.asset}/packml/{name}", payload), tuple(rows))

    def _iso(self, time_ms: int) -> str:
        moment = _EPOCH + timedelta(milliseconds=time_ms)
        return moment.astimezone(self._zone).isoformat(timespec="milliseconds")
