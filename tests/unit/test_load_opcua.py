"""Bytes encoded ahead against asyncua's own decoder, and the queues of monitored items against the standard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_from_binary
from hypothesis import given
from hypothesis import strategies as st

from simulators.load.opcua_queues import NEVER, Item, ItemQueues, Terms
from simulators.load.opcua_records import SERVER, SOURCE, ValueRecords, data_change_body, read_response
from simulators.load.plan import LoadPlan, value

EPOCH_MS = 1_764_097_200_000
PLAN = LoadPlan(3, 4, 1.0, EPOCH_MS)
TERMS = Terms(3, True, 1, SOURCE | SERVER, True, True)
STAMPS = st.sampled_from([0, SOURCE, SERVER, SOURCE | SERVER])
OVERFLOW = 0x480


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def decoded(body: bytes) -> list[Any]:
    buffer = Buffer(body)
    notification: Any = struct_from_binary(ua.DataChangeNotification, buffer)
    assert not buffer
    return list(notification.MonitoredItems)


def reported(queues: ItemQueues, limit: int = 10_000) -> list[tuple[int, int, bool]]:
    """Take a notification: (handle, tick, overflow) of each value."""
    count, body = queues.pop(limit)
    found = [
        (each.ClientHandle, int(each.Value.Value.Value) - 1_000_000, each.Value.StatusCode.value == OVERFLOW)
        for each in decoded(body)
    ]
    assert len(found) == count
    return found


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 9_999)), min_size=1, max_size=20),
    st.integers(0, 2_000_000),
    STAMPS,
    st.booleans(),
)
def test_a_notification_is_what_asyncua_reads_in_it(
    items: list[tuple[int, int]], tick: int, stamps: int, overflow: bool
) -> None:
    handles, numbers = zip(*items, strict=True)
    records = ValueRecords(np.array(numbers), stamps, np.array(handles, np.uint32))
    encoded = records.at(tick, EPOCH_MS + 1, EPOCH_MS + 2, overflow=overflow)
    found = decoded(data_change_body(len(items), [encoded.tobytes()]))
    assert [(each.ClientHandle, each.Value.Value.Value) for each in found] == [
        (handle, value(tick, number)) for handle, number in items
    ]
    for each in found:
        assert each.Value.Value.VariantType == ua.VariantType.Double
        assert each.Value.StatusCode.value == (OVERFLOW if overflow else 0)
        assert each.Value.SourceTimestamp == (moment(EPOCH_MS + 1) if stamps & SOURCE else None)
        assert each.Value.ServerTimestamp == (moment(EPOCH_MS + 2) if stamps & SERVER else None)


@given(st.lists(st.integers(0, 9_999), min_size=1, max_size=20), st.integers(0, 10**7), STAMPS)
def test_a_read_response_is_what_asyncua_reads_in_it(numbers: list[int], tick: int, stamps: int) -> None:
    records = ValueRecords(np.array(numbers), stamps).at(tick, EPOCH_MS, EPOCH_MS + 7)
    buffer = Buffer(read_response(4_711, EPOCH_MS + 9, records))
    answer: Any = struct_from_binary(ua.ReadResponse, buffer)
    assert not buffer
    assert answer.TypeId == ua.NodeId(ua.Int32(ObjectIds.ReadResponse_Encoding_DefaultBinary))
    assert answer.ResponseHeader.RequestHandle == 4_711
    assert answer.ResponseHeader.ServiceResult.is_good()
    assert answer.ResponseHeader.Timestamp == moment(EPOCH_MS + 9)
    assert [each.Value.Value for each in answer.Results] == [value(tick, number) for number in numbers]
    assert {each.SourceTimestamp for each in answer.Results} == {
        moment(EPOCH_MS) if stamps & SOURCE else None
    }


def queues_at(tick: int, *items: tuple[int, Terms]) -> ItemQueues:
    queues = ItemQueues(PLAN, tick, EPOCH_MS)
    for handle, terms in items:
        queues.add(Item(handle, handle, handle), terms)
    return queues


def test_an_item_begins_with_the_newest_value_and_has_every_later_one() -> None:
    queues = queues_at(5, (1, TERMS))
    queues.sample(6, EPOCH_MS)
    assert reported(queues) == [(1, 5, False), (1, 6, False)]
    assert not queues.pending
    queues.sample(7, EPOCH_MS)
    assert queues.pending
    assert reported(queues) == [(1, 7, False)]


@pytest.mark.parametrize(
    ("size", "oldest", "expected"),
    [
        (3, True, [(2, True), (3, False), (4, False)]),
        (3, False, [(0, False), (1, False), (4, True)]),
        (1, True, [(4, False)]),
        (1, False, [(4, False)]),
    ],
)
def test_a_full_queue_discards_from_the_end_asked_for_and_marks_the_gap(
    size: int, oldest: bool, expected: list[tuple[int, bool]]
) -> None:
    queues = queues_at(0, (1, TERMS._replace(queue_size=size, discard_oldest=oldest)))
    for tick in range(1, 5):
        queues.sample(tick, EPOCH_MS)
    assert [found[1:] for found in reported(queues)] == expected
    assert queues.discarded_total == 5 - size


def test_a_message_holds_no_more_than_the_client_takes() -> None:
    queues = queues_at(0, *((handle, TERMS) for handle in range(1, 6)))
    queues.sample(1, EPOCH_MS)
    parts = [reported(queues, 4) for _ in range(3)]
    assert [len(part) for part in parts] == [4, 4, 2]
    found = [each for part in parts for each in part]
    assert sorted(found) == [(handle, tick, False) for handle in range(1, 6) for tick in (0, 1)]
    assert [tick for _, tick, _ in found] == sorted(tick for _, tick, _ in found)
    assert not queues.pending


def test_items_that_came_between_ticks_are_reported_alike_later() -> None:
    queues = queues_at(0, (1, TERMS))
    queues.sample(1, EPOCH_MS)
    queues.add(Item(2, 2, 2), TERMS)
    assert sorted(reported(queues)) == [(1, 0, False), (1, 1, False), (2, 1, False)]
    queues.sample(2, EPOCH_MS)
    assert sorted(reported(queues)) == [(1, 2, False), (2, 2, False)]
    queues.remove(1)
    queues.sample(3, EPOCH_MS)
    assert reported(queues) == [(2, 3, False)]


def test_an_item_that_is_sampled_more_rarely_has_every_so_many_ticks() -> None:
    queues = queues_at(0, (1, TERMS._replace(step=3, queue_size=10)), (2, TERMS._replace(step=NEVER)))
    for tick in range(1, 8):
        queues.sample(tick, EPOCH_MS)
    assert sorted(reported(queues)) == [(1, 0, False), (1, 3, False), (1, 6, False), (2, 0, False)]


def test_monitoring_modes_hold_back_or_forget() -> None:
    queues = queues_at(0, (1, TERMS), (2, TERMS))
    reported(queues)
    queues.change(Item(1, 1, 1), TERMS._replace(reporting=False))
    queues.change(Item(2, 2, 2), TERMS._replace(enabled=False, reporting=False))
    queues.sample(1, EPOCH_MS)
    assert not queues.pending
    queues.change(Item(1, 1, 1), TERMS)
    assert reported(queues) == [(1, 1, False)]
    queues.sample(2, EPOCH_MS)
    queues.change(Item(2, 2, 2), TERMS)
    assert sorted(reported(queues)) == [(1, 2, False), (2, 2, False)]


def test_a_smaller_queue_keeps_what_has_room_and_a_new_handle_counts_at_once() -> None:
    queues = queues_at(0, (1, TERMS))
    queues.sample(1, EPOCH_MS)
    queues.sample(2, EPOCH_MS)
    queues.change(Item(1, 77, 1), TERMS._replace(queue_size=2))
    assert reported(queues) == [(77, 1, True), (77, 2, False)]


@given(st.lists(st.tuples(st.sampled_from("tpar"), st.integers(1, 4), st.booleans()), max_size=40))
def test_queues_are_those_of_single_items(steps: list[tuple[str, int, bool]]) -> None:
    """Cohorts that split and merge against one plain list an item."""
    tick, next_id = 0, 1
    queues = ItemQueues(PLAN, tick, EPOCH_MS)
    model: dict[int, tuple[Terms, list[tuple[int, bool]]]] = {}
    for kind, number, oldest in steps:
        if kind == "t":
            tick += 1
            queues.sample(tick, EPOCH_MS)
            for terms, queue in model.values():
                if len(queue) < terms.queue_size:
                    queue.append((tick, False))
                elif terms.discard_oldest:
                    queue[:] = [*queue[1:], (tick, False)]
                    queue[0] = (queue[0][0], terms.queue_size > 1)
                else:
                    queue[-1] = (tick, terms.queue_size > 1)
        elif kind == "a":
            terms = TERMS._replace(queue_size=number, discard_oldest=oldest)
            queues.add(Item(next_id, next_id, 0), terms)
            model[next_id] = (terms, [(tick, False)])
            next_id += 1
        elif kind == "r" and number in model:
            queues.remove(number)
            del model[number]
        elif kind == "p":
            expected = sorted((item, *entry) for item, (_, queue) in model.items() for entry in queue)
            assert sorted(reported(queues)) == expected
            for _, queue in model.values():
                queue.clear()
