"""Our decoder against asyncua's encoder, and against bytes that lie."""

from __future__ import annotations

import base64
import math
import struct
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary, variant_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.columns import Compound
from edge_agent.sources.opcua.decode import (
    Columns,
    MalformedMessage,
    ns_of_ticks,
    read_header,
    read_history,
    read_publish,
    read_values,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
T = ua.VariantType
times: st.SearchStrategy[Any] = st.none() | st.integers(1, 7 * 10**15).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)
numbers = st.one_of(
    st.tuples(st.booleans(), st.just(T.Boolean)),
    st.tuples(st.integers(-128, 127), st.just(T.SByte)),
    st.tuples(st.integers(0, 2**16 - 1), st.just(T.UInt16)),
    st.tuples(st.integers(-(2**31), 2**31 - 1), st.just(T.Int32)),
    st.tuples(st.integers(-(2**53), 2**53), st.just(T.Int64)),
    st.tuples(st.floats(width=32), st.just(T.Float)),
    st.tuples(st.floats(), st.just(T.Double)),
)
texts = st.tuples(st.text(max_size=50), st.just(T.String))
odd = st.one_of(
    st.tuples(st.lists(st.floats(), max_size=4), st.just(T.Double)),
    st.tuples(st.lists(st.text(max_size=5), max_size=4), st.just(T.String)),
    st.tuples(st.binary(max_size=20), st.just(T.ByteString)),
    st.tuples(
        st.builds(lambda n: ua.NodeId(ua.Int32(n), ua.Int16(300)), st.integers(0, 2**31)), st.just(T.NodeId)
    ),
    st.tuples(st.just(ua.Range(1.0, 2.0)), st.just(T.ExtensionObject)),
    st.tuples(st.just([ua.Range(1.0, 2.0), ua.Range(3.0, 4.0)]), st.just(T.ExtensionObject)),
)


def data_value(variant: Any, status: int, source: Any, server: Any) -> Any:
    return ua.DataValue(variant, ua.StatusCode(ua.UInt32(status)), source, server)


values = st.builds(
    lambda pair, status, source, server: (pair, data_value(ua.Variant(*pair), status, source, server)),
    st.one_of(numbers, texts, odd),
    st.integers(0, 2**32 - 1),
    times,
    times,
)


def ns(moment: Any) -> int:
    return NO_TIME if moment is None else (moment - EPOCH) // timedelta(microseconds=1) * 1000


def expect(columns: Columns, given_values: list[tuple[Any, Any]]) -> None:
    readings = columns.readings()
    for row, ((value, kind), data) in enumerate(given_values):
        expected_time = data.SourceTimestamp if data.SourceTimestamp is not None else data.ServerTimestamp
        assert readings.source_time[row] == ns(expected_time)
        assert readings.status[row] == data.StatusCode.value
        if isinstance(value, list) or kind is T.ExtensionObject:
            assert math.isnan(readings.value[row])
            assert readings.null[row]
            assert Compound(row, variant_to_binary(ua.Variant(value, kind))) in readings.compound
        elif kind is T.String:
            assert readings.text[row] == value
        elif kind is T.ByteString:
            assert base64.b64decode(readings.text[row]) == value
        elif kind is T.NodeId:
            assert readings.text[row] == f"ns=300;i={value.Identifier}"
        else:
            expected = struct.pack("<d", float(value))
            assert struct.pack("<d", readings.value[row]) == expected or math.isnan(value)


@given(st.lists(values, max_size=8))
def test_reading_values_agrees_with_asyncuas_encoding(given_values: list[tuple[Any, Any]]) -> None:
    response = ua.ReadResponse()
    response.Results = [data for _, data in given_values]
    columns = Columns()
    assert read_values(struct_to_binary(response), list(range(len(given_values))), columns) == len(
        given_values
    )
    expect(columns, given_values)


