"""From messages to samples: what becomes what, and what one bad message or value costs."""

from __future__ import annotations

import itertools
import json
import logging
import math
from typing import Any

import numpy as np
import pytest

from edge_agent.sources.mqtt import routes
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.mapping import Translation, Translator
from edge_agent.sources.mqtt.meaning import Unusable
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor.block import (
    STATUS_CLOCK_AHEAD,
    STATUS_NO_SOURCE_TIME,
    STATUS_NOT_A_NUMBER,
    STATUS_NOT_CONVERTIBLE,
    Quality,
    Sample,
    problems,
)

NOW = 1_763_778_000_000_000_000
METERS = {
    "topic": "meters/{site}/{cell}",
    "asset": "acme/{site}/a/l/{cell}",
    "time": {"path": "ts", "format": "ms"},
    "signals": [
        {"path": "power_w", "signal": "energy.active_power", "unit": "kW", "scale": 0.001},
        {"path": "state", "signal": "status.text"},
    ],
}
TIMELESS = {"topic": "plain/{cell}", "asset": "acme/s/a/l/{cell}", "signals": [{"signal": "value"}]}
EVERYTHING = {
    "topic": "all/{cell}",
    "asset": "acme/s/a/l/{cell}",
    "time": {"path": "Time", "format": "ms"},
    "signals": "all",
}


def translator(*topics: dict[str, Any], **changes: Any) -> Translator:
    config = {"name": "m", "broker": "mqtt://127.0.0.1", "client_id": "c", "topics": topics, **changes}
    return Translator(MqttConfig.model_validate(config))


def messages(*sent: tuple[str, Any], **flags: Any) -> list[Message]:
    return [
        Message(
            topic,
            payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
            NOW + number * 1_000,
            **flags,
        )
        for number, (topic, payload) in enumerate(sent)
    ]


def translate(made: Translator, *sent: tuple[str, Any], **flags: Any) -> tuple[Translation, list[Sample]]:
    translation = made.translate(messages(*sent, **flags), RecentPayloads({}))
    assert problems(translation.block) == []
    assert len(set(translation.block.series)) == len(translation.block.series)
    return translation, list(translation.block.rows())


