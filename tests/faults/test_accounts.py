"""The oracle of the campaign has to be able to fail: each thing that may be amiss is made by hand, and reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shopfloor.messages import SpanKind
from tests.faults.accounts import Accounts, account, overlaps, uncovered
from tests.faults.evidence import Damaged, Held, Ledger, Loss, Permits, Said, Window
from tests.faults.permitting import at_any_time
from tests.faults.watch import Look, loss_window

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SOURCES = ("history", "plain", "kept", "lossy")
EACH = 100


def at(second: float) -> int:
    return START + round(second * SECOND)


def said(ahead_s: float = 0.0) -> Said:
    """Each source says a number a second, from 1 on."""
    series = np.repeat(np.arange(4), EACH)
    number = np.tile(np.arange(1, EACH + 1), 4)
    real = START + number * SECOND
    return Said(SOURCES, series, number, real + round(ahead_s * SECOND), real)


def held(said: Said, mask: np.ndarray | None = None) -> Held:
    """Return what a store holds that took all of it, or what the mask leaves."""
    rows = np.ones(len(said.number), np.bool_) if mask is None else mask
    return Held(
        said.series[rows],
        said.number[rows].astype(np.float64),
        said.source_time[rows],
        np.zeros(int(rows.sum()), np.int64),
    )


def joined(*parts: Held) -> Held:
    columns = ((part.series, part.value, part.source_time, part.quality) for part in parts)
    return Held(*(np.concatenate(column) for column in zip(*columns, strict=True)))


NOTHING = Held(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))


def without(source: str, *numbers: int) -> Held:
    log = said()
    return held(log, ~((log.series == SOURCES.index(source)) & np.isin(log.number, numbers)))


def gap(source: str, from_s: float, to_s: float) -> Loss:
    return Loss(SpanKind.SOURCE_GAP, "interrupted", source, "", 0, 0, at(from_s), at(to_s), 0, True)


def drop(stream: str, first: int, last: int, *, at_least: bool = False) -> Loss:
    count = 0 if at_least else last - first + 1
    return Loss(SpanKind.DROPPED, "buffer damaged", "", stream, first, last, at(50), at(50), count, at_least)


def verdict(
    stored: Held,
    *losses: Loss,
    permits: Permits | None = None,
    log: Said | None = None,
    quarantined: Held = NOTHING,
    ledger: Ledger | None = None,
) -> Accounts:
    return account(log or said(), stored, quarantined, losses, permits or Permits(), ledger)


BROKEN = Permits({"plain": [Window(at(38), at(52))], "lossy": [Window(at(38), at(52))]})


def test_a_store_that_holds_everything_once_is_clean() -> None:
    found = verdict(held(said()))
    assert found.clean
    assert (found.produced, found.stored, found.permitted) == (400, 400, 0)
    assert found.examples == ()


def test_a_value_that_is_nowhere_is_missing_from_every_source() -> None:
    for source in SOURCES:
        found = verdict(without(source, 45))
        assert (found.missing, found.stored) == (1, 399)
        assert not found.clean
        assert "number 45" in found.examples[0]


def test_a_value_that_is_stored_twice_is_duplicated() -> None:
    log = said()
    again = held(log, (log.series == 2) & (log.number == 7))
    found = verdict(joined(held(log), again, again))
    assert (found.duplicated, found.missing, found.wrong) == (2, 0, 0)


def test_a_value_that_is_stored_and_in_quarantine_is_duplicated() -> None:
    log = said()
    one = held(log, (log.series == 0) & (log.number == 7))
    assert verdict(held(log), quarantined=one).duplicated == 1


def test_a_value_in_quarantine_is_not_missing() -> None:
    log = said()
    one = held(log, (log.series == 0) & (log.number == 7))
    found = verdict(without("history", 7), quarantined=one)
    assert found.clean
    assert found.quarantined == 1


def test_another_value_at_another_time_of_another_series_or_of_bad_quality_is_wrong() -> None:
    log = said()
    right = held(log)
    changes = (
        replace(right, value=np.where(right.value == 9, 9.5, right.value)),
        replace(right, value=np.where(right.value == 9, 1e6, right.value)),
        replace(right, source_time=right.source_time + np.where(right.value == 9, 1, 0)),
        replace(right, series=np.where(right.value == 9, -1, right.series)),
        replace(right, quality=np.where(right.value == 9, 2, right.quality)),
    )
    for changed in changes:
        found = verdict(changed)
        assert (found.wrong, found.missing) == (4, 4)


def test_what_was_never_said_is_wrong_and_a_bad_sample_without_a_value_is_not() -> None:
    invented = Held(np.array([0]), np.array([3.0]), np.array([at(500)]), np.array([0]))
    marker = Held(np.array([0]), np.array([np.nan]), np.array([at(500)]), np.array([2]))
    good_null = replace(marker, quality=np.array([0]))
    assert verdict(joined(held(said()), invented)).wrong == 1
    assert verdict(joined(held(said()), marker)).clean
    assert verdict(joined(held(said()), good_null)).wrong == 1


def test_a_gap_of_a_server_without_history_permits_what_it_covers_where_a_fault_permits_the_gap() -> None:
    found = verdict(without("plain", 45, 46), gap("plain", 40, 50), permits=BROKEN)
    assert found.clean
    assert (found.permitted, found.gaps_recorded, found.stored) == (2, 1, 398)


def test_a_gap_permits_nothing_outside_of_it_and_nothing_of_another_source() -> None:
    assert verdict(without("plain", 51), gap("plain", 40, 50), permits=BROKEN).missing == 1
    for source in ("history", "kept"):
        assert verdict(without(source, 45), gap("plain", 40, 50), permits=BROKEN).missing == 1


def test_a_loss_that_a_fault_permits_and_nobody_has_recorded_is_missing() -> None:
    assert verdict(without("plain", 45), permits=BROKEN).missing == 1


def test_a_gap_without_a_fault_is_unexplained_and_permits_nothing() -> None:
    found = verdict(without("plain", 75), gap("plain", 70, 80), permits=BROKEN)
    assert (found.gaps_unexplained, found.missing) == (1, 1)


def test_a_gap_that_goes_on_when_the_way_was_whole_again_permits_nothing_there() -> None:
    assert verdict(without("plain", 45, 60), gap("plain", 40, 90), permits=BROKEN).missing == 1


def test_a_gap_may_begin_an_overlap_before_what_may_be_lost_and_not_earlier() -> None:
    overlap = replace(BROKEN, overlap_ns=10 * SECOND)
    for begin_s, unexplained in ((37, 1), (30, 1), (28, 1), (27, 1)):
        assert (
            verdict(held(said()), gap("plain", begin_s, 50), permits=BROKEN).gaps_unexplained == unexplained
        )
    for begin_s, unexplained in ((37, 0), (28, 0), (27, 1)):
        found = verdict(without("plain", 37), gap("plain", begin_s, 50), permits=overlap)
        assert (found.gaps_unexplained, found.missing) == (unexplained, 1)


def test_a_gap_of_a_server_with_history_or_of_mqtt_is_never_explained() -> None:
    everywhere = Permits({name: [Window(at(0), at(200))] for name in (*SOURCES, "mqtt")})
    for source in ("history", "mqtt"):
        found = verdict(held(said()), gap(source, 40, 50), permits=everywhere)
        assert (found.gaps_unexplained, found.clean) == (1, False)


def test_a_gap_is_told_by_the_machines_clock_and_a_fault_by_the_true_one() -> None:
    log = said(ahead_s=20)
    lacking = held(log, ~((log.series == 1) & (log.number == 45)))
    ahead = replace(BROKEN, clock_steps=[(0, 0), (at(-100), 20 * SECOND)])
    assert verdict(lacking, gap("plain", 60, 70), permits=ahead, log=log).clean
    assert verdict(lacking, gap("plain", 60, 70), permits=BROKEN, log=log).gaps_unexplained == 1
    assert verdict(lacking, gap("plain", 40, 50), permits=ahead, log=log).missing == 1


def test_a_clock_that_was_put_forth_while_nobody_listened_hides_so_much_of_a_gap_and_no_more() -> None:
    unheard = replace(BROKEN, clock_steps=[(0, 0), (at(42), 20 * SECOND), (at(60), 0)])
    log = said()
    ahead = replace(
        log, source_time=np.where(log.number > 42, log.source_time + 20 * SECOND, log.source_time)
    )
    lacking = held(ahead, ~((ahead.series == 1) & np.isin(ahead.number, [45, 50])))
    found = verdict(lacking, gap("plain", 40, 52), permits=unheard, log=ahead)
    assert (found.missing, found.permitted, found.gaps_unexplained) == (0, 2, 0)
    late = replace(unheard, clock_steps=[(0, 0), (at(60), 20 * SECOND)])
    assert verdict(lacking, gap("plain", 40, 52), permits=late, log=ahead).missing == 2


def test_qos_0_may_lose_while_the_way_is_broken_and_at_no_other_time() -> None:
    assert verdict(without("lossy", 45), permits=BROKEN).permitted == 1
    assert verdict(without("lossy", 60), permits=BROKEN).missing == 1


def test_where_time_decides_nothing_what_is_recorded_does() -> None:
    ever = at_any_time(Permits(clock_steps=[(0, 0), (at(60), 5 * SECOND)]))
    assert verdict(without("plain", 45), gap("plain", 40, 50), permits=ever).clean
    assert verdict(without("plain", 45), permits=ever).missing == 1
    assert verdict(without("lossy", 45), permits=ever).clean
    for source in ("history", "kept"):
        found = verdict(without(source, 45), gap(source, 40, 50), permits=ever)
        assert (found.missing, found.gaps_unexplained) == (1, 1)


def test_damage_permits_what_lay_in_the_buffer_and_is_recorded_as_lost() -> None:
    pending = Damaged(["a"] * 3, np.array([11, 12, 13]), np.array([0, 2, 2]), np.array([45, 45, 46]))
    permits = Permits(damaged=[pending])
    lost = joined(without("kept", 45))
    assert verdict(lost, drop("a", 12, 12), permits=permits).permitted == 1
    assert verdict(lost, drop("a", 13, 13), permits=permits).missing == 1
    assert verdict(lost, drop("b", 12, 12), permits=permits).missing == 1
    assert verdict(lost, permits=permits).missing == 1
    assert verdict(lost, drop("", 0, 0, at_least=True), permits=permits).permitted == 1
    assert verdict(without("kept", 47), drop("", 0, 0, at_least=True), permits=permits).missing == 1
    assert verdict(lost, drop("a", 12, 12)).missing == 1
    assert verdict(held(said()), drop("a", 11, 13), permits=permits).dropped_recorded == 3


def test_a_damage_that_can_not_be_counted_permits_only_the_end_of_a_stream() -> None:
    pending = Damaged(["a"] * 2, np.array([11, 12]), np.array([2, 2]), np.array([45, 46]))
    permits, vague = Permits(damaged=[pending]), drop("", 0, 0, at_least=True)
    for last, missing in ((10, 0), (11, 1), (12, 2), (50, 2)):
        found = verdict(without("kept", 45, 46), vague, permits=permits, ledger=Ledger((), {"a": last}))
        assert (found.missing, found.permitted_by["damage"]) == (missing, 2 - missing)


def test_a_hole_in_a_streams_numbers_is_an_unexplained_gap() -> None:
    found = account(said(), held(said()), NOTHING, (), Permits(), Ledger([("a", 5, 9)]))
    assert (found.gaps_unexplained, found.clean) == (1, False)
    assert uncovered([(1, 4), (10, 12), (3, 6), (14, 14)]) == [(7, 9), (13, 13)]
    assert uncovered([(2, 3)]) == [(1, 1)]
    assert uncovered([]) == []


def test_a_fault_may_cost_something_until_its_source_runs_steadily_again() -> None:
    states = "rr....rr..rrrrrrrrrr"  # by the second: running or not
    looks = [
        Look(at(second), frozenset({"plain"} if state == "r" else ())) for second, state in enumerate(states)
    ]
    fault = Window(at(1.5), at(2.5))
    assert loss_window(looks, "plain", fault, 1, 2, steady_s=5) == Window(at(0.5), at(12))
    assert loss_window(looks, "other", fault, 1, 2, steady_s=5) == Window(at(0.5), at(21))
    unnoticed = [Look(at(second), frozenset({"plain"})) for second in range(20)]
    assert loss_window(unnoticed, "plain", fault, 1, 2, steady_s=5) == Window(at(0.5), at(5))


# Several processes: what came to a server that makes one of two


def test_a_sample_that_came_under_two_numbers_is_a_duplicate_though_the_store_has_one() -> None:
    everything = said()
    store = held(everything)
    once = account(everything, store, NOTHING, [], Permits(), sent=store)
    assert once.clean
    some = np.zeros(len(everything.number), np.bool_)
    some[[3, 5]] = True
    twice = account(everything, store, NOTHING, [], Permits(), sent=joined(store, held(everything, some)))
    assert (twice.duplicated, twice.missing, twice.wrong) == (2, 0, 0)


def test_numbers_that_two_rows_of_the_ledger_cover_are_duplicates() -> None:
    assert overlaps([(1, 10), (11, 20), (21, 30)]) == []
    assert overlaps([(1, 10), (8, 12), (9, 9), (30, 40)]) == [(8, 10), (9, 9)]
    everything = said()
    ledger = Ledger(twice=[("s", 8, 10)])
    found = account(everything, held(everything), NOTHING, [], Permits(), ledger)
    assert found.duplicated == 3
    assert not found.clean
