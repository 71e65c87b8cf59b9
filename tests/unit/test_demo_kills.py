"""The demo's schedule of kills: seeded and within its bounds."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from simulators.demo.kills import QUIET_START_S, RESTART_AFTER_S, SHORTEST_S, plan_kills

PARTS = {"agent": ["agent-dg01", "agent-hk01", "agent-vn01"], "ingest": ["ingest"], "broker": ["broker"]}


def kind_of(part: str) -> str:
    return part.partition("-")[0]


def test_the_seed_decides() -> None:
    assert plan_kills(PARTS, 60, 1) == plan_kills(PARTS, 60, 1)
    assert len({plan_kills(PARTS, 60, seed) for seed in range(20)}) == 20


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    "kinds", [("agent", "ingest", "broker"), ("agent", "broker"), ("ingest",), ("agent",)], ids="+".join
)
def test_a_minute_has_at_least_six_kills_and_two_a_kind_within_its_bounds(
    kinds: tuple[str, ...], seed: int
) -> None:
    kills = plan_kills({kind: PARTS[kind] for kind in kinds}, 60, seed)
    times = Counter(kind_of(kill.part) for kill in kills)
    assert set(times) == set(kinds)
    assert min(times.values()) >= 2
    assert len(kills) >= 6
    assert [kill.at_s for kill in kills] == sorted(kill.at_s for kill in kills)
    assert all(kill.at_s >= QUIET_START_S for kill in kills)
    assert all(kill.at_s + kill.down_s <= 55.0 for kill in kills)
    assert all(RESTART_AFTER_S[0] <= kill.down_s <= RESTART_AFTER_S[1] for kill in kills)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("duration_s", [SHORTEST_S, 30, 60, 600])
def test_a_part_runs_again_before_it_is_killed_the_next_time(duration_s: float, seed: int) -> None:
    kills = plan_kills(PARTS, duration_s, seed)
    for part in {kill.part for kill in kills}:
        own = [kill for kill in kills if kill.part == part]
        for earlier, later in itertools.pairwise(own):
            assert earlier.at_s + earlier.down_s < later.at_s


@pytest.mark.parametrize("seed", range(10))
def test_all_sites_have_their_turn(seed: int) -> None:
    kills = plan_kills({"agent": PARTS["agent"]}, 60, seed)
    assert Counter(kill.part for kill in kills) == dict.fromkeys(PARTS["agent"], 2)


def test_sites_take_turns_in_a_seeded_order() -> None:
    first = {plan_kills({"agent": PARTS["agent"]}, 60, seed)[0].part for seed in range(20)}
    assert first == set(PARTS["agent"])


def test_shorter_runs_have_fewer_kills_and_longer_ones_more() -> None:
    assert len(plan_kills(PARTS, SHORTEST_S, 1)) == 3
    assert len(plan_kills(PARTS, 600, 1)) > 60


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 20 s, not 12 s"):
        plan_kills(PARTS, 12, 1)


def test_no_kinds_no_kills() -> None:
    assert plan_kills({}, 60, 1) == ()
