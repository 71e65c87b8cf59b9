"""Packets encoded ahead against json and our Sparkplug codec; pacing; what is acknowledged in which order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.sparkplug import DataType, Payload, bd_seq_of, decode_payload, encode_payload
from shopfloor.sparkplug import Metric as SparkplugMetric
from simulators.load import mqtt_packets
from simulators.load.channel import Counters, MqttJob
from simulators.load.mqtt_json import JsonMessages
from simulators.load.mqtt_packets import MalformedPacket, PacketStream, received_publish, variable_length
from simulators.load.mqtt_window import Window
from simulators.load.plan import LoadPlan, value
from simulators.load.publisher import Pacer
from simulators.load.report import progress, shortcomings
from simulators.load.sparkplug_node import SparkplugNode

EPOCH_MS = 1_764_097_200_000
PLAN = LoadPlan(3, 4, 2.0, EPOCH_MS)


def packets(data: bytes) -> list[bytes]:
    stream = PacketStream()
    found = list(stream.feed(data))
    assert not stream.pending
    return found


def node() -> SparkplugNode:
    return SparkplugNode(MqttJob(PLAN, 0, 1, 3, "127.0.0.1", 1883, "g", "c", 0, 0, 10, sparkplug=True))


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("each", [0, 1, 2])
@pytest.mark.parametrize("tick", [0, 7, 1_000_003])
def test_json_messages_hold_every_value_of_a_tick_once(qos: int, each: int, tick: int) -> None:
    messages = JsonMessages(PLAN, range(1, 3), "a/b", qos=qos, values_per_message=each)
    messages.at(tick + 1)
    found = messages.at(tick)
    if qos:
        found["id"] = np.arange(len(found)) + 300
    received = [received_publish(packet) for packet in packets(found.tobytes())]
    assert len(received) == len(messages) == 2 * 4 // (each or 4)
    assert [packet_id for *_, packet_id in received] == [
        number + 300 if qos else None for number in range(len(received))
    ]
    together: dict[str, dict[str, float]] = {}
    for topic, payload, _ in received:
        content = json.loads(payload)
        assert len(content) == 1 + messages.values_per_message
        assert content.pop("ts") == PLAN.tick_ms(tick)
        machine = together.setdefault(topic, {})
        assert not machine.keys() & content.keys()
        machine |= content
    assert together == {
        f"a/b/machine-{machine + 1:04d}": {
            f"s{signal + 1:03d}": value(tick, PLAN.number(machine, signal)) for signal in range(4)
        }
        for machine in (1, 2)
    }


@pytest.mark.parametrize("tick", [0, 7, 1_000_003])
def test_sparkplug_data_is_what_the_births_announced(tick: int) -> None:
    edge = node()
    greeting = edge.greeting()
    _, *births = packets(greeting.opening)
    aliases = {}
    for number, packet in enumerate(births):
        topic, payload, _ = received_publish(packet)
        birth = decode_payload(payload)
        assert birth.seq == number
        for metric in birth.metrics:
            if metric.alias is not None:
                assert metric.datatype == DataType.Double
                aliases[metric.alias] = (topic.rpartition("/")[2], metric.name)
    assert len(aliases) == 2 * 4
    data = edge.at(tick)
    edge.stamp(data)
    found = {}
    for number, packet in enumerate(packets(data.tobytes())):
        topic, payload, _ = received_publish(packet)
        message = decode_payload(payload)
        assert topic == f"spBv1.0/g/DDATA/load-01/machine-{number + 2:04d}"
        assert message.timestamp_ms == PLAN.tick_ms(tick)
        assert message.seq == len(births) + number
        for metric in message.metrics:
            assert metric.timestamp_ms == PLAN.tick_ms(tick)
            assert metric.alias is not None
            machine, name = aliases[metric.alias]
            assert topic.endswith(machine)
            found[machine, name] = metric.value
    assert found == {
        (f"machine-{machine + 1:04d}", f"signal-{signal + 1:03d}"): value(tick, PLAN.number(machine, signal))
        for machine in (1, 2)
        for signal in range(4)
    }


def test_sparkplug_numbers_messages_over_the_end_of_a_byte() -> None:
    edge = node()
    edge.greeting()
    seqs = []
    for tick in range(300):
        data = edge.at(tick)
        edge.stamp(data)
        seqs += [decode_payload(received_publish(packet)[1]).seq for packet in packets(data.tobytes())]
    assert seqs == [(3 + number) % 256 for number in range(600)]


def test_a_sparkplug_session_ties_its_death_to_its_birth_and_counts() -> None:
    edge = node()
    for session in range(3):
        greeting = edge.greeting()
        _, birth, *_ = packets(greeting.opening)
        topic, payload, _ = received_publish(birth)
        assert topic == "spBv1.0/g/NBIRTH/load-01"
        assert bd_seq_of(decode_payload(payload)) == session
        death = received_publish(edge.death())[1]
        assert bd_seq_of(decode_payload(death)) == session
        assert death in greeting.connect


def test_only_a_true_rebirth_command_on_our_topic_asks_for_births() -> None:
    edge = node()

    def command(topic: str, metric: SparkplugMetric) -> bytes:
        payload = encode_payload(Payload(EPOCH_MS, (metric,)))
        return edge.received(mqtt_packets.publish(topic, payload, qos=1, packet_id=9))

    rebirth = SparkplugMetric("Node Control/Rebirth", None, None, DataType.Boolean, value=True)
    ours = "spBv1.0/g/NCMD/load-01"
    command("spBv1.0/g/NCMD/load-02", rebirth)
    command(ours, rebirth._replace(value=False))
    command(ours, rebirth._replace(name="Node Control/Reboot"))
    edge.received(mqtt_packets.publish(ours, b"\xff\xff\xff"))
    assert not edge.wants_rebirth
    assert command(ours, rebirth) == mqtt_packets.puback(9)
    assert edge.wants_rebirth
    edge.births()
    assert not edge.wants_rebirth


@given(st.integers(0, 2**28 - 1))
def test_a_stream_finds_packets_whatever_their_length(number: int) -> None:
    head = b"\x30" + variable_length(number)
    stream = PacketStream()
    if number > 2**20:
        with pytest.raises(MalformedPacket):
            list(stream.feed(head))
    elif number < 5_000:
        data = (head + bytes(number)) * 2
        found = [packet for at in range(0, len(data), 1_000) for packet in stream.feed(data[at : at + 1_000])]
        assert found == [head + bytes(number)] * 2


def test_messages_are_spread_over_their_tick() -> None:
    pacer = Pacer(PLAN, 10, 4)
    begin_ms = PLAN.tick_ms(4)
    assert pacer.due(begin_ms - 0.1) == 0
    assert [pacer.due(begin_ms + after) for after in (0, 49, 50, 249, 499, 500)] == [1, 1, 2, 5, 10, 11]
    assert pacer.place(0) == (4, 0)
    assert pacer.place(23) == (6, 3)
    assert not pacer.late(4, PLAN.tick_ms(6))
    assert pacer.late(4, PLAN.tick_ms(6) + 1)


@given(st.integers(1, 1_000), st.lists(st.floats(0, 10_000), min_size=2, max_size=20))
def test_what_is_due_never_decreases(per_tick: int, after: list[float]) -> None:
    pacer = Pacer(LoadPlan(1, 1, 7.0, EPOCH_MS), per_tick, 0)
    due = [pacer.due(EPOCH_MS + each) for each in sorted(after)]
    assert due == sorted(due)


def test_a_rate_that_was_not_held_is_said_so() -> None:
    assert not shortcomings(Counters(offered_messages=1_000, sent_messages=998))
    (said,) = shortcomings(Counters(offered_messages=1_000, sent_messages=400))
    assert said == "the rate was not held: 400 of 1000 messages sent (40.0 %)"


def test_what_was_lost_or_left_is_said_even_if_it_is_little() -> None:
    totals = Counters(
        offered_messages=10_000,
        sent_messages=9_990,
        unacknowledged_messages=3,
        lost_messages=10,
        late_ticks=1,
        discarded_values=7,
    )
    assert [said.split()[0] for said in shortcomings(totals)] == ["3", "10", "1", "7"]


@given(st.data())
def test_a_window_sends_again_what_was_not_acknowledged(data: st.DataObject) -> None:
    window = Window(40)
    messages = JsonMessages(LoadPlan(20, 1, 1.0, EPOCH_MS), range(20), "t", qos=1)
    under_way: dict[int, bytes] = {}
    acknowledged = 0
    for tick in range(data.draw(st.integers(1, 12))):
        part = messages.at(tick)[: max(0, min(window.room, data.draw(st.integers(0, 20))))]
        for packet in packets(window.add(part)):
            _, payload, packet_id = received_publish(packet)
            assert packet_id is not None
            assert packet_id not in under_way
            under_way[packet_id] = payload
        chosen = data.draw(st.lists(st.sampled_from([*under_way, 0, 60_000, 7]), max_size=30))
        acknowledged += len(set(chosen) & under_way.keys())
        window.acknowledge(np.array(chosen, np.int64))
        under_way = {key: value for key, value in under_way.items() if key not in chosen}
        again = packets(window.again())
        assert [packet[0] for packet in again] == [0x3A] * len(again)
        assert [received_publish(packet)[2] for packet in again] == list(under_way)
        assert [received_publish(packet)[1] for packet in again] == list(under_way.values())
    assert window.acknowledged_total == acknowledged
    assert len(window) >= len(under_way)


def test_packet_ids_go_round_without_the_zero() -> None:
    window = Window(20)
    messages = JsonMessages(LoadPlan(20, 1, 1.0, EPOCH_MS), range(20), "t", qos=1)
    for tick in range(4_000):
        packed = window.add(messages.at(tick))
        ids = np.frombuffer(packed, messages.at(tick).dtype)["id"].astype(np.int64)
        assert ids.tolist() == [(tick * 20 + number) % 65_535 + 1 for number in range(20)]
        window.acknowledge(ids)
        assert window.room == 20


def test_progress_tells_what_happened_between_two_counts() -> None:
    before = Counters(offered_messages=100, sent_messages=100, sent_values=1_000, cpu_s=1.0)
    now = Counters(
        offered_messages=2_100, sent_messages=1_100, sent_values=11_000, reconnects=1, late_ticks=2, cpu_s=1.5
    )
    assert progress("mqtt", before, now, 2.0) == (
        "5,000 values/s, 500 messages/s, BEHIND by 1,000 messages, 2 ticks late, 1 reconnects, CPU 25 %"
    )
    servers = Counters(offered_values=50_000, subscribers=1_200)
    assert progress("opcua", Counters(), servers, 1.0).startswith(
        "50,000 values/s offered to 1,200 monitored items, 0 values/s"
    )
