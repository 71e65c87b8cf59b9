"""From the text of a question to spans, grids and positions."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.reading.question import (
    Unanswerable,
    Width,
    cursor_text,
    grid_of,
    moment_ms,
    points_grid,
    read_cursor,
    span_of,
    width_of,
)
from ingest_service.stores import Position, TimeSpan

S = 1_000_000_000
HOUR = 3600 * S


def ns(text: str, zone: str = "UTC") -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()) * S


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1763778000123", 1763778000123),
        ("-5", -5),
        ("2025-11-22T02:20:00", 1763778000000),
        ("2025-11-22T02:20:00Z", 1763778000000),
        ("2025-11-22T10:20:00+08:00", 1763778000000),
        ("2025-11-22T10:20:00 08:00", 1763778000000),
    ],
)
def test_moments(text: str, ms: int) -> None:
    assert moment_ms("from", text) == ms


@pytest.mark.parametrize("text", ["", "soon", "2025-13-01", "9" * 30, "1e3", "NaN"])
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(Unanswerable, match=r"^to: "):
        moment_ms("to", text)


def test_a_span_is_the_last_hour_unless_it_says_more() -> None:
    now = 1_763_778_000 * S
    span = span_of(None, None, now)
    assert span.to_ns - span.from_ns == HOUR
    assert span.from_ns < now < span.to_ns
    assert span_of("0", "1000", now) == TimeSpan(0, S)
    with pytest.raises(Unanswerable, match="from lies after to"):
        span_of("2", "1", now)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("60", Width(60, "")),
        ("0.5", Width(0.5, "")),
        ("250ms", Width(250, "ms")),
        ("15m", Width(15, "m")),
        ("1mo", Width(1, "mo")),
    ],
)
def test_widths(text: str, width: Width) -> None:
    assert width_of(text) == width


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1 h", "h", "1x", "inf", "nan", "1e9", "9" * 20])
def test_what_is_no_width_is_named(text: str) -> None:
    with pytest.raises(Unanswerable, match=r"^every: "):
        width_of(text)


def test_days_are_those_of_the_time_zone_short_and_long_ones_too() -> None:
    span = TimeSpan(ns("2026-03-28 12:00"), ns("2026-03-30 12:00"))
    grid = grid_of(span, Width(1, "d"), "Europe/Berlin")
    hours = (np.diff(grid.edges) // HOUR).tolist()
    assert hours == [24, 23, 24]
    assert grid.edges[0] == ns("2026-03-28 00:00", "Europe/Berlin")
    assert grid.every_ns == 0
    assert (np.diff(grid_of(span, Width(1, "d")).edges) // HOUR).tolist() == [24, 24, 24]


def test_weeks_begin_on_monday_months_and_years_on_their_first_day() -> None:
    span = TimeSpan(ns("2026-11-26 05:00"), ns("2026-12-02 05:00"))
    zone = "Asia/Hong_Kong"
    weeks = grid_of(span, Width(1, "w"), zone).edges
    assert weeks.tolist() == [ns(f"{day} 00:00", zone) for day in ("2026-11-23", "2026-11-30", "2026-12-07")]
    months = grid_of(span, Width(1, "mo"), zone).edges
    assert months.tolist() == [ns(f"{day} 00:00", zone) for day in ("2026-11-01", "2026-12-01", "2027-01-01")]
    quarters = grid_of(span, Width(3, "mo")).edges
    assert quarters.tolist() == [ns("2026-10-01 00:00"), ns("2027-01-01 00:00")]
    years = grid_of(span, Width(1, "y"), zone).edges
    assert years.tolist() == [ns("2026-01-01 00:00", zone), ns("2027-01-01 00:00", zone)]


@given(
    begin=st.integers(-(2**63) + 1, 2**63 - 2),
    length=st.integers(1, 400 * 86_400 * S),
    number=st.integers(1, 400),
    unit=st.sampled_from(["d", "w", "mo", "y"]),
    zone=st.sampled_from(["UTC", "Asia/Hong_Kong", "America/St_Johns", "Pacific/Apia", "Africa/Monrovia"]),
)
def test_a_calendar_covers_its_span_with_ascending_buckets(
    begin: int, length: int, number: int, unit: str, zone: str
) -> None:
    span = TimeSpan(begin, min(2**63 - 1, begin + length))
    try:
        grid = grid_of(span, Width(number, unit), zone)
    except Unanswerable:
        return
    assert (grid.edges[1:] > grid.edges[:-1]).all()
    assert grid.edges[0] <= span.from_ns
    assert grid.edges[-1] >= span.to_ns
    assert len(grid) == 1 or (grid.edges[1] > span.from_ns and grid.edges[-2] < span.to_ns)


def test_a_day_that_a_zone_left_out_is_no_bucket() -> None:
    zone = "Pacific/Apia"
    days = grid_of(TimeSpan(ns("2011-12-28 10:00"), ns("2012-01-01")), Width(1, "d"), zone).edges
    wanted = ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01", "2012-01-02"]
    assert days.tolist() == [ns(f"{day} 00:00", zone) for day in wanted]


def test_an_evening_that_comes_again_after_midnight_is_covered() -> None:
    # Newfoundland set its clocks back at one minute past midnight: 23:01 to 23:59 of the day before came again.
    zone = "America/St_Johns"
    midnight = ns("2006-10-29 00:00", zone)
    inside = TimeSpan(midnight + 10 * 60 * S, midnight + 30 * 60 * S)
    assert grid_of(inside, Width(1, "d"), zone).edges.tolist() == [midnight, midnight + 25 * HOUR]


@pytest.mark.parametrize(
    "width", [Width(1e6, "d"), Width(1e9, "d"), Width(1e11, "w"), Width(1000, "y"), Width(9000, "mo")]
)
def test_buckets_wider_than_all_times_are_answered_or_refused(width: Width) -> None:
    for span in (TimeSpan(-100 * S, -S), TimeSpan(S, 2 * S), TimeSpan(9_201_000_000 * S, 9_204_000_000 * S)):
        try:
            grid = grid_of(span, width, "Asia/Hong_Kong")
        except Unanswerable as error:
            assert "ends after the calendar" in str(error)  # noqa: PT017 - either is right
        else:
            assert grid.edges[0] <= span.from_ns
            assert grid.edges[-1] >= span.to_ns


@pytest.mark.parametrize(
    ("width", "zone", "what"),
    [
        (Width(1, "d"), "Mars/Olympus", "time_zone"),
        (Width(1, "h"), "../etc", "time_zone"),
        (Width(1.5, "mo"), "", "whole"),
        (Width(0.0000001, ""), "", "every"),
    ],
)
def test_grids_that_make_no_sense(width: Width, zone: str, what: str) -> None:
    with pytest.raises(Unanswerable, match=what):
        grid_of(TimeSpan(0, 40_000 * 86_400 * S), width, zone)


def test_too_many_days() -> None:
    with pytest.raises(Unanswerable, match="buckets"):
        grid_of(TimeSpan(ns("1700-01-01 00:00"), ns("2250-01-01 00:00")), Width(1, "d"), "Asia/Hong_Kong")


def test_points_are_about_as_many_buckets() -> None:
    assert len(points_grid(TimeSpan(0, 1000 * S), 500)) == 500
    assert 1 <= len(points_grid(TimeSpan(1, 2), 500)) <= 2


@given(
    st.builds(
        Position,
        st.text(max_size=40),
        st.text(max_size=40),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 9),
    )
)
def test_a_cursor_comes_back_as_it_was(position: Position) -> None:
    assert read_cursor(cursor_text(position)) == position


@pytest.mark.parametrize("text", ["", "x", "###", "eyJ9", "W10", "WzEsMiwzLDRd", "é"])
def test_a_foreign_cursor_is_named(text: str) -> None:
    with pytest.raises(Unanswerable, match="cursor"):
        read_cursor(text)


@pytest.mark.parametrize(
    ("time", "rows"), [(2**63, 1), (-(2**63) - 1, 1), (10**30, 1), (0, -1), (0, 2**40), (0, 10**30)]
)
def test_a_cursor_that_somebody_made_up_is_no_order_to_read_everything(time: int, rows: int) -> None:
    with pytest.raises(Unanswerable, match="cursor"):
        read_cursor(cursor_text(Position("acme", "x", time, rows)))
