"""Events: how they are read, asked for, told apart, and what conditions become."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.address import Step
from edge_agent.sources.opcua.alarms import Book, Condition, read_condition
from edge_agent.sources.opcua.browsing import Problem
from edge_agent.sources.opcua.decode import MalformedMessage
from edge_agent.sources.opcua.event_config import EventConfig, parse_event_type, parse_field
from edge_agent.sources.opcua.event_fields import (
    FieldName,
    TypeTree,
    all_fields,
    event_filter,
    named_field,
    of_type_only,
)
from edge_agent.sources.opcua.event_history import read_history_events
from edge_agent.sources.opcua.event_rows import EventRow, News, Recent, Rows, Series, Target, read_events
from edge_agent.sources.opcua.structures import Types
from shopfloor import configfile
from shopfloor.asset import parse_asset
from shopfloor.errors import ConfigError, InvalidName
from shopfloor.signal import SeriesKey

V = ua.VariantType
TIME = datetime(2025, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)
TIME_NS = 1_748_779_200_123_456_000
KIND = ua.NodeId(ua.Int32(1038), ua.Int16(2))
HEAD = [ua.Variant(b"\x01\x02", V.ByteString), ua.Variant(KIND, V.NodeId), ua.Variant(TIME, V.DateTime)]
ASSET = parse_asset("acme/hk01")


def content(*events: list[Any]) -> bytes:
    """Return what lies in an EventNotificationList of events, whose client handles are 0, 1, …"""
    found = ua.EventNotificationList(
        [ua.EventFieldList(ua.UInt32(handle), [*HEAD, *event]) for handle, event in enumerate(events)]
    )
    return struct_to_binary(found)


def field(variant: ua.Variant) -> bytes:
    [(_, row)] = read_events(content([variant]))
    return row.fields[0]


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

TREE = TypeTree(
    KIND,
    [ua.NodeId(ua.Int32(1), ua.Int16(3))],
    [
        (FieldName("EventId", 0),),
        (FieldName("Severity", 0),),
        (FieldName("CycleTime", 2),),
        (FieldName("InjectionUnit_1", 3), FieldName("CycleTime", 2)),
        (FieldName("Name", 2),),
        (FieldName("Name", 3),),
        (FieldName("name", 3),),
    ],
)
SESSION: Any = SimpleNamespace(namespaces={"urn:general": 2, "urn:own": 3})


def test_all_fields_are_named_after_their_paths() -> None:
    fields, more = all_fields(TREE, "cycle", 10)
    assert list(fields) == [
        "cycle.severity",
        "cycle.cycle_time",
        "cycle.injection_unit_1.cycle_time",
        "cycle.name",
        "cycle.name_2",
        "cycle.name_3",
    ]
    assert more == 0
    assert all_fields(TREE, "cycle", 2)[1] == 4


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("CycleTime", [("CycleTime", 2)]),
        ("2:CycleTime", [("CycleTime", 2)]),
        ("nsu=urn:general;CycleTime", [("CycleTime", 2)]),
        ("InjectionUnit_1/CycleTime", [("InjectionUnit_1", 3), ("CycleTime", 2)]),
        ("nsu=urn:own;Name", [("Name", 3)]),
        ("3:NotDeclared/2:Anywhere", [("NotDeclared", 3), ("Anywhere", 2)]),
    ],
)
def test_a_field_is_found_by_its_path(text: str, path: list[tuple[str, int]]) -> None:
    assert named_field(SESSION, TREE, parse_field(text)) == tuple(FieldName(*each) for each in path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Missing", "declare no field Missing"),
        ("Name", "ambiguous: 2:Name, 3:Name"),
        ("nsu=urn:x;Name", "the server has no namespace urn:x"),
    ],
)
def test_a_field_that_is_not_there_is_named(text: str, problem: str) -> None:
    found = named_field(SESSION, TREE, parse_field(text))
    assert isinstance(found, Problem)
    assert problem in found.reason


def test_a_filter_asks_for_the_head_and_the_fields_of_a_type_and_its_subtypes() -> None:
    wanted = event_filter([TREE.paths[3]], TREE)
    assert [[name.Name for name in each.BrowsePath] for each in wanted.SelectClauses] == [
        ["EventId"],
        ["EventType"],
        ["Time"],
        ["InjectionUnit_1", "CycleTime"],
    ]
    either, of_type, listed = wanted.WhereClause.Elements
    assert either.FilterOperator is ua.FilterOperator.Or
    assert [operand.Index for operand in either.FilterOperands] == [1, 2]
    assert of_type.FilterOperator is ua.FilterOperator.OfType
    assert of_type.FilterOperands[0].Value.Value == KIND
    assert [operand.Value.Value for operand in listed.FilterOperands[1:]] == TREE.subtypes
    assert len(of_type_only(KIND).Elements) == 1
    # Every event there is: nothing to choose.
    base = TypeTree(ua.NodeId(ua.Int32(2041), ua.Int16(0)), TREE.subtypes)
    assert event_filter([], base).WhereClause.Elements == []
    assert struct_to_binary(wanted)


def test_event_types_are_named_by_id_or_browse_name() -> None:
    assert parse_event_type("nsu=urn:x;i=1038").address is not None
    assert parse_event_type("nsu=urn:x;CycleType").name == Step("CycleType", "urn:x")
    assert parse_event_type("3:CycleType").name == Step("CycleType", 3)
    assert parse_event_type("CycleType").name == Step("CycleType", None)
    for wrong in ("", "/Types/X", "nsu=urn:x", "a/b"):
        with pytest.raises(InvalidName):
            parse_event_type(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asset: acme\ntype: ns=x", "a.yaml:2:7: type:"),
        ("asset: acme\nnotifier: Server", "a.yaml:2:11: notifier:"),
        ("asset: acme\nfields: {}", "none are named"),
        ("asset: acme\nfields: {/A: b}", "without /"),
        ("asset: acme\nfields: {A: B}", "signal"),
    ],
)
def test_mistakes_in_the_configuration_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.parse(text, EventConfig, Path("a.yaml"))
    assert message in str(caught.value)


# Conditions


def condition(
    name: str = "Heater", *, source: str = "imm-01", active: bool = True, node: str = ""
) -> Condition:
    key = f"{source}\0{name}\0{node}"
    return Condition(key, source, name, "too hot", 700.0, active, None, False)


def changes(book: Book, **what: Any) -> dict[str, Any]:
    found = book.take(condition(**what))
    assert found is not None
    return {change.signal: change.value if change.text is None else change.text for change in found}


def test_a_condition_is_a_text_with_its_state() -> None:
    book = Book("alarm", 10)
    assert changes(book) == {
        "alarm.heater": "too hot",
        "alarm.heater.severity": 700.0,
        "alarm.heater.active": 1.0,
    }
    assert changes(book, active=False) == {
        "alarm.heater": "",
        "alarm.heater.severity": 700.0,
        "alarm.heater.active": 0.0,
    }


def test_conditions_of_one_name_keep_their_signals_over_a_restart() -> None:
    book = Book("alarm", 10)
    places = [("zone_1", ""), ("zone_2", ""), ("zone_2", "i=5")]
    signals = [next(iter(changes(book, source=source, node=node))) for source, node in places]
    assert signals == ["alarm.heater", "alarm.zone_2.heater", "alarm.heater_2"]
    again = Book("alarm", 10)
    again.restore(book.saved())
    assert [
        next(iter(changes(again, source=source, node=node))) for source, node in reversed(places)
    ] == signals[::-1]


def test_conditions_are_bounded() -> None:
    book = Book("alarm", 2)
    assert [book.take(condition(name)) is None for name in ("a", "b", "c", "a")] == [
        False,
        False,
        True,
        False,
    ]


def test_what_a_refresh_leaves_out_stands_no_more() -> None:
    book = Book("alarm", 10)
    for name in ("a", "b"):
        changes(book, name=name)
    again = Book("alarm", 10)
    again.restore(book.saved())
    again.begin_refresh()
    changes(again, name="b")
    assert [(change.signal, change.text or change.value) for change in again.end_refresh()] == [
        ("alarm.a", pytest.approx(math.nan, nan_ok=True)),
        ("alarm.a.active", 0.0),
    ]
    assert again.active == {condition("b").key}
    assert again.end_refresh() == [], "no refresh has begun"


def test_a_condition_is_read() -> None:
    variants = [
        ua.Variant("Heater"), ua.Variant("imm-01"), ua.Variant(ua.LocalizedText("too hot")),
        ua.Variant(700, V.UInt16), ua.Variant(True), ua.Variant(ua.NodeId(), V.NodeId),
        ua.Variant(True), ua.Variant(None), ua.Variant(False),
    ]  # fmt: skip
    [(_, row)] = read_events(content(variants))
    found = read_condition(row.fields, "i=0", "ns=4;s=C1")
    assert found == Condition(
        "imm-01\0Heater\0s=C1", "imm-01", "Heater", "too hot", 700.0, True, False, False
    )
    assert read_condition(row.fields, "ns=4;i=9", "").is_branch


def test_a_time_of_a_datetime_is_as_asyncua_means_it() -> None:
    assert timedelta(microseconds=TIME_NS // 1000) == TIME - datetime(1970, 1, 1, tzinfo=UTC)
