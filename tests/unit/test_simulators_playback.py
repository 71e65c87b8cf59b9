"""Playing units on a clock: the same moments however time is cut, truth told once, and restarts in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.physics.calendar import Calendar, Shift
from simulators.physics.line import Line
from simulators.physics.line_spec import LineProduct, LineSpec, StationSpec
from simulators.physics.unit import MS, Change, CycleEnd, Facts, Moment, Unit, Value
from simulators.playback import Playback
from tests.contract.unit_contract import HOUR_MS, START_MS, planned
from tests.unit.test_simulators_machine import RESTLESS, machine, spec

HOURS = 5


def moulding() -> Unit:
    return machine(spec(stops=RESTLESS))


def assembling() -> Unit:
    shifts = (Shift("day", time(8), time(12), frozenset(range(7))),)
    stations = (StationSpec("insert", 24.0, 0.06, 0.4), StationSpec("test", 20.0, 0.04, 0.3))
    calendar = Calendar(ZoneInfo("Asia/Hong_Kong"), shifts)
    return Line(LineSpec("u-line", stations, calendar, (LineProduct("valve", 1.0),)), 3, START_MS)


MAKE = {"machine": moulding, "line": assembling}
each_unit = pytest.mark.parametrize("name", MAKE)


def ns(ms: int) -> int:
    return (START_MS + ms) * MS


class Heard:
    """A sink of truth."""

    def __init__(self) -> None:
        self.facts: list[Facts] = []

    def __call__(self, unit: Unit, facts: Sequence[Facts]) -> None:
        assert unit.cells
        self.facts += facts


def newest(moments: Sequence[Moment]) -> dict[tuple[str, str], Value]:
    return {(each.cell, each.signal): each.value for each in moments if isinstance(each, Change)}


@each_unit
@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, HOURS * HOUR_MS), max_size=8))
def test_any_slices_of_time_give_the_same_moments(name: str, cuts: list[int]) -> None:
    whole = Playback(MAKE[name]()).advance(ns(HOURS * HOUR_MS))
    playback = Playback(MAKE[name]())
    pieces: list[Moment] = []
    for cut in [*sorted(cuts), HOURS * HOUR_MS]:
        seen = playback.advance(ns(cut))
        assert all(moment.time_ns <= ns(cut) for moment in seen)
        pieces += seen
    assert pieces == whole
    assert playback.advance(ns(HOURS * HOUR_MS)) == []


@each_unit
def test_a_moment_is_seen_at_its_very_time_and_not_before(name: str) -> None:
    times = [moment.time_ns for moment in Playback(MAKE[name]()).advance(ns(HOUR_MS))]
    playback = Playback(MAKE[name]())
    for at in sorted(set(times))[:200]:
        assert playback.advance(at - 1) == []
        assert {moment.time_ns for moment in playback.advance(at)} == {at}


@each_unit
def test_skipping_gives_the_newest_change_of_each_signal(name: str) -> None:
    watched = Playback(MAKE[name]()).advance(ns(HOURS * HOUR_MS))
    last = {(each.cell, each.signal): each for each in watched if isinstance(each, Change)}
    playback = Playback(MAKE[name]())
    skipped = playback.skip(ns(HOURS * HOUR_MS))
    assert {(each.cell, each.signal): each for each in skipped} == last
    assert len(skipped) == len(last)
    assert [each.time_ns for each in skipped] == sorted(each.time_ns for each in skipped)
    # Afterwards all goes on as if it had been watched.
    going_on = Playback(MAKE[name]())
    going_on.advance(ns(HOURS * HOUR_MS))
    later = ns((HOURS + 1) * HOUR_MS)
    assert playback.advance(later) == going_on.advance(later)


@each_unit
def test_the_truth_of_a_stretch_is_told_once_it_is_over(name: str) -> None:
    heard, stretches = Heard(), planned(MAKE[name](), START_MS + HOURS * HOUR_MS)
    playback = Playback(MAKE[name](), heard)
    told = 0
    for stretch in stretches[:-1]:
        playback.advance(stretch.end_ms * MS - 1)
        assert len(heard.facts) == told, "not before its end"
        playback.advance(stretch.end_ms * MS)
        told += len(stretch.facts)
        assert [fact.table for fact in heard.facts[-len(stretch.facts) :]] == [
            fact.table for fact in stretch.facts
        ]
        assert len(heard.facts) == told
        assert playback.begin_ms == stretch.end_ms


@each_unit
def test_a_long_step_tells_every_stretch_in_between(name: str) -> None:
    heard, stretches = Heard(), planned(MAKE[name](), START_MS + HOURS * HOUR_MS)
    Playback(MAKE[name](), heard).advance(stretches[-1].end_ms * MS)
    assert [fact.table for fact in heard.facts] == [
        fact.table for stretch in stretches for fact in stretch.facts
    ]


def test_what_is_unfinished_ends_now() -> None:
    heard = Heard()
    playback = Playback(moulding(), heard)
    now_ms = START_MS + 2 * HOUR_MS + 12_345
    playback.advance(now_ms * MS)
    rows = [*heard.facts, *playback.unfinished(now_ms * MS)]
    ends = [np.max(np.asarray(fact.columns["end_ms"])) for fact in rows if fact.table == "states"]
    assert max(ends) == now_ms


def test_energy_goes_on_over_stretches_and_has_a_power_factor() -> None:
    playback, before = Playback(moulding()), -1.0
    for minute in range(0, HOURS * 60, 7):
        playback.advance(ns(minute * 60_000))
        kwh = playback.energy_kwh("imm-1", ns(minute * 60_000))
        assert kwh > before
        before = kwh
        assert 0.5 < playback.power_factor("imm-1") <= 1.0


@each_unit
@pytest.mark.parametrize("minute", [1, 61, 150, 233])
def test_a_restart_from_the_snapshot_goes_on_as_the_first_would_have(name: str, minute: int) -> None:
    heard, again = Heard(), Heard()
    first = Playback(MAKE[name](), heard)
    first.advance(ns(minute * 60_000))
    told = len(heard.facts)
    unit = MAKE[name]()
    unit.restore(first.snapshot)
    second = Playback(unit, again)
    assert second.begin_ms == first.begin_ms
    second.advance(ns(minute * 60_000))
    end = ns((minute + 150) * 60_000)
    assert second.advance(end) == first.advance(end)
    assert [str(fact) for fact in again.facts] == [str(fact) for fact in heard.facts[told:]]
    assert again.facts


def test_who_listens_to_a_restarted_machine_hears_every_signal() -> None:
    first = Playback(moulding())
    watched = first.advance(ns(4 * HOUR_MS))
    unit = moulding()
    unit.restore(first.snapshot)
    heard = Playback(unit).advance(ns(4 * HOUR_MS))
    assert newest(heard) == newest(watched)
    since = first.begin_ms * MS
    assert [each for each in heard if isinstance(each, CycleEnd)] == [
        each for each in watched if isinstance(each, CycleEnd) and each.time_ns >= since
    ]
