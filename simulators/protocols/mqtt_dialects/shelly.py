"""A Shelly Gen2 three-phase meter: ``ID/events/rpc`` with NotifyStatus of em:0, and once a minute of emdata:0.

Power is in W, the register in Wh, ``params.ts`` in seconds with hundredths.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from shopfloor import signal
from shopfloor.asset import AssetPath
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.protocols.mqtt_dialects.power import apparent
from simulators.protocols.mqtt_dialects.said import (
    Message,
    Said,
    Stored,
    Topic,
    rounded,
    signal_entry,
    stored,
)

_CS_NS: Final = 10_000_000
_MINUTE_NS: Final = 60_000_000_000
_FREQUENCY_HZ: Final = 50.0
_SHARES: Final = (("a", 0.336), ("b", 0.331), ("c", 0.333))
"""How the load is spread over the phases; no machine loads them alike."""

EM_FIELDS: Final = (
    ("total_act_power", signal.ACTIVE_POWER, "kW", 0.001),
    ("total_aprt_power", "energy.apparent_power", "kV.A", 0.001),
    ("total_current", "energy.total_current", "A", 1.0),
    ("a_voltage", "energy.voltage_l1", "V", 1.0),
    ("b_voltage", "energy.voltage_l2", "V", 1.0),
    ("c_voltage", "energy.voltage_l3", "V", 1.0),
    ("a_pf", signals.POWER_FACTOR, "1", 1.0),
)
"""(key in em:0, signal, unit in UCUM after scaling, scale); voltages are those of a phase to neutral."""
EMDATA_FIELDS: Final = (("total_act", signal.ACTIVE_ENERGY, "kW.h", 0.001),)
"""The same of emdata:0."""


class Shelly:
    """A Shelly Pro 3EM; ``device`` is its id, such as ``shellypro3em-08f9e0e5c1a4``."""

    def __init__(self, asset: AssetPath, device: str) -> None:
        self.asset = asset
        self.signals = tuple(name for _, name, *_ in (*EM_FIELDS, *EMDATA_FIELDS))
        self.untimed: frozenset[str] = frozenset()
        self._device = device
        self._topic = f"{device}/events/rpc"
        self._minute = -1

    def reading(self, reading: MeterReading) -> list[Said]:
        """Return the notification of a reading, and the register's where another minute has begun."""
        said = [self._notify(reading.time_ns, "em:0", _em(reading), EM_FIELDS)]
        minute = reading.time_ns // _MINUTE_NS
        if minute != self._minute:
            self._minute = minute
            said.append(self._notify(reading.time_ns, "emdata:0", _emdata(reading), EMDATA_FIELDS))
        return said

    def topics(self) -> list[Topic]:
        """Return the entry for its notifications; each message holds some of the signals only."""
        return [
            {
                "topic": self._topic,
                "asset": str(self.asset),
                "time": {"path": "params.ts", "format": "s"},
                "signals": [
                    signal_entry(
                        f"params.{part}.{key}",
                        name,
                        unit,
                        optional=True,
                        **({"scale": scale} if scale != 1.0 else {}),
                    )
                    for part, fields in (("em:0", EM_FIELDS), ("emdata:0", EMDATA_FIELDS))
                    for key, name, unit, scale in fields
                ],
            }
        ]

    def snapshot(self) -> bytes:
        """Return the minute of the last register."""
        return msgspec.json.encode(self._minute)

    def restore(self, snapshot: bytes) -> None:
        """Go on after the minute of the last register."""
        self._minute = msgspec.json.decode(snapshot, type=int)

    def _notify(
        self, time_ns: int, part: str, values: dict[str, Any], fields: tuple[tuple[str, str, str, float], ...]
    ) -> Said:
        hundredths = time_ns // _CS_NS
        payload = msgspec.json.encode(
            {
                "src": self._device,
                "dst": f"{self._device}/events",
                "method": "NotifyStatus",
                "params": {"ts": hundredths / 100, part: values},
            }
        )
        rows = tuple(
            Stored(name, hundredths * _CS_NS, stored(values[key], scale)) for key, name, _, scale in fields
        )
        return Said(time_ns, Message(self._topic, payload), rows)


def _em(reading: MeterReading) -> dict[str, Any]:
    power_w, factor = reading.power_kw * 1000.0, reading.power_factor
    apparent_va = apparent(power_w, factor)
    phase_v = reading.voltage_v / math.sqrt(3.0)
    values: dict[str, Any] = {"id": 0}
    for number, (phase, share) in enumerate(_SHARES):
        # Its three channels do not agree to the last digit.
        values |= {
            f"{phase}_current": rounded(3.0 * share * reading.current_a, 3),
            f"{phase}_voltage": rounded(phase_v + 0.3 * (number - 1), 1),
            f"{phase}_act_power": rounded(share * power_w, 1),
            f"{phase}_aprt_power": rounded(share * apparent_va, 1),
            f"{phase}_pf": rounded(factor, 2),
            f"{phase}_freq": _FREQUENCY_HZ,
        }
    return values | {
        "n_current": None,
        "total_current": rounded(3.0 * reading.current_a, 3),
        "total_act_power": rounded(power_w, 3),
        "total_aprt_power": rounded(apparent_va, 3),
        "user_calibrated_phase": [],
    }


def _emdata(reading: MeterReading) -> dict[str, Any]:
    energy_wh = reading.energy_kwh * 1000.0
    values: dict[str, Any] = {"id": 0}
    for phase, share in _SHARES:
        values |= {
            f"{phase}_total_act_energy": rounded(share * energy_wh, 2),
            f"{phase}_total_act_ret_energy": 0.0,
        }
    return values | {"total_act": rounded(energy_wh, 2), "total_act_ret": 0.0}
