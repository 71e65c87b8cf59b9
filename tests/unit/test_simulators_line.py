"""A line of stations: units, buffers, PackML, batches, and a month of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, time
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shopfloor import signal
from simulators.physics import line_signals, packml
from simulators.physics.calendar import Calendar, Shift
from simulators.physics.line import Line
from simulators.physics.line_spec import LineProduct, LineSpec, StationSpec
from simulators.physics.unit import MS, CycleEnd
from tests.contract.unit_contract import (
    DAY_MS,
    START_MS,
    UnitContract,
    planned,
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


def number(row: Mapping[str, object], column: str) -> int:
    value = row[column]
    assert isinstance(value, int)
    return value


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


def test_units_that_take_long_are_not_held_back_for_ever_but_lie_over_the_pauses() -> None:
    stations = (StationSpec("slow", 9_000.0, 0.01), StationSpec("last", 60.0))
    line = Line(spec(stations=stations), 1, START_MS)
    stretches = planned(line, START_MS + 6 * DAY_MS)
    cycles = [row for row in table(stretches, "cycles") if row["asset"] == "slow"]
    # 14 h of work a day, 150 min a unit, and rarely a changeover.
    assert 20 < len(cycles) < 34


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_line_no_unit_is_lost_and_packml_goes_only_where_it_may(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(2, 6)
    stations = tuple(
        StationSpec(
            f"s{each}",
            ideal_cycle_s=chance.uniform(1.5, 40.0),
            cycle_sd=chance.uniform(0.0, 0.3),
            hands_share=chance.choice((0.0, 0.1, 0.5, 0.95)),
            buffer_before=chance.randint(1, 5),
            changeover_s=chance.uniform(10.0, 300.0),
            between_stops_s=chance.uniform(60.0, 5000.0),
            repair_s=chance.uniform(20.0, 900.0),
            between_jams_s=chance.uniform(60.0, 4000.0),
        )
        for each in range(count)
    )
    line = Line(
        spec(
            stations=stations,
            operators=chance.randint(1, 4),
            batch_size=(1, chance.randint(1, 30)),
            scrap=chance.uniform(0.0, 0.6),
            rework_share=chance.random(),
            rework_to=-chance.randint(2, count),
        ),
        seed,
        START_MS + chance.randrange(10_000_000),
    )
    stretches = [line.plan() for _ in range(6)]
    tested = [row for row in table(stretches, "cycles") if row["asset"] == stations[-1].name]
    came_out = sum(number(row, "good") + number(row, "bad") for row in tested)
    inside = sum(
        len(each.queue) + len(each.rework) + (each.unit is not None) for each in line._state.stations
    )
    assert came_out > 0
    assert line._state.serial == came_out + inside
    moments = [moment for stretch in stretches for moment in line.play(stretch)]
    for (_, name), changes in series(moments).items():
        if name == line_signals.PACKML_STATE:
            for earlier, later in pairwise(changes):
                assert later.time_ns > earlier.time_ns
                assert int(float(later.value)) in packml.TRANSITIONS[int(float(earlier.value))]
