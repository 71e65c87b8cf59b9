"""The rules of a simulated edge node: births, deaths, the primary host, and that nothing is given up."""

from __future__ import annotations

import json

import pytest

from shopfloor.sparkplug import (
    DataType,
    HostState,
    Metric,
    Payload,
    bd_seq_of,
    decode_payload,
    encode_payload,
    encode_state,
)
from simulators.protocols.sparkplug_metrics import DROPPED, DeviceSample, MetricSpec
from simulators.protocols.sparkplug_outbox import Publish
from simulators.protocols.sparkplug_session import EdgeSession
from tests.unit.sparkplug_simulated_node import (
    NCMD,
    REBIRTH,
    STATE,
    WALL,
    Node,
    kinds,
    values,
    zone,
)


def test_the_will_holds_bd_seq_and_nothing_else() -> None:
    will = Node().will
    assert will == Publish("spBv1.0/vn01/NDEATH/edge", will.payload, 1)
    payload = decode_payload(will.payload)
    assert payload == Payload(metrics=(Metric("bdSeq", datatype=DataType.Int64, value=3),))


def test_births_hold_every_metric_with_name_alias_type_value_time_and_unit() -> None:
    node = Node()
    node.session.publish([zone(5, 210.5), DeviceSample("imm-1", "Shots", WALL + 6, -2)])
    node.connect()
    sent = node.out()
    assert kinds(sent) == ["NBIRTH", "DBIRTH imm-1", "DBIRTH imm-2"]
    assert [payload.seq for _, payload in sent] == [0, 1, 2]
    (_, birth), (_, first), (_, second) = sent
    assert birth.metrics == (
        Metric("bdSeq", None, WALL, DataType.Int64, 3),
        Metric("Node Control/Rebirth", None, WALL, DataType.Boolean, value=False),
        Metric(DROPPED, 0, WALL, DataType.Int64, 0),
    )
    assert first.metrics == (
        Metric("Barrel/Zone 1", 1, WALL + 5, DataType.Double, 210.5, properties={"engUnit": "Cel"}),
        Metric("Shots", 2, WALL + 6, DataType.Int32, -2),
    )
    assert [(metric.alias, metric.is_null, metric.timestamp_ms) for metric in second.metrics] == [
        (3, True, WALL),
        (4, True, WALL),
    ]


def test_data_has_aliases_only_one_message_a_device() -> None:
    node = Node()
    node.born()
    node.session.publish([zone(1, 1.0), zone(1, 2.0, "imm-2"), DeviceSample("imm-1", "Shots", WALL + 1, -7)])
    sent = node.out()
    assert kinds(sent) == ["DDATA imm-1", "DDATA imm-2"]
    assert sent[0][1] == Payload(
        WALL,
        (
            Metric(alias=1, timestamp_ms=WALL + 1, value=1.0),
            Metric(alias=2, timestamp_ms=WALL + 1, value=2**32 - 7),
        ),
        3,
    )


def test_null_is_said_as_null() -> None:
    node = Node()
    node.born()
    node.session.publish([DeviceSample("imm-1", "Barrel/Zone 1", WALL + 1, None)])
    ((_, payload),) = node.out()
    assert payload.metrics == (Metric(alias=1, timestamp_ms=WALL + 1, is_null=True),)


def test_messages_are_bounded() -> None:
    node = Node(message_samples=10)
    node.born()
    node.session.publish([zone(number, number) for number in range(25)])
    assert [len(payload.metrics) for _, payload in node.out()] == [10, 10, 5]


def test_seq_runs_over_all_messages_and_wraps_after_255() -> None:
    node = Node()
    node.connect()
    sent = node.out()
    for number in range(300):
        node.session.publish([zone(number, number, f"imm-{number % 2 + 1}")])
        sent += node.out()
    assert [payload.seq for _, payload in sent] == [number % 256 for number in range(303)]


def test_without_a_primary_host_births_follow_the_connection() -> None:
    node = Node(None)
    node.session.connected()
    assert kinds(node.out()) == ["NBIRTH", "DBIRTH imm-1", "DBIRTH imm-2"]
    assert node.session.topics == (NCMD, "spBv1.0/vn01/DCMD/edge/+")


def test_without_the_primary_host_samples_wait_and_follow_its_coming_as_historical() -> None:
    node = Node()
    assert node.session.topics[0] == STATE
    node.connect(timestamp=None)
    node.session.publish([zone(1, 1.0), zone(1, 2.0, "imm-2")])
    node.session.tick()
    assert node.out() == []
    assert node.session.waiting == node.session.unacknowledged == 2
    node.state(online=False, timestamp=4)
    assert node.out() == []
    node.state(online=True, timestamp=5)
    node.session.publish([zone(2, 3.0)])
    node.session.tick()
    sent = node.out()
    assert kinds(sent) == [
        "NBIRTH",
        "DBIRTH imm-1",
        "DBIRTH imm-2",
        "DDATA imm-1",
        "DDATA imm-1",
        "DDATA imm-2",
    ]
    assert values(sent, historical=False) == [3.0]
    assert values(sent, historical=True) == [1.0, 2.0]
    assert node.session.unacknowledged == 0


