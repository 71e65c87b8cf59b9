"""A tick's MQTT messages as one numpy array of whole PUBLISH packets: only digits and packet ids change."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulators.load.mqtt_packets import publish
from simulators.load.plan import TICK_CYCLE, LoadPlan, machine_name

Packets = npt.NDArray[np.void]

_TS_DIGITS: Final = 13
"""Milliseconds since 1970 have so many from 2001 to 2286."""
_TICK_DIGITS: Final = 7


class JsonMessages:
    """``{"ts": ms, "s001": value, ...}`` of machine after machine, on ``ROOT/machine-0001``."""

    def __init__(
        self, plan: LoadPlan, machines: range, topic_root: str, *, qos: int, values_per_message: int = 0
    ) -> None:
        each = values_per_message or plan.signals
        if plan.signals % each:
            raise ValueError(f"{plan.signals} signals can't be sent {each} a message")
        self.values_per_message = each
        self._plan = plan
        rows = [
            publish(
                f"{topic_root}/{machine_name(machine)}",
                _payload(plan, machine, range(first, first + each)),
                qos=qos,
                packet_id=1,
            )
            for machine in machines
            for first in range(0, plan.signals, each)
        ]
        self._packets: Packets = np.frombuffer(bytearray(b"".join(rows)), _layout(rows[0], qos, each))

    def __len__(self) -> int:
        """How many messages a tick has."""
        return len(self._packets)

    def at(self, tick: int) -> Packets:
        """Return a tick's packets, valid until the next call; with QoS 1 the ids are still to be set."""
        packets: Any = self._packets
        packets["ts"] = b"%013d" % self._plan.tick_ms(tick)
        packets["values"]["tick"] = b"%07d" % (TICK_CYCLE + tick % TICK_CYCLE)
        return self._packets


def _payload(plan: LoadPlan, machine: int, signals: range) -> bytes:
    numbers = b"".join(
        b',"s%03d":%07d.%04d' % (signal + 1, TICK_CYCLE, plan.number(machine, signal)) for signal in signals
    )
    return b'{"ts":' + b"0" * _TS_DIGITS + numbers + b"}"


def _layout(packet: bytes, qos: int, values: int) -> np.dtype[np.void]:
    """Return where in a packet what changes stands; all packets have the same length."""
    payload = packet.index(b'{"ts":')
    identifier: list[Any] = [("id", ">u2")] if qos else []
    one_value = np.dtype([("key", "V8"), ("tick", f"S{_TICK_DIGITS}"), ("rest", "V5")])
    return np.dtype(
        [
            ("head", f"V{payload - 2 * len(identifier)}"),
            *identifier,
            ("begin", "V6"),
            ("ts", f"S{_TS_DIGITS}"),
            ("values", one_value, (values,)),
            ("end", "V1"),
        ]
    )
