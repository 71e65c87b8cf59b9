"""The rules of a simulated edge node: births, deaths, the primary host, and that nothing is given up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from shopfloor.sparkplug import (
    DataType,
    HostState,
    Metric,
    Payload,
    Topic,
    bd_seq_of,
    decode_payload,
    encode_payload,
    encode_state,
    parse_topic,
)
from simulators.protocols.sparkplug_metrics import DROPPED, DeviceSample, MetricSpec
from simulators.protocols.sparkplug_outbox import Leave, Publish
from simulators.protocols.sparkplug_session import EdgeSession, SessionLimits

DEVICES = {
    "imm-1": [MetricSpec("Barrel/Zone 1", DataType.Double, "Cel"), MetricSpec("Shots", DataType.Int32)],
    "imm-2": [MetricSpec("Barrel/Zone 1", DataType.Double, "Cel"), MetricSpec("Job", DataType.String)],
}
HOST = "scada"
STATE = str(Topic("STATE", host=HOST))
NCMD = "spBv1.0/vn01/NCMD/edge"
WALL = 1_700_000_000_000
REBIRTH = encode_payload(Payload(metrics=(Metric("Node Control/Rebirth", datatype=11, value=True),)))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Node:
    """A session with a clock, whose messages are written at once unless told otherwise."""

    def __init__(self, host: str | None = HOST, **limits: Any) -> None:
        self.clock = Clock()
        self.session = EdgeSession(
            "vn01", "edge", DEVICES, host, SessionLimits(**limits), clock=self.clock, wall_ms=lambda: WALL
        )
        self.will = self.session.begin(3)

    def out(self, *, write: bool = True) -> list[tuple[Topic, Payload]]:
        sent = []
        while self.session.outbox:
            message = self.session.outbox.popleft()
            if isinstance(message, Leave):
                sent.append((Topic("LEAVE"), Payload()))
                continue
            topic = parse_topic(message.topic)
            assert topic is not None
            sent.append((topic, decode_payload(message.payload)))
            if write and message.qos == 0:
                self.session.written(1)
        return sent

    def state(self, *, online: bool, timestamp: int) -> None:
        self.session.message(STATE, encode_state(HostState(online, timestamp)))

    def connect(self, timestamp: int | None = 1) -> None:
        self.session.connected()
        if timestamp is not None:
            self.state(online=True, timestamp=timestamp)

    def born(self) -> None:
        self.connect()
        self.out()


def zone(time: int, value: float, device: str = "imm-1") -> DeviceSample:
    return DeviceSample(device, "Barrel/Zone 1", WALL + time, value)


def kinds(sent: Iterable[tuple[Topic, Payload]]) -> list[str]:
    return [f"{topic.type} {topic.device}" if topic.device else topic.type for topic, _ in sent]


def values(sent: Iterable[tuple[Topic, Payload]], *, historical: bool | None = None) -> list[object]:
    return [
        metric.value
        for topic, payload in sent
        if topic.type == "DDATA"
        for metric in payload.metrics
        if historical in {None, metric.is_historical}
    ]


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


def test_a_lost_connection_brings_back_what_was_written_lately_and_what_never_was() -> None:
    node = Node()
    node.born()
    node.session.publish([zone(1, 1.0)])
    node.out()
    node.session.publish([zone(2, 2.0)])
    node.out(write=False)
    assert node.session.unacknowledged == 1
    node.session.lost()
    assert node.session.waiting == node.session.unacknowledged == 2
    node.session.begin(4)
    node.connect(timestamp=1)
    node.session.tick()
    assert values(node.out(), historical=True) == [1.0, 2.0]


def test_a_socket_that_takes_nothing_lets_samples_wait() -> None:
    node = Node(window_messages=5, message_samples=2)
    node.connect()
    for number in range(20):
        node.session.publish([zone(number, number)])
        node.session.tick()
    sent = node.out(write=False)
    assert values(sent) == [0, 1]
    assert node.session.unacknowledged == 20
    node.session.written(5)
    while node.session.waiting:
        node.session.tick()
        sent += node.out()
    assert values(sent) == list(range(20))
    assert node.session.unacknowledged == 0


def test_backfill_is_paced() -> None:
    node = Node(message_samples=2, backfill_messages=3)
    node.session.publish([zone(number, number) for number in range(20)])
    node.connect()
    node.out()
    node.session.tick()
    assert values(node.out()) == list(range(6))


def test_a_full_store_gives_up_the_oldest_and_says_so() -> None:
    node = Node(store_samples=5)
    node.session.publish([zone(number, number) for number in range(4)])
    node.session.publish([zone(number, number) for number in range(4, 9)])
    assert (node.session.waiting, node.session.dropped_total) == (5, 4)
    node.connect()
    node.session.tick()
    sent = node.out()
    assert sent[0][1].metrics[2].value == 4
    assert values(sent) == [4, 5, 6, 7, 8]
    node.session.lost()
    node.session.publish([zone(9, 9)])
    node.connect()
    node.out()
    node.session.tick()
    node.session.lost()
    node.session.publish([zone(10, 10)])
    node.connect()
    node.session.tick()
    assert node.session.dropped_total == 6


def test_drops_while_live_are_told_in_ndata() -> None:
    node = Node(store_samples=2, window_messages=3)
    node.born()
    for number in range(9):
        node.session.publish([zone(number, number)])
    node.session.tick()
    topic, payload = node.out()[-1]
    assert topic.type == "NDATA"
    assert payload.metrics == (Metric(alias=0, timestamp_ms=WALL, value=4),)


def test_a_value_that_does_not_fit_costs_itself_only() -> None:
    node = Node()
    node.born()
    node.session.publish([DeviceSample("imm-1", "Shots", WALL, 2**31), zone(1, 1.0)])
    assert values(node.out()) == [1.0]
    assert node.session.refused_total == 1


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


def test_a_device_that_is_down_dies_and_keeps_its_samples_for_its_return() -> None:
    node = Node()
    node.born()
    node.session.publish([zone(1, 1.0)])
    node.out()
    node.session.device_down("imm-1")
    node.session.device_down("imm-1")
    assert kinds(node.out()) == ["DDEATH imm-1"]
    node.session.publish([zone(2, 2.0), zone(2, 3.0, "imm-2")])
    assert values(node.out()) == [3.0]
    node.session.message(NCMD, REBIRTH)
    node.session.tick()
    sent = node.out()
    assert kinds(sent) == ["NBIRTH", "DBIRTH imm-2", "DDATA imm-2"]
    assert node.session.waiting == 2
    node.session.device_up("imm-1")
    node.session.device_up("imm-1")
    node.session.tick()
    sent = node.out()
    assert kinds(sent) == ["DBIRTH imm-1", "DDATA imm-1"]
    assert sorted(map(repr, values(sent, historical=True))) == ["1.0", "2.0"]
    with pytest.raises(ValueError, match="no device imm-7"):
        node.session.device_down("imm-7")


def test_a_skipped_birth_is_made_up_for_by_the_rebirth_that_it_provokes() -> None:
    node = Node()
    node.session.skip_birth_of("imm-1")
    node.connect()
    node.session.publish([zone(1, 1.0)])
    sent = node.out()
    assert kinds(sent) == ["NBIRTH", "DBIRTH imm-2", "DDATA imm-1"]
    assert [payload.seq for _, payload in sent] == [0, 1, 2]
    node.session.message(NCMD, REBIRTH)
    node.session.tick()
    sent = node.out()
    assert kinds(sent) == ["NBIRTH", "DBIRTH imm-1", "DBIRTH imm-2", "DDATA imm-1"]
    assert values(sent, historical=True) == [1.0]


def test_two_messages_can_change_places() -> None:
    node = Node()
    node.born()
    node.session.swap_next_messages()
    for number in range(3):
        node.session.publish([zone(number, number)])
        assert node.session.unacknowledged in {1, 2, 3}
    sent = node.out()
    assert [payload.seq for _, payload in sent] == [4, 3, 5]
    assert values(sent) == [1, 0, 2]
    assert node.session.unacknowledged == 0


def test_asking_for_a_swap_within_a_swap_loses_nothing() -> None:
    node = Node()
    node.born()
    for number in range(5):
        node.session.swap_next_messages()
        node.session.publish([zone(number, number)])
    assert values(node.out()) == [1, 0, 3, 2]
    assert node.session.unacknowledged == 1


@pytest.mark.parametrize("how", ["lost", "rebirth", "leave"])
def test_a_message_that_waits_for_its_place_is_not_lost(how: str) -> None:
    node = Node()
    node.born()
    node.session.swap_next_messages()
    node.session.publish([zone(1, 1.0)])
    assert node.out() == []
    if how == "lost":
        node.session.lost()
        node.connect()
        node.session.tick()
    elif how == "rebirth":
        node.session.message(NCMD, REBIRTH)
    else:
        node.session.leave()
    assert 1.0 in values(node.out())


def test_a_message_can_come_twice() -> None:
    node = Node()
    node.born()
    node.session.duplicate_next()
    node.session.publish([zone(1, 1.0)])
    node.session.publish([zone(2, 2.0)])
    sent = node.out()
    assert sent[0] == sent[1]
    assert [payload.seq for _, payload in sent] == [3, 3, 4]
    assert node.session.unacknowledged == 0


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