@given(st.lists(values, max_size=8), st.integers(0, 2**32 - 1), st.booleans())
def test_reading_a_notification_agrees_with_asyncuas_encoding(
    given_values: list[tuple[Any, Any]], sequence: int, more: bool
) -> None:
    published = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
    response: Any = ua.PublishResponse()
    response.Parameters.SubscriptionId = 77
    response.Parameters.AvailableSequenceNumbers = [1, 2, 3]
    response.Parameters.MoreNotifications = more
    message = response.Parameters.NotificationMessage
    message.SequenceNumber = sequence
    message.PublishTime = published
    change: Any = ua.DataChangeNotification()
    change.MonitoredItems = [
        ua.MonitoredItemNotification(ua.UInt32(number), data) for number, (_, data) in enumerate(given_values)
    ]
    message.NotificationData = [change]
    notification = read_publish(struct_to_binary(response))
    assert notification[:4] == (77, sequence, more, ns(published))
    assert notification.has_data
    assert notification.columns.readings().handle.tolist() == list(range(len(given_values)))
    expect(notification.columns, given_values)


def test_a_status_change_is_told() -> None:
    response: Any = ua.PublishResponse()
    response.Parameters.NotificationMessage.NotificationData = [
        ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A0000)))
    ]
    assert read_publish(struct_to_binary(response)).status_change == 0x800A0000


def test_a_keep_alive_has_no_data() -> None:
    assert not read_publish(struct_to_binary(ua.PublishResponse())).has_data


@given(st.lists(st.lists(values, max_size=4), max_size=4))
def test_reading_history_agrees_with_asyncuas_encoding(nodes: list[list[tuple[Any, Any]]]) -> None:
    response: Any = ua.HistoryReadResponse()
    response.Results = []
    for number, given_values in enumerate(nodes):
        result: Any = ua.HistoryReadResult()
        result.ContinuationPoint = b"more" if number % 2 else None
        result.HistoryData = ua.HistoryData([data for _, data in given_values])
        response.Results.append(result)
    columns = Columns()
    pages = read_history(struct_to_binary(response), list(range(len(nodes))), columns)
    assert [page.values for page in pages] == [len(given_values) for given_values in nodes]
    assert [page.continuation for page in pages] == [b"more" if n % 2 else None for n in range(len(nodes))]
    expect(columns, [value for given_values in nodes for value in given_values])


@given(st.lists(values, max_size=4), st.data())
def test_a_truncated_message_is_refused(given_values: list[tuple[Any, Any]], data: st.DataObject) -> None:
    response = ua.ReadResponse()
    response.Results = [value for _, value in given_values]
    body = struct_to_binary(response)
    cut = data.draw(st.integers(0, len(body) - 5))
    with pytest.raises(MalformedMessage):
        read_values(body[:cut], list(range(len(given_values))), Columns())


@given(st.binary(max_size=300))
def test_rubbish_never_does_anything_but_fail_or_decode(body: bytes) -> None:
    for read in (read_header, read_publish):
        try:
            read(body)
        except MalformedMessage:
            continue


def test_ticks_are_exact_to_100_ns() -> None:
    assert ns_of_ticks(116_444_736_000_000_000 + 12_345_678_901) == 1_234_567_890_100
    assert ns_of_ticks(0) == NO_TIME
    assert ns_of_ticks(2**63 - 1) == NO_TIME
    assert ns_of_ticks(1) == NO_TIME


def test_other_texts() -> None:
    response: Any = ua.ReadResponse()
    guid = uuid.uuid4()
    response.Results = [
        ua.DataValue(ua.Variant(ua.LocalizedText("läuft", "de"), T.LocalizedText)),
        ua.DataValue(ua.Variant(ua.QualifiedName("name", ua.UInt16(2)), T.QualifiedName)),
        ua.DataValue(ua.Variant(guid, T.Guid)),
        ua.DataValue(ua.Variant("x" * 70_000, T.String)),
        ua.DataValue(ua.Variant(None, T.String)),
        ua.DataValue(ua.Variant(EPOCH + timedelta(seconds=5), T.DateTime)),
    ]
    columns = Columns()
    read_values(struct_to_binary(response), [0, 1, 2, 3, 4, 5], columns)
    assert columns.text == {0: "läuft", 1: "name", 2: str(guid)}
    assert columns.not_convertible == 1
    readings = columns.readings()
    assert np.flatnonzero(readings.null).tolist() == [3, 4]
    assert readings.value[5] == 5.0
