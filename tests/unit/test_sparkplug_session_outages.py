"""What an edge node keeps while nobody can take it, and in which order it comes then."""

from __future__ import annotations

import pytest

from shopfloor.sparkplug import (
    Metric,
)
from simulators.protocols.sparkplug_metrics import DeviceSample
from tests.unit.sparkplug_simulated_node import (
    NCMD,
    REBIRTH,
    WALL,
    Node,
    kinds,
    values,
    zone,
)


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
