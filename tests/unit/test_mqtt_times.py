"""Machines' times: units, spellings, zones, and the hours that a clock repeats or skips."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt.times import Fold, TimeFormat, time_reader

S = 1_000_000_000
END_OF_SUMMER = 1_792_890_000 * S
"""2026-10-25, 01:00 UTC: Berlin's clocks go from 03:00 back to 02:00."""
BEGIN_OF_SUMMER = 1_774_746_000 * S
"""2026-03-29, 01:00 UTC: Berlin's clocks go from 02:00 to 03:00."""


@pytest.mark.parametrize(
    ("form", "raw", "time_ns"),
    [
        ("ms", 1763778000123, 1763778000123_000_000),
        ("s", 1763778000, 1763778000_000_000_000),
        ("s", 1763778000.123456, 1763778000_123_456_000),
        ("ms", 1763778000123.25, 1763778000123_250_000),
        ("us", 1763778000123456, 1763778000123456_000),
        ("ns", 1763778000123456789, 1763778000123456789),
        ("ms", "1763778000123", 1763778000123_000_000),
        ("s", "1763778000.123456789", 1763778000_123_456_789),
        ("s", "1763778000,5", 1763778000_500_000_000),
        ("s", 0, 0),
        ("s", -1, -1_000_000_000),
        ("iso", "2025-11-22T02:20:00Z", 1763778000_000_000_000),
        ("iso", "2025-11-22T10:20:00.123456789+08:00", 1763778000_123_456_789),
        ("iso", "2025-11-22 02:20:00,5Z", 1763778000_500_000_000),
        ("iso", "1969-12-31T23:59:59.25Z", -750_000_000),
    ],
)
def test_times(form: TimeFormat, raw: Any, time_ns: int) -> None:
    assert time_reader(form)(raw, 0) == time_ns


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        ("ms", "yesterday"),
        ("ms", None),
        ("ms", True),
        ("ms", {}),
        ("ms", 10**30),
        ("s", math.nan),
        ("s", 1e300),
        ("s", 1e305),
        ("s", -1e305),
        ("ms", 1e308),
        ("us", 1e308),
        ("ns", 1e308),
        ("s", 9223372037.0),
        ("s", 9223372037),
        ("ns", 9.3e18),
        ("ns", -(2**63)),
        ("ns", 2**63),
        ("s", 10**4000),
        ("s", math.inf),
        ("s", "1e39"),
        ("s", "9" * 39),
        ("s", "1e999999999"),
        ("s", "NaN"),
        ("iso", 5),
        ("iso", "2025-11-22T10:20:00"),
        ("iso", "2025-13-01T00:00:00Z"),
        ("iso", "9999-12-31T00:00:00Z"),
        ("iso", ""),
        ("iso", "0001-01-01T00:00:00+23:59"),
        ("iso", "9999-12-31T23:59:59.999999999-23:59"),
        ("iso", "2262-04-11T23:47:16.854775808Z"),
        ("iso", "1677-09-21T00:12:43.145224192Z"),
    ],
)
def test_what_is_no_time(form: TimeFormat, raw: Any) -> None:
    assert time_reader(form)(raw, 0) is None


@pytest.mark.parametrize(
    ("form", "raw", "time_ns"),
    [
        ("ns", 2**63 - 1, 2**63 - 1),
        ("ns", 1 - 2**63, 1 - 2**63),
        ("s", 9223372036.0, 9223372036 * S),
        ("s", "1e-999999", 0),
        ("iso", "2262-04-11T23:47:16.854775807Z", 2**63 - 1),
    ],
)
def test_the_first_and_the_last_time(form: TimeFormat, raw: Any, time_ns: int) -> None:
    assert time_reader(form)(raw, 0) == time_ns


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize("fold", ["first", "second", "nearest"])
@pytest.mark.parametrize(
    ("form", "raw"),
    [
        ("iso", "0001-01-01T00:00:00"),
        ("iso", "9999-12-31T23:59:59.999999999"),
        ("s", 1e305),
        ("ms", -1e308),
        ("ns", 2**63),
        ("s", -(10**15)),
    ],
)
def test_local_times_beyond_all_clocks(form: TimeFormat, raw: Any, zone: str, fold: Fold) -> None:
    assert time_reader(form, zone, fold)(raw, 0) is None


def test_local_time_needs_a_zone() -> None:
    assert time_reader("iso", "Asia/Hong_Kong")("2025-11-22T10:20:00", 0) == 1763778000_000_000_000


@pytest.mark.parametrize(
    ("fold", "received_after_min", "read_after_min"),
    [
        ("first", -29, -30),
        ("first", 31, -30),
        ("second", -29, 30),
        ("nearest", -29, -30),
        ("nearest", -1, -30),
        ("nearest", 1, 30),
        ("nearest", 31, 30),
        ("nearest", 60, 30),
        ("nearest", 61, -30),
    ],
)
@pytest.mark.parametrize(
    ("form", "raw"), [("iso", "2026-10-25T02:30:00.5"), ("ms", END_OF_SUMMER // 10**6 + 5_400_500)]
)
def test_a_local_time_that_comes_twice(
    form: TimeFormat, raw: Any, fold: Fold, received_after_min: int, read_after_min: int
) -> None:
    read = time_reader(form, "Europe/Berlin", fold)
    received_time = END_OF_SUMMER + received_after_min * 60 * S
    assert read(raw, received_time) == END_OF_SUMMER + read_after_min * 60 * S + S // 2


@pytest.mark.parametrize("fold", ["first", "second", "nearest"])
def test_a_local_time_that_is_skipped_counts_on_from_winter(fold: Fold) -> None:
    read = time_reader("iso", "Europe/Berlin", fold)
    assert read("2026-03-29T02:30:00", BEGIN_OF_SUMMER) == BEGIN_OF_SUMMER + 30 * 60 * S


def test_numbers_may_count_local_seconds() -> None:
    assert time_reader("s", "Asia/Hong_Kong")(1763778000 + 8 * 3600, 0) == 1763778000 * S
    assert time_reader("ns", "Asia/Hong_Kong")(8 * 3600 * S + 7, 0) == 7
    assert time_reader("s", "Asia/Hong_Kong")(10**15, 0) is None


@given(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none()),
    st.sampled_from(["first", "nearest"]),
    st.sampled_from([None, "Europe/Berlin"]),
)
def test_nothing_is_too_odd_to_be_refused(raw: Any, fold: Fold, zone: str | None) -> None:
    for form in ("s", "ms", "us", "ns", "iso"):
        read = time_reader(form, zone, fold)(raw, 0)
        assert read is None or -(2**63) < read < 2**63
