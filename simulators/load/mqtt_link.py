"""One MQTT connection for a publisher: a window of unacknowledged messages, and nothing given up over reconnects."""

from __future__ import annotations

import logging
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from shopfloor.errors import SourceUnavailable
from simulators.load import mqtt_packets
from simulators.load.mqtt_json import Packets
from simulators.load.mqtt_packets import MalformedPacket, PacketStream
from simulators.load.mqtt_window import Window

KEEPALIVE_S: Final = 20
_CONNECT_S: Final = 3.0
_SILENT_S: Final = 30.0
_RETRY_S: Final = 0.5
_GATHER_S: Final = 0.003
_RECEIVE_BYTES: Final = 2**18
_log = logging.getLogger(__name__)


class Greeting(NamedTuple):
    """How a connection begins."""

    connect: bytes
    opening: bytes
    """What is sent as soon as we are let in."""


class Link:
    """Sends packets without waiting; `turn` does what there is to do."""

    def __init__(self, host: str, port: int, *, qos: int, window: int) -> None:
        self._address = (host, port)
        self._qos = qos
        self._size = window
        self._window = Window(window)
        self._socket: socket.socket | None = None
        self._stream = PacketStream()
        self._out: deque[memoryview] = deque()
        self._packet_bytes = 1
        self._heard_s = self._spoke_s = self._pinged_s = self._retry_s = 0.0
        self.greeting: Callable[[], Greeting] = lambda: Greeting(b"", b"")
        """Asked at every connection."""
        self.received: Callable[[bytes], None] = lambda _: None
        """Called with every packet that is not part of the protocol's own housekeeping."""
        self.lost_total = 0
        """QoS 0: messages that were under way when the connection broke."""
        self.connections_total = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._socket is not None

    @property
    def unacknowledged(self) -> int:
        """Messages in the window."""
        return len(self._window)

    @property
    def acknowledged_total(self) -> int:
        """Messages that the broker has taken over."""
        return self._window.acknowledged_total

    @property
    def idle(self) -> bool:
        """Whether everything is sent and acknowledged."""
        return not self._out and not self.unacknowledged

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        if self._socket is None or len(self._out) > 1:
            return 0
        return self._window.room

    def connect(self) -> None:
        """Connect once.

        Raises:
            SourceUnavailable: nobody answers, or the broker does not let us in.
        """
        host, port = self._address
        greeting = self.greeting()
        stream = PacketStream()
        try:
            connection = socket.create_connection(self._address, _CONNECT_S)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(greeting.connect)
                packets: list[bytes] = []
                while not packets:
                    data = connection.recv(_RECEIVE_BYTES)
                    if not data:
                        raise ConnectionError("it closed the connection")  # noqa: TRY301
                    packets.extend(stream.feed(data))
                reason = mqtt_packets.refusal(packets[0])
                if reason is not None:
                    raise ConnectionError(reason)  # noqa: TRY301
                connection.setblocking(False)
            except BaseException:
                connection.close()
                raise
        except (OSError, MalformedPacket) as error:
            raise SourceUnavailable(f"broker {host}:{port}: {error}") from error
        self._socket, self._stream = connection, stream
        self.connections_total += 1
        self._heard_s = self._spoke_s = time.monotonic()
        self.send(greeting.opening)
        self.send(self._window.again())
        for packet in packets[1:]:
            self._take(packet)

    def send(self, packets: bytes) -> None:
        """Send packets that nobody acknowledges to us."""
        if packets:
            self._out.append(memoryview(packets))

    def publish(self, packets: Packets) -> None:
        """Send messages, at most `room`; with QoS 1 they get their ids here, in the caller's array."""
        data = self._window.add(packets) if self._qos else packets.tobytes()
        self._packet_bytes = packets.itemsize
        self._out.append(memoryview(data))

    def turn(self, timeout_s: float, *others: Any) -> bool:
        """Send and receive what is possible, waiting for at most ``timeout_s``.

        Returns:
            Whether one of ``others`` has something to read.
        """
        now_s = time.monotonic()
        if self._socket is None and now_s >= self._retry_s:
            try:
                self.connect()
            except SourceUnavailable as error:
                _log.warning("%s", error)
                self._retry_s = time.monotonic() + _RETRY_S
        if self._socket is None:
            return bool(select.select(others, [], [], min(timeout_s, _RETRY_S))[0])
        self._keep_alive(now_s)
        readable: list[Any] = []
        try:
            self._write(self._socket)
            # Acknowledgements come one by one: it is cheaper to let some gather than to wake up for each.
            wait_s = timeout_s if self.room > self._size // 2 else min(timeout_s, _GATHER_S)
            readable, writable, _ = select.select(others, [self._socket] if self._out else [], [], wait_s)
            if writable:
                self._write(self._socket)
            self._read(self._socket)
        except (OSError, MalformedPacket) as error:
            self._broken(str(error))
        return bool(readable)

    def close(self) -> None:
        """Say goodbye, as far as that goes without waiting."""
        if self._socket is not None:
            with self._socket as connection:
                try:
                    connection.settimeout(1.0)
                    connection.sendall(b"".join(self._out) + mqtt_packets.DISCONNECT)
                except OSError:
                    _log.info("the broker did not hear the DISCONNECT")
            self._socket = None

    def _keep_alive(self, now_s: float) -> None:
        if now_s - self._heard_s > _SILENT_S:
            self._broken("it has fallen silent")
        elif now_s - min(self._spoke_s, self._heard_s) > KEEPALIVE_S / 2 < now_s - self._pinged_s:
            self._pinged_s = now_s
            self.send(mqtt_packets.PINGREQ)

    def _write(self, connection: socket.socket) -> None:
        while self._out:
            piece = self._out[0]
            try:
                sent = connection.send(piece)
            except BlockingIOError:
                return
            self._spoke_s = time.monotonic()
            if sent < len(piece):
                self._out[0] = piece[sent:]
                return
            self._out.popleft()

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("it closed the connection")
        self._heard_s = time.monotonic()
        for packet in self._stream.feed(self._without_acknowledgements(data)):
            self._take(packet)

    def _without_acknowledgements(self, data: bytes) -> bytes:
        """Take PUBACKs, four bytes each, thousands at once; returns what else there is."""
        if self._stream.pending or data[0] != 0x40:
            return data
        whole = np.frombuffer(data, ">u2", len(data) // 4 * 2).reshape(-1, 2)
        ours = whole[:, 0] == 0x4002
        count = len(ours) if ours.all() else int(np.argmin(ours))
        self._window.acknowledge(whole[:count, 1].astype(np.int64))
        return data[4 * count :]

    def _take(self, packet: bytes) -> None:
        kind = packet[0] >> 4
        if kind == mqtt_packets.PUBACK:
            self._window.acknowledge(np.array([int.from_bytes(packet[2:4], "big")]))
        elif kind == mqtt_packets.PUBLISH:
            self.received(packet)
        elif kind == mqtt_packets.SUBACK and packet[-1] == 0x80:
            raise MalformedPacket("it refuses the subscription")

    def _broken(self, reason: str) -> None:
        _log.warning("broker %s:%d: %s", *self._address, reason)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if not self._qos:
            left = sum(map(len, self._out))
            self.lost_total += -(-left // self._packet_bytes)
        self._out.clear()
        self._retry_s = time.monotonic() + _RETRY_S
