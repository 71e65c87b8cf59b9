"""Sparkplug's topics and STATE messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.sparkplug import (
    DEVICE_MESSAGES,
    NODE_MESSAGES,
    HostState,
    SparkplugDecodeError,
    Topic,
    decode_state,
    encode_state,
    parse_topic,
)

SEGMENT = st.text(st.characters(exclude_characters="/+#", exclude_categories=["Cs"]), min_size=1, max_size=10)
TOPICS = (
    st.tuples(st.sampled_from(sorted(NODE_MESSAGES)), SEGMENT, SEGMENT).map(lambda parts: Topic(*parts))
    | st.tuples(st.sampled_from(sorted(DEVICE_MESSAGES)), SEGMENT, SEGMENT, SEGMENT).map(
        lambda parts: Topic(*parts)
    )
    | SEGMENT.map(lambda host: Topic("STATE", host=host))
)


@given(TOPICS)
def test_what_is_written_is_read(topic: Topic) -> None:
    assert parse_topic(str(topic)) == topic


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("spBv1.0/vn01/DDATA/edge/imm-1", Topic("DDATA", "vn01", "edge", "imm-1")),
        ("spBv1.0/vn01/NBIRTH/edge", Topic("NBIRTH", "vn01", "edge")),
        ("spBv1.0/STATE/scada", Topic("STATE", host="scada")),
        ("spBv1.0/STATE/NDATA/edge", Topic("NDATA", "STATE", "edge")),
    ],
)
def test_topics(text: str, topic: Topic) -> None:
    assert parse_topic(text) == topic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spBv1.0",
        "spAv1.0/g/NDATA/e",
        "spBv1.0/g/NDATA/e/d",
        "spBv1.0/g/DDATA/e",
        "spBv1.0/g/DDATA/e/d/x",
        "spBv1.0/g/DATA/e",
        "spBv1.0//NDATA/e",
        "spBv1.0/g/NDATA/",
        "spBv1.0/+/NDATA/e",
        "spBv1.0/g/NDATA/#",
        "spBv1.0/STATE/a/b",
        "STATE/scada",
        "spBv1.0/g/STATE/e",
    ],
)
def test_what_is_no_topic(text: str) -> None:
    assert parse_topic(text) is None


@given(st.booleans(), st.integers(0, 2**53))
def test_states_come_back(online: bool, time: int) -> None:
    assert decode_state(encode_state(HostState(online, time))) == HostState(online, time)


def test_the_state_of_the_specification() -> None:
    assert encode_state(HostState(online=True, timestamp_ms=5)) == b'{"online":true,"timestamp":5}'
    assert decode_state(b' {"timestamp": 7, "online": false, "more": 1}') == HostState(
        online=False, timestamp_ms=7
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ONLINE",
        b"[]",
        b"{}",
        b'{"online":1,"timestamp":5}',
        b'{"online":true,"timestamp":"5"}',
        b"\xff",
    ],
)
def test_what_is_no_state(data: bytes) -> None:
    with pytest.raises(SparkplugDecodeError, match="no STATE message"):
        decode_state(data)