def test_when_the_host_goes_the_node_dies_on_purpose_and_sends_again_what_it_may_have_missed() -> None:
    node = Node(settle_s=0.0)
    node.born()
    for number in range(6):
        node.session.publish([zone(number, number)])
        node.out()
        node.clock.now += 5.0
        node.session.tick()
    node.state(online=False, timestamp=1)
    sent = node.out()
    assert kinds(sent) == ["NDEATH", "LEAVE"]
    assert bd_seq_of(sent[0][1]) == 3
    assert sent[0][1].seq is None
    node.session.publish([zone(6, 6)])
    node.session.lost()
    node.session.begin(4)
    node.connect(timestamp=9)
    node.session.tick()
    sent = node.out()
    assert bd_seq_of(sent[0][1]) == 4
    # Written 15 s before at most: 3, 4 and 5; 0 to 2 were noticed to be safe.
    assert values(sent, historical=True) == [3, 4, 5, 6]


def test_a_stale_state_is_ignored() -> None:
    node = Node()
    node.connect(timestamp=10)
    node.out()
    node.state(online=False, timestamp=9)
    assert node.session.is_live
    assert node.out() == []
    assert node.session.ignored_total == 1


def test_a_new_session_of_the_host_brings_everything_back() -> None:
    node = Node()
    node.born()
    node.session.publish([zone(1, 1.0)])
    node.out()
    node.clock.now += 50.0
    node.session.tick()
    node.state(online=True, timestamp=1)
    node.session.tick()
    assert node.out() == []
    node.state(online=True, timestamp=2)
    node.session.tick()
    sent = node.out()
    assert kinds(sent) == ["NBIRTH", "DBIRTH imm-1", "DBIRTH imm-2", "DDATA imm-1"]
    assert values(sent, historical=True) == [1.0]


def test_rebirth_on_command_keeps_bd_seq_begins_seq_anew_and_sends_again() -> None:
    node = Node()
    node.born()
    node.session.publish([zone(1, 1.0)])
    node.out()
    node.session.message(NCMD, REBIRTH)
    node.session.tick()
    sent = node.out()
    assert kinds(sent) == ["NBIRTH", "DBIRTH imm-1", "DBIRTH imm-2", "DDATA imm-1"]
    assert [payload.seq for _, payload in sent] == [0, 1, 2, 3]
    assert bd_seq_of(sent[0][1]) == 3
    assert sent[1][1].metrics[0].value == 1.0
    assert values(sent, historical=True) == [1.0]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (NCMD, encode_payload(Payload(metrics=(Metric("Node Control/Rebirth", datatype=11, value=False),)))),
        (NCMD, encode_payload(Payload(metrics=(Metric("Node Control/Reboot", datatype=11, value=True),)))),
        (NCMD, b"\xff"),
        ("spBv1.0/vn01/NCMD/other", REBIRTH),
        ("spBv1.0/vn01/DCMD/edge/imm-1", REBIRTH),
        (STATE, b"OFFLINE"),
        ("spBv1.0/STATE/another", encode_state(HostState(online=False, timestamp_ms=99))),
        ("no/topic/of/ours", b""),
    ],
)
def test_what_it_does_not_follow_it_counts(topic: str, payload: bytes) -> None:
    node = Node()
    node.born()
    node.session.message(topic, payload)
    node.session.tick()
    assert node.out() == []
    assert node.session.ignored_total == 1


@pytest.mark.parametrize("sample", [zone(1, 1.0, "imm-9"), DeviceSample("imm-1", "Zone", WALL, 1.0)])
def test_a_metric_that_there_is_none_of_is_refused_by_name(sample: DeviceSample) -> None:
    node = Node()
    node.born()
    with pytest.raises(ValueError, match=f"device {sample.device} has no metric"):
        node.session.publish([zone(1, 1.0), sample])
    assert node.out() == []


@pytest.mark.parametrize(
    ("group", "edge", "device"), [("a/b", "e", "d"), ("g", "", "d"), ("g", "e", "+"), ("g", "e", "d#")]
)
def test_ids_are_levels_of_a_topic(group: str, edge: str, device: str) -> None:
    with pytest.raises(ValueError, match="is one level of an MQTT topic"):
        EdgeSession(group, edge, {device: []}, None)


def test_two_metrics_of_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="device d has two metrics x"):
        EdgeSession("g", "e", {"d": [MetricSpec("x", DataType.Double)] * 2}, None)


def test_leaving_twice_is_leaving_once_and_nothing_arrives_after() -> None:
    node = Node()
    node.session.leave()
    assert node.out() == []
    node.born()
    node.session.leave()
    node.session.leave()
    node.session.message(NCMD, REBIRTH)
    assert kinds(node.out()) == ["NDEATH", "LEAVE"]


def test_births_and_states_are_plain_enough_for_others() -> None:
    # A host written elsewhere sends whitespace and further keys in its STATE.
    node = Node()
    node.session.connected()
    node.session.message(
        STATE, json.dumps({"online": True, "timestamp": 1, "version": "x"}, indent=2).encode()
    )
    assert node.session.births_total == 1
    assert kinds(node.out())[0] == "NBIRTH"
