"""Partial aggregates: however samples are split, the merged parts are those of the whole."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.stores.buckets import (
    Grid,
    Partials,
    concat_partials,
    merge,
    partials_of,
    regular_grid,
    run_starts,
    single,
)
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import Float64, Int64, UInt8, UInt32

SECOND = 1_000_000_000
# Whole numbers and whole seconds: their sums are exact, so that equality means equality.
SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(-50, 50),
        st.one_of(st.just(float("nan")), st.integers(-20, 20).map(float)),
        st.sampled_from([0, 0, 0, 1, 2]),
    ),
    max_size=60,
).map(sorted)


def columns(
    samples: list[tuple[int, int, float, int]],
) -> tuple[UInt32, Int64, Float64, UInt8]:
    return (
        np.array([one[0] for one in samples], np.uint32),
        np.array([one[1] * SECOND for one in samples], np.int64),
        np.array([one[2] for one in samples], np.float64),
        np.array([one[3] for one in samples], np.uint8),
    )


def assert_same(one: Partials, other: Partials) -> None:
    for column in fields(Partials):
        np.testing.assert_array_equal(
            getattr(one, column.name), getattr(other, column.name), err_msg=column.name
        )


def by_hand(samples: list[tuple[int, int, float, int]]) -> list[float]:
    """The definition, sample by sample."""
    usable = [(time, value) for _, time, value, quality in samples if quality < 2 and not isnan(value)]
    bad = sum(quality == 2 for *_, quality in samples)
    if not usable:
        return [0, bad, *[float("nan")] * 4, 0, float("nan"), 0, float("nan"), float("nan")]
    values = [value for _, value in usable]
    area = sum((later - earlier) * value for (earlier, value), (later, _) in pairwise(usable))
    increase = sum(b - a if b >= a else b for (_, a), (_, b) in pairwise(usable))
    first, last = usable[0], usable[-1]
    return [
        *(len(usable), bad, min(values), max(values), sum(values)),
        *(first[1], first[0] * SECOND, last[1], last[0] * SECOND, area, increase),
    ]


@given(SAMPLES)
def test_partials_are_what_their_definition_says(samples: list[tuple[int, int, float, int]]) -> None:
    grid = regular_grid(TimeSpan(-50 * SECOND, 51 * SECOND), 7 * SECOND)
    series, bucket, found = partials_of(*columns(samples), grid)
    edges = grid.edges.tolist()
    expected = {}
    for number in range(3):
        for place, (begin, end) in enumerate(pairwise(edges)):
            inside = [one for one in samples if one[0] == number and begin <= one[1] * SECOND < end]
            if any(quality == 2 or not isnan(value) for *_, value, quality in inside):
                expected[number, place] = by_hand(inside)
    assert list(zip(series.tolist(), bucket.tolist(), strict=True)) == list(expected)
    for row, wanted in enumerate(expected.values()):
        got = [float(getattr(found, column.name)[row]) for column in fields(Partials)]
        np.testing.assert_array_equal(got, wanted)


@given(SAMPLES, st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_merging_any_split_gives_the_partials_of_the_whole(
    samples: list[tuple[int, int, float, int]], cuts: set[int], more: set[int]
) -> None:
    series, time, value, quality = columns(samples)
    if not samples:
        return
    whole = merge(single(time, value, quality), run_starts(series))
    ends = sorted({cut for cut in cuts if 0 < cut < len(samples)} | {0, len(samples)})
    parts, owner = [], []
    for begin, end in pairwise(ends):
        piece = slice(begin, end)
        starts = run_starts(series[piece])
        parts.append(merge(single(time[piece], value[piece], quality[piece]), starts))
        owner.append(series[piece][starts])
    joined, owners = concat_partials(parts), np.concatenate(owner)
    # Merged in two steps: first some of the neighbours, then the rest.
    step = np.array(sorted(set(run_starts(owners).tolist()) | {cut for cut in more if cut < len(owners)}))
    joined, owners = merge(joined, step), owners[step]
    assert_same(merge(joined, run_starts(owners)), whole)


def test_a_counter_that_began_again_rose_by_its_new_value() -> None:
    time = np.arange(4) * SECOND
    found = merge(single(time, np.array([10.0, 12, 3, 4]), np.zeros(4, np.uint8)), np.array([0]))
    assert found.increase.tolist() == [2 + 3 + 1]
    assert found.area.tolist() == [10 + 12 + 3]


def test_the_whole_range_of_times_and_values_is_allowed() -> None:
    time = np.array([-(2**63), 2**63 - 1])
    found = merge(single(time, np.array([1.7e308, 1.7e308]), np.zeros(2, np.uint8)), np.array([0]))
    assert found.sum.tolist() == [float("inf")]
    grid = regular_grid(TimeSpan(-(2**63), 2**63 - 1), 2**61)
    assert grid.edges[0] == -(2**63)
    assert grid.edges[-1] == 2**63 - 1


def test_grids_cover_their_span_at_multiples_of_the_width() -> None:
    assert regular_grid(TimeSpan(-11, 12), 10).edges.tolist() == [-20, -10, 0, 10, 20]
    assert regular_grid(TimeSpan(10, 11), 10)[0].tolist() == [10, 20]
    assert len(regular_grid(TimeSpan(0, 20), 10)) == 2
    for span, every in ((TimeSpan(5, 5), 1), (TimeSpan(0, 5), 0), (TimeSpan(0, 2**62), 1)):
        with pytest.raises(ValueError):
            regular_grid(span, every)


def test_buckets_of_differing_width_and_what_lies_outside() -> None:
    grid = Grid(np.array([0, 10, 11], np.int64))
    time = np.array([-1, 0, 9, 10, 11], np.int64)
    _, bucket, found = partials_of(np.zeros(5, np.uint32), time, np.ones(5), np.zeros(5, np.uint8), grid)
    assert bucket.tolist() == [0, 1]
    assert found.count.tolist() == [2, 1]


def test_nothing_gives_nothing() -> None:
    none = np.empty(0, np.int64)
    series, _, found = partials_of(
        none, none, np.empty(0), np.empty(0, np.uint8), regular_grid(TimeSpan(0, 1), 1)
    )
    assert len(series) == len(found) == 0
