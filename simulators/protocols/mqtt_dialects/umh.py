"""The United Manufacturing Hub's historian topics: one message a value, exactly ``timestamp_ms`` and ``value``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


class Umh:
    """A workplace; its topics are ``umh/v1/ASSET/_historian/KEY``.

    Args:
        asset: ENTERPRISE/SITE/AREA/LINE/CELL.
        fields: signal to the topic's last level and unit.

    Raises:
        ValueError: two signals of one key.
    """

    def __init__(self, asset: AssetPath, fields: Mapping[str, Shown]) -> None:
        keys = [each.key for each in fields.values()]
        if len(set(keys)) != len(keys):
            raise ValueError(f"{asset}: two signals of one name: {', '.join(keys)}")
        self.asset = asset
        self.signals = tuple(fields)
        self.untimed: frozenset[str] = frozenset()
        self._fields = dict(fields)

    def moments(self, moments: Sequence[Moment], until_ms: int) -> list[Said]:
        """Return a message for each value of each moment."""
        del until_ms  # it says nothing on its own
        said: list[Said] = []
        for moment in moments:
            if isinstance(moment, Change):
                said += self._say(moment.time_ns, moment.signal, moment.value)
            else:
                for name, value in moment.values.items():
                    said += self._say(moment.time_ns, name, value)
        return said

    def topics(self) -> list[Topic]:
        """Return an entry for each signal, the same for all workplaces of an area that show the same signals."""
        *above, _, _ = self.asset.segments
        place = "/".join((*above, "{line}", "{cell}"))
        return [
            {
                "topic": f"umh/v1/{place}/_historian/{each.key}",
                "asset": place,
                "time": {"path": "timestamp_ms", "format": "ms"},
                "signals": [signal_entry("value", name, each.unit)],
            }
            for name, each in self._fields.items()
        ]

    def snapshot(self) -> bytes:
        """Return nothing: it remembers nothing."""
        return b""

    def restore(self, _snapshot: bytes) -> None:
        """Do nothing."""

    def _say(self, time_ns: int, signal: str, value: Value) -> list[Said]:
        each = self._fields.get(signal)
        if each is None:
            return []
        time_ms = time_ns // MS
        raw = shown(value)
        message = Message(
            f"umh/v1/{self.asset}/_historian/{each.key}",
            msgspec.json.encode({"timestamp_ms": time_ms, "value": raw}),
        )
        return [Said(time_ns, message, (Stored(signal, time_ms * MS, stored(raw)),))]
