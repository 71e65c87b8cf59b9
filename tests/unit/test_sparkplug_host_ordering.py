"""The order of an edge node's messages: whatever the network does to them, each passes once, as ordered as it can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.sparkplug.early import EarlyMessages
from edge_agent.sources.sparkplug.ordering import Ordering, Received
from shopfloor.sparkplug import Payload


def message(number: int, *, ms: int | None = None) -> Received:
    """Return the message with that running number; its ``seq`` is the number modulo 256."""
    return Received("DDATA", "p", Payload(number if ms is None else ms, (), number % 256), number)


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[int], set[int]]:
    """Draw in which order the messages 1 to n arrive, each overtaken by few others, and which of them are lost."""
    count = draw(st.integers(1, 700))
    delays = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    lost = draw(st.sets(st.integers(1, count), max_size=5))
    order = sorted(range(1, count + 1), key=lambda number: (number + delays[number - 1], number))
    return order, lost


@given(journeys())
def test_overtaken_messages_pass_in_order(journey: tuple[list[int], set[int]]) -> None:
    order, _ = journey
    ordering = Ordering()
    ordering.begin(0, [], 0.0)
    passed: list[int] = []
    for number in order:
        ready, is_late = ordering.offer(message(number), 0.0)
        assert not is_late
        passed += [each.received_time for each in ready]
        assert not ordering.is_overfull
    assert passed == sorted(order)
    assert ordering.waits_since_s is None


@given(journeys())
def test_with_losses_everything_that_arrives_passes_once_and_the_rest_is_missing(
    journey: tuple[list[int], set[int]],
) -> None:
    order, lost = journey
    ordering = Ordering()
    ordering.begin(0, [], 0.0)
    passed: list[int] = []
    missing = 0
    late = 0
    for number in order:
        if number in lost:
            continue
        ready, is_late = ordering.offer(message(number), 0.0)
        late += is_late
        passed += [each.received_time for each in ready]
        if ordering.is_overfull:
            held, holes = ordering.give_up()
            passed += [each.received_time for each in held]
            missing += holes
    if ordering.waits_since_s is not None:
        held, holes = ordering.give_up()
        passed += [each.received_time for each in held]
        missing += holes
    arrived = [number for number in order if number not in lost]
    assert sorted(passed) == sorted(arrived)
    # What came late after all was counted as missing before; a loss at the very end is never noticed.
    unseen = len([number for number in lost if number > max(arrived, default=0)])
    assert missing - late == len(lost) - unseen


def test_the_wait_begins_anew_when_one_of_two_holes_is_filled() -> None:
    ordering = Ordering()
    ordering.begin(0, [], 0.0)
    ordering.offer(message(2), 1.0)
    ordering.offer(message(4), 2.0)
    assert ordering.waits_since_s == 1.0
    ready, _ = ordering.offer(message(1), 3.0)
    assert [each.received_time for each in ready] == [1, 2]
    assert ordering.waits_since_s == 3.0


def test_numbers_that_are_none_pass_at_once() -> None:
    ordering = Ordering()
    ordering.begin(0, [], 0.0)
    for seq in (None, 256, 2**63):
        odd = Received("DDATA", "p", Payload(1, (), seq), 7)
        assert ordering.offer(odd, 0.0) == ([odd], True)
    assert ordering.waits_since_s is None


def test_a_later_birth_takes_what_was_sent_after_it() -> None:
    ordering = Ordering()
    ordering.begin(0, [], 0.0)
    ordering.offer(message(5, ms=50), 0.0)
    ordering.offer(message(6, ms=100), 0.0)
    assert ordering.take_since(None) == []
    assert ordering.take_since(100) == [message(6, ms=100)]
    assert ordering.give_up() == ([message(5, ms=50)], 4)


def test_early_messages_are_bounded_and_what_is_dropped_is_counted_from_the_first_on() -> None:
    early = EarlyMessages()
    assert sum(early.hold(message(number), 0.0) for number in range(1, 513)) == 0
    assert early.hold(message(513), 5.0) == 512
    assert (early.dropped, early.dropped_since, early.waits_since_s) == (512, 1, 5.0)
    assert early.take_since(513) == [message(513)]
    assert early.drop() == 0
    early.begin_anew()
    assert (early.dropped, early.dropped_since, early.waits_since_s) == (0, None, None)
