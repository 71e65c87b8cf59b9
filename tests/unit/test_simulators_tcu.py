"""A temperature control unit: control, heat, clogging, and when it is off."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from functools import lru_cache
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from simulators.physics import tcu_signals
from simulators.physics.calendar import Calendar, Shift
from simulators.physics.tcu import TemperatureControlUnit
from simulators.physics.tcu_spec import TcuSpec
from simulators.physics.unit import MS, Change, Stretch
from tests.contract.unit_contract import (
    DAY_MS,
    HOUR_MS,
    START_MS,
    UnitContract,
    live,
    planned,
    series,
    states,
    table,
)

ZONE = ZoneInfo("Asia/Hong_Kong")
SHIFT = Shift("day", time(7), time(23), frozenset(range(6)), ((time(12), time(12, 30)),))


def spec(**changed: Any) -> TcuSpec:
    return replace(TcuSpec("tcu-1", Calendar(ZONE, (SHIFT,)), 2.5, (40.0, 55.0, 80.0)), **changed)


def calm(**changed: Any) -> TcuSpec:
    """A unit that is always on and gets no heat."""
    given: dict[str, Any] = {"calendar": Calendar(ZONE), "heat_kw": 0.0, "loss_kw_k": 0.0, **changed}
    return spec(**given)


class TestContract(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> TemperatureControlUnit:
        return TemperatureControlUnit(spec(), seed, start_ms)


class TestContractAroundTheClock(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> TemperatureControlUnit:
        return TemperatureControlUnit(spec(calendar=Calendar(ZONE)), seed, start_ms)


@lru_cache(maxsize=1)
def month() -> list[Stretch]:
    return planned(TemperatureControlUnit(spec(), 5, START_MS), START_MS + 28 * DAY_MS)


def sampled(stretches: list[Stretch], name: str) -> list[tuple[int, float]]:
    """Every look at a signal, changed or not."""
    found: list[tuple[int, float]] = []
    for stretch in stretches:
        detail: Any = stretch.detail
        found += zip(detail.times, detail.values[detail.names.index(name)], strict=True)
    return found


@pytest.mark.parametrize("tau_s", [120.0, 180.0, 300.0])
def test_the_water_follows_a_new_setpoint_with_dead_time_and_time_constant(tau_s: float) -> None:
    unit = TemperatureControlUnit(
        calm(setpoints_c=(40.0, 46.0), tau_s=tau_s, dead_s=30.0, between_products_s=30_000.0), 2, START_MS
    )
    stretches = planned(unit, START_MS + 2 * DAY_MS)
    setpoints = sampled(stretches, tcu_signals.SETPOINT)
    water = dict(sampled(stretches, tcu_signals.TEMPERATURE))
    rises = [
        at
        for (_, before), (at, after) in pairwise(setpoints)
        if after > before and all(goal == after for time, goal in setpoints if at <= time < at + 1_800_000)
    ]
    assert rises
    for at in rises[:3]:
        seen = {time: degrees for time, degrees in water.items() if at <= time <= at + 1_800_000}
        passed = min(time for time, degrees in seen.items() if degrees >= 40.0 + 6.0 * 0.632)
        assert 0.6 * tau_s < (passed - at) / 1000.0 < 1.3 * tau_s
        assert min(degrees for time, degrees in seen.items() if time > at + 900_000) > 45.0
        assert max(seen.values()) < 46.0 + 1.5


def test_the_water_is_held_at_its_setpoint_while_the_machine_produces() -> None:
    stretches = month()
    status = sampled(stretches, tcu_signals.STATUS)
    setpoint = sampled(stretches, tcu_signals.SETPOINT)
    water = sampled(stretches, tcu_signals.TEMPERATURE)
    errors = [
        degrees - goal
        for (_, degrees), (_, goal), (_, number) in zip(water, setpoint, status, strict=True)
        if number == tcu_signals.CONTROLLING
    ]
    assert fmean(errors) == pytest.approx(0.0, abs=0.3)
    assert 0.2 < pstdev(errors) < 3.0


def test_the_heat_taken_from_the_mould_is_that_of_its_machine() -> None:
    stretches = month()
    power = sampled(stretches, tcu_signals.PROCESS_POWER)
    status = sampled(stretches, tcu_signals.STATUS)
    taken = [-kw for (_, kw), (_, number) in zip(power, status, strict=True) if number != tcu_signals.OFF]
    assert fmean(taken) == pytest.approx(spec().heat_kw, rel=0.1)


def test_the_return_is_warmer_by_the_heat_that_the_flow_carries() -> None:
    rows = [
        np.array([value for _, value in sampled(month(), name)])
        for name in (
            tcu_signals.TEMPERATURE,
            tcu_signals.RETURN_TEMPERATURE,
            tcu_signals.FLOW_RATE,
            tcu_signals.PROCESS_POWER,
            tcu_signals.STATUS,
        )
    ]
    main, back, flow, power, status = rows
    on = status != tcu_signals.OFF
    carried = flow[on] * 4.18 / 60.0 * (back[on] - main[on])
    assert carried.mean() == pytest.approx(-power[on].mean(), rel=0.05)
    assert (back[on] - main[on]).mean() > 1.0


def test_scale_takes_flow_away_over_weeks_until_the_circuit_is_cleaned() -> None:
    unit = TemperatureControlUnit(spec(clogs_per_week=0.2), 4, START_MS)
    flows = [
        flow
        for _, flow in sampled(planned(unit, START_MS + 28 * DAY_MS), tcu_signals.FLOW_RATE)
        if flow > 0.0
    ]
    daily = [fmean(flows[at : at + 5000]) for at in range(0, len(flows) - 5000, 5000)]
    rises = [later - earlier for earlier, later in pairwise(daily)]
    assert max(rises) > 0.1 * spec().flow_l_min
    assert sum(rise < 0.0 for rise in rises) > 0.7 * len(rises)
    assert min(flows) > 0.6 * spec().flow_l_min


def test_it_is_off_out_of_the_shifts_to_the_millisecond_and_on_in_breaks() -> None:
    stretches = month()
    calendar, at = Calendar(ZONE, (SHIFT,)), START_MS
    off = []
    while at < stretches[-1].end_ms:
        span = calendar.at(at)
        if span.shift is None and span.reason != "break" and span.end_ms < stretches[-1].end_ms:
            off.append((max(at, START_MS), span.end_ms, span.reason))
        at = span.end_ms
    found = [row for row in states(stretches, "tcu-1") if row.state == "OFF"]
    assert [(row.begin_ms, row.end_ms, row.cause) for row in found[: len(off)]] == off
    assert {row["kind"] for row in table(stretches, "downtime")} == {"planned"}


def test_the_status_is_that_of_the_state() -> None:
    unit = TemperatureControlUnit(spec(), 1, START_MS)
    played = list(live(unit, START_MS + 30 * HOUR_MS))
    said = series(moment for each in played for moment in each.moments)["tcu-1", tcu_signals.STATUS]
    switches = [row.begin_ms for row in states([each.stretch for each in played], "tcu-1")][1:]
    on_off = [
        later.time_ns // MS
        for earlier, later in pairwise(said)
        if (earlier.value == tcu_signals.OFF) != (later.value == tcu_signals.OFF)
    ]
    assert on_off == switches
    assert tcu_signals.HEATING_UP in {change.value for change in said}


def test_warming_up_draws_the_heater_and_the_pump() -> None:
    unit = TemperatureControlUnit(spec(setpoints_c=(80.0,)), 1, START_MS + 16 * HOUR_MS)
    energy = [stretch.energy["tcu-1"] for stretch in planned(unit, START_MS + 24 * HOUR_MS)]
    first_hour_on = energy[7].at(START_MS + 24 * HOUR_MS) - energy[7].at(START_MS + 23 * HOUR_MS)
    assert energy[5].kwh[-1] - energy[5].kwh[0] < 0.02
    # 110 kJ/K by 53 K are 1.6 kWh, and the pump takes 0.75.
    assert 1.6 < first_hour_on < 4.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"setpoints_c": ()}, "needs setpoints"),
        ({"tau_s": 0.0}, "must be above 0"),
        ({"heat_kw": -1.0}, "heat"),
        ({"dead_s": 100.0}, "dead time of 100.0 s"),
        ({"heat_kw": 20.0}, "cooler of 25.0 kW"),
    ],
)
def test_a_unit_that_cannot_be_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"tcu-1: .*{message}"):
        spec(**changed)


def test_a_look_that_sees_nothing_new_says_nothing() -> None:
    unit = TemperatureControlUnit(calm(setpoints_c=(50.0,)), 1, START_MS)
    stretch = unit.plan()
    said = [each for each in unit.play(stretch) if isinstance(each, Change)]
    assert len([each for each in said if each.signal == tcu_signals.SETPOINT]) == 1
    assert len(said) < 8 * len(sampled([stretch], tcu_signals.SETPOINT))
