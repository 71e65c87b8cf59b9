"""MQTT packets out of a byte stream (MQTT 3.1.1 and 5.0, §2 and §3.3).

Only PUBLISH is taken apart here: it is every packet but a handful, and a general parser costs ten times as much.
All others are handed on whole.
"""

from __future__ import annotations

from typing import Final

from edge_agent.sources.mqtt.inbox import Message
from shopfloor.errors import SourceUnavailable

_PUBLISH: Final = 3
_ROOM: Final = 2**17
"""More than topic and packet identifier need beside the payload."""
_KNOWN_TOPICS: Final = 10_000
_KNOWN_TOPIC_BYTES: Final = 256
_new: Final = tuple.__new__


class MalformedStream(SourceUnavailable):
    """Bytes that are not MQTT; nothing after them can be understood."""


class PacketReader:
    """Takes bytes as they come and gives packets; what it holds is bounded by one packet and ``max_payload_bytes``."""

    def __init__(self, *, with_properties: bool, max_payload_bytes: int) -> None:
        self._with_properties = with_properties
        self._max_bytes = max_payload_bytes + _ROOM
        self._buffer = b""
        self._at = 0
        self._skip = 0
        self._topics: dict[bytes, str] = {}

    def feed(self, data: bytes) -> None:
        """Take what the network brought."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def messages(self, received_time: int, limit: int) -> list[Message]:
        """Return the PUBLISH packets that are next and complete, at most ``limit``.

        Args:
            received_time: UTC ns, of the first; each further one gets 1 ns more, so that all differ.
            limit: how many at most.

        Raises:
            MalformedStream: the next bytes are not MQTT; what came before them has been returned.
        """
        found: list[Message] = []
        buffer, at, size = self._buffer, self._at, len(self._buffer)
        topics, with_properties = self._topics, self._with_properties
        received_time -= 1
        while len(found) < limit and size - at >= 2:
            first = buffer[at]
            if first >> 4 != _PUBLISH:
                break
            received_time += 1
            # What nearly all look like: complete, a length of one or two bytes, properties of less than 128 bytes.
            length, start = buffer[at + 1], at + 2
            if length > 0x7F and start < size:
                length += (buffer[start] << 7) - 0x80
                start += 1
            end = start + length
            if 2 <= length < 0x4000 and end <= size:
                body = start + 2 + (buffer[start] << 8 | buffer[start + 1])
                key = buffer[start + 2 : body]
                qos, mid = first >> 1 & 3, 0
                if qos and body + 2 <= end:
                    mid = buffer[body] << 8 | buffer[body + 1]
                    body += 2
                if with_properties:
                    body += 1 + buffer[body] if body < end and buffer[body] < 0x80 else size
                topic = topics.get(key)
                if topic is not None and body <= end and qos < 2 and (mid == 0) == (qos == 0):
                    flags = bool(first & 8), bool(first & 1)
                    found.append(_new(Message, (topic, buffer[body:end], received_time, qos, mid, *flags, 0)))
                    at = end
                    continue
            self._at = at
            try:
                message = self._unusual(received_time)
            except MalformedStream:
                if not found:
                    raise
                return found
            if message is None:
                return found
            found.append(message)
            at = self._at
            if self._skip:
                return found
        self._at = at
        return found

    def other(self) -> bytes | None:
        """Return the packet that is next if it is complete and no PUBLISH.

        Raises:
            MalformedStream: the bytes are not MQTT.
        """
        buffer, at = self._buffer, self._at
        found = _variable_integer(buffer, at + 1) if len(buffer) - at >= 2 else None
        if found is None or buffer[at] >> 4 == _PUBLISH:
            return None
        length, start = found
        if length > self._max_bytes:
            raise MalformedStream(f"a packet of type {buffer[at] >> 4} with {length} bytes")
        if start + length > len(buffer):
            return None
        self._at = start + length
        return buffer[at : self._at]

    def _unusual(self, received_time: int) -> Message | None:
        """Take any PUBLISH that is next; None where bytes are still to come."""
        buffer, at = self._buffer, self._at
        found = _variable_integer(buffer, at + 1)
        if found is None:
            return None
        length, start = found
        first, end = buffer[at], start + length
        oversize = length > self._max_bytes
        # Of a packet too large to be kept topic and identifier are read as soon as they must have come.
        if len(buffer) < (start + _ROOM if oversize else end):
            return None
        topic, mid, body = self._head(first, start, min(end, len(buffer)), whole=not oversize)
        if oversize:
            self._skip = max(0, end - len(buffer))
        self._at = end
        payload = b"" if oversize else buffer[body:end]
        flags = bool(first & 8), bool(first & 1)
        return Message(topic, payload, received_time, first >> 1 & 3, mid, *flags, length if oversize else 0)

    def _head(self, first: int, start: int, end: int, *, whole: bool) -> tuple[str, int, int]:
        """Return topic, packet identifier and where the payload begins."""
        buffer = self._buffer
        if end - start < 2:
            raise MalformedStream("a PUBLISH without a topic")
        at = start + 2 + (buffer[start] << 8 | buffer[start + 1])
        key = buffer[start + 2 : at]
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
        return self._topic(key), mid, at

    def _topic(self, key: bytes) -> str:
        known = self._topics.get(key)
        if known is not None:
            return known
        try:
            topic = key.decode()
        except UnicodeDecodeError:
            # MQTT 5.0 §1.5.4 would have us hang up; one bad publisher must not stop all others.
            topic = "\ufffd"
        if len(key) <= _KNOWN_TOPIC_BYTES:
            if len(self._topics) >= _KNOWN_TOPICS:
                self._topics.clear()
            self._topics[key] = topic
        return topic


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
