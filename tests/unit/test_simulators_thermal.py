"""Barrel zones: the quick way through time is the slow one, and temperatures behave as published."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.physics import surroundings
from simulators.physics.calendar import Calendar
from simulators.physics.machine import InjectionMachine
from simulators.physics.thermal import AMBIENT_C, BLOCK_STEPS, STEP_S, Barrel
from simulators.physics.zones import BarrelState, Upset, ZoneSpec
from tests.contract.unit_contract import HOUR_MS, START_MS, planned, states
from tests.unit.test_simulators_machine import SHORT_DAYS, ZONE, spec

COUNT: Final = 5
BARREL: Final = Barrel(list(surroundings.zones(COUNT, 1_800.0, np.random.default_rng(3))))
POINTS: Final = [235.0, 229.0, 223.0, 217.0, 196.0]
STILL: Final = np.zeros((BLOCK_STEPS, COUNT))


def state_near(points: list[float], off_by: list[float], duty: list[float]) -> BarrelState:
    settled = BARREL.settled(points)
    return BarrelState(
        [point + off for point, off in zip(points, off_by, strict=True)],
        [share + more for share, more in zip(settled.integral, duty, strict=True)],
        [share + more for share, more in zip(settled.duty, duty, strict=True)],
    )


def lists(low: float, high: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high), min_size=COUNT, max_size=COUNT)


@settings(max_examples=150, deadline=None)
@given(
    points=lists(150.0, 320.0),
    off_by=lists(-8.0, 8.0),
    duty=lists(-0.05, 0.05),
    load=st.floats(0.0, 1.2),
    steps=st.integers(1, BLOCK_STEPS),
    seed=st.integers(0, 1_000),
)
def test_a_jump_is_many_steps(
    points: list[float], off_by: list[float], duty: list[float], load: float, steps: int, seed: int
) -> None:
    kicks = 0.4 * np.random.default_rng(seed).standard_normal((steps, COUNT))
    slow, quick = state_near(points, off_by, duty), state_near(points, off_by, duty)
    expected = BARREL.steps(slow, STEP_S, points, load, kicks)
    before = msgspec.structs.replace(quick)
    found = BARREL.jump(quick, points, load, BARREL.pushes(kicks)[0, :steps])
    if found is None:
        limited = (expected[:, 1] <= 1e-9).any() or (expected[:, 1] >= 1.0 - 1e-9).any()
        far = (np.array(points) - expected[:, 0]).max() > 45.0
        assert limited or far, "it fell back without need"
        assert quick == before, "and changed what it was not to"
        return
    assert np.abs(found - expected).max() < 1e-8
    for name in ("temperature_c", "integral", "duty"):
        assert getattr(quick, name) == pytest.approx(getattr(slow, name), abs=1e-8)


def test_a_jump_into_a_limit_falls_back_and_leaves_the_state() -> None:
    for off_by in (-60.0, 90.0):
        state = state_near(POINTS, [off_by] * COUNT, [0.0] * COUNT)
        before = msgspec.structs.replace(state)
        assert BARREL.jump(state, POINTS, 0.0, BARREL.pushes(STILL)[0]) is None
        assert state == before


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3_600_000), max_size=4),
    cold=st.booleans(),
    short_k=st.sampled_from([0.0, 25.0]),
)
def test_duties_stay_within_their_limits_and_traces_in_their_time(
    cuts: list[int], cold: bool, short_k: float
) -> None:
    state = BARREL.cold() if cold else BARREL.settled(POINTS)
    upsets = [Upset(short_k=short_k if zone == 1 else 0.0) for zone in range(COUNT)] if short_k else None
    rng, at_ms = np.random.default_rng(1), 0
    for cut_ms in sorted({*cuts, 3_600_000}):
        trace = BARREL.run(state, at_ms, cut_ms, POINTS, 1.0, rng, upsets)
        assert trace.time_ms[0] == at_ms
        assert trace.time_ms[-1] == cut_ms
        assert (np.diff(trace.time_ms) > 0).all()
        assert trace.temperature_c.shape == trace.duty.shape == (len(trace.time_ms), COUNT)
        assert trace.duty.min() >= 0.0
        assert trace.duty.max() <= 1.0
        assert trace.temperature_c.min() > AMBIENT_C - 5.0
        assert trace.temperature_c.max() < max(POINTS) + 40.0
        assert trace.temperature_c[-1].tolist() == state.temperature_c
        at_ms = cut_ms


def test_a_heater_comes_through_after_the_dead_time() -> None:
    zones = [ZoneSpec(400.0, 30.0, 700.0, 2.0, 0.0, 0.0)] * 3
    barrel = Barrel(zones)
    state = barrel.settled([200.0] * 3)
    rows = barrel.steps(state, STEP_S, [200.0, 230.0, 200.0], 0.0, np.zeros((6, 3)))
    before, asked, acts = rows[0, 0, 1], rows[0, 1, 1], rows[1, 0, 1]
    assert before == pytest.approx(200.0, abs=0.5), "not yet"
    assert asked > rows[0, 1, 0] + 0.05
    assert acts - before > 1.0
    # One time constant after the change, most of the way of a loop that follows four dead times behind.
    long = barrel.steps(state, STEP_S, [200.0, 230.0, 200.0], 0.0, np.zeros((40, 3)))
    assert long[-1, 0, 1] == pytest.approx(230.0, abs=1.0)
    assert long[:, 0, 1].max() < 233.0, "it hardly shoots over"


def test_a_zone_pulls_its_neighbours_along() -> None:
    zones = [ZoneSpec(400.0, 30.0, 700.0, 2.0, 0.0, 0.0)] * 3
    barrel = Barrel(zones)
    state = barrel.settled([200.0] * 3)
    rows = barrel.steps(state, STEP_S, [200.0, 240.0, 200.0], 0.0, np.zeros((400, 3)))
    assert rows[:40, 0, 0].max() > 200.3
    assert rows[:40, 0, 0].max() < 205.0
    settled = rows[-1, 1]
    share = 0.07 * 40.0 / 700.0
    assert settled[0] == pytest.approx((200.0 - AMBIENT_C) / 700.0 - share, abs=1e-3)
    assert settled[1] == pytest.approx((240.0 - AMBIENT_C) / 700.0 + 2.0 * share, abs=1e-3)


def test_shear_heat_spares_the_heaters() -> None:
    duties = []
    for load in (0.0, 1.0):
        state = BARREL.settled(POINTS)
        duties.append(BARREL.steps(state, STEP_S, POINTS, load, np.zeros((400, COUNT)))[-1, 1])
    shear = np.array([zone.shear_k / zone.gain_k for zone in BARREL.zones])
    assert duties[0] - duties[1] == pytest.approx(shear, abs=1e-3)


def test_heaters_start_softly() -> None:
    state = BARREL.cold()
    rows = BARREL.steps(state, STEP_S, POINTS, 0.0, np.zeros((200, COUNT)))
    cold = rows[:-1, 0] < np.array(POINTS) - 50.5
    assert rows[1:, 1][cold].max() <= 0.45
    assert np.abs(rows[-1, 0] - POINTS).max() < 6.0


def test_without_set_points_the_barrel_cools_to_the_room() -> None:
    state = BARREL.settled(POINTS)
    trace = BARREL.run(state, 0, 8 * HOUR_MS, None, 0.0, np.random.default_rng(1))
    assert trace.duty[1:].max() == 0.0
    assert np.abs(trace.temperature_c[-1] - AMBIENT_C).max() < 8.0
    assert state.integral == [0.0] * COUNT


def test_a_drifting_sensor_is_followed_by_the_true_temperature() -> None:
    state = BARREL.settled(POINTS)
    upsets = [Upset(sensor_k_per_h=2.0) if zone == 2 else Upset() for zone in range(COUNT)]
    quiet = Barrel([undisturbed(zone) for zone in BARREL.zones])
    trace = quiet.run(state, 0, 3 * HOUR_MS, POINTS, 0.0, np.random.default_rng(1), upsets)
    assert trace.temperature_c[-1, 2] == pytest.approx(POINTS[2] - 6.0, abs=0.5)
    assert trace.temperature_c[-1, 0] == pytest.approx(POINTS[0], abs=0.3)


def undisturbed(zone: ZoneSpec) -> ZoneSpec:
    return ZoneSpec(zone.tau_s, zone.dead_s, zone.gain_k, zone.heater_kw, zone.shear_k, 0.0)


@pytest.mark.parametrize("short_k", [15.0, 25.0, 40.0])
@pytest.mark.parametrize("load", [0.0, 1.0])
@pytest.mark.parametrize("zone", range(COUNT))
def test_a_weak_heater_holds_its_zone_so_far_below(short_k: float, load: float, zone: int) -> None:
    quiet = Barrel([undisturbed(each) for each in BARREL.zones])
    state = quiet.settled(POINTS)
    upsets = [Upset(short_k=short_k) if each == zone else Upset() for each in range(COUNT)]
    trace = quiet.run(state, 0, 3 * HOUR_MS, POINTS, load, np.random.default_rng(1), upsets)
    assert trace.temperature_c[-1, zone] == pytest.approx(POINTS[zone] - short_k, abs=0.5)
    assert trace.duty[-1, zone] == 1.0
    assert trace.mean_heat()[zone] < 0.6, "what it asks for is not what it gets"


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_warms_up_in_20_to_40_minutes_soaking_included(seed: int) -> None:
    unit = InjectionMachine(spec(), SHORT_DAYS, seed, START_MS)
    stretches = planned(unit, START_MS + 48 * HOUR_MS)
    rows = [row for row in states(stretches, "imm-1", "imm-1") if row.cause == "warm-up"]
    assert rows
    for row in rows:
        assert 20.0 <= (row.end_ms - row.begin_ms) / 60_000.0 <= 40.0
    begins = {row.begin_ms for row in rows}
    for stretch in stretches:
        detail: Any = stretch.detail
        barrel = detail.detail.surroundings.barrel
        if stretch.begin_ms in begins:
            assert barrel.temperature_c[0].max() < 150.0, "it was cold"
        if detail.detail.shots is not None:
            points = np.array(
                surroundings.setpoints(spec().moulds[detail.detail.job.mould].material.melt_c, 5)
            )
            assert (barrel.temperature_c[0] - points).min() > -25.0, "and no shot is made with it"


def test_zones_deviate_by_what_was_measured_in_production() -> None:
    unit = InjectionMachine(spec(), Calendar(ZONE), 9, START_MS)
    off_by = []
    for stretch in planned(unit, START_MS + 72 * HOUR_MS):
        detail: Any = stretch.detail
        if detail.detail.shots is not None and not detail.detail.start_up:
            points = surroundings.setpoints(spec().moulds[detail.detail.job.mould].material.melt_c, 5)
            off_by.append(detail.detail.surroundings.barrel.temperature_c - np.array(points))
    deviations = np.concatenate(off_by).std(axis=0)
    assert (deviations > 0.4).all()
    assert (deviations < 2.1).all()
