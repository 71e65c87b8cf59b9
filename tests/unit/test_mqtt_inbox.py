"""What may be acknowledged, and when."""

from __future__ import annotations

from edge_agent.sources.mqtt.inbox import Inbox, Message


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def message(mid: int, payload: bytes = b"1", *, dup: bool = False, qos: int = 1) -> Message:
    return Message("a", payload, 1, qos, mid, dup)


def test_acknowledged_in_order_and_once() -> None:
    inbox = Inbox(Clock())
    messages = [message(3), message(1), message(2)]
    assert inbox.take_in(messages) == 0
    taken = inbox.take_out(10, 10_000)
    assert taken == messages
    assert inbox.acknowledge(taken) == [3, 1, 2]
    assert inbox.acknowledge(taken) == []


def test_qos_0_needs_no_acknowledgement() -> None:
    inbox = Inbox(Clock())
    inbox.take_in([message(0, qos=0)])
    inbox.take_in([message(0, qos=0, dup=True)])
    taken = inbox.take_out(10, 10_000)
    assert len(taken) == 2
    assert inbox.acknowledge(taken) == []


def test_a_repetition_of_what_is_not_acknowledged_yet_is_the_same_message() -> None:
    inbox = Inbox(Clock())
    inbox.take_in([message(5)])
    taken = inbox.take_out(10, 10_000)
    assert inbox.take_in([message(5, dup=True)]) == 1
    assert len(inbox) == 0
    assert inbox.acknowledge(taken) == [5]


def test_a_repetition_that_crossed_our_acknowledgement_gets_no_second_one() -> None:
    clock = Clock()
    inbox = Inbox(clock)
    inbox.take_in([message(5)])
    inbox.acknowledge(inbox.take_out(10, 10_000))
    assert inbox.take_in([message(5, dup=True)]) == 1
    # The identifier may belong to another message by now.
    assert inbox.take_in([message(5, b"2")]) == 0
    assert inbox.acknowledge(inbox.take_out(10, 10_000)) == [5]


def test_a_broker_that_goes_on_repeating_is_answered() -> None:
    clock = Clock()
    inbox = Inbox(clock)
    inbox.take_in([message(5)])
    inbox.acknowledge(inbox.take_out(10, 10_000))
    clock.now += 11
    assert inbox.take_in([message(5, dup=True)]) == 0
    assert inbox.acknowledge(inbox.take_out(10, 10_000)) == [5]


def test_an_identifier_that_went_to_another_message_is_not_acknowledged_for_the_first() -> None:
    inbox = Inbox(Clock())
    inbox.take_in([message(5, b"old")])
    old = inbox.take_out(1, 10_000)
    inbox.take_in([message(5, b"new")])
    assert inbox.acknowledge(old) == []
    assert inbox.acknowledge(inbox.take_out(1, 10_000)) == [5]


def test_what_waits_is_bounded_in_messages_and_bytes() -> None:
    inbox = Inbox(Clock(), max_waiting=4, max_waiting_bytes=100)
    for mid in range(1, 5):
        assert inbox.room == 5 - mid
        inbox.take_in([message(mid)])
    assert inbox.room == 0
    inbox.take_out(1, 10_000)
    assert inbox.room == 1
    assert not inbox.is_half_empty
    inbox.take_out(1, 10_000)
    assert inbox.is_half_empty
    inbox.take_in([message(9, b"x" * 99)])
    assert inbox.room == 0


def test_a_message_larger_than_the_limit_is_taken_alone() -> None:
    inbox = Inbox(Clock())
    for mid in (1, 2, 3):
        inbox.take_in([message(mid, b"x" * 100)])
    assert [len(inbox.take_out(10, 50)) for _ in range(4)] == [1, 1, 1, 0]
