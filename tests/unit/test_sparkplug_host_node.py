"""What a Sparkplug host makes of edge nodes' messages: births, aliases, order, deaths. No sockets, no clock."""

from __future__ import annotations

import math
from typing import Any

from edge_agent.sources.mqtt.inbox import Message
from shopfloor.block import Quality
from shopfloor.sparkplug import DataType, Metric
from tests.integration.sparkplug_edge_node import EDGE, GROUP, Said, Voice
from tests.unit.sparkplug_listener import MS, NCMD, NOW_MS, Listener, birth, shots


def test_births_and_aliased_data_become_samples() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        shots(voice, NOW_MS + 10, 8),
        voice.say("NDATA", "", NOW_MS + 20, Metric(None, 100, NOW_MS + 20, value=4)),
    )
    assert [
        (str(row.series), row.source_time // MS - NOW_MS, row.value, row.status, row.quality)
        for row in listener.rows
    ] == [
        ("acme/vn01/moulding/cell-a:uptime", 0, 3.0, 0, 0),
        ("acme/vn01/moulding/cell-a/press-1:shots", 0, 7.0, 0, 0),
        ("acme/vn01/moulding/cell-a/press-1:barrel.zone_1.temperature", 0, 220.5, 0, 0),
        ("acme/vn01/moulding/cell-a/press-1:shots", 10, 8.0, 0, 0),
        ("acme/vn01/moulding/cell-a:uptime", 20, 4.0, 0, 0),
    ]
    assert listener.rows[3].received_time == listener.received - 5 * MS
    assert listener.gaps == []
    assert listener.asked == []


def test_the_birth_says_what_no_data_say_again() -> None:
    """Data carry neither name nor data type: a negative Int32 travels in an unsigned field."""
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), shots(voice, NOW_MS + 1, -5))
    assert listener.values("shots") == [(0, 7.0), (1, -5.0)]


def test_data_by_name_are_understood_too() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        voice.say("DDATA", "Press-1", NOW_MS + 1, Metric("Shots", None, NOW_MS + 1, DataType.Int32, 9)),
    )
    assert listener.values("shots") == [(0, 7.0), (1, 9.0)]


def test_a_metric_without_time_takes_that_of_its_message() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), voice.say("DDATA", "Press-1", NOW_MS + 3, Metric(None, 1, None, value=9)))
    assert listener.values("shots")[-1] == (3, 9.0)


def test_numbers_wrap_at_256() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), *(shots(voice, NOW_MS + n, n) for n in range(1, 601)))
    assert [value for _, value in listener.values("shots")[1:]] == list(range(1, 601))
    assert voice.seq == 602 % 256
    assert listener.gaps == []
    assert listener.asked == []


def test_historical_values_are_stored_at_their_time_and_change_nothing_else() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        shots(voice, NOW_MS + 10, 8),
        voice.say(
            "DDATA",
            "Press-1",
            NOW_MS + 20,
            *(Metric(None, 1, NOW_MS - 1_000 * n, value=n, is_historical=True) for n in (3, 2, 1)),
        ),
        voice.ndeath(),
    )
    assert listener.values("shots")[:5] == [(0, 7.0), (10, 8.0), (-3_000, 3.0), (-2_000, 2.0), (-1_000, 1.0)]
    assert listener.counts["historical"] == 3


def test_null_is_good_and_transient_values_are_not_stored() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        voice.say(
            "DDATA",
            "Press-1",
            NOW_MS + 1,
            Metric(None, 1, NOW_MS + 1, is_null=True),
            Metric(None, 2, NOW_MS + 1, value=230.0, is_transient=True),
        ),
    )
    null = listener.rows[-1]
    assert (null.series.signal, null.quality, null.status) == ("shots", Quality.GOOD, 0)
    assert math.isnan(null.value)
    assert [value for _, value in listener.values("barrel.zone_1.temperature")] == [220.5]
    assert listener.counts["transient"] == 1


