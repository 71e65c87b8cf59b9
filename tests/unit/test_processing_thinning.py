"""What holds for every way of leaving out: however the readings are cut into blocks, whatever they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.processing.stage import Moment
from shopfloor.block import Quality, Sample, block_of
from shopfloor.signal import SeriesKey
from tests.unit.processing_runs import (
    ASSET,
    RULES,
    Line,
    at,
    bad_at,
    by_series,
    deciding,
    mixtures,
    plain,
    sliced,
    text_at,
    values,
    walks,
)

NEVER = 10**9
few = settings(max_examples=20)
each_rule = pytest.mark.parametrize("rule", RULES, ids=str)


def through(rule: Any, blocks: Any, wide: int = NEVER) -> Line:
    line = Line(rule)
    with deciding(wide):
        for block in blocks:
            line.send(block)
        line.finish()
    return line


@each_rule
@few
@given(samples=mixtures(), cuts=st.lists(st.integers(1, 80)), wide=st.sampled_from([1, 2, NEVER]))
def test_blocks_may_be_cut_anywhere_and_decided_either_way(
    rule: Any, samples: list[Sample], cuts: list[int], wide: int
) -> None:
    whole = through(rule, [samples])
    parts = through(rule, sliced(samples, cuts), wide)
    assert by_series(parts.out) == by_series(whole.out)
    assert parts.thinned == whole.thinned


@each_rule
@few
@given(samples=mixtures(), wide=st.sampled_from([1, NEVER]))
def test_every_reading_comes_out_once_as_it_was_or_is_counted(
    rule: Any, samples: list[Sample], wide: int
) -> None:
    line = through(rule, sliced(samples, range(0, 80, 7)), wide)
    went_in, came_out = Counter(map(plain, samples)), Counter(line.out)
    assert came_out <= went_in
    assert line.thinned == went_in.total() - came_out.total()


@each_rule
@few
@given(samples=mixtures(), wide=st.sampled_from([1, NEVER]))
def test_what_is_not_good_always_passes(rule: Any, samples: list[Sample], wide: int) -> None:
    line = through(rule, sliced(samples, range(0, 80, 5)), wide)

    def odd(row: Sample) -> bool:
        return row.quality != Quality.GOOD or (row.value is None and row.text is None)

    assert Counter(filter(odd, line.out)) == Counter(filter(odd, map(plain, samples)))


@each_rule
@few
@given(samples=mixtures(), cuts=st.lists(st.integers(1, 80)), wide=st.sampled_from([1, NEVER]))
def test_what_was_not_stored_can_be_handed_over_again(
    rule: Any, samples: list[Sample], cuts: list[int], wide: int
) -> None:
    whole = through(rule, [samples])
    line = Line(rule)
    with deciding(wide):
        for number, part in enumerate(sliced(samples, cuts)):
            if number % 2:
                line.stage.take(block_of(part), Moment(0, 0)).undo()
            line.send(part)
        line.finish()
    assert by_series(line.out) == by_series(whole.out)
    assert line.thinned == whole.thinned


@each_rule
@few
@given(samples=walks(), cut=st.integers(0, 60), wide=st.sampled_from([1, NEVER]))
def test_a_restart_is_an_interruption_and_nothing_worse(
    rule: Any, samples: list[Sample], cut: int, wide: int
) -> None:
    whole = Line(rule)
    first = Line(rule)
    for line in (whole, first):
        line.send(samples[:cut])
    whole.finish()
    with deciding(wide):
        second = Line(rule, saved=first.saved)
        for line in (whole, second):
            line.send(samples[cut:])
            line.finish()
    assert not [key for key in second.saved if "held" in key]
    kept = first.out + second.out
    if rule.get("deadband", {}).get("keep_previous"):
        # What waits only to make a step look like one is within the band, and not worth the disk.
        assert set(kept) <= set(whole.out)
        assert len(whole.out) - len(kept) <= 1
    else:
        assert kept == whole.out


def test_each_of_many_series_gets_its_own_held_reading_back() -> None:
    keys = [SeriesKey(ASSET, f"v{number}") for number in range(100)]
    rule = {"swinging_door": {"deviation": 1}}
    first = Line(rule)
    first.send(at(0, 1.0, key=key) for key in keys)
    held = [at(1 + number, float(number), key=key) for number, key in enumerate(keys) if number % 7]
    first.send(held)
    assert sorted(Line(rule, saved=first.saved).look()) == sorted(held)


def test_what_was_held_and_can_not_be_read_is_named(caplog: pytest.LogCaptureFixture) -> None:
    first = Line({"swinging_door": {"deviation": 1}})
    first.send([at(0, 1.0), at(1, 2.0)])
    assert first.look(0) == []
    for spoilt in ({"processing.held.0": b"torn"}, {"processing.series.0": b"no series"}):
        second = Line({"swinging_door": {"deviation": 1}}, saved=first.saved | spoilt)
        assert second.look() == []
        assert second.saved == {}
        assert "processing.held.0" in caplog.text
        caplog.clear()
    third = Line({"swinging_door": {"deviation": 1}}, saved=first.saved)
    assert third.look() == [at(1, 2.0)]


@each_rule
def test_after_an_interruption_the_first_reading_is_kept(rule: Any) -> None:
    line = Line(rule)
    line.send(at(number * 0.1, 5.0) for number in range(9))
    line.stage.interrupt()
    out = line.send([at(1.0, 5.0)])
    assert out[-1] == at(1.0, 5.0)
    assert len(out) <= 2
    assert line.send([at(1.1, 5.0)]) == []


@each_rule
def test_a_change_of_status_or_kind_is_kept_with_all_around_it(rule: Any) -> None:
    line = Line(rule)
    for number, odd in enumerate([bad_at(50, 1.0), at(50, 7.0, status=0x0480), text_at(50, "stopped")]):
        begin = 1_000 * number
        line.send([at(begin + step / 10, 5.0) for step in range(5)])
        moved = odd._replace(source_time=odd.source_time + begin * 10**9)
        assert plain(moved) in line.send([moved])
        assert plain(at(begin + 51, 5.0)) in line.send([at(begin + 51, 5.0)])


def test_texts_that_do_not_change_are_left_out_and_changes_never() -> None:
    line = Line({"deadband": {}})
    line.send([text_at(0, "a"), text_at(1, "a"), text_at(2, "b"), text_at(3, "b"), text_at(4, "a")])
    assert values(line.out) == ["a", "b", "a"]
    assert line.thinned == 2


@pytest.mark.parametrize("wide", [1, NEVER])
def test_a_late_reading_is_kept_and_the_newest_with_it(wide: int) -> None:
    line = Line({"deadband": {"absolute": 1}})
    with deciding(wide):
        line.send([at(0, 5.0), at(10, 5.5), at(20, 5.2)])
        assert values(line.out) == [5.0]
        line.send([at(15, 50.0)])
        # Without the one at 20 s, the late 50 would seem to last.
        assert [(sample.source_time - at(0, 0).source_time) // 10**9 for sample in line.out] == [0, 20, 15]
        assert line.thinned == 1
        # From now on 5.2 is what others are compared to, not 5.0.
        assert line.send([at(30, 6.1)]) == []
        assert values(line.send([at(31, 6.3)])) == [6.3]


def test_two_values_at_one_time_are_both_kept_and_the_next_too() -> None:
    line = Line({"deadband": {}})
    line.send([at(0, 5.0), at(1, 6.0), at(1, 5.0), at(2, 6.0), at(3, 6.0)])
    assert values(line.out) == [5.0, 6.0, 5.0, 6.0]


def test_a_reading_of_the_newest_time_that_comes_again_is_left_out() -> None:
    for rule in RULES:
        line = Line(rule)
        line.send([at(0, 5.0)])
        assert line.send([at(0, 5.0)]) == []
