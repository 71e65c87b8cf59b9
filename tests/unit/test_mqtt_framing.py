"""MQTT packets out of any cutting of the byte stream."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt.framing import MalformedStream, PacketReader, Publish

SUBACK = b"\x90\x03\x00\x01\x01"
PINGRESP = b"\xd0\x00"


def varint(value: int) -> bytes:
    encoded = b""
    while True:
        value, byte = divmod(value, 128)
        encoded += bytes([byte | (0x80 if value else 0)])
        if not value:
            return encoded


def publish(
    topic: bytes,
    payload: bytes,
    *,
    mid: int = 0,
    dup: bool = False,
    retain: bool = False,
    properties: bytes | None = None,
) -> bytes:
    body = struct.pack("!H", len(topic)) + topic
    body += struct.pack("!H", mid) if mid else b""
    if properties is not None:
        body += varint(len(properties)) + properties
    body += payload
    first = 0x30 | (8 if dup else 0) | (2 if mid else 0) | (1 if retain else 0)
    return bytes([first]) + varint(len(body)) + body


def read(stream: bytes, cuts: list[int], *, with_properties: bool = False) -> list[Publish | bytes]:
    reader = PacketReader(with_properties=with_properties, max_payload_bytes=1_000)
    found: list[Publish | bytes] = []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        reader.feed(stream[start:end])
        while (packet := reader.next()) is not None:
            found.append(packet)
    return found


_PACKETS = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=20),
        st.binary(max_size=400),
        st.integers(0, 65_535),
        st.booleans(),
        st.booleans(),
        st.binary(max_size=200),
    ),
    max_size=6,
)


@given(_PACKETS, st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_any_cutting_gives_the_same_packets(
    packets: list[tuple[bytes, bytes, int, bool, bool, bytes]], cuts: list[int], with_properties: bool
) -> None:
    stream = b""
    expected: list[Publish | bytes] = []
    for topic, payload, mid, dup, retain, properties in packets:
        extra = properties if with_properties else None
        stream += publish(topic, payload, mid=mid, dup=dup, retain=retain, properties=extra) + SUBACK
        expected += [Publish(topic, payload, 1 if mid else 0, mid, dup, retain, 0), SUBACK]
    assert read(stream, cuts, with_properties=with_properties) == expected


@pytest.mark.parametrize("with_properties", [False, True])
def test_a_payload_too_large_is_passed_over_without_being_kept(with_properties: bool) -> None:
    reader = PacketReader(with_properties=with_properties, max_payload_bytes=1_000)
    size = 50 * 2**20
    head = publish(b"a/b", b"", mid=7)[2:]
    stream_head = b"\x32" + varint(len(head) + size) + head
    reader.feed(stream_head)
    assert reader.next() is None
    found: list[Publish | bytes] = []
    chunk = b"x" * 2**18
    for _ in range(size // len(chunk)):
        reader.feed(chunk)
        while (packet := reader.next()) is not None:
            found.append(packet)
        assert len(reader._buffer) <= 2**19
    reader.feed(PINGRESP)
    assert found == [Publish(b"a/b", b"", 1, 7, False, False, len(head) + size)]
    assert reader.next() == PINGRESP


@pytest.mark.parametrize(
    "stream",
    [
        b"\x30\x01\x00",
        b"\x30\x03\x00\x05a",
        b"\x32\x03\x00\x01a",
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x34\x05\x00\x01a\x00\x01",
        b"\x30\xff\xff\xff\xff\x01",
        b"\xd0\xff\xff\xff\x7f",
    ],
)
def test_what_is_not_mqtt(stream: bytes) -> None:
    with pytest.raises(MalformedStream):
        read(stream, [])


def test_properties_longer_than_the_packet_are_not_mqtt() -> None:
    with pytest.raises(MalformedStream):
        read(b"\x30\x04\x00\x01a\x09" + PINGRESP * 20, [], with_properties=True)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.booleans())
def test_any_bytes_are_packets_or_malformed(stream: bytes, cuts: list[int], with_properties: bool) -> None:
    with contextlib.suppress(MalformedStream):
        read(stream, cuts, with_properties=with_properties)
