"""Messages that are broken somewhere: refused as malformed or read, never anything else, and never at any price."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sources.opcua.columns import Columns
from edge_agent.sources.opcua.decode import (
    MalformedMessage,
    read_header,
    read_history,
    read_publish,
    read_values,
)
from edge_agent.sources.opcua.structures import Types
from edge_agent.sources.opcua.unfold import unfold
from tests.unit.opcua_values import EPOCH, T, scalars

COUNT = 3
NOW = cast("Any", EPOCH)
plain = st.sampled_from(list(scalars)).flatmap(
    lambda kind: scalars[kind].map(lambda value: ua.Variant(value, kind))
)
arrays = st.sampled_from([kind for kind in scalars if kind is not T.Null]).flatmap(
    lambda kind: st.lists(scalars[kind], max_size=4).map(lambda value: ua.Variant(value, kind, is_array=True))
)
structures = st.just(ua.Variant([ua.Range(1.0, 2.0), ua.EUInformation()], T.ExtensionObject))
data_values: st.SearchStrategy[Any] = st.builds(
    lambda variant: ua.DataValue(variant, ua.StatusCode(ua.UInt32(0)), NOW, NOW),
    plain | arrays | structures,
)
three = st.lists(data_values, min_size=COUNT, max_size=COUNT)


def take_apart(columns: Columns) -> None:
    for compound in columns.readings().compound:
        unfold(compound.variant, Types(), 100, 6)


def read(body: bytes) -> None:
    columns = Columns()
    read_values(body, range(COUNT), columns)
    take_apart(columns)


def publish(body: bytes) -> None:
    take_apart(read_publish(body).columns)


def history(body: bytes) -> None:
    columns = Columns()
    read_history(body, [0], columns)
    take_apart(columns)


def read_response(values: list[Any]) -> bytes:
    response = ua.ReadResponse()
    response.Results = values
    return struct_to_binary(response)


def publish_response(values: list[Any]) -> bytes:
    response: Any = ua.PublishResponse()
    response.Parameters.AvailableSequenceNumbers = [1, 2]
    change: Any = ua.DataChangeNotification()
    change.MonitoredItems = [
        ua.MonitoredItemNotification(ua.UInt32(number), value) for number, value in enumerate(values)
    ]
    response.Parameters.NotificationMessage.NotificationData = [change]
    return struct_to_binary(response)


def history_response(values: list[Any]) -> bytes:
    response: Any = ua.HistoryReadResponse()
    response.Results = [ua.HistoryReadResult(HistoryData=ua.HistoryData(values))]
    return struct_to_binary(response)


messages = pytest.mark.parametrize(
    ("make", "take"), [(read_response, read), (publish_response, publish), (history_response, history)]
)
Make = Callable[[list[Any]], bytes]
Take = Callable[[bytes], None]


@messages
@settings(max_examples=100)
@given(three, st.data())
def test_a_message_with_changed_bytes(make: Make, take: Take, values: list[Any], data: st.DataObject) -> None:
    body = bytearray(make(values))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        take(bytes(body))
    except MalformedMessage:
        return


@messages
@settings(max_examples=50)
@given(three, st.data())
def test_a_message_that_ends_early(make: Make, take: Take, values: list[Any], data: st.DataObject) -> None:
    body = make(values)
    # The list of diagnostics at the end is not read.
    with pytest.raises(MalformedMessage):
        take(body[: data.draw(st.integers(0, len(body) - 5))])


@pytest.mark.parametrize("take", [read, publish, history, read_header])
@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_rubbish_behind_a_header(take: Take, rubbish: bytes) -> None:
    head = struct_to_binary(ua.ReadResponse())[:-8]
    for body in (rubbish, head + rubbish):
        try:
            take(body)
        except MalformedMessage:
            continue


@pytest.mark.parametrize("claimed", [5_000_000, 2**31 - 1])
def test_a_count_that_lies_costs_no_more_than_the_message(claimed: int) -> None:
    head = struct_to_binary(ua.PublishResponse())
    values = np.zeros(8_000_000, np.uint8).tobytes()
    change = (
        b"\x01\x00" + struct.pack("<H", 811) + b"\x01" + struct.pack("<ii", len(values) + 4, claimed) + values
    )
    # In place of the empty list of notifications: an item of 5 bytes has neither value nor status nor time.
    body = head[:-12] + struct.pack("<i", 1) + change
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage, match=r"index out of range|elements in"):
            read_publish(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(values)
