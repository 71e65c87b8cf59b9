"""Aggregates as readers get them, held against what plain loops over the samples find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.reading.aggregates import AGGREGATES, USUAL, chosen, columns_of, needs_before
from ingest_service.reading.question import Unanswerable
from ingest_service.reading.thinning import thinned
from ingest_service.stores import Buckets, Raw, SeriesInfo, TimeSpan, regular_grid
from ingest_service.stores.buckets import partials_of
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.signal import SeriesKey

S = 1_000_000_000
KEYS = tuple(SeriesKey(parse_asset("acme/hk01/m"), name) for name in ("a", "b"))
INFO = tuple(SeriesInfo(number + 1, key) for number, key in enumerate(KEYS))


class Row(NamedTuple):
    series: int
    at_s: int
    value: float | None
    bad: bool = False


def raw_of(rows: Sequence[Row]) -> Raw:
    rows = sorted(rows, key=lambda row: (row.series, row.at_s))
    times = np.array([row.at_s * S for row in rows], np.int64)
    values = [np.nan if row.value is None else row.value for row in rows]
    quality = np.array([2 if row.bad else 0 for row in rows], np.uint8)
    block = make_block(KEYS, [row.series for row in rows], times, times, values, quality=quality)
    return Raw(INFO, block, truncated=False)


def buckets_of(rows: Sequence[Row], to_s: int = 40, every_s: int = 10) -> Buckets:
    block = raw_of(rows).block
    grid = regular_grid(TimeSpan(0, to_s * S), every_s * S)
    index, bucket, partials = partials_of(
        block.series_index, block.source_time, block.value, block.quality, grid
    )
    return Buckets(INFO, index.astype(np.uint32), bucket, grid, partials, truncated=False)


def test_names_are_checked_and_may_be_joined() -> None:
    assert chosen([]) == USUAL
    assert chosen(["mean, max", "bad", "mean"]) == ("mean", "max", "bad")
    with pytest.raises(Unanswerable, match="'median' is none of"):
        chosen(["mean", "median"])
    assert needs_before(("increase",))
    assert not needs_before(USUAL)


def test_bad_is_counted_and_takes_part_in_nothing_else() -> None:
    rows = [
        Row(0, 1, 4.0),
        Row(0, 2, 1000.0, bad=True),
        Row(0, 3, 6.0),
        Row(0, 4, None),
        Row(0, 11, 9.0, bad=True),
    ]
    columns = columns_of(buckets_of(rows), AGGREGATES, now_ns=20 * S)
    assert columns["count"].tolist() == [2, 0]
    assert columns["bad"].tolist() == [1, 1]
    assert columns["max"][0] == 6.0
    assert columns["mean"][0] == 5.0
    # 4 for two seconds, 6 for the seven that are left of the bucket.
    assert columns["time_weighted_mean"][0] == pytest.approx((4 * 2 + 6 * 7) / 9)
    assert all(math.isnan(columns[name][1]) for name in AGGREGATES if name not in {"count", "bad"})


def test_what_held_before_counts_until_the_first_sample_and_rises_from_there() -> None:
    before = raw_of([Row(0, -5, 10.0), Row(1, -1, 100.0)])
    rows = [Row(0, 4, 20.0), Row(0, 12, 2.0), Row(1, 5, 100.0)]
    columns = columns_of(buckets_of(rows), ("time_weighted_mean", "increase"), before)
    assert columns["time_weighted_mean"].tolist() == pytest.approx(
        [(10 * 4 + 20 * 6) / 10, (20 * 2 + 2 * 8) / 10, 100]
    )
    # A counter that falls was reset: it rose by what it shows now.
    assert columns["increase"].tolist() == [10.0, 2.0, 0.0]


def test_a_value_does_not_hold_for_ever_nor_into_the_future() -> None:
    rows = [Row(0, 0, 1.0), Row(0, 38, 5.0)]
    columns = columns_of(buckets_of(rows), ("time_weighted_mean",), hold_ns=3 * S, now_ns=39 * S)
    assert columns["time_weighted_mean"].tolist() == [1.0, 5.0]
    columns = columns_of(
        buckets_of([Row(0, 0, 1.0), Row(0, 12, 5.0)]), ("time_weighted_mean",), now_ns=13 * S
    )
    assert columns["time_weighted_mean"].tolist() == pytest.approx([1.0, (1 * 2 + 5 * 1) / 3])


VALUES = st.floats(-100, 100).map(lambda value: round(value, 3))
ROWS = st.lists(
    st.builds(Row, st.integers(0, 1), st.integers(0, 39), st.one_of(st.none(), VALUES), st.booleans()),
    unique_by=lambda row: (row.series, row.at_s),
)


@given(ROWS, st.lists(st.one_of(st.none(), VALUES), min_size=2, max_size=2), st.integers(40, 60))
def test_against_plain_loops(rows: list[Row], carried: list[float | None], now_s: int) -> None:
    before = raw_of([Row(number, -3, value) for number, value in enumerate(carried) if value is not None])
    buckets = buckets_of(rows)
    columns = columns_of(buckets, AGGREGATES, before, now_ns=now_s * S)
    for place, (index, bucket) in enumerate(
        zip(buckets.series_index.tolist(), buckets.bucket.tolist(), strict=True)
    ):
        mine = sorted((row for row in rows if row.series == index), key=lambda row: row.at_s)
        usable = [(row.at_s, row.value) for row in mine if row.value is not None and not row.bad]
        inside = [value for at, value in usable if bucket * 10 <= at < bucket * 10 + 10]
        assert columns["count"][place] == len(inside)
        if not inside:
            continue
        held = carried[index]
        weighted, weight, rise = 0.0, 0, 0.0
        for second in range(bucket * 10 + 10):
            here = dict(usable).get(second)
            if here is not None:
                if second >= bucket * 10 and held is not None:
                    rise += here - held if here >= held else here
                held = here
            if second >= bucket * 10 and held is not None:
                weighted, weight = weighted + held, weight + 1
        assert columns["time_weighted_mean"][place] == pytest.approx(weighted / weight)
        assert columns["increase"][place] == pytest.approx(rise)
        assert columns["sum"][place] == pytest.approx(sum(inside))
        assert (columns["min"][place], columns["max"][place]) == (min(inside), max(inside))
        assert (columns["first"][place], columns["last"][place]) == (inside[0], inside[-1])


@given(ROWS, st.integers(1, 20))
def test_thinning_keeps_real_samples_and_the_ends(rows: list[Row], points: int) -> None:
    raw = raw_of(rows)
    found = thinned(raw, points)
    kept = [(row.series.signal, row.source_time, row.value) for row in found.block.rows()]
    usable = sorted(
        (KEYS[row.series].signal, row.at_s * S, row.value)
        for row in rows
        if row.value is not None and not row.bad
    )
    assert set(kept) <= set(usable)
    assert kept == sorted(kept)
    for key in KEYS:
        mine = [one for one in usable if one[0] == key.signal]
        left = [one for one in kept if one[0] == key.signal]
        assert len(left) == min(points, len(mine))
        if points > 1 and mine:
            assert (left[0], left[-1]) == (mine[0], mine[-1])


def test_thinning_keeps_a_spike() -> None:
    rows = [Row(0, at, 1000.0 if at == 777 else at % 7) for at in range(5000)]
    found = thinned(raw_of(rows), 50)
    assert len(found.block) == 50
    assert 1000.0 in found.block.value
