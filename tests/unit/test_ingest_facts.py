from __future__ import annotations

import numpy as np
import pytest

from ingest_service.facts.counters import Increase, increase, keys_at
from ingest_service.facts.states import MachineSignals, MachineState, allowed_cycle_s, machine_state

S = 1_000_000_000


def counted(values: list[float], *, since: int = 0, jobs: list[int] | None = None, **more: float) -> Increase:
    """Samples one second apart, from one second on."""
    n = len(values)
    times = np.arange(1, n + 1, dtype=np.int64) * S
    key = None if jobs is None else np.array(jobs, np.int64)
    return increase(
        times, np.array(values, np.float64), since=since, key=key, max_per_s=more.get("max_per_s")
    )


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([], 0),
        ([7], 0),
        ([7, 7, 7], 0),
        ([7, 8, 12], 5),
        ([7, 9, 0, 3], 5),
        ([7, 9, 2, 3], 5),
        ([10.5, 11.25], 0.75),
    ],
)
def test_differences_and_resets(values: list[float], total: float) -> None:
    assert counted(values).total == pytest.approx(total)


@pytest.mark.parametrize(
    ("before", "after", "total", "rollovers"),
    [
        (65_530, 4, 10, 1),
        (65_535, 0, 1, 1),
        (2**32 - 1, 9, 10, 1),
        (58_000, 4, 4, 0),  # not in the top tenth: a reset
        (65_530, 7_000, 7_000, 0),  # not in the lowest tenth: a reset
        (70_000, 4, 4, 0),  # no register of 16 bits shows this, and of 32 bits it is low: a reset
    ],
)
def test_rollover_of_old_registers(before: float, after: float, total: float, rollovers: int) -> None:
    found = counted([before, after])
    assert (found.total, found.rollovers) == (total, rollovers)
    assert found.resets == 1 - rollovers


def test_rollover_is_not_guessed_where_registers_do_not() -> None:
    times = np.array([1, 2], np.int64)
    assert increase(times, np.array([65_530.0, 4.0]), since=0, widths_bits=()).total == 4


def test_counting_begins_at_the_last_sample_before_the_span() -> None:
    values: list[float] = [10, 20, 25, 31]
    assert counted(values, since=3 * S).total == 11  # from the 20 at second 2
    assert counted(values, since=3 * S + 1).total == 6
    assert counted(values, since=99 * S).total == 0


def test_a_new_job_counts_from_zero() -> None:
    found = counted([500, 510, 3, 4], jobs=[1, 1, 2, 2])
    assert (found.total, found.resets) == (10 + 3 + 1, 1)
    assert counted([5, 12], jobs=[1, 2]).total == 12
    assert counted([65_530, 4], jobs=[1, 2]).total == 4


def test_a_job_name_that_comes_before_the_counter_moves_adds_nothing() -> None:
    assert counted([500, 500, 0, 2], jobs=[1, 2, 2, 2]).total == 2


def test_impossible_steps_are_suspect() -> None:
    found = counted([0, 1, 90_000, 90_001], max_per_s=2.0)
    assert (found.total, found.suspect) == (2, 89_999)


def test_increase_is_additive_over_spans() -> None:
    random = np.random.default_rng(5)
    values = np.cumsum(random.integers(0, 4, 500)).astype(np.float64)
    values[200:] -= values[200]
    times = np.arange(500, dtype=np.int64) * S
    whole = increase(times, values, since=0).total
    first = increase(times[:300], values[:300], since=0).total
    second = increase(times, values, since=300 * S).total
    assert whole == first + second


def test_keys_hold_from_their_change_on() -> None:
    times = np.array([1, 5, 6, 10], np.int64)
    found = keys_at(times, np.array([5, 10], np.int64), np.array([7, 8], np.int64))
    assert found.tolist() == [7, 7, 7, 8]
    assert keys_at(times, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == [0, 0, 0, 0]


RUNNING = MachineSignals(mode=1, production_status=4, expected_cycle_s=25, since_cycle_s=10)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, MachineState.RUNNING),
        ({"mode": 2}, MachineState.RUNNING),
        ({"mode": 3}, MachineState.IDLE),
        ({"mode": 0}, MachineState.IDLE),
        ({"mode": 5}, MachineState.IDLE),
        ({"mode": 4}, MachineState.SETUP),
        ({"mode": None}, MachineState.UNKNOWN),
        ({"mode_good": False}, MachineState.UNKNOWN),
        ({"power_on": 0}, MachineState.OFF),
        ({"power_on": 0, "standstill_reason": "101"}, MachineState.OFF),
        ({"standstill_reason": "101"}, MachineState.DOWN_UNPLANNED),
        ({"standstill_reason": "maintenance"}, MachineState.DOWN_PLANNED),
        ({"standstill_reason": "101", "mode": 4}, MachineState.DOWN_UNPLANNED),
        ({"standstill_reason": ""}, MachineState.RUNNING),
        *[({"job_status": number}, MachineState.SETUP) for number in (2, 3, 5, 9, 10)],
        *[({"job_status": number}, MachineState.RUNNING) for number in (1, 4, 6, 7, 8, 11)],
        ({"mould_status": 2}, MachineState.SETUP),
        ({"mould_status": 3}, MachineState.RUNNING),
        ({"production_status": 2}, MachineState.SETUP),
        ({"production_status": 3}, MachineState.SETUP),
        ({"production_status": 1}, MachineState.IDLE),
        ({"production_status": 5}, MachineState.IDLE),
        ({"production_status": None}, MachineState.RUNNING),
        ({"since_cycle_s": 50}, MachineState.RUNNING),
        ({"since_cycle_s": 50.1}, MachineState.IDLE),
        ({"since_cycle_s": 299.9}, MachineState.IDLE),
        ({"since_cycle_s": 300}, MachineState.DOWN_UNPLANNED),
        ({"since_cycle_s": 30, "expected_cycle_s": 2}, MachineState.RUNNING),
        ({"since_cycle_s": 31, "expected_cycle_s": 2}, MachineState.IDLE),
        ({"since_cycle_s": 70, "expected_cycle_s": None, "last_cycle_s": 40}, MachineState.RUNNING),
        ({"since_cycle_s": 310, "expected_cycle_s": 200}, MachineState.RUNNING),
        ({"since_cycle_s": 401, "expected_cycle_s": 200}, MachineState.DOWN_UNPLANNED),
        ({"since_cycle_s": None}, MachineState.RUNNING),
        ({"since_cycle_s": None, "production_status": None}, MachineState.IDLE),
    ],
)
def test_states(changes: dict[str, float | str | bool | None], state: MachineState) -> None:
    names = MachineSignals.__dataclass_fields__
    signals = MachineSignals(**({name: getattr(RUNNING, name) for name in names} | changes))
    assert machine_state(signals, contact=True, planned_reasons={"maintenance"}).state == state


def test_without_contact_nothing_is_known() -> None:
    assert machine_state(RUNNING, contact=False).state == MachineState.UNKNOWN


def test_a_standstill_says_its_reason() -> None:
    signals = MachineSignals(mode=1, standstill_reason="no material")
    assert machine_state(signals, contact=True).reason == "no material"


def test_the_shortest_allowed_cycle() -> None:
    assert allowed_cycle_s(MachineSignals()) == 30
    assert allowed_cycle_s(MachineSignals(expected_cycle_s=40)) == 80
