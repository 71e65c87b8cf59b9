"""What each rule promises of the readings that it leaves out."""

from __future__ import annotations

import itertools
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.block import Sample
from tests.unit.processing_runs import BEGIN, Line, S, at, deciding, numbers, plain, text_at, values, walks

either_way = st.sampled_from([1, 10**9])


def seconds(samples: list[Sample]) -> list[float]:
    return [(sample.source_time - BEGIN) / S for sample in samples]


def through(line: Line, samples: list[Sample], wide: int = 10**9) -> list[Sample]:
    with deciding(wide):
        for start in range(0, len(samples), 7):
            line.send(samples[start : start + 7])
        line.finish()
    return line.out


def distances_from_the_line(
    samples: list[Sample], kept: list[Sample]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return how far each reading lies from the line between the kept ones."""
    times = np.array([sample.source_time - BEGIN for sample in samples], dtype=np.float64)
    line = np.interp(times, [float(k.source_time - BEGIN) for k in kept], [k.value for k in kept])
    distances: np.ndarray[tuple[int], np.dtype[np.float64]] = np.abs(
        line - np.array([sample.value for sample in samples])
    )
    return distances


@given(
    samples=walks(st.floats(-1e6, 1e6)),
    deviation=st.floats(1e-3, 1e5),
    max_interval_s=st.sampled_from([None, 1, 30, 3_600]),
    wide=either_way,
)
def test_the_door_leaves_out_nothing_that_is_further_from_the_line(
    samples: list[Sample], deviation: float, max_interval_s: float | None, wide: int
) -> None:
    rule = {"swinging_door": {"deviation": deviation}, "max_interval_s": max_interval_s}
    kept = through(Line(rule), samples, wide)
    assert kept[0] == samples[0]
    assert kept[-1] == samples[-1]
    # A millionth of a unit is the rounding of the line itself at values up to a million.
    assert distances_from_the_line(samples, kept).max() <= deviation + 1e-8


@given(walks(st.floats(-10, 10)), st.floats(0.01, 5))
def test_the_door_bound_holds_also_where_readings_are_written_because_nothing_follows(
    samples: list[Sample], deviation: float
) -> None:
    line = Line({"swinging_door": {"deviation": deviation, "hold_s": 10}})
    for number, sample in enumerate(samples):
        line.send([sample])
        line.look(after_s=4 if number % 5 else 11)
    line.finish()
    assert distances_from_the_line(samples, line.out).max() <= deviation + 1e-8


def test_the_door_keeps_the_corners_of_straight_lines() -> None:
    up = [at(second, second * 2.0) for second in range(50)]
    down = [at(second, 200 - second * 2.0) for second in range(50, 100)]
    assert seconds(through(Line({"swinging_door": {"deviation": 0.01}}), up + down)) == [0, 50, 99]


def test_the_door_keeps_the_reading_before_a_step() -> None:
    samples = [at(second, 20.0 if second < 60 else 80.0) for second in range(120)]
    assert seconds(through(Line({"swinging_door": {"deviation": 0.5}}), samples)) == [0, 59, 60, 119]


@pytest.mark.parametrize("wide", [1, 10**9])
def test_the_door_lets_no_line_end_outside_it(wide: int) -> None:
    # At 2 s the doors have not opened yet, but the line to there misses the reading at 1 s by 1.4: the classic test,
    # which looks at the doors alone, would leave that one out.
    samples = [at(0, 0.0), at(1, 0.9), at(2, -1.0), at(3, -9.0)]
    assert seconds(through(Line({"swinging_door": {"deviation": 1.0}}), samples, wide)) == [0, 1, 2, 3]


@given(walks(), st.floats(0, 20), st.floats(0, 100), either_way)
def test_the_deadband_leaves_out_only_what_is_near_the_last_kept(
    samples: list[Sample], absolute: float, percent: float, wide: int
) -> None:
    kept = through(Line({"deadband": {"absolute": absolute, "percent": percent}}), samples, wide)
    times = [sample.source_time for sample in kept]
    for sample in samples:
        last = kept[bisect_right(times, sample.source_time) - 1]
        reach = max(absolute, percent / 100 * abs(last.value))
        assert sample == last or abs(sample.value - last.value) <= reach
    for before, after in itertools.pairwise(kept):
        assert abs(after.value - before.value) > max(absolute, percent / 100 * abs(before.value))


@given(walks(), st.integers(1, 100), st.integers(1, 30), either_way)
def test_intervals_are_kept(samples: list[Sample], longest: int, shortest: int, wide: int) -> None:
    shortest = min(shortest, longest)
    rule = {"deadband": {"absolute": 1}, "min_interval_s": shortest, "max_interval_s": longest}
    kept = through(Line(rule), samples, wide)
    steps = np.diff([sample.source_time for sample in kept])
    # The last one is what waited when the source ended.
    assert (steps[:-1] >= shortest * S).all()
    times = [sample.source_time for sample in kept]
    for sample in samples:
        last = times[bisect_right(times, sample.source_time) - 1]
        assert sample.source_time - last < longest * S or sample.source_time == last


@given(walks(numbers), st.integers(1, 5), either_way)
def test_no_minute_has_more_than_the_most(samples: list[Sample], most: int, wide: int) -> None:
    line = Line({"max_per_minute": most})
    with deciding(wide):
        line.send(samples)
    times = [sample.source_time for sample in line.out]
    begin, in_minute = times[0], 0
    for time in times:
        if time - begin >= 60 * S:
            begin, in_minute = time, 0
        in_minute += 1
        assert in_minute <= most
    line.finish()
    assert line.out[-1] == plain(samples[-1])


def test_a_heartbeat_is_a_reading_and_nothing_else() -> None:
    line = Line({"deadband": {"absolute": 1}, "max_interval_s": 10})
    line.send([at(second, 5.0 + second / 100) for second in range(26)])
    assert seconds(line.out) == [0, 10, 20]
    assert values(line.out) == [5.0, 5.1, 5.2]
    # However long nothing is handed over, nothing is made up.
    assert line.look(after_s=1_000) == []


@pytest.mark.parametrize("wide", [1, 10**9])
def test_the_last_of_a_quick_sequence_is_written_when_its_time_is_over(wide: int) -> None:
    line = Line({"min_interval_s": 10})
    line.look(after_s=100)
    with deciding(wide):
        line.send([at(0, 1.0), at(1, 2.0), at(2, 3.0)])
    assert values(line.out) == [1.0]
    assert line.look(after_s=9) == []
    assert line.look(after_s=1) == [at(2, 3.0)]
    assert line.look(after_s=100) == []
    assert line.thinned == 1


def test_what_comes_back_into_the_band_within_the_interval_is_no_change() -> None:
    line = Line({"deadband": {"absolute": 1}, "min_interval_s": 10})
    line.send([at(0, 5.0), at(1, 50.0), at(2, 5.5)])
    assert line.look(after_s=60) == []
    assert line.thinned == 1
    line.finish()
    assert values(line.out) == [5.0]


def test_the_reading_before_a_change_is_kept_where_a_step_shall_look_like_one() -> None:
    line = Line({"deadband": {"absolute": 1, "keep_previous": True}})
    for second in range(30):
        line.send([at(second, 20.0 if second < 20 else 80.0)])
    assert seconds(line.out) == [0, 19, 20]


@pytest.mark.parametrize("wide", [1, 10**9])
def test_a_quiet_text_says_that_it_lives(wide: int) -> None:
    line = Line({"deadband": {}, "max_interval_s": 10})
    with deciding(wide):
        line.send([text_at(second, "running") for second in range(21)])
    assert seconds(line.out) == [0, 10, 20]
    assert values(line.out) == ["running"] * 3