def test_a_birth_without_value_is_no_reading_until_there_was_one() -> None:
    listener, voice = Listener(), Voice()
    nothing = Metric("Shots", 1, NOW_MS, DataType.Int32, is_null=True)
    listener.hear(voice.nbirth(NOW_MS), voice.say("DBIRTH", "Press-1", NOW_MS, nothing))
    assert listener.rows == []
    assert listener.counts["never_valued"] == 1
    listener.hear(shots(voice, NOW_MS + 1, 8))
    gone = nothing._replace(timestamp_ms=NOW_MS + 9)
    listener.hear(voice.nbirth(NOW_MS + 9), voice.say("DBIRTH", "Press-1", NOW_MS + 9, gone))
    assert [math.isnan(row.value) for row in listener.rows] == [False, True]
    assert listener.rows[-1].quality == Quality.GOOD


def test_not_a_number_is_bad() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice, temperature=math.nan))
    assert listener.rows[-1].quality == Quality.BAD
    assert listener.counts["not_a_number"] == 1


def test_what_no_sample_can_be_made_of_is_counted_and_named_once(caplog: Any) -> None:
    listener, voice = Listener(), Voice()
    for _ in range(2):
        listener.hear(
            voice.nbirth(NOW_MS),
            voice.say(
                "DBIRTH",
                "Press-1",
                NOW_MS,
                Metric("Picture", 1, NOW_MS, DataType.Bytes, b"123"),
                Metric("Shots", 2, NOW_MS, DataType.Int32, 7),
            ),
            voice.say("DDATA", "Press-1", NOW_MS, Metric(None, 1, NOW_MS, value=b"456")),
        )
    assert [row.series.signal for row in listener.rows] == ["shots", "shots"]
    assert listener.counts["unsupported_type"] == 1
    assert [record.getMessage() for record in caplog.records if "Picture" in record.getMessage()] == [
        f"vn01: {GROUP}/{EDGE}/Press-1: Picture: unsupported_type: of data type Bytes (said once)"
    ]
    assert listener.asked == []


def test_bytes_that_are_no_payload_and_retained_ones_are_counted_and_cost_nothing_else() -> None:
    listener, voice = Listener(), Voice()
    topic = f"spBv1.0/{GROUP}/DDATA/{EDGE}/Press-1"
    listener.hear(
        Voice().nbirth(NOW_MS - 9).at(NOW_MS * MS, retain=True),
        *birth(voice),
        Said(topic, b"\xff\xff"),
        Said(topic, b""),  # an empty payload, without a number
        Message(topic, b"", NOW_MS * MS, oversize=9_999_999),
        Said(f"spBv1.0/{GROUP}/NODATA/{EDGE}", b""),
        shots(voice, NOW_MS + 1, 8),
    )
    assert listener.values("shots") == [(0, 7.0), (1, 8.0)]
    for what in ("not_sparkplug", "missing_seq", "payload_too_large", "unknown_topic", "retained_message"):
        assert listener.counts[what] == 1, what
    assert listener.gaps == []


def test_only_so_many_edge_nodes_are_followed() -> None:
    listener = Listener(max_edge_nodes=2)
    for name in ("a", "b", "c"):
        voice = Voice(edge=name)
        listener.hear(*birth(voice))
    assert len(listener.rows) == 2 * 3
    assert listener.counts["too_many_edge_nodes"] == 2


def test_an_edge_node_that_is_known_but_silent_is_asked_and_named() -> None:
    first = Listener()
    first.hear(*birth(Voice()))
    assert first.kept[f"node.{GROUP}/{EDGE}"] == b"1"
    second = Listener(first.kept)
    assert second.host.summary(second.now_s) == ""
    second.wait(4.9)
    assert second.asked == []
    second.wait(0.1)
    assert second.asked == [NCMD]
    assert second.host.summary(second.now_s) == f"disconnected: {GROUP}/{EDGE}"
    second.hear(*birth(Voice(1), NOW_MS + 6_000))
    assert second.host.summary(second.now_s) == ""


def test_an_edge_node_that_the_configuration_no_longer_wants_is_forgotten() -> None:
    listener = Listener(
        {"node.OLD/x": b"1"}, publishers=[{"descriptor": "VN01/{e}", "asset": "acme", "metrics": "all"}]
    )
    listener.wait(60)
    assert listener.asked == []
    assert listener.kept["node.OLD/x"] == b""
