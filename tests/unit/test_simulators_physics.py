"""Machines and meters without protocols: deterministic, monotone, and their energy is the integral of their power."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.drives import DRIVES
from simulators.physics.machine import COARSE, LIVE, Change, InjectionMachine, MachineSpec, Sampling, Value
from simulators.physics.materials import MATERIALS
from simulators.physics.meter import EnergyMeter
from simulators.physics.stops import StopRates

START = 1_700_000_000_123 * 1_000_000
SECOND = 1_000_000_000
HOUR = 3600 * SECOND


def spec(drive: str = "servo_hydraulic", stops: StopRates | None = None) -> MachineSpec:
    rates = stops or StopRates(between_s=900.0, repair_s=120.0, micro_between_s=600.0, changeover_s=400.0)
    return MachineSpec(DRIVES[drive], MATERIALS["abs"], 1600.0, 4, 20.0, 5, rates, 0.02, ("A", "B"))


def by_signal(changes: list[Change]) -> dict[str, list[Change]]:
    series = defaultdict(list)
    for change in changes:
        series[change.signal].append(change)
    return series


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 200_000), max_size=8), seed=st.integers(0, 1000))
def test_the_same_seed_gives_the_same_changes_however_time_is_cut(cuts: list[int], seed: int) -> None:
    end = START + 200 * SECOND
    whole = InjectionMachine(spec(), seed, START).advance(end)
    machine = InjectionMachine(spec(), seed, START)
    pieces = [change for cut in sorted(cuts) for change in machine.advance(START + cut * 1_000_000)]
    assert pieces + machine.advance(end) == whole


def test_another_seed_gives_another_machine() -> None:
    first = InjectionMachine(spec(), 1, START).advance(START + 60 * SECOND)
    assert first != InjectionMachine(spec(), 2, START).advance(START + 60 * SECOND)


@pytest.mark.parametrize(("sampling", "hours"), [(LIVE, 0.3), (COARSE, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_times_rise_strictly_in_whole_milliseconds_and_every_row_is_a_change(
    seed: int, sampling: Sampling, hours: float
) -> None:
    machine = InjectionMachine(spec(), seed, START, sampling=sampling)
    changes = machine.advance(START + round(hours * HOUR))
    assert all(before.time_ns <= after.time_ns for before, after in pairwise(changes))
    for rows in by_signal(changes).values():
        assert rows[0].time_ns == START - START % 1_000_000
        for before, after in pairwise(rows):
            assert after.time_ns > before.time_ns
            assert after.value != before.value
            assert after.time_ns % 1_000_000 == 0


def numbers(rows: list[Change]) -> list[float]:
    return [float(row.value) for row in rows]


def test_counters_rise_and_agree() -> None:
    machine = InjectionMachine(spec(), 3, START, sampling=COARSE)
    values: dict[str, Value] = {}
    lives = resets = 0
    for change in machine.advance(START + 24 * HOUR):
        before = values.get(change.signal)
        values[change.signal] = change.value
        if change.signal == signal.CYCLE_COUNTER and before is not None:
            lives += 1
            assert change.value == float(before) + 1
        if change.signal == signal.PARTS_COUNTER and before is not None:
            resets += change.value == 0.0
            assert change.value == 0.0 or change.value == float(before) + 4
        if change.signal == signal.BAD_PARTS_COUNTER:
            parts, good = values[signal.PARTS_COUNTER], values[signal.GOOD_PARTS_COUNTER]
            assert float(parts) == float(good) + float(change.value)
    assert lives > 1000
    assert resets > 1, "a day without a new job"


def test_a_day_has_cycles_near_the_standard_and_stops_with_reasons_that_end() -> None:
    series = by_signal(InjectionMachine(spec(), 5, START, sampling=COARSE).advance(START + 24 * HOUR))
    times = numbers(series[signal.CYCLE_TIME])
    assert 0.98 * 20.0 < sorted(times)[len(times) // 2] < 1.02 * 20.0
    assert min(times) > 0.9 * 20.0
    reasons = [row.value for row in series[signal.STANDSTILL_REASON]]
    assert reasons.count("") >= 10
    assert len(set(reasons)) >= 5
    assert set(numbers(series[signal.PRODUCTION_STATUS])) == {1.0, 2.0, 4.0}
    assert set(numbers(series[signal.MACHINE_MODE])) == {1.0, 3.0, 4.0}
    assert set(numbers(series[signal.MOULD_STATUS])) == {2.0, 3.0}


def test_temperatures_stay_near_their_set_points() -> None:
    series = by_signal(InjectionMachine(spec(), 7, START).advance(START + HOUR // 4))
    for zone in range(1, 6):
        (setpoint,) = numbers(series[signals.barrel_setpoint(zone)])
        readings = numbers(series[signals.barrel_temperature(zone)])
        assert all(abs(reading - setpoint) < 5.0 for reading in readings)
        assert abs(sum(readings) / len(readings) - setpoint) < 1.0


@pytest.mark.parametrize("drive", sorted(DRIVES))
def test_energy_is_the_integral_of_the_meters_power_and_never_falls(drive: str) -> None:
    machine = InjectionMachine(spec(drive), 11, START)
    machine.advance(START)
    first = START - START % 1_000_000
    meter = EnergyMeter(1, first, machine.energy_kwh(first), first + SECOND)
    readings = []
    integral = 0.0
    for _ in range(900):
        due = meter.next_ns
        machine.advance(due)
        readings.append(meter.read(machine.energy_kwh(due), machine.power_factor))
        integral += readings[-1].power_kw / 3600.0
    assert all(after.energy_kwh >= before.energy_kwh for before, after in pairwise(readings))
    assert all(after.time_ns == before.time_ns + SECOND for before, after in pairwise(readings))
    drawn = readings[-1].energy_kwh - readings[0].energy_kwh
    assert drawn == pytest.approx(integral - readings[0].power_kw / 3600.0, abs=0.002)
    assert 1.0 < drawn < 15.0
    for reading in readings:
        apparent = 3**0.5 * reading.voltage_v * reading.current_a / 1000.0
        assert reading.power_kw == pytest.approx(apparent * reading.power_factor, rel=0.01, abs=0.02)


def test_a_standing_machine_draws_less_than_a_running_one() -> None:
    for name, drive in DRIVES.items():
        machine = InjectionMachine(spec(name), 1, START)
        drawn = []
        for second in range(200):
            machine.advance(START + second * SECOND)
            drawn.append(machine.energy_kwh(START + second * SECOND))
        mean_kw = (drawn[-1] - drawn[0]) / 199 * 3600
        assert mean_kw > drive.base_kw + drive.idle_share * drive.rated_kw_per_kn * 1600.0


def test_a_restored_machine_goes_on_where_it_was() -> None:
    first = InjectionMachine(spec(), 9, START)
    newest: dict[str, Value] = {change.signal: change.value for change in first.advance(START + HOUR)}
    newest[signal.ACTIVE_ENERGY] = first.energy_kwh(START + HOUR)
    again = InjectionMachine(spec(), 9, START + 2 * HOUR, restored=newest)
    series = by_signal(again.advance(START + 3 * HOUR))
    assert signal.EXPECTED_CYCLE_TIME not in series, "said again though it had not changed"
    assert float(series[signal.CYCLE_COUNTER][0].value) == float(newest[signal.CYCLE_COUNTER]) + 1
    assert again.energy_kwh(START + 3 * HOUR) > float(newest[signal.ACTIVE_ENERGY])
    for name, rows in series.items():
        assert rows[0].value != newest[name]
    for zone in range(1, 6):
        name = signals.barrel_temperature(zone)
        assert abs(float(series[name][0].value) - float(newest[name])) < 3.0


def test_pace_can_change_while_it_runs() -> None:
    machine = InjectionMachine(spec(), 4, START, sampling=COARSE)
    past = by_signal(machine.advance(START + HOUR))
    machine.sample(LIVE)
    live = by_signal(machine.advance(START + HOUR + 60 * SECOND))
    name = signals.barrel_temperature(1)
    assert 100 <= len(past[name]) <= 150
    assert 40 <= len(live[name]) <= 61
    assert live[name][0].time_ns > START + HOUR
