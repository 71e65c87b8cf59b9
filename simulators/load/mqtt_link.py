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
import numpy.typing as npt

from shopfloor.errors import SourceUnavailable
from simulators.load import mqtt_packets
from simulators.load.mqtt_json import Packets
from simulators.load.mqtt_packets import MalformedPacket, PacketStream

KEEPALIVE_S: Final = 20
_CONNECT_S: Final = 3.0
_SILENT_S: Final = 30.0
_RETRY_S: Final = 0.5
_IDS: Final = 65_535
"""Packet ids are 1 to 65,535 (§2.3.1)."""
MAX_WINDOW: Final = 30_000
_RECEIVE_BYTES: Final = 2**18
_log = logging.getLogger(__name__)


class Greeting(NamedTuple):
    """How a connection begins."""

    connect: bytes
    opening: bytes
    """What is sent as soon as we are let in."""


class _Batch(NamedTuple):
    """Messages sent together, kept until the last of them is acknowledged."""

    first: int
    """Which of all messages of this connection's life its first one is."""
    packets: npt.NDArray[np.uint8]


class Link:
    """Sends packets without waiting; `turn` does what there is to do."""

    def __init__(self, host: str, port: int, *, qos: int, window: int) -> None:
        self._address = (host, port)
        self._qos = qos
        self._window = window
        self._socket: socket.socket | None = None
        self._stream = PacketStream()
        self._out: deque[memoryview] = deque()
        self._packet_bytes = 1
        self._batches: deque[_Batch] = deque()
        self._acknowledged = np.zeros(_IDS, np.bool_)
        """Of the messages in the window, by id - 1."""
        self._oldest = 0
        self._next = 0
        self._heard_s = self._spoke_s = self._pinged_s = self._retry_s = 0.0
        self.greeting: Callable[[], Greeting] = lambda: Greeting(b"", b"")
        """Asked at every connection."""
        self.received: Callable[[bytes], None] = lambda _: None
        """Called with every packet that is not part of the protocol's own housekeeping."""
        self.acknowledged_total = 0
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
        return self._next - self._oldest

    @property
    def idle(self) -> bool:
        """Whether everything is sent and acknowledged."""
        return not self._out and not self.unacknowledged

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        if self._socket is None or len(self._out) > 1:
            return 0
        return self._window - self.unacknowledged if self._qos else self._window

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
        self._repeat()
        for packet in packets[1:]:
            self._take(packet)

    def send(self, packets: bytes) -> None:
        """Send packets that nobody acknowledges to us."""
        if packets:
            self._out.append(memoryview(packets))

    def publish(self, packets: Packets) -> None:
        """Send messages, at most `room`; with QoS 1 they get their ids here, in the caller's array."""
        if self._qos:
            order = np.arange(self._next, self._next + len(packets))
            packets["id"] = order % _IDS + 1
            self._acknowledged[order % _IDS] = False
            data = packets.tobytes()
            kept = np.frombuffer(data, np.uint8).reshape(len(packets), packets.itemsize)
            self._batches.append(_Batch(self._next, kept))
            self._next += len(packets)
        else:
            data = packets.tobytes()
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
        writers = [self._socket] if self._out else []
        readable, writable, _ = select.select([self._socket, *others], writers, [], timeout_s)
        try:
            if writable:
                self._write(self._socket)
            if self._socket in readable:
                self._read(self._socket)
        except (OSError, MalformedPacket) as error:
            self._broken(str(error))
        return any(other in readable for other in others)

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
        self._acknowledge(whole[:count, 1].astype(np.int64))
        return data[4 * count :]

    def _take(self, packet: bytes) -> None:
        kind = packet[0] >> 4
        if kind == mqtt_packets.PUBACK:
            self._acknowledge(np.array([int.from_bytes(packet[2:4], "big")]))
        elif kind == mqtt_packets.PUBLISH:
            self.received(packet)
        elif kind == mqtt_packets.SUBACK and packet[-1] == 0x80:
            raise MalformedPacket("it refuses the subscription")

    def _acknowledge(self, ids: npt.NDArray[np.int64]) -> None:
        places = (ids - 1) % _IDS
        in_window = (places - self._oldest) % _IDS < self.unacknowledged
        places = np.unique(places[in_window])
        places = places[~self._acknowledged[places]]
        self._acknowledged[places] = True
        self.acknowledged_total += len(places)
        window = np.arange(self._oldest, self._next) % _IDS
        done = self._acknowledged[window]
        self._oldest += len(done) if done.all() else int(np.argmin(done))
        while self._batches and self._batches[0].first + len(self._batches[0].packets) <= self._oldest:
            self._batches.popleft()

    def _repeat(self) -> None:
        """Send again what an earlier connection had no acknowledgement for, marked as such (§4.4)."""
        for batch in self._batches:
            order = np.arange(batch.first, batch.first + len(batch.packets))
            open_still = (order >= self._oldest) & ~self._acknowledged[order % _IDS]
            again = batch.packets[open_still]
            again[:, 0] |= mqtt_packets.DUP
            self.send(again.tobytes())

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
