"""A month of a line: units, buffers, cycle times, changeovers, stops, and the calendar."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, time
from functools import lru_cache
from statistics import fmean, median, pstdev
from typing import NamedTuple

import pytest

from simulators.physics import line_signals
from simulators.physics.calendar import Calendar, Span
from simulators.physics.line import Line
from simulators.physics.line_state import REST
from simulators.physics.unit import Stretch
from tests.contract.unit_contract import DAY_MS, START_MS, states, table
from tests.unit.test_simulators_line import HOLIDAY, SHIFTS, ZONE, number, spec


class Month(NamedTuple):
    line: Line
    stretches: list[Stretch]
    inside: list[tuple[int, int]]
    """At the end of every stretch: when, and how many units were in the line."""


def inside(line: Line) -> int:
    """Count the units between the first station's begin and the last one's end."""
    stations = line._state.stations
    return sum(len(each.queue) + len(each.rework) + (each.unit is not None) for each in stations)


@lru_cache(maxsize=1)
def month() -> Month:
    line = Line(spec(), 7, START_MS)
    found = Month(line, [], [])
    while not found.stretches or found.stretches[-1].end_ms < START_MS + 28 * DAY_MS:
        found.stretches.append(line.plan())
        found.inside.append((found.stretches[-1].end_ms, inside(line)))
    return found


@lru_cache(maxsize=1)
def pauses() -> list[Span]:
    calendar, at, found = Calendar(ZONE, SHIFTS, frozenset({HOLIDAY})), START_MS, []
    while at < START_MS + 29 * DAY_MS:
        span = calendar.at(at)._replace(begin_ms=at)
        found += [span] if span.shift is None else []
        at = span.end_ms
    return found


def worked_ms(begin_ms: int, end_ms: int) -> int:
    """Working time of the calendar between two times."""
    return (
        end_ms
        - begin_ms
        - sum(max(min(end_ms, pause.end_ms) - max(begin_ms, pause.begin_ms), 0) for pause in pauses())
    )


def test_every_unit_that_went_in_came_out_or_is_still_in_the_line() -> None:
    line, stretches, _ = month()
    cycles = table(stretches, "cycles")
    begun = {station.name for station in line.spec.stations}
    assert {row["asset"] for row in cycles} == begun
    into = sum(number(row, "good") for row in cycles if row["asset"] == "mould")
    good = sum(number(row, "good") for row in cycles if row["asset"] == "test")
    bad = sum(number(row, "bad") for row in cycles if row["asset"] == "test")
    first = line._state.stations[0]
    still_moulded = first.unit is not None and first.step != REST
    assert into == good + bad + inside(line) - still_moulded


def test_no_buffer_ever_holds_more_than_it_has_places_for() -> None:
    line = Line(spec(), 3, START_MS)
    for _ in range(48):
        line.plan()
        for own, station in zip(line.spec.stations[1:], line._state.stations[1:], strict=True):
            assert len(station.queue) <= own.buffer_before


def test_units_follow_littles_law() -> None:
    line, stretches, counted = month()
    entered: dict[object, int] = {}
    left: dict[object, int] = {}
    for played in stretches:
        detail = played.detail
        for each in detail.stations[0].done:  # type: ignore[attr-defined]
            entered[each.unit.serial] = each.begin_ms
        for each in detail.stations[-1].done:  # type: ignore[attr-defined]
            left[each.unit.serial] = each.end_ms
    some = [worked_ms(entered[serial], end) for serial, end in list(left.items())[::20]]
    rate = len(left) / worked_ms(stretches[0].begin_ms, stretches[-1].end_ms)
    off = [(pause.begin_ms, pause.end_ms) for pause in pauses()]
    held = fmean(units for time, units in counted if not any(begin <= time < end for begin, end in off))
    assert held == pytest.approx(rate * fmean(some), rel=0.1)
    assert 4.0 < held < 15.0
    ideal = sum(station.ideal_cycle_s for station in line.spec.stations) * 1000.0
    assert min(some) > 0.7 * ideal


@pytest.mark.parametrize("station", [0, 1, 2, 3])
def test_cycle_times_of_a_month_have_the_stations_mean_and_deviation(station: int) -> None:
    line, stretches, _ = month()
    own = line.spec.stations[station]
    work = {product.name: product.work for product in line.spec.products}
    times = [
        each.worked_ms / 1000.0 / work[line.spec.products[each.unit.product].name] / own.ideal_cycle_s
        for stretch in stretches
        for each in stretch.detail.stations[station].done  # type: ignore[attr-defined]
    ]
    assert fmean(times) == pytest.approx(1.0, abs=0.01)
    assert pstdev(times) == pytest.approx(own.cycle_sd, rel=0.05)


def test_a_month_of_changeovers_scrap_and_oee_lies_in_the_stated_ranges() -> None:
    line, stretches, _ = month()
    changeovers = table(stretches, "changeovers")
    assert {row["kind"] for row in changeovers} == {"style"}
    lengths = [worked_ms(number(row, "begin_ms"), number(row, "end_ms")) / 60_000 for row in changeovers]
    assert 12.0 < median(lengths) < 25.0
    assert all(row["from"] != row["to"] for row in changeovers)
    tests = [row for row in table(stretches, "cycles") if row["asset"] == "test"]
    qualities = Counter(row["quality"] for row in tests)
    assert (qualities["bad"] + qualities["failed"]) / len(tests) == pytest.approx(line.spec.scrap, rel=0.15)
    assert qualities["failed"] / (qualities["bad"] + qualities["failed"]) == pytest.approx(0.5, abs=0.1)
    work = worked_ms(stretches[0].begin_ms, stretches[-1].end_ms)
    # The slowest station paces the line; every product by its own work content.
    products = {product.name: product.work for product in line.spec.products}
    ideal = sum(number(row, "good") * 26_000.0 * products[str(row["product"])] for row in tests)
    assert 0.55 < ideal / work < 0.75


def test_a_month_of_stops_has_the_stated_rates() -> None:
    line, stretches, _ = month()
    down = [row for row in table(stretches, "downtime") if row["kind"] in {"stop", "micro_stop"}]
    stops = [row for row in down if row["kind"] == "stop"]
    jams = [number(row, "end_ms") - number(row, "begin_ms") for row in down if row["kind"] == "micro_stop"]
    # It is the machine that fails, not the hands that load it.
    machine_ms = sum(
        (row.end_ms - row.begin_ms) * (1.0 - own.hands_share)
        for own in line.spec.stations
        for row in states(stretches, own.name)
        if row.state == "RUNNING"
    )
    assert len(stops) == pytest.approx(machine_ms / 14_400_000.0, rel=0.25)
    assert len(jams) == pytest.approx(machine_ms / 3_600_000.0, rel=0.15)
    assert median(jams) == pytest.approx(55_000, rel=0.15)
    assert {row["cause"] for row in stops} <= set(line_signals.FAULTS)
    # The faults' repairs are a little shorter than the usual 7 min; what a pause parts counts as two.
    repairs = [(number(row, "end_ms") - number(row, "begin_ms")) / 60_000.0 for row in stops]
    assert 4.0 < median(repairs) < 9.0
    assert max(repairs) <= 120.1


def test_batches_are_of_the_stated_sizes_and_all_their_units_are_accounted_for() -> None:
    _, stretches, _ = month()
    jobs = table(stretches, "jobs")
    assert len({row["job"] for row in jobs}) == len(jobs) > 100
    for row in jobs:
        assert 20 <= number(row, "ordered") <= 200
        assert number(row, "good") + number(row, "bad") == row["ordered"]
    by_job: dict[object, list[int]] = defaultdict(lambda: [0, 0])
    for row in table(stretches, "cycles"):
        if row["asset"] == "test":
            by_job[row["job"]][0] += number(row, "good")
            by_job[row["job"]][1] += number(row, "bad")
    for row in jobs:
        assert by_job[row["job"]] == [row["good"], row["bad"]]


@pytest.mark.parametrize("station", ["mould", "test"])
def test_the_calendar_is_kept_to_the_millisecond(station: str) -> None:
    _, stretches, _ = month()
    off = [
        (pause.begin_ms, pause.end_ms, pause.reason)
        for pause in pauses()
        if pause.end_ms < stretches[-1].end_ms
    ]
    found = [
        (row.begin_ms, row.end_ms, row.cause)
        for row in states(stretches, station)
        if row.state == "DOWN_PLANNED" and row.end_ms < stretches[-1].end_ms
    ]
    assert found == off
    holiday_ms = round(datetime.combine(HOLIDAY, time(12), ZONE).timestamp() * 1000)
    assert any(begin <= holiday_ms < end for begin, end, _ in off)
    ends = {number(row, "end_ms") for row in table(stretches, "cycles") if row["asset"] == station}
    assert not any(begin < end <= until for begin, until, _ in off for end in ends)
