"""MQTT packets out of a byte stream (MQTT 3.1.1 and 5.0, §2 and §3.3).

Only PUBLISH is taken apart here: it is every packet but a handful, and a general parser costs ten times as much.
All others are handed on whole.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shopfloor.errors import SourceUnavailable

_PUBLISH: Final = 3
_ROOM: Final = 2**17
"""More than topic and packet identifier need beside the payload."""


class MalformedStream(SourceUnavailable):
    """Bytes that are not MQTT; nothing after them can be understood."""


class Publish(NamedTuple):
    """One PUBLISH packet."""

    topic: bytes
    payload: bytes
    qos: int
    mid: int
    """Packet identifier; 0 with QoS 0."""
    dup: bool
    retain: bool
    oversize: int
    """Bytes of a packet too large to be kept, whose payload is left out; 0 for others."""


class PacketReader:
    """Takes bytes as they come and gives packets; what it holds is bounded by one packet and ``max_payload_bytes``."""

    def __init__(self, *, with_properties: bool, max_payload_bytes: int) -> None:
        self._with_properties = with_properties
        self._max_bytes = max_payload_bytes + _ROOM
        self._buffer = b""
        self._at = 0
        self._skip = 0

    def feed(self, data: bytes) -> None:
        """Take what the network brought."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def next(self) -> Publish | bytes | None:
        """Return the next packet: a Publish, another packet's bytes, or None until more bytes come.

        Raises:
            MalformedStream: the bytes are not MQTT.
        """
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return None
        start = at + 2
        length = buffer[at + 1]
        if length & 0x80:
            found = _variable_integer(buffer, at + 1)
            if found is None:
                return None
            length, start = found
        end = start + length
        if buffer[at] >> 4 != _PUBLISH:
            if length > self._max_bytes:
                raise MalformedStream(f"a packet of type {buffer[at] >> 4} with {length} bytes")
            if end > len(buffer):
                return None
            self._at = end
            return buffer[at:end]
        if length > self._max_bytes:
            return self._oversize(buffer[at], start, end)
        if end > len(buffer):
            return None
        topic, mid, body = self._head(buffer[at], start, end)
        self._at = end
        first = buffer[at]
        return Publish(
            topic, buffer[body:end], first >> 1 & 3, mid, bool(first & 8), bool(first & 1), oversize=0
        )

    def _oversize(self, first: int, start: int, end: int) -> Publish | None:
        if len(self._buffer) - start < _ROOM:
            return None
        topic, mid, _ = self._head(first, start, len(self._buffer), whole=False)
        self._skip = max(0, end - len(self._buffer))
        self._at = end
        return Publish(
            topic, b"", first >> 1 & 3, mid, bool(first & 8), bool(first & 1), oversize=end - start
        )

    def _head(self, first: int, start: int, end: int, *, whole: bool = True) -> tuple[bytes, int, int]:
        """Return topic, packet identifier and where the payload begins."""
        buffer = self._buffer
        if end - start < 2:
            raise MalformedStream("a PUBLISH without a topic")
        at = start + 2 + (buffer[start] << 8 | buffer[start + 1])
        topic = buffer[start + 2 : at]
        mid = 0
        qos = first >> 1 & 3
        if qos:
            if qos != 1 or at + 2 > end:
                raise MalformedStream(f"a PUBLISH of QoS {qos}, or without its identifier")
            mid = buffer[at] << 8 | buffer[at + 1]
            at += 2
        if self._with_properties and whole:
            found = _variable_integer(buffer, at)
            if found is None:
                raise MalformedStream("a PUBLISH without its properties")
            at = found[0] + found[1]
        if at > end or (mid == 0) != (qos == 0):
            raise MalformedStream("a PUBLISH that is shorter than it says, or whose identifier is 0")
        return topic, mid, at


def _variable_integer(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return a variable byte integer (MQTT 5.0 §1.5.5) and where it ends; None where bytes are still to come."""
    value = 0
    for number in range(4):
        if at + number >= len(buffer):
            return None
        byte = buffer[at + number]
        value |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return value, at + number + 1
    raise MalformedStream("a length of more than four bytes")
