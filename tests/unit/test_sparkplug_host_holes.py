"""Messages of an edge node that are missing, overtaken or without a birth: what is asked for, and what is a gap."""

from __future__ import annotations

from edge_agent.sources.sparkplug.findings import Gap
from shopfloor.sparkplug import DataType, Metric
from tests.integration.sparkplug_edge_node import EDGE, GROUP, Voice
from tests.unit.sparkplug_listener import MS, NCMD, NOW_MS, Listener, birth, shots


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
