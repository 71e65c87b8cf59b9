"""A small Sparkplug edge node for tests: what it says, as bytes, and one that says it through a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.sparkplug import SparkplugConfig
from shopfloor.sparkplug import (
    REBIRTH,
    SEQ_MODULO,
    STATE,
    DataType,
    Metric,
    Payload,
    Topic,
    bd_seq_metric,
    decode_payload,
    decode_state,
    encode_payload,
)

GROUP = "VN01"
EDGE = "line-a"
HOST = "vn01-agent"


class Said(NamedTuple):
    """One Sparkplug message, as published."""

    topic: str
    payload: bytes

    def at(self, received_time: int, **fields: Any) -> Message:
        """Return it as the host's connection hands it over."""
        return Message(self.topic, self.payload, received_time, **fields)


class Voice:
    """Numbers and encodes what one edge node says."""

    def __init__(self, bd_seq: int = 0, *, edge: str = EDGE) -> None:
        self.bd_seq = bd_seq
        self.edge = edge
        self.seq = 0

    def nbirth(self, ms: int, *metrics: Metric) -> Said:
        """Begin anew at seq 0."""
        self.seq = 0
        control = Metric(REBIRTH, None, ms, DataType.Boolean, value=False)
        return self._said("NBIRTH", "", ms, (bd_seq_metric(self.bd_seq, ms), control, *metrics))

    def ndeath(self, bd_seq: int | None = None) -> Said:
        """Return what the will says."""
        number = self.bd_seq if bd_seq is None else bd_seq
        payload = encode_payload(Payload(None, (bd_seq_metric(number),)))
        return Said(str(Topic("NDEATH", GROUP, self.edge)), payload)

    def say(self, kind: str, device: str, ms: int, *metrics: Metric) -> Said:
        """Return an NDATA, DBIRTH, DDATA or DDEATH; data without data types, as the specification wants it."""
        return self._said(kind, device, ms, metrics)

    def _said(self, kind: str, device: str, ms: int, metrics: Iterable[Metric]) -> Said:
        payload = Payload(ms, tuple(metrics), self.seq)
        self.seq = (self.seq + 1) % SEQ_MODULO
        topic = str(Topic(kind, GROUP, self.edge, device or None))
        return Said(topic, encode_payload(payload, datatypes=kind.endswith("BIRTH")))


