"""Edge nodes and devices that are lost: their metrics are bad from then on, until they are born again."""

from __future__ import annotations

import math

from edge_agent.sources.sparkplug.values import BAD_NO_COMMUNICATION, GOOD_COMMUNICATION_EVENT
from shopfloor.block import Quality
from shopfloor.sparkplug import DataType, Metric
from tests.integration.sparkplug_edge_node import EDGE, GROUP, Voice
from tests.unit.sparkplug_listener import MS, NCMD, NOW_MS, Listener, birth, shots


def test_a_lost_edge_node_leaves_every_metric_bad_and_without_value() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), shots(voice, NOW_MS + 1, 8), voice.ndeath())
    lost = listener.rows[-3:]
    assert {str(row.series) for row in lost} == {
        "acme/vn01/moulding/cell-a:uptime",
        "acme/vn01/moulding/cell-a/press-1:shots",
        "acme/vn01/moulding/cell-a/press-1:barrel.zone_1.temperature",
    }
    for row in lost:
        assert (row.quality, row.status, row.text) == (Quality.BAD, BAD_NO_COMMUNICATION, None)
        assert math.isnan(row.value)
        assert row.source_time == row.received_time == listener.received
    assert listener.counts["node_death"] == 1
    assert listener.host.summary(listener.now_s + 10) == f"disconnected: {GROUP}/{EDGE}"
    count = len(listener.rows)
    listener.hear(voice.ndeath())
    assert len(listener.rows) == count
    listener.hear(*birth(voice, NOW_MS + 10_000))
    assert listener.host.summary(listener.now_s + 10) == ""


def test_a_death_comes_after_everything_that_was_said() -> None:
    """The edge node's clock is 30 s ahead: a death at the time of receipt would lie before its last value."""
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), shots(voice, NOW_MS + 30_000, 8), voice.ndeath())
    lost = [row for row in listener.rows if row.quality == Quality.BAD and row.series.signal == "shots"]
    assert [row.source_time // MS - NOW_MS for row in lost] == [30_001]


def test_the_death_of_an_earlier_connection_is_ignored() -> None:
    listener, voice = Listener(), Voice(bd_seq=4)
    listener.hear(*birth(voice), voice.ndeath(bd_seq=3))
    assert listener.counts["stale_death"] == 1
    assert all(row.quality == Quality.GOOD for row in listener.rows)
    listener.hear(shots(voice, NOW_MS + 1, 8))
    assert listener.values("shots")[-1] == (1, 8.0)
    assert (listener.gaps, listener.asked) == ([], [])


def test_a_lost_device_is_bad_alone_at_the_time_of_its_death() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        voice.say("DDEATH", "Press-1", NOW_MS + 4),
        voice.say("NDATA", "", NOW_MS + 5, Metric(None, 100, NOW_MS + 5, value=5)),
    )
    bad = [row for row in listener.rows if row.quality == Quality.BAD]
    assert {row.series.signal for row in bad} == {"shots", "barrel.zone_1.temperature"}
    assert {row.source_time // MS - NOW_MS for row in bad} == {4}
    assert listener.values("uptime") == [(0, 3.0), (5, 5.0)]
    assert listener.host.summary(listener.now_s + 10) == f"disconnected: {GROUP}/{EDGE}/Press-1"
    assert listener.gaps == []


def test_what_a_lost_device_still_says_counts_and_its_births_are_asked_for() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), voice.say("DDEATH", "Press-1", NOW_MS + 4), shots(voice, NOW_MS + 5, 8))
    assert listener.values("shots")[-1] == (5, 8.0)
    assert listener.asked == [NCMD]


def test_a_value_that_stands_again_after_a_death_gets_a_newer_sample() -> None:
    """Else the loss would stay the newest that is known of a set point which never changes."""
    listener, voice = Listener(), Voice()
    old = Metric("Shots", 1, NOW_MS - 50, DataType.Int32, 7)
    listener.hear(voice.nbirth(NOW_MS), voice.say("DBIRTH", "Press-1", NOW_MS, old), voice.ndeath())
    dead_ms = listener.received // MS - NOW_MS
    again = Voice(bd_seq=1)
    listener.hear(again.nbirth(NOW_MS + 500), again.say("DBIRTH", "Press-1", NOW_MS + 500, old))
    rows = [row for row in listener.rows if row.series.signal == "shots"]
    assert [(row.source_time // MS - NOW_MS, row.value, row.status) for row in rows[:1] + rows[2:]] == [
        (-50, 7.0, 0),
        (-50, 7.0, 0),  # the buffer knows it already
        (500, 7.0, GOOD_COMMUNICATION_EVENT),
    ]
    assert rows[1].source_time // MS - NOW_MS == dead_ms < 500
    # Once is enough.
    listener.hear(again.nbirth(NOW_MS + 900), again.say("DBIRTH", "Press-1", NOW_MS + 900, old))
    assert [row.source_time // MS - NOW_MS for row in listener.rows if row.series.signal == "shots"][4:] == [
        -50
    ]


def test_a_death_is_remembered_beyond_the_end_of_the_agent() -> None:
    first, voice = Listener(), Voice()
    old = Metric("Shots", 1, NOW_MS - 50, DataType.Int32, 7)
    first.hear(voice.nbirth(NOW_MS), voice.say("DBIRTH", "Press-1", NOW_MS, old), voice.ndeath())
    second, again = Listener(first.kept), Voice(bd_seq=1)
    second.hear(again.nbirth(NOW_MS + 500), again.say("DBIRTH", "Press-1", NOW_MS + 500, old))
    assert second.values("shots") == [(-50, 7.0), (500, 7.0)]
    assert second.kept[f"dead.{GROUP}/{EDGE}/Press-1"] == b""
