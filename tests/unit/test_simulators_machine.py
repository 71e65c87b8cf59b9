"""An injection moulding machine: what it plans, what it shows, and how faults come through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, time
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from ingest_service.facts.states import MachineSignals, machine_state
from shopfloor import signal
from simulators.physics import signals
from simulators.physics.calendar import Calendar, Shift
from simulators.physics.drives import DRIVES
from simulators.physics.faults import FAULT_KINDS, Fault
from simulators.physics.interruptions import PLANNED_REASONS
from simulators.physics.jobs import JobOrder
from simulators.physics.machine import COARSE, InjectionMachine, MachineSpec, Sampling
from simulators.physics.materials import MATERIALS
from simulators.physics.moulds import Mould
from simulators.physics.shots import QUALITIES
from simulators.physics.stops import StopRates
from simulators.physics.unit import MS, Change, CycleEnd, Moment, Value
from tests.contract.unit_contract import HOUR_MS, START_MS, UnitContract, live, planned, series, states, table

ZONE = ZoneInfo("Asia/Hong_Kong")
SHIFTS = (
    Shift("early", time(7), time(15), frozenset(range(6)), ((time(11), time(11, 30)),)),
    Shift("late", time(15), time(22), frozenset(range(5)), ((time(18, 30), time(19)),)),
)
AROUND_THE_CLOCK = Calendar(ZONE)
SHORT_DAYS = Calendar(ZONE, SHIFTS, frozenset({date(2026, 3, 3)}))
"""The second day of a life that begins at `START_MS` is a holiday."""
MOULDS = tuple(
    Mould(name, f"{name}-part", material, MATERIALS[material], 4, 22.5, 2.5, 1200.0, ("black", "grey"))
    for name, material in (("HOUSING", "abs"), ("COVER", "pp"))
)
SELDOM = Sampling(40_000, 60_000)
"""Looks that are enough for what changes by the minute: they take most of the time."""
RESTLESS = StopRates(between_s=1_800.0, repair_s=240.0, micro_between_s=600.0, changeover_s=900.0)


def spec(drive: str = "electric", **changed: Any) -> MachineSpec:
    return MachineSpec("imm-1", DRIVES[drive], 1_800.0, 5, **({"moulds": MOULDS} | changed))


def machine(
    its_spec: MachineSpec, calendar: Calendar = AROUND_THE_CLOCK, seed: int = 1, start_ms: int = START_MS
) -> InjectionMachine:
    made = InjectionMachine(its_spec, calendar, seed, start_ms)
    made.sampling = SELDOM
    return made


def fault(kind: str, begin_h: float, end_h: float, place: int = 2, severity: float = 1.0) -> Fault:
    begin_ms, end_ms = (START_MS + round(hours * HOUR_MS) for hours in (begin_h, end_h))
    return Fault(kind, begin_ms, end_ms, severity, place)  # type: ignore[arg-type]


class TestElectric(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return machine(spec(), AROUND_THE_CLOCK, seed, start_ms)


class TestWatchedClosely(UnitContract):
    hours = 1.5

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return InjectionMachine(spec(stops=RESTLESS), AROUND_THE_CLOCK, seed, start_ms)


class TestShifts(UnitContract):
    """Servo-hydraulic, through a break, an evening, a holiday and the warm-up before the first shift after it."""

    hours = 49.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return machine(spec("servo_hydraulic"), SHORT_DAYS, seed, start_ms)


class TestSemiAutomatic(UnitContract):
    hours = 16.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return machine(spec("hydraulic", semi_automatic=True, stops=RESTLESS), SHORT_DAYS, seed, start_ms)


class TestOrders(UnitContract):
    """Small ordered jobs with a gap, restless, with colours that change or not."""

    hours = 14.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        orders = (
            JobOrder("A", 0, 400, "black"),
            JobOrder("B", 0, 402, "black"),
            JobOrder("C", 0, 401, "grey"),
            JobOrder("D", 1, 403, "grey", START_MS + 8 * HOUR_MS),
        )
        return machine(
            spec(orders=orders, stops=RESTLESS, batch=(200, 600)), AROUND_THE_CLOCK, seed, start_ms
        )


class TestFaults(UnitContract):
    """Every kind of fault, one after the other and two at a time."""

    hours = 20.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        faults = tuple(
            fault(kind, 1.0 + 2.0 * number, 3.5 + 2.0 * number) for number, kind in enumerate(FAULT_KINDS)
        )
        return machine(spec("hydraulic", faults=faults), AROUND_THE_CLOCK, seed, start_ms)


LIVES: list[UnitContract] = [TestElectric(), TestShifts(), TestSemiAutomatic(), TestOrders(), TestFaults()]
each_life = pytest.mark.parametrize("life", LIVES, ids=lambda life: type(life).__name__)


def by_time(moments: list[Moment]) -> Iterator[tuple[int, dict[str, Value]]]:
    """Yield what is shown after each time at which something changed."""
    shown: dict[str, Value] = {}
    at_ms: int | None = None
    for moment in moments:
        if not isinstance(moment, Change):
            continue
        if at_ms is not None and moment.time_ns // MS != at_ms:
            yield at_ms, shown
        at_ms = moment.time_ns // MS
        shown[moment.signal] = moment.value
    if at_ms is not None:
        yield at_ms, shown


def canonical(shown: Mapping[str, Value]) -> str:
    found = machine_state(
        MachineSignals(
            mode=float(shown[signal.MACHINE_MODE]),
            power_on=float(shown[signal.POWER_ON]),
            production_status=float(shown[signal.PRODUCTION_STATUS]),
            standstill_reason=str(shown[signal.STANDSTILL_REASON]),
            job_status=float(shown[signal.JOB_STATUS]),
            mould_status=float(shown[signal.MOULD_STATUS]),
        ),
        contact=True,
        planned_reasons=PLANNED_REASONS,
    )
    return found.state.name


@each_life
def test_the_state_that_follows_from_the_signals_is_the_truths(life: UnitContract) -> None:
    seen: list[tuple[int, str]] = []
    for at_ms, shown in by_time(life.moments):
        state = canonical(shown)
        if not seen or seen[-1][1] != state:
            seen.append((at_ms, state))
    true: list[tuple[int, str]] = []
    for row in states(life.stretches, "imm-1", "imm-1"):
        # A hesitation is seen only by the cycle that does not come.
        state = "RUNNING" if row.cause == "micro-stop" else row.state
        if not true or true[-1][1] != state:
            true.append((row.begin_ms, state))
    assert seen == true


@each_life
def test_no_cycle_ends_within_a_hesitation(life: UnitContract) -> None:
    ends = {moment.time_ns // MS for moment in life.moments if isinstance(moment, CycleEnd)}
    pauses = [row for row in states(life.stretches, "imm-1", "imm-1") if row.cause == "micro-stop"]
    assert pauses
    for row in pauses:
        assert row.begin_ms in ends
        assert not any(row.begin_ms < end <= row.end_ms for end in ends)


@each_life
def test_the_standstill_reason_is_the_cause_of_what_stands(life: UnitContract) -> None:
    shown = [(change.time_ns // MS, change.value) for change in reasons(life)]
    true: list[tuple[int, str]] = []
    for row in states(life.stretches, "imm-1", "imm-1"):
        reason = row.cause or "" if row.state in {"DOWN_UNPLANNED", "DOWN_PLANNED", "OFF"} else ""
        if not true or true[-1][1] != reason:
            true.append((row.begin_ms, reason))
    assert shown == true
    planned = {row.cause for row in states(life.stretches, "imm-1", "imm-1") if row.state == "DOWN_PLANNED"}
    assert planned <= set(PLANNED_REASONS)


def reasons(life: UnitContract) -> list[Change]:
    return series(life.moments)["imm-1", signal.STANDSTILL_REASON]


@each_life
def test_every_cycle_is_shown_as_the_truth_has_it(life: UnitContract) -> None:
    ends = [moment for moment in life.moments if isinstance(moment, CycleEnd)]
    rows = table(life.stretches, "cycles", "imm-1")
    assert len(rows) > 100
    counted: dict[object, dict[str, int]] = defaultdict(lambda: {"good": 0, "bad": 0})
    offset: dict[object, tuple[float, float]] = {}
    for end, row in zip(ends, rows, strict=True):
        values, job = end.values, row["job"]
        assert values[signal.CYCLE_COUNTER] == row["cycle"]
        assert values[signal.JOB_NAME] == job
        assert values[signal.CYCLE_TIME] == (number(row, "end_ms") - number(row, "begin_ms")) / 1000.0
        assert QUALITIES[int(float(values[signals.CYCLE_QUALITY]))] == row["quality"]
        assert values[signals.CYCLE_BAD_PARTS] == row["bad"]
        for column, name in (
            ("injection_time_s", signals.INJECTION_TIME),
            ("dosing_time_s", signals.DOSING_TIME),
            ("cushion_mm", signals.CUSHION),
            ("cushion_volume_cm3", signals.CUSHION_VOLUME),
            ("plasticising_volume_cm3", signals.PLASTIFICATION_VOLUME),
            ("peak_pressure_bar", signals.PEAK_PRESSURE),
            ("hold_pressure_bar", signals.HOLD_PRESSURE),
            ("back_pressure_bar", signals.BACK_PRESSURE),
            ("cavity_pressure_bar", signals.CAVITY_PRESSURE),
        ):
            assert values[name] == row[column]
        good, bad = (float(values[name]) for name in (signal.GOOD_PARTS_COUNTER, signal.BAD_PARTS_COUNTER))
        assert values[signal.PARTS_COUNTER] == good + bad
        for column in ("good", "bad"):
            counted[job][column] += round(number(row, column))
        offset.setdefault(job, (good - counted[job]["good"], bad - counted[job]["bad"]))
        assert (good - counted[job]["good"], bad - counted[job]["bad"]) == offset[job]
    # Only the first job was begun before the life was.
    assert all(each == (0.0, 0.0) for each in list(offset.values())[1:])


def number(row: Mapping[str, object], name: str) -> float:
    value = row[name]
    assert isinstance(value, int | float)
    return value


@each_life
def test_start_up_shots_are_test_samples_and_count_as_neither_good_nor_bad(life: UnitContract) -> None:
    start_ups = [
        (row.begin_ms, row.end_ms)
        for row in states(life.stretches, "imm-1", "imm-1")
        if row.cause == "start-up"
    ]
    assert start_ups
    for row in table(life.stretches, "cycles", "imm-1"):
        begin_ms = number(row, "begin_ms")
        starting = any(begin <= begin_ms < end for begin, end in start_ups)
        assert (row["quality"] == "test") == starting
        parts = number(row, "good") + number(row, "bad")
        assert parts == (0 if starting else 4)
        assert (row["quality"] == "bad") == (number(row, "bad") > 0)


@each_life
def test_the_counter_of_test_samples_rises_by_start_up_shots_alone(life: UnitContract) -> None:
    changes = series(life.moments)["imm-1", signals.TEST_SAMPLES_COUNTER]
    risen = sum(max(float(later.value) - float(earlier.value), 0.0) for earlier, later in pairwise(changes))
    tests = sum(row["quality"] == "test" for row in table(life.stretches, "cycles", "imm-1"))
    assert risen == 4 * tests > 0


@each_life
def test_energy_rows_follow_the_states_and_sum_to_what_the_meter_rose_by(life: UnitContract) -> None:
    rows = table(life.stretches, "energy", "imm-1")
    told = [(row["begin_ms"], row["end_ms"], row["state"]) for row in rows]
    assert told == [
        (row["begin_ms"], row["end_ms"], row["state"]) for row in table(life.stretches, "states", "imm-1")
    ]
    rose = life.stretches[-1].energy["imm-1"].kwh[-1] - life.stretches[0].energy["imm-1"].kwh[0]
    assert sum(number(row, "kwh") for row in rows) == pytest.approx(rose, rel=1e-9)


@each_life
def test_energy_between_two_times_is_what_the_rows_say(life: UnitContract) -> None:
    for stretch in life.stretches:
        energy = stretch.energy["imm-1"]
        for row in table([stretch], "energy", "imm-1"):
            drawn = energy.at(round(number(row, "end_ms"))) - energy.at(round(number(row, "begin_ms")))
            assert number(row, "kwh") == pytest.approx(drawn, abs=1e-9)


@each_life
def test_jobs_are_made_until_their_parts_are_there(life: UnitContract) -> None:
    cycles = table(life.stretches, "cycles", "imm-1")
    jobs = table(life.stretches, "jobs", "imm-1")
    for position, job in enumerate(jobs):
        over = number(job, "good") + number(job, "bad") - number(job, "ordered")
        assert 0 <= over < 4
        of_job = [row for row in cycles if row["job"] == job["job"]]
        assert of_job[-1]["end_ms"] == number(job, "end_ms") - 1
        if position or type(life) is TestOrders:
            assert number(job, "begin_ms") <= number(of_job[0], "begin_ms")
            for column in ("good", "bad"):
                assert number(job, column) == sum(number(row, column) for row in of_job)
    for earlier, later in pairwise(jobs):
        assert number(later, "begin_ms") > number(earlier, "end_ms")


def test_ordered_jobs_come_first_in_order_and_not_before_their_time() -> None:
    life = TestOrders()
    jobs = table(life.stretches, "jobs", "imm-1")
    assert [job["job"] for job in jobs[:4]] == ["A", "B", "C", "D"]
    assert len(jobs) > 5, "and then jobs of its own invention"
    first = next(row for row in table(life.stretches, "cycles", "imm-1") if row["job"] == "D")
    assert number(first, "begin_ms") >= START_MS + 8 * HOUR_MS
    waits = [row for row in states(life.stretches, "imm-1", "imm-1") if row.cause == "no job"]
    assert [row.end_ms for row in waits] == [START_MS + 8 * HOUR_MS]
    assert {row.state for row in waits} == {"DOWN_PLANNED"}


def test_changeovers_say_what_changed_and_are_followed_by_their_start_up_shots() -> None:
    life = TestOrders()
    changes, jobs = (table(life.stretches, name, "imm-1") for name in ("changeovers", "jobs"))
    told = [(change["kind"], change["from"], change["to"]) for change in changes]
    # A to B is neither another mould nor another colour.
    assert told[:2] == [("colour", "black", "grey"), ("mould", "HOUSING", "COVER")]
    downtime = [
        (row["begin_ms"], row["end_ms"])
        for row in table(life.stretches, "downtime", "imm-1")
        if row["kind"] == "changeover"
    ]
    cycles = table(life.stretches, "cycles", "imm-1")
    for change in changes:
        assert change["begin_ms"] in {job["end_ms"] for job in jobs}
        assert change["begin_ms"] in {begin for begin, _ in downtime}
        assert change["end_ms"] in {end for _, end in downtime}
        after = [row for row in cycles if number(row, "begin_ms") >= number(change, "end_ms")]
        starting = next((at for at, row in enumerate(after) if row["quality"] != "test"), len(after))
        assert starting in {change["start_up_scrap"], len(after)}


def test_an_automatic_machine_runs_through_breaks_and_a_semi_automatic_one_does_not() -> None:
    breaks = [
        [row for row in states(life.stretches, "imm-1", "imm-1") if row.cause == "break"]
        for life in (TestShifts(), TestSemiAutomatic())
    ]
    assert not breaks[0]
    assert breaks[1]
    assert all(row.state == "DOWN_PLANNED" for row in breaks[1])


def test_a_machine_is_off_at_night_and_warm_when_the_shift_begins() -> None:
    life = TestShifts()
    rows = states(life.stretches, "imm-1", "imm-1")
    causes = [row.cause for row in rows if row.state in {"OFF", "SETUP", "DOWN_PLANNED"}]
    assert {"no shift", "holiday", "warm-up"} <= set(causes)
    shift_ms = START_MS + 47 * HOUR_MS
    """07:00 of the day after the holiday in Hong Kong."""
    assert any(row.state == "OFF" and row.end_ms == shift_ms - 40 * 60_000 for row in rows)
    first = next(row for row in rows if row.begin_ms >= shift_ms)
    assert first.begin_ms == shift_ms
    assert first.cause == "start-up"
    cold = [
        change
        for change in series(life.moments)["imm-1", signals.barrel_temperature(1)]
        if change.time_ns // MS < shift_ms - 41 * 60_000
    ][-1]
    assert float(cold.value) < 60.0


def test_a_machine_is_heated_up_once_after_a_closure_of_weeks() -> None:
    closed = frozenset(date(2026, 3, day) for day in range(3, 24))
    unit = machine(spec(), Calendar(ZONE, SHIFTS, closed))
    stretches = planned(unit, START_MS + 22 * 24 * HOUR_MS)
    warm_ups = [row for row in states(stretches, "imm-1", "imm-1") if row.cause == "warm-up"]
    assert [row.begin_ms for row in warm_ups] == [START_MS + (22 * 24 - 1) * HOUR_MS - 40 * 60_000]


def test_a_snapshot_of_another_unit_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        machine(spec()).restore(b'{"state": 1}')


def test_who_listens_anew_hears_every_signal_again() -> None:
    first, second = machine(spec()), machine(spec())
    lived = list(live(first, START_MS + 3 * HOUR_MS))
    second.restore(lived[-1].before)
    second.say_anew()
    again = list(second.play(second.plan()))
    before = {
        moment.signal: moment.value
        for played in lived[:-1]
        for moment in played.moments
        if isinstance(moment, Change)
    }
    newest = {moment.signal: moment.value for moment in again if isinstance(moment, Change)}
    assert newest.keys() == before.keys()
    usual = {moment.signal: moment.value for moment in lived[-1].moments if isinstance(moment, Change)}
    assert {**before, **usual} == newest


def test_a_look_can_become_closer_in_the_middle_of_a_stretch() -> None:
    unit = machine(spec())
    unit.sampling = COARSE
    stretch = unit.plan()
    times: list[int] = []
    for moment in unit.play(stretch):
        if isinstance(moment, Change) and moment.signal == signals.barrel_temperature(1):
            times.append(moment.time_ns // MS)
        if moment.time_ns // MS > START_MS + HOUR_MS // 4:
            unit.sampling = COARSE._replace(slow_ms=1_000)
    early = [later - earlier for earlier, later in pairwise(times) if later < START_MS + HOUR_MS // 4]
    late = [later - earlier for earlier, later in pairwise(times) if earlier > START_MS + HOUR_MS // 4]
    assert min(early) >= COARSE.slow_ms
    assert min(late[:-1]) == 1_000, "the very last look is the stretch's end"
