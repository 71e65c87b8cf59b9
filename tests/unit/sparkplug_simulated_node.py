"""An edge node on a clock of the test, and what it sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shopfloor.sparkplug import (
    DataType,
    HostState,
    Metric,
    Payload,
    Topic,
    decode_payload,
    encode_payload,
    encode_state,
    parse_topic,
)
from simulators.protocols.sparkplug_metrics import DeviceSample, MetricSpec
from simulators.protocols.sparkplug_outbox import Leave
from simulators.protocols.sparkplug_session import EdgeSession, SessionLimits

DEVICES = {
    "imm-1": [MetricSpec("Barrel/Zone 1", DataType.Double, "Cel"), MetricSpec("Shots", DataType.Int32)],
    "imm-2": [MetricSpec("Barrel/Zone 1", DataType.Double, "Cel"), MetricSpec("Job", DataType.String)],
}
HOST = "scada"
STATE = str(Topic("STATE", host=HOST))
NCMD = "spBv1.0/vn01/NCMD/edge"
WALL = 1_700_000_000_000
REBIRTH = encode_payload(Payload(metrics=(Metric("Node Control/Rebirth", datatype=11, value=True),)))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Node:
    """A session with a clock, whose messages are written at once unless told otherwise."""

    def __init__(self, host: str | None = HOST, **limits: Any) -> None:
        self.clock = Clock()
        self.session = EdgeSession(
            "vn01", "edge", DEVICES, host, SessionLimits(**limits), clock=self.clock, wall_ms=lambda: WALL
        )
        self.will = self.session.begin(3)

    def out(self, *, write: bool = True) -> list[tuple[Topic, Payload]]:
        sent = []
        while self.session.outbox:
            message = self.session.outbox.popleft()
            if isinstance(message, Leave):
                sent.append((Topic("LEAVE"), Payload()))
                continue
            topic = parse_topic(message.topic)
            assert topic is not None
            sent.append((topic, decode_payload(message.payload)))
            if write and message.qos == 0:
                self.session.written(1)
        return sent

    def state(self, *, online: bool, timestamp: int) -> None:
        self.session.message(STATE, encode_state(HostState(online, timestamp)))

    def connect(self, timestamp: int | None = 1) -> None:
        self.session.connected()
        if timestamp is not None:
            self.state(online=True, timestamp=timestamp)

    def born(self) -> None:
        self.connect()
        self.out()


def zone(time: int, value: float, device: str = "imm-1") -> DeviceSample:
    return DeviceSample(device, "Barrel/Zone 1", WALL + time, value)


def kinds(sent: Iterable[tuple[Topic, Payload]]) -> list[str]:
    return [f"{topic.type} {topic.device}" if topic.device else topic.type for topic, _ in sent]


def values(sent: Iterable[tuple[Topic, Payload]], *, historical: bool | None = None) -> list[object]:
    return [
        metric.value
        for topic, payload in sent
        if topic.type == "DDATA"
        for metric in payload.metrics
        if historical in {None, metric.is_historical}
    ]
