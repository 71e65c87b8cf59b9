"""What a load promises of its values and times."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulators.load.plan import LoadPlan, share, split_value, value, values

EPOCH_MS = 1_764_097_200_000


@given(st.integers(0, 10**9), st.integers(0, 9_999))
def test_a_value_tells_its_tick_and_its_signal(tick: int, number: int) -> None:
    ticks, numbers = split_value(np.array([value(tick, number)]))
    assert (ticks[0], numbers[0]) == (tick % 1_000_000, number)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 9_999), min_size=1, max_size=50))
def test_many_values_are_the_same_doubles_as_one_and_as_their_decimals(tick: int, numbers: list[int]) -> None:
    found = values(tick, np.array(numbers, np.int64)).tolist()
    assert found == [value(tick, number) for number in numbers]
    assert found == [json.loads(f"{1_000_000 + tick % 1_000_000:07d}.{number:04d}") for number in numbers]


@given(st.floats(0.01, 100.0), st.integers(0, 10**7))
def test_a_tick_is_the_newest_from_its_time_until_the_next(hz: float, tick: int) -> None:
    plan = LoadPlan(1, 1, hz, EPOCH_MS)
    at_ms = plan.tick_ms(tick)
    assert plan.newest_tick(at_ms) == tick
    assert plan.newest_tick(plan.tick_ms(tick + 1) - 1) == tick
    assert plan.newest_tick(at_ms - 1) == tick - 1


def test_before_the_first_tick_there_is_none() -> None:
    assert LoadPlan(1, 1, 1.0, EPOCH_MS).newest_tick(EPOCH_MS - 100_000) == -1


@given(st.integers(1, 500), st.integers(1, 64))
def test_shares_cover_all_machines_once(total: int, parts: int) -> None:
    shares = share(total, min(parts, total))
    assert [machine for part in shares for machine in part] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_numbers_of_machines_follow_one_another() -> None:
    plan = LoadPlan(200, 100, 1.0, EPOCH_MS)
    found = plan.numbers(range(99, 101))
    assert found[0] == plan.number(99, 0) == 9_900
    assert found[-1] == plan.number(100, 99) == 99
