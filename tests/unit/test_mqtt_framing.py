"""MQTT packets out of any cutting of the byte stream."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt import framing
from edge_agent.sources.mqtt.framing import MalformedStream, PacketReader
from edge_agent.sources.mqtt.inbox import Message

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


def read(
    stream: bytes, cuts: list[int], *, with_properties: bool = False, limit: int = 3
) -> list[Message | bytes]:
    reader = PacketReader(with_properties=with_properties, max_payload_bytes=1_000)
    found: list[Message | bytes] = []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        reader.feed(stream[start:end])
        found += taken(reader, limit)
    return found


def taken(reader: PacketReader, limit: int = 3) -> list[Message | bytes]:
    """Everything that is complete; the time of receipt is 0 for the first of each run."""
    found: list[Message | bytes] = []
    while True:
        messages = reader.messages(0, limit)
        assert [each.received_time for each in messages] == list(range(len(messages)))
        assert len(messages) <= limit
        found += messages
        other = None if messages else reader.other()
        if other is not None:
            found.append(other)
        elif not messages:
            return found


def timeless(packets: list[Message | bytes]) -> list[Message | bytes]:
    return [each if isinstance(each, bytes) else each._replace(received_time=0) for each in packets]


_TOPICS = st.sampled_from(["a", "meters/hk01/c1", "Ümlaut/☃"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300
)
_PACKETS = st.lists(
    st.tuples(
        _TOPICS,
        st.binary(max_size=400),
        st.integers(0, 65_535),
        st.booleans(),
        st.booleans(),
        st.binary(max_size=200),
        st.booleans(),
    ),
    max_size=6,
)
Packet = tuple[str, bytes, int, bool, bool, bytes, bool]


def stream_of(packets: list[Packet], *, with_properties: bool) -> tuple[bytes, list[Message | bytes]]:
    stream = b""
    expected: list[Message | bytes] = []
    for topic, payload, mid, dup, retain, properties, interrupted in packets:
        extra = properties if with_properties else None
        stream += publish(topic.encode(), payload, mid=mid, dup=dup, retain=retain, properties=extra)
        expected.append(Message(topic, payload, 0, 1 if mid else 0, mid, dup, retain))
        if interrupted:
            stream += SUBACK
            expected.append(SUBACK)
    return stream, expected


@given(_PACKETS, st.lists(st.integers(0, 10_000), max_size=8), st.booleans(), st.integers(1, 7))
def test_any_cutting_gives_the_same_packets(
    packets: list[Packet], cuts: list[int], with_properties: bool, limit: int
) -> None:
    stream, expected = stream_of(packets, with_properties=with_properties)
    assert timeless(read(stream, cuts, with_properties=with_properties, limit=limit)) == expected


@pytest.mark.parametrize("with_properties", [False, True])
def test_a_cut_at_every_byte(with_properties: bool) -> None:
    packets: list[Packet] = [
        ("a/b", b"x" * size, mid, False, False, b"p" * extra, size == 3)
        for mid, (size, extra) in enumerate([(0, 0), (3, 2), (120, 127), (130, 128), (20_000, 0), (5, 1)])
    ]
    stream, expected = stream_of(packets, with_properties=with_properties)
    reader = PacketReader(with_properties=with_properties, max_payload_bytes=30_000)
    byte_by_byte = []
    for number in range(len(stream)):
        reader.feed(stream[number : number + 1])
        byte_by_byte += taken(reader)
    assert timeless(byte_by_byte) == expected
    for cut in [*range(1, 700), *range(len(stream) - 700, len(stream))]:
        whole = PacketReader(with_properties=with_properties, max_payload_bytes=30_000)
        whole.feed(stream[:cut])
        found = taken(whole)
        whole.feed(stream[cut:])
        assert timeless(found + taken(whole)) == expected


@pytest.mark.parametrize("with_properties", [False, True])
def test_a_payload_too_large_is_passed_over_without_being_kept(with_properties: bool) -> None:
    reader = PacketReader(with_properties=with_properties, max_payload_bytes=1_000)
    size = 50 * 2**20
    head = publish(b"a/b", b"", mid=7)[2:]
    before = publish(b"a/b", b"1", mid=6, properties=b"" if with_properties else None)
    reader.feed(before + b"\x32" + varint(len(head) + size) + head)
    assert timeless(taken(reader)) == [Message("a/b", b"1", 0, 1, 6)]
    found: list[Message | bytes] = []
    chunk = b"x" * 2**18
    for _ in range(size // len(chunk)):
        reader.feed(chunk)
        found += taken(reader)
        assert len(reader._buffer) <= 2**19
    reader.feed(PINGRESP + before)
    found += taken(reader)
    assert timeless(found) == [
        Message("a/b", b"", 0, 1, 7, False, False, len(head) + size),
        PINGRESP,
        Message("a/b", b"1", 0, 1, 6),
    ]


def test_what_came_before_bytes_that_are_not_mqtt_is_kept() -> None:
    reader = PacketReader(with_properties=False, max_payload_bytes=1_000)
    reader.feed(publish(b"a", b"1", mid=1) + publish(b"a", b"2", mid=2) + b"\x30\x01\x00")
    assert [each.mid for each in reader.messages(0, 10)] == [1, 2]
    with pytest.raises(MalformedStream):
        reader.messages(0, 10)


def test_a_topic_that_is_no_text_does_not_stop_the_others() -> None:
    assert timeless(read(publish(b"a\xff", b"1") + publish(b"a", b"2"), [])) == [
        Message("\ufffd", b"1", 0),
        Message("a", b"2", 0),
    ]


def test_topics_are_decoded_once_and_the_memory_of_them_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_KNOWN_TOPICS", 4)
    reader = PacketReader(with_properties=False, max_payload_bytes=1_000)
    reader.feed(b"".join(publish(b"topic/%d" % (number // 2), b"") for number in range(20)))
    topics = [each.topic for each in reader.messages(0, 100)]
    assert topics == [f"topic/{number // 2}" for number in range(20)]
    assert all(first is second for first, second in zip(topics[::2], topics[1::2], strict=True))
    assert len(reader._topics) <= 4
    reader.feed(publish(b"t" * 257, b"") * 2)
    assert len(reader.messages(0, 100)) == 2
    assert len(reader._topics) <= 4


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