def test_values_with_their_time_and_scale() -> None:
    sent = {"ts": NOW // 1_000_000, "power_w": 11_250, "state": "run"}
    translation, rows = translate(translator(METERS), ("meters/hk01/c1", sent))
    assert [str(row.series) for row in rows] == [
        "acme/hk01/a/l/c1:energy.active_power",
        "acme/hk01/a/l/c1:status.text",
    ]
    assert rows[0].value == 11_250 * 0.001
    assert rows[1].text == "run"
    assert {row.source_time for row in rows} == {NOW}
    assert {(row.quality, row.status) for row in rows} == {(Quality.GOOD, 0)}
    assert translation.counts == {}


def test_messages_of_several_topics_share_a_block_in_order() -> None:
    sent = [(f"plain/c{number % 3}", number) for number in range(9)]
    translation, rows = translate(translator(TIMELESS), *sent)
    assert [row.value for row in rows] == list(range(9))
    assert [row.series.asset.name for row in rows] == [f"c{number % 3}" for number in range(9)]
    assert len(translation.block.series) == 3


def test_without_machine_time_each_message_has_its_own_time_of_receipt() -> None:
    _, rows = translate(translator(TIMELESS), ("plain/c", 1), ("plain/c", 1))
    assert [row.source_time for row in rows] == [row.received_time for row in rows] == [NOW, NOW + 1_000]
    assert {row.status for row in rows} == {STATUS_NO_SOURCE_TIME}
    assert {row.quality for row in rows} == {Quality.GOOD}


def test_a_bare_scalar_and_text_payloads() -> None:
    text = {
        "topic": "t/{what}",
        "asset": "acme/s",
        "payload": "text",
        "signals": [{"signal": "v.{what}", "type": "number", "decimal_comma": True}],
    }
    _, rows = translate(translator(TIMELESS, text), ("plain/c", 21.5), ("t/x", b"221,5"), ("t/y", b"Offline"))
    assert [row.value for row in rows[:2]] == [21.5, 221.5]
    assert [row.series.signal for row in rows] == ["value", "v.x", "v.y"]
    assert rows[2].status == STATUS_NOT_CONVERTIBLE


def test_null_is_null_and_nan_is_bad() -> None:
    sent = b'{"ts": %d, "power_w": NaN, "state": null}' % (NOW // 1_000_000)
    translation, (nan, null) = translate(translator(METERS), ("meters/hk01/c1", sent))
    assert math.isnan(nan.value)
    assert (nan.quality, nan.status) == (Quality.BAD, STATUS_NOT_A_NUMBER)
    assert math.isnan(null.value)
    assert (null.quality, null.status, null.text) == (Quality.GOOD, 0, None)
    assert translation.counts == {"not_a_number": 1}


def test_one_bad_value_costs_only_itself() -> None:
    sent = {"ts": NOW // 1_000_000, "power_w": {"no": "number"}, "state": "run"}
    translation, (power, state) = translate(translator(METERS), ("meters/hk01/c1", sent))
    assert (power.quality, power.status) == (Quality.BAD, STATUS_NOT_CONVERTIBLE)
    assert math.isnan(power.value)
    assert state.text == "run"
    assert translation.counts == {"not_convertible": 1}


def test_a_missing_value_is_counted_and_makes_no_sample() -> None:
    translation, rows = translate(
        translator(METERS), ("meters/hk01/c1", {"ts": NOW // 1_000_000, "state": "x"})
    )
    assert [row.series.signal for row in rows] == ["status.text"]
    assert translation.counts == {"missing_value": 1}


@pytest.mark.parametrize(
    ("topic", "payload", "what"),
    [
        ("meters/hk01/c1", b"{", "not_json"),
        ("meters/hk01/c1", b"\xff", "not_json"),
        ("meters/hk01/c1", b"", "empty_payload"),
        ("meters/hk01/c1", b"1" * 2_000, "payload_too_large"),
        ("meters/HK01/c1", b"{}", "invalid_asset"),
        ("elsewhere", b"{}", "unmatched_topic"),
        ("\ufffd", b"{}", "unmatched_topic"),
    ],
)
def test_what_cannot_be_used_costs_nothing_else(topic: str, payload: bytes, what: str) -> None:
    good = ("meters/hk01/c1", {"ts": 0, "power_w": 1, "state": ""})
    made = translator(METERS, max_payload_bytes=1_000)
    translation, rows = translate(made, good, (topic, payload), good)
    assert len(rows) == 4
    assert translation.counts == {what: 1}


def test_a_payload_left_out_by_the_reader_is_too_large() -> None:
    message = Message("plain/c", b"", NOW, oversize=2**30)
    translation = translator(TIMELESS).translate([message], RecentPayloads({}))
    assert translation.counts == {"payload_too_large": 1}


@pytest.mark.parametrize(("time", "what"), [({}, "missing_time"), ({"ts": "soon"}, "bad_time")])
def test_without_the_configured_time_the_time_of_receipt_counts(time: dict[str, Any], what: str) -> None:
    translation, rows = translate(translator(METERS), ("meters/hk01/c1", {**time, "power_w": 1, "state": ""}))
    assert {row.source_time for row in rows} == {NOW}
    assert {row.status for row in rows} == {STATUS_NO_SOURCE_TIME}
    assert translation.counts == {what: 1, "no_source_time": 2}


def test_a_clock_far_ahead_is_uncertain() -> None:
    ahead = NOW // 1_000_000 + 3_600_000
    translation, rows = translate(
        translator(METERS), ("meters/hk01/c1", {"ts": ahead, "power_w": 1, "state": ""})
    )
    assert {(row.quality, row.status) for row in rows} == {(Quality.UNCERTAIN, STATUS_CLOCK_AHEAD)}
    assert translation.counts == {"clock_ahead": 2}


def test_large_integers_are_counted() -> None:
    translation, rows = translate(translator(TIMELESS), ("plain/c", 2**53 + 1))
    assert rows[0].value == 2.0**53
    assert translation.counts == {"integer_rounded": 1, "no_source_time": 1}


def test_repeats_without_machine_time_are_left_out() -> None:
    made, recent = translator(TIMELESS, METERS), RecentPayloads({})
    first = made.translate(messages(("plain/c", 1)), recent)
    again = made.translate(messages(("plain/c", 1), dup=True), recent)
    other = made.translate(messages(("plain/c", 1)), recent)
    assert [len(each.block) for each in (first, again, other)] == [1, 0, 1]
    assert again.counts == {"repeated_message": 1}
    # With a machine time it is the buffer that recognises repeats.
    timed = ("meters/hk01/c1", {"ts": 1, "power_w": 1, "state": ""})
    assert [len(made.translate(messages(timed, dup=True), recent).block) for _ in range(2)] == [2, 2]


def test_a_retained_message_counts_once_also_with_machine_time() -> None:
    made, recent = translator(METERS), RecentPayloads({})
    timed = ("meters/hk01/c1", {"ts": 1, "power_w": 1, "state": ""})
    assert [len(made.translate(messages(timed, retain=True), recent).block) for _ in range(2)] == [2, 0]


def test_everything_becomes_signals() -> None:
    sent = {
        "Time": NOW // 1_000_000,
        "ENERGY": {"Total": 48.2, "Power": 110, "On": True, "Name": "x", "Old": None, "List": [1]},
    }
    translation, rows = translate(translator({**EVERYTHING, "prefix": "p"}), ("all/c", sent))
    assert {row.series.signal: row.value for row in rows if not math.isnan(row.value)} == {
        "p.energy.total": 48.2,
        "p.energy.power": 110.0,
        "p.energy.on": 1.0,
    }
    assert {row.series.signal: row.text for row in rows if math.isnan(row.value)} == {
        "p.energy.name": "x",
        "p.energy.old": None,
    }
    assert {row.source_time for row in rows} == {NOW}
    assert translation.counts == {}


def test_names_that_collide_and_too_many_names() -> None:
    sent = {"Time": 1, "a b": 1, "a_b": 2, "c": 3, "d": 4, "e": 5}
    translation, rows = translate(
        translator({**EVERYTHING, "max_signals": 4}), ("all/c", sent), ("all/c", sent)
    )
    assert {row.series.signal: row.value for row in rows} == {"a_b": 1.0, "c": 3.0}
    assert translation.counts == {"name_collision": 1, "too_many_signals": 4}


def test_everything_needs_an_object() -> None:
    translation, rows = translate(translator(EVERYTHING), ("all/c", [1]))
    assert rows == []
    assert translation.counts["missing_value"] == 1


def test_two_topics_may_give_the_same_series() -> None:
    first = {"topic": "a", "asset": "acme/s", "signals": [{"signal": "value"}]}
    second = {"topic": "b", "asset": "acme/s", "signals": [{"signal": "value"}]}
    translation, rows = translate(translator(first, second), ("a", 1), ("b", 2))
    assert len(translation.block.series) == 1
    assert [row.value for row in rows] == [1.0, 2.0]


def test_levels_in_lower_case_on_request() -> None:
    _, rows = translate(translator({**TIMELESS, "lowercase": True}), ("plain/IMM-01", 1))
    assert rows[0].series.asset == "acme/s/a/l/imm-01"


def test_a_complaint_is_logged_once_a_topic_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    made = translator(METERS)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            translate(made, ("meters/hk01/c1", b"{hunter2"), ("elsewhere", b"hunter2"))
    assert [record.getMessage().split(": ")[2] for record in caplog.records] == [
        "not_json",
        "unmatched_topic",
    ]
    assert "meters/hk01/c1" in caplog.text
    assert "hunter2" not in caplog.text


def test_complaints_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    made = translator(METERS)
    with caplog.at_level(logging.WARNING):
        translation, _ = translate(made, *[(f"x/{number}", b"") for number in range(2_000)])
    assert translation.counts["unmatched_topic"] == 2_000
    assert len(caplog.records) < 600
    assert "only the metrics" in caplog.records[-1].getMessage()


def test_what_is_remembered_of_topics_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_MAX_TOPICS", 10)
    monkeypatch.setattr(routes, "_MAX_FOUND_SIGNALS", 25)
    made = translator(EVERYTHING)
    for number in itertools.chain(range(30), range(5)):
        translation, rows = translate(made, (f"all/c{number}", {"Time": 1, "a": number}))
        assert [row.value for row in rows] == [number], translation.counts
    remembered = made._routes._routes
    assert len(remembered) == 10
    found = [route.found for route in remembered.values() if not isinstance(route, Unusable)]
    assert made._routes._found_signals == sum(map(len, found)) == 20
    assert len(made.declared) <= 25


def test_the_same_series_in_the_same_order_are_the_same_tuple() -> None:
    made = translator(TIMELESS)
    first, _ = translate(made, ("plain/a", 1), ("plain/b", 2))
    second, _ = translate(made, ("plain/a", 3), ("plain/b", 4))
    assert first.block.series is second.block.series


def test_no_messages_are_an_empty_block() -> None:
    translation, rows = translate(translator(TIMELESS))
    assert rows == []
    assert translation.block.source_time.dtype == np.int64


def test_optional_values_are_declared_once_they_are_there() -> None:
    optional = {
        "topic": "o/{cell}",
        "asset": "acme/s/a/l/{cell}",
        "signals": [
            {"path": "a", "signal": "a", "unit": "kW", "optional": True},
            {"path": "b", "signal": "b", "optional": True},
            {"path": "c", "signal": "c"},
        ],
    }
    made = translator(optional)
    translate(made, ("o/x", {"c": 1}))
    assert [key.signal for key in made.declared] == ["c"]
    translation, rows = translate(made, ("o/x", {"b": "text", "c": 1}))
    assert [key.signal for key in made.declared] == ["c", "b"]
    assert [row.series.signal for row in rows] == ["b", "c"]
    translate(made, ("o/x", {"a": 1, "b": 2, "c": 3}))
    assert [key.signal for key in made.declared] == ["c", "b", "a"]
    declared = list(made.declared.values())
    assert declared[2] is not None
    assert declared[2].unit == "kW"
    assert translation.counts == {"no_source_time": 2}


def test_names_that_hold_several_levels_are_joined_by_dots() -> None:
    made = translator(
        {
            "topic_regex": "p/(?P<place>[^/]+/[^/]+)/(?P<tag>.+)",
            "subscribe": ["p/#"],
            "asset": "acme/{place}",
            "signals": [{"signal": "{tag}"}],
        }
    )
    translation, rows = translate(made, ("p/hk01/a/x/y", 1), ("p/hk01/a/x-y", 1))
    assert [str(row.series) for row in rows] == ["acme/hk01/a:x.y"]
    assert translation.counts == {"invalid_asset": 1, "no_source_time": 1}
