"""An air compressor: pressure band, air balance, night base load, leaks, energy."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from functools import lru_cache
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shopfloor import signal
from simulators.physics import compressor_signals
from simulators.physics.calendar import Calendar, Shift
from simulators.physics.compressor import Compressor
from simulators.physics.compressor_spec import AirLeak, CompressorSpec
from simulators.physics.unit import MS, Stretch
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
LEAK = AirLeak(START_MS + 10 * DAY_MS + 1_234, START_MS + 20 * DAY_MS + 4_321, 1.0)
KINDS = [False, True]


def spec(**changed: Any) -> CompressorSpec:
    return replace(CompressorSpec("air-1", Calendar(ZONE, (SHIFT,))), **changed)


class TestContract(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> Compressor:
        return Compressor(
            spec(leaks=(AirLeak(START_MS + HOUR_MS, START_MS + 5 * HOUR_MS, 0.5),)), seed, start_ms
        )


class TestContractOfVariableSpeed(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> Compressor:
        return Compressor(spec(variable_speed=True), seed, start_ms)


@lru_cache(maxsize=2)
def month(variable_speed: bool) -> list[Stretch]:
    unit = Compressor(spec(variable_speed=variable_speed, leaks=(LEAK,)), 5, START_MS)
    return planned(unit, START_MS + 28 * DAY_MS)


def sampled(stretches: list[Stretch], name: str) -> list[tuple[int, float]]:
    """Every look at a signal, changed or not."""
    found: list[tuple[int, float]] = []
    for stretch in stretches:
        detail: Any = stretch.detail
        found += zip(detail.times_ms, detail.values[detail.names.index(name)], strict=True)
    return found


def nightly_flow(stretches: list[Stretch], first_day: int, last_day: int) -> float:
    """Mean flow between 00:00 and 06:00 local time, Tuesday to Saturday."""
    return fmean(
        flow
        for at, flow in sampled(stretches, compressor_signals.FLOW)
        if first_day * DAY_MS <= at - START_MS < last_day * DAY_MS
        and 16 * HOUR_MS <= (at - START_MS) % DAY_MS < 22 * HOUR_MS
    )


@pytest.mark.parametrize("variable_speed", KINDS)
def test_the_pressure_stays_in_its_band(variable_speed: bool) -> None:
    pressures = [bar for _, bar in sampled(month(variable_speed), compressor_signals.PRESSURE)]
    assert min(pressures) > spec().lower_bar - 0.05
    assert max(pressures) < spec().upper_bar + 0.05


@pytest.mark.parametrize("variable_speed", KINDS)
def test_air_that_was_delivered_was_taken_or_is_in_the_receiver(variable_speed: bool) -> None:
    details: list[Any] = [stretch.detail for stretch in month(variable_speed)]
    delivered = sum(detail.delivered_nm3 for detail in details)
    taken = sum(detail.taken_nm3 for detail in details)
    band_nm3 = (spec().upper_bar - spec().lower_bar) * spec().receiver_m3
    assert delivered == pytest.approx(taken, abs=1.1 * band_nm3)


@pytest.mark.parametrize("variable_speed", KINDS)
def test_the_night_shows_what_leaks_and_the_shift_what_is_used(variable_speed: bool) -> None:
    stretches = month(variable_speed)
    leak = spec().leak_share * spec().rated_flow
    assert nightly_flow(stretches, 0, 5) == pytest.approx(leak, rel=0.02)
    used = fmean(
        flow
        for at, flow in sampled(stretches, compressor_signals.FLOW)
        if at - START_MS < 5 * DAY_MS and HOUR_MS <= (at - START_MS) % DAY_MS < 3 * HOUR_MS
    )
    assert used == pytest.approx(leak + spec().demand_share * spec().rated_flow, rel=0.1)


@pytest.mark.parametrize("variable_speed", KINDS)
def test_a_leak_lifts_the_base_load_by_a_fifth_and_stands_in_the_truth(variable_speed: bool) -> None:
    stretches = month(variable_speed)
    assert nightly_flow(stretches, 11, 16) == pytest.approx(1.2 * nightly_flow(stretches, 0, 5), rel=0.02)
    assert nightly_flow(stretches, 21, 26) == pytest.approx(nightly_flow(stretches, 0, 5), rel=0.02)
    (fault,) = table(stretches, "faults")
    assert fault == {
        "asset": "air-1",
        "begin_ms": LEAK.begin_ms,
        "end_ms": LEAK.end_ms,
        "kind": "air_leak",
        "severity": 1.0,
    }


def test_full_flow_takes_the_specific_energy_of_seven_bar_and_variable_speed_saves_the_rest() -> None:
    specific = {}
    for variable_speed in KINDS:
        stretches = month(variable_speed)
        details: list[Any] = [stretch.detail for stretch in stretches]
        delivered = sum(detail.delivered_nm3 for detail in details)
        rows = table(stretches, "energy")
        loaded = sum(float(str(row["kwh"])) for row in rows if row["state"] == "RUNNING")
        assert loaded / delivered == pytest.approx(0.11, rel=1e-6 if not variable_speed else 0.1)
        specific[variable_speed] = float(stretches[-1].energy["air-1"].kwh[-1]) / delivered
    assert 0.11 < specific[True] < 0.135 < specific[False] < 0.16


@pytest.mark.parametrize("variable_speed", KINDS)
def test_the_state_signal_is_the_state_of_the_truth(variable_speed: bool) -> None:
    unit = Compressor(spec(variable_speed=variable_speed), 1, START_MS)
    played = list(live(unit, START_MS + 30 * HOUR_MS))
    said = series(moment for each in played for moment in each.moments)["air-1", compressor_signals.STATE]
    ends = [change.time_ns // MS for change in said[1:]] + [played[-1].stretch.end_ms]
    loaded = [
        (change.time_ns // MS, end)
        for change, end in zip(said, ends, strict=True)
        if change.value == compressor_signals.LOADED
    ]
    rows = states([each.stretch for each in played], "air-1")
    assert loaded == [(row.begin_ms, row.end_ms) for row in rows if row.state == "RUNNING"]
    assert len({row.cause for row in rows}) == 3


@pytest.mark.parametrize("variable_speed", KINDS)
def test_hours_run_as_long_as_it_runs(variable_speed: bool) -> None:
    stretches = month(variable_speed)
    rows = states(stretches, "air-1")
    for name, causes in (
        (compressor_signals.LOADED_HOURS, {None}),
        (compressor_signals.RUNNING_HOURS, {None, "Unloaded"}),
    ):
        hours = [value for _, value in sampled(stretches, name)]
        assert hours == sorted(hours)
        ran = sum(row.end_ms - row.begin_ms for row in rows if row.cause in causes) / HOUR_MS
        assert hours[-1] - hours[0] == pytest.approx(ran, abs=0.03)


def test_power_and_oil_follow_the_load() -> None:
    stretches = month(False)
    state = sampled(stretches, compressor_signals.STATE)
    power = sampled(stretches, signal.ACTIVE_POWER)
    full = 0.11 * 4.0 * 60.0
    by_state = {
        number: fmean(kw for (_, kw), (_, now) in zip(power, state, strict=True) if now == number)
        for number in (compressor_signals.STOPPED, compressor_signals.UNLOADED, compressor_signals.LOADED)
    }
    assert by_state[compressor_signals.LOADED] == pytest.approx(full, rel=0.01)
    assert by_state[compressor_signals.UNLOADED] == pytest.approx(0.28 * full, rel=0.01)
    assert by_state[compressor_signals.STOPPED] < 0.1
    oil = [degrees for _, degrees in sampled(stretches, compressor_signals.OIL_TEMPERATURE)]
    assert min(oil) > spec().ambient_c
    assert 70.0 < max(oil) < spec().ambient_c + 56.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lower_bar": 8.0}, "lower_bar 8.0"),
        ({"rated_flow": 0.0}, "must be above 0"),
        ({"demand_share": 0.9}, "leave a tenth"),
        ({"leaks": (AirLeak(5, 5, 0.5),)}, "ending after it begins"),
        ({"leaks": (AirLeak(5, 9, 0.5), AirLeak(8, 10, 0.5))}, "follow one another"),
        ({"leaks": (AirLeak(5, 9, 1.5),)}, "not 1.5"),
    ],
)
def test_a_compressor_that_cannot_be_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"compressor air-1: .*{message}"):
        spec(**changed)
