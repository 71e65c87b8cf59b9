from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.backpressure import Backpressure, Busy
from ingest_service.examination import (
    EARLIEST_NS,
    IMPLAUSIBLE_TIME,
    INFINITE,
    LATEST_AHEAD_NS,
    OUTSIDE_SCOPE,
    TOO_MANY_SERIES,
    Verdicts,
    also_refused,
    examine,
    uncovered,
)
from ingest_service.stores import NOTHING_REFUSED, Refused
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import Rejection
from shopfloor.signal import SeriesKey

NOW = 1_760_000_000_000_000_000
SERIES = (SeriesKey(parse_asset("acme/hk01/a/b/c"), "x"), SeriesKey(parse_asset("acme/hk011"), "x"))


def block(times: list[int], values: list[float] | None = None, index: list[int] | None = None) -> SampleBlock:
    return make_block(SERIES, index or [0] * len(times), times, NOW, values or [1.0] * len(times))


def reasons(refused: Refused) -> dict[int, str]:
    return {
        row: refused.reasons[reason]
        for row, reason in zip(refused.rows.tolist(), refused.reason_index.tolist(), strict=True)
    }


def test_sound_samples_are_not_even_copied() -> None:
    assert examine(block([NOW, EARLIEST_NS, NOW + LATEST_AHEAD_NS]), NOW) is NOTHING_REFUSED
    assert examine(block([]), NOW) is NOTHING_REFUSED


def test_implausible_times() -> None:
    times = [EARLIEST_NS - 1, NOW, NOW + LATEST_AHEAD_NS + 1, -(2**63), 2**63 - 1, 0]
    assert reasons(examine(block(times), NOW)) == dict.fromkeys([0, 2, 3, 4, 5], IMPLAUSIBLE_TIME)


def test_a_clock_some_hours_ahead_is_taken() -> None:
    assert not len(examine(block([NOW + 12 * 3600 * 10**9]), NOW))


def test_infinities_but_not_nulls() -> None:
    found = examine(block([NOW] * 4, [np.inf, -np.inf, np.nan, 1.7e308]), NOW)
    assert reasons(found) == {0: INFINITE, 1: INFINITE}


def test_one_reason_a_row_and_scope_comes_first() -> None:
    outside = np.array([False, True])
    too_many = np.array([True, True])
    found = examine(block([0, 0, NOW], [np.inf, np.inf, 1.0], [0, 1, 1]), NOW, outside)
    assert reasons(found) == {0: IMPLAUSIBLE_TIME, 1: OUTSIDE_SCOPE, 2: OUTSIDE_SCOPE}
    found = examine(block([0, 0, NOW], None, [0, 1, 1]), NOW, outside, too_many)
    assert reasons(found) == {0: TOO_MANY_SERIES, 1: OUTSIDE_SCOPE, 2: OUTSIDE_SCOPE}
    assert found.counts() == {TOO_MANY_SERIES: 1, OUTSIDE_SCOPE: 2}
    assert found.rejections(100)[0] == Rejection(100, TOO_MANY_SERIES)


def test_scope_is_a_path_and_not_a_prefix_of_text() -> None:
    verdicts = Verdicts()
    found = verdicts.outside("acme/hk01", SERIES)
    assert found is not None
    assert found.tolist() == [False, True]
    assert verdicts.outside("acme/hk01", SERIES) is found
    assert verdicts.outside("acme", SERIES) is None


def test_rows_that_lie_in_quarantine_already_stay_refused() -> None:
    refused = Refused(np.array([2, 5]), np.array([1, 0], np.uint8), ("a", "b"))
    assert also_refused(refused, np.array([2, 5]), "before") is refused
    more = also_refused(refused, np.array([0, 2, 7]), "before")
    assert reasons(more) == {0: "before", 2: "b", 5: "a", 7: "before"}
    assert more.rows.tolist() == [0, 2, 5, 7]
    assert reasons(also_refused(NOTHING_REFUSED, np.array([3]), "before")) == {3: "before"}


@pytest.mark.parametrize(
    ("missing", "spans", "left"),
    [
        ((11, 20), [], 10),
        ((11, 20), [(11, 20)], 0),
        ((11, 20), [(1, 100)], 0),
        ((11, 20), [(1, 12), (15, 15)], 7),
        ((11, 20), [(1, 10), (21, 30)], 10),
        ((11, 20), [(11, 14), (12, 13), (14, 18)], 2),
    ],
)
def test_what_loss_records_leave_unexplained(
    missing: tuple[int, int], spans: list[tuple[int, int]], left: int
) -> None:
    assert uncovered(missing, spans) == left


@given(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair))),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))), max_size=6
    ),
)
def test_uncovered_counts_as_sets_do(missing: tuple[int, int], spans: list[tuple[int, int]]) -> None:
    wanted = set(range(missing[0], missing[1] + 1))
    for first, last in spans:
        wanted -= set(range(first, last + 1))
    assert uncovered(missing, sorted(spans)) == len(wanted)


def test_one_token_cannot_take_the_place_of_all() -> None:
    pressure = Backpressure(100, 60)
    with pressure.reserve(1) as first:
        first.grow(60)
        with pytest.raises(Busy):
            first.grow(1)
        with pressure.reserve(2) as second:
            second.grow(40)
            with pytest.raises(Busy):
                second.grow(1)
        assert pressure.waiting_bytes == 60
    assert pressure.waiting_bytes == 0
    with pressure.reserve(1) as again:
        again.grow(60)
