"""A Sparkplug B edge node of a load: its machines are devices, a tick is a DDATA of each.

The DDATA of a tick are one numpy array of whole PUBLISH packets. Everything in them has a fixed width: times in ms
take six bytes of varint until 2109, aliases begin where they take three, and ``seq`` is written in two bytes whatever
it is, which protobuf allows.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from shopfloor.sparkplug import (
    REBIRTH,
    SEQ_MODULO,
    DataType,
    Metric,
    Payload,
    SparkplugDecodeError,
    Topic,
    bd_seq_metric,
    decode_payload,
    encode_payload,
)
from simulators.load import mqtt_packets
from simulators.load.channel import MqttJob
from simulators.load.mqtt_json import Packets
from simulators.load.mqtt_link import KEEPALIVE_S, Greeting
from simulators.load.mqtt_packets import Will
from simulators.load.plan import Int64, machine_name, signal_name, values

_FIRST_ALIAS: Final = 2**14
_TIME_BYTES: Final = 6
_SOME_TIME_MS: Final = 2**41
"""Any time of six bytes, for the template."""


class SparkplugNode:
    """Births, data, death, and the answer to a rebirth command."""

    def __init__(self, job: MqttJob) -> None:
        self.values_per_message = job.plan.signals
        self._job = job
        self._plan = job.plan
        self._machines = range(job.first, job.last)
        self._edge = f"load-{job.number + 1:02d}"
        self._numbers: Int64 = job.plan.numbers(self._machines).reshape(len(self._machines), -1)
        self._commands = str(Topic("NCMD", job.topic_root, self._edge))
        self._session = -1
        self._seq = 0
        self.wants_rebirth = False
        """A host has asked for the births."""
        self.rebirths_total = 0
        rows = [
            mqtt_packets.publish(self._topic("DDATA", machine), self._data(number))
            for number, machine in enumerate(self._machines)
        ]
        self._packets: Packets = np.frombuffer(bytearray(b"".join(rows)), self._layout(rows[0]))

    def __len__(self) -> int:
        """How many messages a tick has."""
        return len(self._packets)

    def at(self, tick: int) -> Packets:
        """Return a tick's packets, valid until the next call; `stamp` gives them their ``seq``."""
        packets: Any = self._packets
        stamp = np.frombuffer(_varint(self._plan.tick_ms(tick)), f"V{_TIME_BYTES}")
        packets["time"] = stamp
        packets["metrics"]["time"] = stamp
        packets["metrics"]["value"] = values(tick, self._numbers)
        return self._packets

    def stamp(self, packets: Packets) -> None:
        """Number the messages that are sent next."""
        order = (self._seq + np.arange(len(packets))) % SEQ_MODULO
        packets["seq"] = np.stack([order & 0x7F | 0x80, order >> 7], axis=1)
        self._seq = (self._seq + len(packets)) % SEQ_MODULO

    def greeting(self) -> Greeting:
        """Return what a new session begins with: the will, the subscription to commands, the births."""
        self._session = (self._session + 1) % SEQ_MODULO
        will = Will(str(Topic("NDEATH", self._job.topic_root, self._edge)), self._death(), 1)
        hello = mqtt_packets.connect(
            self._job.client_id,
            KEEPALIVE_S,
            username=self._job.username,
            password=self._job.password,
            will=will,
        )
        return Greeting(hello, mqtt_packets.subscribe(self._commands, 1, 1) + self.births())

    def births(self) -> bytes:
        """Return NBIRTH and every DBIRTH, with the values of now; ``seq`` begins again."""
        self.wants_rebirth = False
        now_ms = time.time_ns() // 1_000_000
        tick = max(self._plan.newest_tick(now_ms), 0)
        node = Payload(
            now_ms,
            (
                bd_seq_metric(self._session, now_ms),
                Metric(REBIRTH, timestamp_ms=now_ms, datatype=DataType.Boolean, value=False),
            ),
            0,
        )
        self._seq = 1
        topic = str(Topic("NBIRTH", self._job.topic_root, self._edge))
        parts = [mqtt_packets.publish(topic, encode_payload(node))]
        for number, machine in enumerate(self._machines):
            payload = Payload(now_ms, tuple(self._birth_metrics(number, tick)), self._seq)
            self._seq = (self._seq + 1) % SEQ_MODULO
            parts.append(mqtt_packets.publish(self._topic("DBIRTH", machine), encode_payload(payload)))
        return b"".join(parts)

    def death(self) -> bytes:
        """Return the NDEATH of a node that goes in order."""
        return mqtt_packets.publish(str(Topic("NDEATH", self._job.topic_root, self._edge)), self._death())

    def received(self, packet: bytes) -> bytes:
        """Take a command; returns the packet to answer with, if there is one. What is no command of ours is ignored."""
        topic, content, packet_id = mqtt_packets.received_publish(packet)
        if topic == self._commands:
            try:
                metrics = decode_payload(content).metrics
            except SparkplugDecodeError:
                metrics = ()
            if any(metric.name == REBIRTH and metric.value is True for metric in metrics):
                self.wants_rebirth = True
        return b"" if packet_id is None else mqtt_packets.puback(packet_id)

    def _topic(self, kind: str, machine: int) -> str:
        return str(Topic(kind, self._job.topic_root, self._edge, machine_name(machine)))

    def _alias(self, number: int, signal: int) -> int:
        return _FIRST_ALIAS + number * self._plan.signals + signal

    def _birth_metrics(self, number: int, tick: int) -> list[Metric]:
        tick_ms = self._plan.tick_ms(tick)
        return [
            Metric(signal_name(signal), self._alias(number, signal), tick_ms, DataType.Double, value)
            for signal, value in enumerate(values(tick, self._numbers[number]).tolist())
        ]

    def _death(self) -> bytes:
        return encode_payload(Payload(metrics=(bd_seq_metric(self._session),)))

    def _data(self, number: int) -> bytes:
        metrics = tuple(
            Metric(None, self._alias(number, signal), _SOME_TIME_MS, DataType.Double, 0.0)
            for signal in range(self._plan.signals)
        )
        return encode_payload(Payload(_SOME_TIME_MS, metrics), datatypes=False) + b"\x18\x80\x00"

    def _layout(self, packet: bytes) -> np.dtype[np.void]:
        """Return where in a packet what changes stands."""
        time_field = f"V{_TIME_BYTES}"
        # Tag and length of the metric, the alias with its tag, the tag of the time; the tag of the value.
        metric = np.dtype([("begin", "V7"), ("time", time_field), ("tag", "V1"), ("value", "<f8")])
        body = 1 + _TIME_BYTES + metric.itemsize * self._plan.signals + 3
        return np.dtype(
            [
                ("head", f"V{len(packet) - body + 1}"),
                ("time", time_field),
                ("metrics", metric, (self._plan.signals,)),
                ("tag", "V1"),
                ("seq", "u1", (2,)),
            ]
        )


def _varint(number: int) -> bytes:
    return bytes(
        number >> 7 * place & 0x7F | (0x80 if place < _TIME_BYTES - 1 else 0) for place in range(_TIME_BYTES)
    )
