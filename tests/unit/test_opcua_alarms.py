"""What conditions become, how many of them, and what a refresh says of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from asyncua import ua

from edge_agent.sources.opcua.alarms import Book, Condition, read_condition
from edge_agent.sources.opcua.event_rows import read_events
from tests.unit.opcua_events import V, content


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
