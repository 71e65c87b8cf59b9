"""A line of stations: units, buffers, PackML, batches, and a month of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from functools import lru_cache
from itertools import pairwise
from statistics import fmean, median, pstdev
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from shopfloor import signal
from simulators.physics import line_signals, packml
from simulators.physics.calendar import Calendar, Shift, Span
from simulators.physics.line import Line
from simulators.physics.line_spec import LineProduct, LineSpec, StationSpec
from simulators.physics.line_state import REST
from simulators.physics.unit import MS, CycleEnd, Stretch
from tests.contract.unit_contract import (
    DAY_MS,
    HOUR_MS,
    START_MS,
    UnitContract,
    series,
    states,
    table,
)

ZONE = ZoneInfo("Asia/Hong_Kong")
SHIFTS = (
    Shift("early", time(7), time(15), frozenset(range(6)), ((time(11), time(11, 30)),)),
    Shift("late", time(15), time(22), frozenset(range(5)), ((time(18, 30), time(19)),)),
)
HOLIDAY = date(2026, 3, 11)


def spec(**changed: Any) -> LineSpec:
    stations = (
        StationSpec("mould", 26.0, 0.02, 0.1, changeover_s=300.0),
        StationSpec("insert", 24.0, 0.06, 0.4, 3, 200.0),
        StationSpec("assemble", 25.0, 0.08, 0.6, 4, 150.0),
        StationSpec("test", 20.0, 0.04, 0.3, 4, 120.0),
    )
    products = tuple(
        LineProduct(f"valve-{name}", work) for name, work in (("a", 1.0), ("b", 1.1), ("c", 0.9))
    )
    return replace(
        LineSpec("u-line", stations, Calendar(ZONE, SHIFTS, frozenset({HOLIDAY})), products), **changed
    )


class TestContract(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> Line:
        return Line(spec(), seed, start_ms)


class TestContractInTrouble(UnitContract):
    """Stops so often that every way through PackML is taken."""

    hours = 40.0

    def make(self, seed: int, start_ms: int = START_MS) -> Line:
        stations = tuple(replace(station, between_stops_s=600.0) for station in spec().stations)
        return Line(spec(stations=stations), seed, start_ms)


class TestContractAroundTheClock(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> Line:
        return Line(spec(calendar=Calendar(ZONE)), seed, start_ms)


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


def number(row: Mapping[str, object], column: str) -> int:
    value = row[column]
    assert isinstance(value, int)
    return value


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
    _, stretches, _ = month()
    for station in ("mould", "insert", "assemble", "test"):
        down = [row for row in table(stretches, "downtime") if row["asset"] == station]
        running = sum(
            row.end_ms - row.begin_ms for row in states(stretches, station) if row.state == "RUNNING"
        )
        stops = [row for row in down if row["kind"] == "stop"]
        jams = [
            number(row, "end_ms") - number(row, "begin_ms") for row in down if row["kind"] == "micro_stop"
        ]
        # Between them lies machine time, which is a part of the running time.
        assert 4.0 < running / HOUR_MS / len(stops) < 16.0
        assert 1.0 < running / HOUR_MS / len(jams) < 3.0
        assert median(jams) == pytest.approx(55_000, rel=0.2)
        assert {row["cause"] for row in stops} <= set(line_signals.FAULTS)


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


class TestWhatIsSeen:
    contract = TestContractInTrouble()

    @pytest.mark.parametrize("station", ["mould", "insert", "assemble", "test"])
    def test_packml_goes_only_where_it_may_and_executes_exactly_while_it_runs(self, station: str) -> None:
        changes = series(self.contract.moments)[station, line_signals.PACKML_STATE]
        for earlier, later in pairwise(changes):
            assert int(float(later.value)) in packml.TRANSITIONS[int(float(earlier.value))], (earlier, later)
        ends = [change.time_ns // MS for change in changes[1:]] + [self.contract.stretches[-1].end_ms]
        executes = [
            (change.time_ns // MS, end)
            for change, end in zip(changes, ends, strict=True)
            if change.value == packml.EXECUTE
        ]
        assert executes == [
            (row.begin_ms, row.end_ms)
            for row in states(self.contract.stretches, station)
            if row.state == "RUNNING"
        ]

    def test_packml_passes_through_all_of_its_states(self) -> None:
        seen = {
            change.value
            for (_, name), changes in series(self.contract.moments).items()
            if name == line_signals.PACKML_STATE
            for change in changes
        }
        assert seen == set(range(1, 18))

    @pytest.mark.parametrize("station", ["mould", "insert", "assemble", "test"])
    def test_the_standstill_reason_is_the_cause_of_the_state(self, station: str) -> None:
        changes = series(self.contract.moments)[station, signal.STANDSTILL_REASON]
        rows = states(self.contract.stretches, station)
        causes = [(rows[0].begin_ms, rows[0].cause or "")]
        causes += [(b.begin_ms, b.cause or "") for a, b in pairwise(rows) if a.cause != b.cause]
        assert [(change.time_ns // MS, change.value) for change in changes] == causes

    def test_counters_of_a_job_rise_by_its_parts_and_begin_anew_with_the_next(self) -> None:
        cycles = table(self.contract.stretches, "cycles")
        for (station, name), changes in series(self.contract.moments).items():
            if name not in {signal.GOOD_PARTS_COUNTER, signal.BAD_PARTS_COUNTER}:
                continue
            column = "good" if name == signal.GOOD_PARTS_COUNTER else "bad"
            counted = sum(
                float(b.value) - float(a.value)
                for a, b in pairwise(changes)
                if float(b.value) > float(a.value)
            )
            assert counted == sum(number(row, column) for row in cycles if row["asset"] == station)
            assert all(float(b.value) in {0.0, float(a.value) + 1.0} for a, b in pairwise(changes))

    def test_a_finished_unit_says_its_serial_result_and_measured_value(self) -> None:
        test = spec().test
        ends = [
            moment
            for moment in self.contract.moments
            if isinstance(moment, CycleEnd) and moment.cell == "test"
        ]
        for end in ends:
            inside = test.lower <= float(end.values[test.signal]) <= test.upper
            assert (end.values[line_signals.UNIT_RESULT] == "pass") == inside
            assert float(end.values[line_signals.UNIT_SERIAL]) >= 1.0
            assert str(end.values[signal.JOB_NAME]).startswith("u-line-")


def test_short_intervals_pass_through_all_states_in_the_time_they_have() -> None:
    path = packml.passage(packml.ABORTED, packml.HARD_FAULT, 1000, 1020, runs_next=True, known_from_ms=1000)
    assert [state for _, state in path] == [
        packml.ABORTED,
        packml.CLEARING,
        packml.STOPPED,
        packml.RESETTING,
        packml.IDLE,
        packml.STARTING,
    ]
    times = [time_ms for time_ms, _ in path]
    assert times[0] == 1000
    assert times == sorted(set(times))
    assert times[-1] < 1020


def test_an_end_that_shows_late_does_not_change_what_was_seen_before() -> None:
    known = {"runs_next": True, "known_from_ms": 5_000}
    unknown = packml.passage(packml.EXECUTE, packml.WAIT, 4_900, None, runs_next=False, known_from_ms=4_900)
    path = packml.passage(packml.EXECUTE, packml.WAIT, 4_900, 5_020, **known)  # type: ignore[arg-type]
    assert [step for step in path if step[0] < 5_000] == [step for step in unknown if step[0] < 5_000]
    assert [state for _, state in path] == [packml.SUSPENDING, packml.SUSPENDED, packml.UNSUSPENDING]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"operators": 0}, "needs an operator"),
        ({"products": ()}, "needs an operator and a product"),
        ({"batch_size": (30, 20)}, r"batch sizes \(30, 20\)"),
        ({"rework_to": -1}, "rework_to -1"),
        ({"stations": (StationSpec("u-line", 20.0), StationSpec("b", 20.0))}, "names of their own"),
        ({"stations": (StationSpec("a", 20.0),)}, "at least two"),
        ({"stations": (StationSpec("a", 20.0), StationSpec("b", 20.0, buffer_before=0))}, "station b"),
    ],
)
def test_a_line_that_cannot_be_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**changed)


def test_a_snapshot_of_another_line_is_refused() -> None:
    line = Line(spec(stations=spec().stations[:2]), 1, START_MS)
    with pytest.raises(ValueError, match="has 4 stations, the line 2"):
        line.restore(Line(spec(), 1, START_MS).snapshot())
