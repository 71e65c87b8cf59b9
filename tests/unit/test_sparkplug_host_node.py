"""What a Sparkplug host makes of edge nodes' messages: births, aliases, order, deaths. No sockets, no clock."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.sparkplug.catalogue import Catalogue
from edge_agent.sources.sparkplug.findings import Gap
from edge_agent.sources.sparkplug.host import Host
from edge_agent.sources.sparkplug.presence import Presence
from edge_agent.sources.sparkplug.values import BAD_NO_COMMUNICATION, GOOD_COMMUNICATION_EVENT
from shopfloor.block import Quality, Sample
from shopfloor.sparkplug import DataType, Metric
from tests.integration.sparkplug_edge_node import EDGE, GROUP, Said, Voice, config

MS = 1_000_000
NOW_MS = 1_763_778_000_000
NCMD = f"spBv1.0/{GROUP}/NCMD/{EDGE}"


class Listener:
    """A host, and a clock of its own; every message is received 5 ms after the last."""

    def __init__(self, saved: dict[str, bytes] | None = None, **changes: Any) -> None:
        settings = config(**changes)
        self.kept = dict(saved or {})
        self.now_s = 1_000.0
        self.received = NOW_MS * MS
        self.host = Host(settings, Catalogue(settings), Presence(NOW_MS), self.kept, self.now_s)
        self.rows: list[Sample] = []
        self.gaps: list[Gap] = []
        self.asked: list[str] = []
        self.counts: Counter[str] = Counter()

    def hear(self, *said: Said | Message) -> None:
        for each in said:
            self.received += 5 * MS
            message = each.at(self.received) if isinstance(each, Said) else each
            self.host.take([message], self.now_s)
        self.collect()

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.received += round(seconds * 1_000) * MS
        self.collect()

    def collect(self) -> None:
        found = self.host.collect(self.now_s)
        self.rows += found.block.rows()
        self.gaps += found.gaps
        self.asked += found.rebirths
        self.counts += found.counts
        self.kept |= found.state

    def values(self, signal: str) -> list[tuple[int, float]]:
        """Return (milliseconds after NOW_MS, value) of a signal."""
        return [
            (row.source_time // MS - NOW_MS, row.value) for row in self.rows if row.series.signal == signal
        ]


def birth(voice: Voice, ms: int = NOW_MS, device: str = "Press-1", **values: float) -> list[Said]:
    """Return the births of a node and a device with a counter of alias 1 and a temperature of alias 2."""
    temperature, shots = values.get("temperature", 220.5), values.get("shots", 7)
    return [
        voice.nbirth(ms, Metric("Uptime", 100, ms, DataType.UInt32, 3)),
        voice.say(
            "DBIRTH",
            device,
            ms,
            Metric("Shots", 1, ms, DataType.Int32, shots),
            Metric(
                "Barrel/Zone 1/Temperature",
                2,
                ms,
                DataType.Double,
                temperature,
                properties={"engUnit": "Cel"},
            ),
        ),
    ]


def shots(voice: Voice, ms: int, value: int, **fields: Any) -> Said:
    return voice.say(
        "DDATA",
        "Press-1",
        ms,
        Metric(None, 1, ms, DataType.Int32, value % 2**32 - 2**32 * (value < 0), **fields),
    )


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


def test_overtaken_messages_are_put_in_order_and_nobody_is_asked() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice))
    sent = [shots(voice, NOW_MS + n, n) for n in range(1, 6)]
    listener.hear(sent[0], sent[3], sent[2])
    assert [value for _, value in listener.values("shots")] == [7, 1]
    assert listener.host.next_s() == listener.now_s + 2
    listener.wait(1.9)
    listener.hear(sent[1], sent[4])
    assert [value for _, value in listener.values("shots")] == [7, 1, 2, 3, 4, 5]
    listener.wait(60)
    assert (listener.gaps, listener.asked, listener.host.next_s()) == ([], [], None)


def test_a_hole_is_a_gap_and_the_births_are_asked_for() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), shots(voice, NOW_MS + 1, 1))
    last = listener.received
    lost = [shots(voice, NOW_MS + n, n) for n in (2, 3)]
    listener.hear(shots(voice, NOW_MS + 4, 4), shots(voice, NOW_MS + 5, 5))
    first = listener.received - 5 * MS
    assert listener.gaps == []
    listener.wait(2)
    assert [value for _, value in listener.values("shots")] == [7, 1, 4, 5]
    assert listener.gaps == [
        Gap(f"messages of {GROUP}/{EDGE} are missing", last, first, "acme/vn01/moulding/cell-a", len(lost))
    ]
    assert listener.asked == [NCMD]
    # What comes too late is data all the same, and the next one is in order.
    listener.hear(lost[0], shots(voice, NOW_MS + 6, 6))
    assert [value for _, value in listener.values("shots")] == [7, 1, 4, 5, 2, 6]
    assert listener.counts["late_message"] == 1
    assert len(listener.gaps) == 1


def test_a_hole_in_a_fast_stream_is_not_taken_for_a_new_beginning() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice))
    sent = [shots(voice, NOW_MS + n, n) for n in range(1, 401)]
    listener.hear(*sent[1:])
    listener.wait(2)
    assert [value for _, value in listener.values("shots")] == [7, *range(2, 401)]
    assert [gap.messages for gap in listener.gaps] == [1]


def test_births_are_asked_for_rarely_and_ever_more_rarely() -> None:
    listener, voice = Listener(rebirth_min_interval_s=10), Voice()
    asked_at: list[int] = []
    for second in range(200):
        listener.hear(shots(voice, NOW_MS + 1_000 * second, second))
        listener.wait(1)
        asked_at += [second] * (len(listener.asked) - len(asked_at))
    # At once; after the interval; then twice as long each time.
    assert asked_at == [0, 9, 29, 69, 149]
    assert set(listener.asked) == {NCMD}
    listener.hear(*birth(voice, NOW_MS + 200_000))
    listener.wait(100)
    assert len(listener.asked) == 5


def test_after_a_birth_the_interval_is_the_least_again() -> None:
    listener, voice = Listener(rebirth_min_interval_s=10), Voice()
    for second in range(0, 100, 10):
        listener.hear(shots(voice, NOW_MS, 1))
        listener.wait(10)
        listener.hear(*birth(voice, NOW_MS + 1_000 * second))
        listener.hear(voice.say("DDATA", "Press-9", NOW_MS + 1_000 * second, Metric(None, 55, value=1)))
    assert len(listener.asked) >= 9


def test_data_before_any_birth_are_a_gap_unless_the_edge_node_forwards() -> None:
    for forwards in (False, True):
        listener, voice = Listener(store_and_forward=forwards), Voice()
        early = [shots(voice, NOW_MS + n, n) for n in (1, 2)]
        listener.hear(*early)
        since = listener.received - 5 * MS
        assert listener.asked == [NCMD]
        listener.hear(*birth(voice, NOW_MS + 10))
        until = listener.received - 5 * MS
        assert listener.values("shots") == [(10, 7.0)]
        assert listener.counts["unknown_node"] == 2
        gap = Gap(f"messages of {GROUP}/{EDGE} came before its birth was known", since, until, "", 2)
        assert listener.gaps == ([] if forwards else [gap])


def test_births_that_overtook_each_other_are_put_in_order() -> None:
    listener, voice = Listener(), Voice()
    node, device = birth(voice)
    data = shots(voice, NOW_MS + 1, 8)
    listener.hear(data, device, node)
    assert listener.values("shots") == [(0, 7.0), (1, 8.0)]
    assert listener.gaps == []
    # A rebirth while the old session goes on, the node's birth last.
    node, device = birth(voice, NOW_MS + 100, shots=20)
    listener.hear(device, node, shots(voice, NOW_MS + 101, 21))
    assert listener.values("shots") == [(0, 7.0), (1, 8.0), (100, 20.0), (101, 21.0)]
    assert listener.gaps == []


def test_a_message_that_its_successor_birth_overtook_is_stored_and_disturbs_nothing() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), *(shots(voice, NOW_MS + n, n) for n in range(1, 51)))
    overtaken = shots(voice, NOW_MS + 51, 51)
    listener.hear(*birth(voice, NOW_MS + 100, shots=52), overtaken)
    listener.hear(*(shots(voice, NOW_MS + 100 + n, 52 + n) for n in range(1, 101)))
    listener.wait(60)
    assert sorted(value for _, value in listener.values("shots")) == sorted([7, *range(1, 153)])
    assert listener.gaps == []


def test_an_edge_node_whose_clock_is_set_back_is_followed_all_the_same() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(*birth(voice), *(shots(voice, NOW_MS - 60_000 + n, n) for n in range(1, 301)))
    assert [value for _, value in listener.values("shots")] == [7, *range(1, 301)]
    shots(voice, NOW_MS - 50_000, 301)  # lost
    listener.hear(*(shots(voice, NOW_MS - 50_000 + n, n) for n in range(302, 400)))
    assert [value for _, value in listener.values("shots")] == [7, *range(1, 301), *range(302, 400)]
    assert listener.asked == [NCMD]
    listener.hear(*birth(voice, NOW_MS - 40_000, shots=400), shots(voice, NOW_MS - 39_999, 401))
    assert listener.values("shots")[-1][1] == 401
    assert [gap.messages for gap in listener.gaps] == [1]


def test_a_missed_birth_is_noticed_and_nothing_is_read_by_old_aliases() -> None:
    listener, voice = Listener(store_and_forward=True), Voice()
    listener.hear(*birth(voice), *(shots(voice, NOW_MS + n, n) for n in range(1, 9)))
    other = Voice(bd_seq=1)
    other.nbirth(NOW_MS + 100)  # lost, and with it that alias 1 is a temperature now
    swapped = other.say(
        "DBIRTH",
        "Press-1",
        NOW_MS + 100,
        Metric("Barrel/Zone 1/Temperature", 1, NOW_MS + 100, DataType.Double, 30.0),
    )
    listener.hear(
        swapped, other.say("DDATA", "Press-1", NOW_MS + 101, Metric(None, 1, NOW_MS + 101, value=31.0))
    )
    since = listener.received - 5 * MS
    assert listener.asked == [NCMD]
    other.nbirth(NOW_MS + 200)
    listener.hear(*birth(other, NOW_MS + 200, shots=40))
    assert [value for _, value in listener.values("shots")] == [7, *range(1, 9), 40]
    assert [value for _, value in listener.values("barrel.zone_1.temperature")] == [220.5, 220.5]
    assert [(gap.from_time, gap.messages) for gap in listener.gaps] == [(since, 2)]


def test_unknown_aliases_and_devices_ask_for_births_and_cost_nothing_else() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        voice.say(
            "DDATA", "Press-1", NOW_MS + 1, Metric(None, 77, value=1), Metric(None, 1, NOW_MS + 1, value=8)
        ),
        voice.say("DDATA", "Press-2", NOW_MS + 2, Metric(None, 1, NOW_MS + 2, value=9)),
    )
    assert listener.values("shots") == [(0, 7.0), (1, 8.0)]
    assert listener.counts["unknown_metric"] == 1
    assert listener.counts["unknown_device"] == 1
    assert listener.asked == [NCMD]


def test_an_alias_belongs_to_one_device() -> None:
    listener, voice = Listener(), Voice()
    listener.hear(
        *birth(voice),
        voice.say("DBIRTH", "Press-2", NOW_MS, Metric("Shots", 11, NOW_MS, DataType.Int32, 1)),
        voice.say("DDATA", "Press-2", NOW_MS + 1, Metric(None, 1, NOW_MS + 1, value=99)),
    )
    assert [row.value for row in listener.rows if row.series.signal == "shots"] == [7.0, 1.0]
    assert listener.counts["unknown_metric"] == 1


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