class EdgeNode:
    """An edge node with one device and one metric a name, whose primary host is HOST; it keeps all that it measured.

    Whenever its host comes online, anew or again, it gives its births and sends everything again as historical.
    Everything happens under one lock: paho calls back from a thread of its own.
    """

    def __init__(self, port: int, device: str, metrics: dict[str, str]) -> None:
        self._port = port
        self._device = device
        self._metrics = metrics
        """Metric name to its engineering unit; its alias is its place."""
        self._aliases = {name: number for number, name in enumerate(metrics, 1)}
        self._lock = threading.RLock()
        self._history: list[tuple[str, int, float]] = []
        self._host_ms = 0
        self._host_is_online = False
        self._voice = Voice(-1)
        self.births = 0
        self.rebirths_asked = 0
        self._client: paho.Client | None = None

    def start(self) -> None:
        """Connect, with a new bdSeq; returns once connected."""
        with self._lock:
            self._voice = Voice((self._voice.bd_seq + 1) % SEQ_MODULO)
            self._host_is_online = False
            self._host_ms = 0
            client = paho.Client(
                CallbackAPIVersion.VERSION2,
                client_id=f"edge-{self._device}-{self._port}",
                reconnect_on_failure=False,
            )
            topic, payload = self._voice.ndeath()
            client.will_set(topic, payload, qos=1)
            client.on_message = self._on_message
            ready = threading.Event()
            client.on_connect = self._on_connect
            client.on_subscribe = lambda *_arguments: ready.set()
            client.connect("127.0.0.1", self._port, keepalive=30)
            self._client = client
        client.loop_start()
        assert ready.wait(30)

    def stop(self, *, kill: bool = False) -> None:
        """End the connection: with a goodbye, or as if the power went."""
        with self._lock:
            client, self._client = self._client, None
        if client is None:
            return
        stream = client.socket()
        if not kill:
            client.publish(*self._voice.ndeath(), qos=1)
            client.disconnect()
        elif isinstance(stream, socket.socket):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        client.loop_stop()

    def measure(self, name: str, ms: int, value: float) -> None:
        """Keep a value, and say it if the host is there."""
        with self._lock:
            self._history.append((name, ms, value))
            if self._host_is_online:
                self._publish(self._voice.say("DDATA", self._device, ms, self._data(name, ms, value)))

    def skip(self) -> None:
        """Leave out a number, as if a message had been lost."""
        with self._lock:
            self._voice.seq = (self._voice.seq + 1) % SEQ_MODULO

    def publish_raw(self, said: Said) -> None:
        """Say anything."""
        with self._lock:
            self._publish(said)

    def _data(self, name: str, ms: int, value: float, *, historical: bool = False) -> Metric:
        return Metric(None, self._aliases[name], ms, DataType.Double, float(value), is_historical=historical)

    @staticmethod
    def _on_connect(client: paho.Client, *_arguments: Any) -> None:
        client.subscribe([(str(Topic("NCMD", GROUP, EDGE)), 0), (str(Topic(STATE, host=HOST)), 1)])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            if message.topic.startswith("spBv1.0/STATE/"):
                self._hear_state(bytes(message.payload))
            elif any(
                each.name == REBIRTH and each.value for each in decode_payload(bytes(message.payload)).metrics
            ):
                self.rebirths_asked += 1
                self._bear()

    def _hear_state(self, payload: bytes) -> None:
        state = decode_state(payload)
        if state.timestamp_ms < self._host_ms:
            return  # The will of a session that is over already.
        is_new = state.online and (state.timestamp_ms > self._host_ms or not self._host_is_online)
        self._host_ms, self._host_is_online = state.timestamp_ms, state.online
        if is_new:
            self._bear()
            ms = int(time.time() * 1000)
            for name, at, value in self._history:
                self._publish(
                    self._voice.say("DDATA", self._device, ms, self._data(name, at, value, historical=True))
                )

    def _bear(self) -> None:
        self.births += 1
        ms = int(time.time() * 1000)
        self._publish(self._voice.nbirth(ms))
        # A value that births repeat after a death is one more sample; whoever counts samples needs births without.
        metrics = [
            Metric(
                name,
                self._aliases[name],
                ms,
                DataType.Double,
                is_transient=True,
                is_null=True,
                properties={"engUnit": unit},
            )
            for name, unit in self._metrics.items()
        ]
        self._publish(self._voice.say("DBIRTH", self._device, ms, *metrics))

    def _publish(self, said: Said) -> None:
        if self._client is not None:
            self._client.publish(said.topic, said.payload, qos=0)


@contextlib.asynccontextmanager
async def edge_node(port: int, device: str, metrics: dict[str, str]) -> AsyncIterator[EdgeNode]:
    """Yield an edge node that is connected."""
    node = EdgeNode(port, device, metrics)
    await asyncio.to_thread(node.start)
    try:
        yield node
    finally:
        await asyncio.to_thread(node.stop)


def config(port: int = 1883, **changes: Any) -> SparkplugConfig:
    """Return a configuration for HOST that takes everything of every device."""
    return SparkplugConfig.model_validate(
        {
            "name": "vn01",
            "broker": f"mqtt://127.0.0.1:{port}",
            "client_id": "vn01-gateway",
            "host_id": HOST,
            "keepalive_s": 2,
            "connect_timeout_s": 2,
            "publishers": [
                {
                    "descriptor": "{group}/{edge}/{device}",
                    "asset": "acme/vn01/moulding/cell-a/{device}",
                    "lowercase": True,
                    "metrics": "all",
                },
                {"descriptor": f"{GROUP}/{{edge}}", "asset": "acme/vn01/moulding/cell-a", "metrics": "all"},
            ],
            **changes,
        }
    )
