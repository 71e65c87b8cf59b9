"""Events: how they are read, told apart, and what their fields become."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.decode import MalformedMessage
from edge_agent.sources.opcua.event_history import read_history_events
from edge_agent.sources.opcua.event_rows import EventRow, News, Recent, Rows, Series, Target, read_events
from edge_agent.sources.opcua.structures import Types
from shopfloor.signal import SeriesKey
from tests.unit.opcua_events import ASSET, HEAD, TIME, TIME_NS, V, content, field


def test_an_event_has_an_identity_a_type_a_time_and_fields() -> None:
    rows = list(read_events(content([ua.Variant(4.2)], [ua.Variant(None), ua.Variant("x")])))
    assert [handle for handle, _ in rows] == [0, 1]
    first, second = (row for _, row in rows)
    assert (first.event_id, first.kind, first.time) == (b"\x01\x02", "ns=2;i=1038", TIME_NS)
    assert len(first.fields) == 1
    assert len(second.fields) == 2


def test_an_event_without_a_time_says_so() -> None:
    nothing = ua.EventFieldList(ua.UInt32(0), [ua.Variant(None)] * 3)
    [(_, row)] = read_events(struct_to_binary(ua.EventNotificationList([nothing])))
    assert row == EventRow(b"", "", NO_TIME, ())


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_event_that_ends_too_early_is_malformed(cut: int) -> None:
    whole = content([ua.Variant(4.2), ua.Variant("twenty characters ok")])
    with pytest.raises(MalformedMessage):
        list(read_events(whole[:-cut]))


@pytest.mark.parametrize(
    ("variant", "samples"),
    [
        (ua.Variant(4.2), [("f", 4.2, None)]),
        (ua.Variant(7, V.UInt64), [("f", 7.0, None)]),
        (ua.Variant(True), [("f", 1.0, None)]),
        (ua.Variant("J-7"), [("f", None, "J-7")]),
        (ua.Variant(""), [("f", None, "")]),
        (ua.Variant(ua.LocalizedText("Heater", "en")), [("f", None, "Heater")]),
        (ua.Variant(None), []),
        (ua.Variant([1, 2], V.Int32), [("f.0", 1.0, None), ("f.1", 2.0, None)]),
        (ua.Variant(["a", "b"], V.String), [("f.0", None, "a"), ("f.1", None, "b")]),
    ],
)
def test_a_field_becomes_a_sample_of_the_events_time(
    variant: ua.Variant, samples: list[tuple[str, float | None, str | None]]
) -> None:
    rows = Rows(Series())
    rows.add_field(SeriesKey(ASSET, "f"), Target("f"), TIME_NS, field(variant), Types())
    block, odd = rows.block(TIME_NS + 5)
    assert [
        (row.series.signal, None if math.isnan(row.value) else row.value, row.text) for row in block.rows()
    ] == samples
    assert {row.source_time for row in block.rows()} <= {TIME_NS}
    assert odd == (0, 0, 0)


def test_a_long_array_is_bounded_and_counted() -> None:
    rows = Rows(Series())
    rows.add_field(SeriesKey(ASSET, "f"), Target("f"), TIME_NS, field(ua.Variant([1.5] * 100)), Types())
    assert len(rows) == 64
    assert rows.beyond == 36


def test_a_field_is_scaled() -> None:
    rows = Rows(Series())
    rows.add_field(
        SeriesKey(ASSET, "f"), Target("f", 0.001, 1.0), TIME_NS, field(ua.Variant(19500.0)), Types()
    )
    [row] = rows.block(TIME_NS)[0].rows()
    assert row.value == 20.5


def test_a_repeated_event_is_known_and_one_of_the_same_time_moves() -> None:
    recent, news = Recent(), News()
    one, two = (EventRow(name, "", TIME_NS, ()) for name in (b"1", b"2"))
    assert recent.place(0, one, news) == TIME_NS
    assert recent.place(0, two, news) == TIME_NS + 1
    assert recent.place(1, one, news) == TIME_NS, "another listener's"
    assert recent.place(0, one, news) is None
    # As long as nothing is durable nothing counts: all of it may come again, and gets the times that it had.
    assert recent.place(0, one, News()) == TIME_NS
    recent.keep(news)
    assert recent.place(0, two, News()) is None
    assert recent.place(0, EventRow(b"3", "", TIME_NS, ()), News()) == TIME_NS + 2


def test_what_is_remembered_of_events_is_bounded() -> None:
    recent = Recent(most=10)
    for number in range(100):
        news = News()
        recent.place(0, EventRow(bytes([number]), "", TIME_NS + number * 100, ()), news)
        recent.keep(news)
    assert recent.place(0, EventRow(bytes([99]), "", TIME_NS + 9_900, ()), News()) is None
    assert recent.place(0, EventRow(bytes([0]), "", TIME_NS, ()), News()) == TIME_NS


def test_events_without_an_id_at_one_time_are_all_taken_and_soon_forgotten() -> None:
    recent = Recent(most=10)
    nameless = EventRow(b"", "", TIME_NS, ())
    times = []
    for _ in range(50):
        news = News()
        times += [recent.place(0, nameless, news) for _ in range(20)]
        recent.keep(news)
    assert times == list(range(TIME_NS, TIME_NS + 1_000))
    assert len(recent._times) == len(recent._taken) == 10


def test_a_history_of_events_is_read() -> None:
    history = ua.HistoryEvent([ua.HistoryEventFieldList([*HEAD, ua.Variant(1.5)])])
    result = ua.HistoryReadResult(ua.StatusCode(), b"more", history)
    page = read_history_events(struct_to_binary(ua.HistoryReadResponse(Results=[result])))
    assert page.continuation == b"more"
    assert [row.time for row in page.events] == [TIME_NS]


# Which fields there are


def test_a_time_of_a_datetime_is_as_asyncua_means_it() -> None:
    assert timedelta(microseconds=TIME_NS // 1000) == TIME - datetime(1970, 1, 1, tzinfo=UTC)
