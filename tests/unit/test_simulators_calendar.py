"""When people work: shifts by local time, breaks, holidays, summer time."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulators.physics.calendar import Calendar, Shift, Span

HONG_KONG, BERLIN = ZoneInfo("Asia/Hong_Kong"), ZoneInfo("Europe/Berlin")
WEEKDAYS = frozenset(range(5))
EVERY_DAY = frozenset(range(7))
EARLY = Shift("early", time(7), time(15), WEEKDAYS, ((time(11), time(11, 30)),))
LATE = Shift("late", time(15), time(22), WEEKDAYS)
NIGHT = Shift("night", time(22), time(6), WEEKDAYS, ((time(1), time(1, 45)), (time(23, 30), time(23, 45))))


Local = tuple[int, ...]


def ms(local: Local, zone: ZoneInfo = HONG_KONG) -> int:
    """Return a local time, from the year on, as UTC ms."""
    return round(datetime(*local, tzinfo=zone).astimezone(UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


def spans(calendar: Calendar, begin_ms: int, end_ms: int) -> list[Span]:
    found, at = [], begin_ms
    while at < end_ms:
        found.append(calendar.at(at))
        at = found[-1].end_ms
    return found


def told(calendar: Calendar, begin: Local, end: Local, zone: ZoneInfo = HONG_KONG) -> list[str]:
    """Return spans as text, by local time."""
    return [
        f"{datetime.fromtimestamp(span.begin_ms / 1000, zone):%a %H:%M} {span.shift or span.reason}"
        for span in spans(calendar, ms(begin, zone), ms(end, zone))
    ]


def test_shifts_breaks_and_the_night_between_follow_one_another() -> None:
    calendar = Calendar(HONG_KONG, (LATE, EARLY))
    assert told(calendar, (2026, 3, 3, 8), (2026, 3, 4, 8)) == [
        "Tue 07:00 early",
        "Tue 11:00 break",
        "Tue 11:30 early",
        "Tue 15:00 late",
        "Tue 22:00 no shift",
        "Wed 07:00 early",
    ]


def test_a_night_shift_belongs_to_the_day_on_which_it_begins() -> None:
    calendar = Calendar(HONG_KONG, (NIGHT,))
    assert told(calendar, (2026, 3, 6, 21), (2026, 3, 9, 22, 30)) == [
        "Fri 06:00 no shift",
        "Fri 22:00 night",
        "Fri 23:30 break",
        "Fri 23:45 night",
        "Sat 01:00 break",
        "Sat 01:45 night",
        "Sat 06:00 no shift",
        "Mon 22:00 night",
    ]


def test_on_a_holiday_no_shift_begins_and_the_day_is_called_so() -> None:
    calendar = Calendar(HONG_KONG, (EARLY, NIGHT), frozenset({date(2026, 3, 4)}))
    assert told(calendar, (2026, 3, 3, 16), (2026, 3, 5, 10)) == [
        "Tue 15:00 no shift",
        "Tue 22:00 night",
        "Tue 23:30 break",
        "Tue 23:45 night",
        "Wed 01:00 break",
        "Wed 01:45 night",
        "Wed 06:00 holiday",
        "Thu 00:00 no shift",
        "Thu 07:00 early",
    ]


def test_without_shifts_people_work_around_the_clock_but_on_holidays() -> None:
    calendar = Calendar(HONG_KONG, (), frozenset({date(2026, 3, 4)}))
    first, holiday, second = spans(calendar, ms((2026, 3, 3)), ms((2026, 3, 5, 1)))
    assert (first.shift, holiday.shift, second.shift) == ("day and night", None, "day and night")
    assert (holiday.begin_ms, holiday.end_ms) == (ms((2026, 3, 4)), ms((2026, 3, 5)))
    assert holiday.reason == "holiday"


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 28), 7.0), (date(2026, 3, 29), 8.0), (date(2026, 10, 24), 9.0)]
)
def test_a_night_through_the_change_of_the_clocks_is_an_hour_shorter_or_longer(
    day: date, hours: float
) -> None:
    calendar = Calendar(BERLIN, (Shift("night", time(22), time(6), EVERY_DAY),))
    span = calendar.at(ms((day.year, day.month, day.day, 23), BERLIN))
    assert span.shift == "night"
    assert (span.end_ms - span.begin_ms) / 3.6e6 == hours


def test_weeks_in_which_nobody_works_have_a_reason_as_well() -> None:
    calendar = Calendar(HONG_KONG, (Shift("mondays", time(8), time(9), frozenset({0})),))
    holidays = frozenset(date(2026, 3, 2) + timedelta(days=each) for each in range(40))
    closed = Calendar(HONG_KONG, (EARLY,), holidays)
    assert {span.reason for span in spans(closed, ms((2026, 3, 2)), ms((2026, 4, 11)))} == {"holiday"}
    worked = [span for span in spans(calendar, ms((2026, 3, 1)), ms((2026, 4, 26))) if span.shift]
    assert len(worked) == 8


@settings(max_examples=60, deadline=None)
@example(hours=[384.0, 336.0], zone=HONG_KONG, shifts=[EARLY, LATE, NIGHT], holiday=0)
@given(
    hours=st.lists(st.floats(0.0, 24.0 * 90), min_size=1, max_size=12),
    zone=st.sampled_from([HONG_KONG, BERLIN]),
    shifts=st.lists(st.sampled_from([EARLY, LATE, NIGHT]), max_size=3, unique=True),
    holiday=st.integers(0, 80),
)
def test_any_time_lies_in_its_span_whatever_was_asked_before(
    hours: list[float], zone: ZoneInfo, shifts: list[Shift], holiday: int
) -> None:
    start_ms = ms((2026, 2, 20), zone)
    holidays = frozenset({date(2026, 2, 20) + timedelta(days=holiday)})
    calendar = Calendar(zone, tuple(shifts), holidays)
    for hour in hours:
        at_ms = start_ms + round(hour * 3.6e6)
        span = calendar.at(at_ms)
        assert span.begin_ms <= at_ms < span.end_ms
        assert (span.shift is None) == bool(span.reason)
        fresh = Calendar(zone, tuple(shifts), holidays).at(at_ms)
        # How far a long span reaches may be known later; who works does not change.
        assert (span.shift, span.reason) == (fresh.shift, fresh.reason)


def test_neighbouring_spans_abut_and_differ_for_months() -> None:
    calendar = Calendar(BERLIN, (EARLY, LATE, NIGHT), frozenset({date(2026, 4, 6)}))
    found = spans(calendar, ms((2026, 1, 1), BERLIN), ms((2026, 12, 31), BERLIN))
    for earlier, later in itertools.pairwise(found):
        assert earlier.end_ms == later.begin_ms or later.begin_ms <= earlier.end_ms < later.end_ms
        assert earlier.begin_ms < earlier.end_ms
    worked = sum(span.end_ms - span.begin_ms for span in found if span.shift == "early")
    assert worked / 3.6e6 == pytest.approx(7.5 * 259, abs=8)


def test_the_next_shift_is_found_beyond_weekends_and_holidays() -> None:
    calendar = Calendar(HONG_KONG, (EARLY,), frozenset({date(2026, 3, 9)}))
    friday = ms((2026, 3, 6, 16))
    assert calendar.next_shift_ms(friday) == ms((2026, 3, 10, 7))
    assert calendar.next_shift_ms(ms((2026, 3, 10, 8))) == ms((2026, 3, 10, 8))
    assert calendar.next_shift_ms(ms((2026, 3, 10, 11, 10))) == ms((2026, 3, 10, 11, 30))
    months = frozenset(date(2026, 3, 2) + timedelta(days=each) for each in range(60))
    assert Calendar(HONG_KONG, (EARLY,), months).next_shift_ms(ms((2026, 3, 3))) == ms((2026, 5, 1, 7))
