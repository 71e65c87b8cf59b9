"""The little of MQTT 3.1.1 that a publisher needs, as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

PUBLISH: Final = 3
SUBACK: Final = 9
CONNACK: Final = 2
PUBACK: Final = 4
PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"
DUP: Final = 0x08
_MAX_PACKET_BYTES: Final = 2**20
"""What a broker sends us is commands: larger packets are an error."""
_REFUSALS: Final = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not accept the client id",
    3: "it is not available",
    4: "user name or password are wrong",
    5: "it does not let us in",
}


class Will(NamedTuple):
    """What the broker publishes when the connection breaks."""

    topic: str
    payload: bytes
    qos: int


class MalformedPacket(ValueError):
    """Bytes that are not MQTT."""


def variable_length(number: int) -> bytes:
    """Return a remaining length (§2.2.3)."""
    encoded = bytearray()
    while True:
        number, low = divmod(number, 128)
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def text(content: str | bytes) -> bytes:
    """Return a string with its length (§1.5.3)."""
    encoded = content.encode() if isinstance(content, str) else content
    return struct.pack(">H", len(encoded)) + encoded


def connect(
    client_id: str,
    keepalive_s: int,
    *,
    username: str | None = None,
    password: str | None = None,
    will: Will | None = None,
) -> bytes:
    """Return a CONNECT with a clean session (§3.1)."""
    flags = 0x02
    content = text(client_id)
    if will is not None:
        flags |= 0x04 | will.qos << 3
        content += text(will.topic) + text(will.payload)
    if username is not None:
        flags |= 0x80
        content += text(username)
        if password is not None:
            flags |= 0x40
            content += text(password)
    return _packet(0x10, text("MQTT") + bytes([4, flags]) + struct.pack(">H", keepalive_s) + content)


def publish(topic: str, payload: bytes, *, qos: int = 0, packet_id: int = 0) -> bytes:
    """Return a PUBLISH (§3.3); with QoS 1 it needs an id."""
    identifier = struct.pack(">H", packet_id) if qos else b""
    return _packet(0x30 | qos << 1, text(topic) + identifier + payload)


def subscribe(topic: str, packet_id: int, qos: int) -> bytes:
    """Return a SUBSCRIBE to one topic filter (§3.8)."""
    return _packet(0x82, struct.pack(">H", packet_id) + text(topic) + bytes([qos]))


def puback(packet_id: int) -> bytes:
    """Return a PUBACK (§3.4)."""
    return struct.pack(">BBH", 0x40, 2, packet_id)


def refusal(connack: bytes) -> str | None:
    """Return why a CONNACK refuses us, None where it does not (§3.2.2.3)."""
    if len(connack) != 4:
        raise MalformedPacket("a CONNACK of the wrong length")
    code = connack[3]
    return None if code == 0 else _REFUSALS.get(code, f"it answers {code}")


def received_publish(packet: bytes) -> tuple[str, bytes, int | None]:
    """Return topic, payload and, with QoS 1, the id of a PUBLISH; raises MalformedPacket."""
    _, at = _length(packet, 0) or (0, 2)
    qos = packet[0] >> 1 & 3
    try:
        (size,) = struct.unpack_from(">H", packet, at)
        topic = packet[at + 2 : at + 2 + size].decode()
        at += 2 + size
        if not qos:
            return topic, packet[at:], None
        return topic, packet[at + 2 :], struct.unpack_from(">H", packet, at)[0]
    except (struct.error, UnicodeDecodeError) as error:
        raise MalformedPacket("a PUBLISH that is not one") from error


class PacketStream:
    """Bytes as they come, packets out of them."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> bool:
        """Whether a packet has come in part."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; yields every packet that is complete; raises MalformedPacket."""
        buffer, at = self._buffer + data, 0
        while (found := _length(buffer, at)) is not None:
            size, start = found
            if size > _MAX_PACKET_BYTES:
                raise MalformedPacket(f"a packet of {size} bytes")
            if start + size > len(buffer):
                break
            yield buffer[at : start + size]
            at = start + size
        self._buffer = buffer[at:]


def _packet(first: int, content: bytes) -> bytes:
    return bytes([first]) + variable_length(len(content)) + content


def _length(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return the remaining length of the packet that begins at ``at``, and where its content does."""
    length = 0
    for number in range(4):
        position = at + 1 + number
        if position >= len(buffer):
            return None
        length |= (buffer[position] & 0x7F) << 7 * number
        if not buffer[position] & 0x80:
            return length, position + 1
    raise MalformedPacket("a length of more than four bytes")
