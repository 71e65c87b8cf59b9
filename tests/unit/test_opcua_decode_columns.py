"""The columnar decoder held against asyncua's own, value by value: every scalar type, mask and status, runs and mixtures."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.columns import Columns, Readings
from edge_agent.sources.opcua.datavalue import read_data_values
from edge_agent.sources.opcua.decode import MalformedMessage, read_history, read_publish, read_values
from tests.unit.opcua_values import Expected, T, expected, integers, moments, ns, scalars

times: st.SearchStrategy[Any] = st.none() | moments
arrays = st.sampled_from([T.Boolean, T.Int32, T.Double, T.String, T.LocalizedText]).flatmap(
    lambda kind: st.lists(scalars[kind].filter(lambda value: value is not None), max_size=4).map(
        lambda value: ua.Variant(value, kind, is_array=True)
    )
)
plain = st.sampled_from(list(scalars)).flatmap(
    lambda kind: scalars[kind].map(lambda value: ua.Variant(value, kind))
)
variants = plain | arrays | st.just(ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject))
statuses: st.SearchStrategy[Any] = st.none() | integers(32, signed=False).map(
    lambda code: ua.StatusCode(ua.UInt32(code))
)
picoseconds: st.SearchStrategy[Any] = st.none() | st.integers(0, 9_999)


def with_mask(
    variant: Any, status: Any, source: Any, source_pico: Any, server: Any, server_pico: Any
) -> ua.DataValue:
    """Each of the six may be absent for itself.

    asyncua writes ServerTimestamp before SourcePicoseconds, against Part 6 §5.2.2.17: not both of them here.
    """
    if server is not None:
        source_pico = None
    return ua.DataValue(
        Value=variant,
        StatusCode=status,
        SourceTimestamp=source,
        ServerTimestamp=server,
        SourcePicoseconds=source_pico,
        ServerPicoseconds=server_pico,
    )


singles = st.builds(with_mask, st.none() | variants, statuses, times, picoseconds, times, picoseconds)


@st.composite
def runs(draw: st.DrawFn) -> list[Any]:
    """Values of one mask and type, as many as a notification holds, with other ones in between."""
    kind = draw(st.sampled_from(list(scalars)))
    mask = draw(st.integers(0, 63))
    length = draw(st.sampled_from([2, 7, 8, 9, 63, 65, 130]))
    seed = [
        with_mask(
            ua.Variant(draw(scalars[kind]), kind) if mask & 1 else None,
            draw(statuses.filter(bool)) if mask & 2 else None,
            draw(moments) if mask & 4 else None,
            draw(st.integers(0, 9_999)) if mask & 16 else None,
            draw(moments) if mask & 8 else None,
            draw(st.integers(0, 9_999)) if mask & 32 else None,
        )
        for _ in range(3)
    ]
    values = [seed[number % 3] for number in range(length)]
    for stranger in draw(st.lists(singles, max_size=2)):
        values.insert(draw(st.integers(0, len(values))), stranger)
    return values


mixtures = st.lists(singles, max_size=6) | st.lists(runs(), min_size=1, max_size=3).map(
    lambda found: [value for run in found for value in run]
)


class Reading(NamedTuple):
    """What a DataValue has to become, by asyncua's decoding of it."""

    value: float
    text: str | None
    null: bool
    status: int
    time: int


def reference(data: Any) -> Reading:
    variant = data.Value
    found = Expected(null=True)
    # What is made of others is taken apart later: tests/unit/test_opcua_unfold.py.
    if variant is not None and not variant.is_array and variant.VariantType is not T.ExtensionObject:
        found = expected(variant.Value, variant.VariantType)
    moment = data.SourceTimestamp if data.SourceTimestamp is not None else data.ServerTimestamp
    status = 0 if data.StatusCode is None else data.StatusCode.value
    return Reading(*found, status, NO_TIME if moment is None else ns(moment))


def bits(value: float) -> bytes:
    return b"NaN" if value != value else struct.pack("<d", value)  # noqa: PLR0124 - which NaN does not matter


def hold_against(readings: Readings, handles: Sequence[int], decoded: Sequence[Any]) -> None:
    assert readings.handle.tolist() == list(handles)
    for row, data in enumerate(decoded):
        wanted = reference(data)
        found = Reading(
            readings.value[row],
            readings.text.get(row),
            bool(readings.null[row]),
            int(readings.status[row]),
            int(readings.source_time[row]),
        )
        assert bits(found.value) == bits(wanted.value)
        assert found[1:] == wanted[1:]
    assert [row for row, _ in readings.compound] == [
        row
        for row, data in enumerate(decoded)
        if data.Value is not None and (data.Value.is_array or data.Value.VariantType is T.ExtensionObject)
    ]
    integers = [
        data.Value.Value
        for data in decoded
        if data.Value is not None
        and not data.Value.is_array
        and data.Value.VariantType in {T.Int64, T.UInt64}
    ]
    assert readings.integer_rounded == sum(int(float(number)) != number for number in integers)


@settings(max_examples=150)
@given(mixtures)
def test_a_read_response_is_what_asyncua_makes_of_it(values: list[Any]) -> None:
    response = ua.ReadResponse()
    response.Results = values
    body = struct_to_binary(response)
    columns = Columns()
    handles = [number * 7 for number in range(len(values))]
    assert read_values(body, handles, columns) == len(columns) == len(values)
    hold_against(columns.readings(), handles, struct_from_binary(ua.ReadResponse, Buffer(body)).Results or [])


