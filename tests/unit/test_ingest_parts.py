from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service import parts
from ingest_service.facts.counters import increase
from ingest_service.parts import PartsToday, Watch, midnight_ns
from ingest_service.stores import Committed
from ingest_service.stores.series import SeriesIndex
from shopfloor.asset import parse_asset
from shopfloor.signal import GOOD_PARTS_COUNTER, JOB_NAME, SeriesKey

S = 1_000_000_000


def ns(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).timestamp()) * S


@pytest.mark.parametrize(
    ("now", "zone", "midnight"),
    [
        ("2026-03-01T15:59:59+00:00", "Asia/Hong_Kong", "2026-02-28T16:00:00+00:00"),
        ("2026-03-01T16:00:00+00:00", "Asia/Hong_Kong", "2026-03-01T16:00:00+00:00"),
        ("2026-03-29T12:00:00+00:00", "Europe/Berlin", "2026-03-28T23:00:00+00:00"),
        ("2026-10-25T12:00:00+00:00", "Europe/Berlin", "2026-10-24T22:00:00+00:00"),
    ],
)
def test_midnight_is_the_sites_own(now: str, zone: str, midnight: str) -> None:
    assert midnight_ns(ns(now), zoneinfo.ZoneInfo(zone)) == ns(midnight)


def test_counts_since_midnight_with_the_sample_before_it() -> None:
    one = PartsToday()
    for second, value in [(90, 100.0), (99, 104.0), (101, 105.0), (120, 110.0)]:
        one.add(second * S, value)
    assert one.total(100 * S) == 6


def test_late_samples_and_resets_between_two_ticks() -> None:
    one = PartsToday()
    one.add(10 * S, 5)
    one.add(50 * S, 3)
    assert one.total(0) == 3  # 5, then a reset
    one.add(30 * S, 9)  # arrives late: 5 -> 9 -> reset -> 3
    assert one.total(0) == 7
    one.add(30 * S, 9)
    assert one.total(0) == 7


def test_nulls_are_left_out() -> None:
    one = PartsToday()
    one.add(1, 5.0)
    one.add(2, float("nan"))
    one.add(3, 6.0)
    assert one.total(0) == 1


def test_a_change_of_job_starts_from_zero_and_learning_its_name_does_not() -> None:
    one = PartsToday()
    one.add(10, 500)
    one.add(20, 501)
    one.add_job(15, "job-1")
    assert one.total(0) == 1
    one.add_job(30, "job-2")
    one.add_job(31, "job-2")
    one.add(40, 502)
    assert one.total(0) == 1 + 502


def test_a_new_day_forgets_the_old_one() -> None:
    one = PartsToday()
    for second in range(1000):
        one.add(second * S, float(second))
    assert one.total(0) == 999
    assert one.total(900 * S) == 100
    assert len(one._time) <= 102
    assert one.total(2000 * S) == 0


def test_a_counter_that_stands_still_takes_no_memory() -> None:
    one = PartsToday()
    for second in range(5000):
        one.add(second * S, 7.0)
    assert len(one._time) == 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MAX_CHANGES", 100)
    one = PartsToday()
    one.total(0)
    for second in range(1, 1001):
        one.add(second * S, float(second))
    assert one.total(0) == 999
    assert len(one._time) <= 101
    one.add(5 * S, 4.5)  # too late to count, and it changes nothing
    assert one.total(0) == 999


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=40), st.integers(0, 50))
def test_the_order_of_arrival_does_not_matter(samples: list[tuple[int, int]], since: int) -> None:
    unique = dict(samples)
    one = PartsToday()
    for time, value in unique.items():
        one.add(time, float(value))
    ordered = sorted(unique.items())
    times = np.array([time for time, _ in ordered], np.int64)
    values = np.array([value for _, value in ordered], np.float64)
    assert one.total(since) == round(increase(times, values, since=since).total)


def test_watch_finds_the_samples_of_new_series_at_once() -> None:
    index = SeriesIndex()
    machine = parse_asset("acme/hk01/a/b/imm-01")
    watch = Watch(index)
    index.restore(
        [SeriesKey(machine, "x"), SeriesKey(machine, GOOD_PARTS_COUNTER), SeriesKey(machine, JOB_NAME)]
    )
    watch(
        Committed(
            np.array([1, 2, 3, 2], np.uint32),
            np.array([1, 2, 3, 4], np.int64),
            np.array([1, 2, 3, 4], np.int64),
            np.array([1.0, 7.0, np.nan, 8.0]),
            np.array([0, 0, 0, 2], np.uint8),
            {2: "job-1"},
        )
    )
    found = watch.drain()
    assert [(one.series_id, one.source_time, one.text) for one in found] == [(2, 2, None), (3, 3, "job-1")]
    assert watch.drain() == []