@settings(max_examples=150)
@given(mixtures, mixtures)
def test_a_data_change_is_what_asyncua_makes_of_it(first: list[Any], second: list[Any]) -> None:
    response: Any = ua.PublishResponse()
    parts: list[Any] = []
    for offset, values in ((1, first), (1_000_000, second)):
        change: Any = ua.DataChangeNotification()
        change.MonitoredItems = [
            ua.MonitoredItemNotification(ua.UInt32(offset + number), value)
            for number, value in enumerate(values)
        ]
        parts.append(change)
    response.Parameters.NotificationMessage.NotificationData = parts
    body = struct_to_binary(response)
    decoded: Any = struct_from_binary(ua.PublishResponse, Buffer(body))
    items = [
        item
        for part in decoded.Parameters.NotificationMessage.NotificationData
        for item in part.MonitoredItems or []
    ]
    hold_against(
        read_publish(body).columns.readings(),
        [item.ClientHandle for item in items],
        [item.Value for item in items],
    )


@settings(max_examples=100)
@given(st.lists(mixtures, max_size=3))
def test_pages_of_history_are_what_asyncua_makes_of_them(nodes: list[list[Any]]) -> None:
    response: Any = ua.HistoryReadResponse()
    response.Results = [ua.HistoryReadResult(HistoryData=ua.HistoryData(values)) for values in nodes]
    body = struct_to_binary(response)
    columns = Columns()
    pages = read_history(body, list(range(len(nodes))), columns)
    assert [page.values for page in pages] == [len(values) for values in nodes]
    decoded: Any = struct_from_binary(ua.HistoryReadResponse, Buffer(body))
    found = [result.HistoryData.DataValues or [] for result in decoded.Results or []]
    handles = [number for number, values in enumerate(found) for _ in values]
    hold_against(columns.readings(), handles, [value for values in found for value in values])


@given(mixtures, st.data())
def test_a_response_that_ends_early_is_refused(values: list[Any], data: st.DataObject) -> None:
    response = ua.ReadResponse()
    response.Results = values
    body = struct_to_binary(response)
    cut = data.draw(st.integers(0, len(body) - 5))
    with pytest.raises(MalformedMessage):
        read_values(body[:cut], range(len(values)), Columns())


@given(st.binary(max_size=400), st.integers(0, 20))
def test_rubbish_is_refused_or_read_to_the_last_value(body: bytes, count: int) -> None:
    columns = Columns()
    try:
        end = read_data_values(body, 0, count, np.arange(count, dtype=np.uint32), columns)
    except (MalformedMessage, struct.error, IndexError):
        return
    assert len(columns.readings().handle) == count
    assert end <= len(body)


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("mask", range(0x40))
def test_every_field_is_found_behind_every_mask(mask: int, count: int) -> None:
    ticks = 116_444_736_000_000_000
    fields = {
        0x01: struct.pack("<Bd", 11, 1.5),
        0x02: struct.pack("<I", 0x40000000),
        0x04: struct.pack("<q", ticks + 1),
        0x10: struct.pack("<H", 5),
        0x08: struct.pack("<q", ticks + 2),
        0x20: struct.pack("<H", 7),
    }
    body = (bytes([mask]) + b"".join(field for bit, field in fields.items() if mask & bit)) * count
    columns = Columns()
    assert read_data_values(body, 0, count, np.arange(count, dtype=np.uint32), columns) == len(body)
    readings = columns.readings()
    assert bits(readings.value[-1]) == bits(1.5 if mask & 0x01 else float("nan"))
    assert readings.null.tolist() == [not mask & 0x01] * count
    assert readings.status[-1] == (0x40000000 if mask & 0x02 else 0)
    assert readings.source_time[-1] == (100 if mask & 0x04 else 200 if mask & 0x08 else NO_TIME)
    assert readings.handle.tolist() == list(range(count))


def test_a_byte_other_than_0_and_1_is_true() -> None:
    for count in (1, 20):
        columns = Columns()
        read_data_values(b"\x01\x01\x07" * count, 0, count, np.zeros(count, np.uint32), columns)
        assert columns.readings().value.tolist() == [1.0] * count


def test_times_that_int64_ns_cannot_hold_are_none() -> None:
    for count in (1, 20):
        columns = Columns()
        body = struct.pack("<BBdqq", 0x0D, 11, 1.5, 1, 2**63 - 1) * count
        read_data_values(body, 0, count, np.zeros(count, np.uint32), columns)
        assert columns.readings().source_time.tolist() == [NO_TIME] * count
        assert columns.last_time() == NO_TIME


def test_the_server_time_stands_in_for_a_missing_source_time() -> None:
    columns = Columns()
    ticks = 116_444_736_000_000_001
    body = b"".join(
        struct.pack("<BBdqq", 0x0D, 11, 1.5, 0 if number % 2 else ticks, ticks + 5) for number in range(20)
    )
    read_data_values(body, 0, 20, np.arange(20, dtype=np.uint32), columns)
    assert columns.readings().source_time.tolist() == [100, 600] * 10
    assert columns.last_time() == 600


def test_a_guid_is_text() -> None:
    guid = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    columns = Columns()
    read_data_values(b"\x01\x0e" + guid.bytes_le, 0, 1, np.zeros(1, np.uint32), columns)
    assert columns.readings().text == {0: str(guid)}
