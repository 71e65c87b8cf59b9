"""A garment cell: people, styles, learning, breaks, and a month of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, time
from functools import lru_cache
from itertools import pairwise
from statistics import fmean, median, pstdev
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shopfloor import signal
from simulators.physics import line_signals
from simulators.physics.calendar import Calendar, Shift
from simulators.physics.garment import GarmentCell
from simulators.physics.garment_spec import GarmentSpec, OperatorSpec, StyleSpec
from simulators.physics.garment_state import GarmentDone
from simulators.physics.unit import MS, Stretch
from tests.contract.unit_contract import DAY_MS, START_MS, UnitContract, planned, series, states, table

ZONE = ZoneInfo("Asia/Hong_Kong")
DAY = Shift(
    "day",
    time(8),
    time(17, 30),
    frozenset(range(6)),
    ((time(10), time(10, 15)), (time(12), time(13)), (time(15), time(15, 15))),
)
STYLES = tuple(
    StyleSpec(f"style-{name}", (("prepare", 0.4 * smv), ("sew", smv), ("press", 0.2 * smv), ("inspect", 0.3)))
    for name, smv in (("polo", 4.0), ("shirt", 6.5), ("skirt", 3.0), ("vest", 2.5), ("dress", 8.0))
)


def spec(**changed: Any) -> GarmentSpec:
    operators = (
        OperatorSpec("sew-1", 0.95, 0.12),
        OperatorSpec("sew-2", 1.1, 0.18, absence=0.25),
        OperatorSpec("sew-3", 1.25, 0.22, learning=0.45),
    )
    cell = GarmentSpec("garments", operators, STYLES, Calendar(ZONE, (DAY,), frozenset({date(2026, 3, 11)})))
    return replace(cell, **changed)


class TestContract(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> GarmentCell:
        return GarmentCell(spec(), seed, start_ms)


class TestContractAroundTheClock(UnitContract):
    hours = 40.0

    def make(self, seed: int, start_ms: int = START_MS) -> GarmentCell:
        return GarmentCell(spec(calendar=Calendar(ZONE), styles=STYLES[:1]), seed, start_ms)


@lru_cache(maxsize=1)
def month() -> tuple[GarmentCell, list[Stretch]]:
    cell = GarmentCell(spec(), 5, START_MS)
    return cell, planned(cell, START_MS + 28 * DAY_MS)


def garments(workplace: int) -> list[GarmentDone]:
    _, stretches = month()
    return [each for stretch in stretches for each in stretch.detail[workplace].work.done]  # type: ignore[index]


def relative(workplace: int) -> list[float]:
    """Times of garments relative to their style's SMV, without mending."""
    found, mends = [], False
    for each in garments(workplace):
        if not mends:
            found.append(each.worked_ms / 60_000.0 / STYLES[each.style].smv)
        mends = each.quality == "failed"
    return found


def number(row: Mapping[str, object], column: str) -> int:
    value = row[column]
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("workplace", [0, 1, 2])
def test_the_hands_pace_varies_as_stated(workplace: int) -> None:
    times = relative(workplace)
    operator = spec().operators[workplace]
    assert len(times) > 300
    # Learning and fatigue come on top of the person's pace.
    assert 1.0 < fmean(times) / operator.pace < 1.35
    assert 0.1 < pstdev(times) / fmean(times) < 0.28
    assert pstdev(times) / fmean(times) == pytest.approx(operator.pace_sd, abs=0.05)


def test_a_style_is_learnt_within_its_batch() -> None:
    learner = OperatorSpec("sew-1", 1.0, 0.15, learning=0.5, learns_over=8.0, fatigue=0.0, absence=0.0)
    cell = GarmentCell(spec(operators=(learner,), rework_share=0.0), 3, START_MS)
    batches: dict[int, list[float]] = defaultdict(list)
    for stretch in planned(cell, START_MS + 28 * DAY_MS):
        for each in stretch.detail[0].work.done:  # type: ignore[index]
            batches[each.batch].append(each.worked_ms / 60_000.0 / STYLES[each.style].smv)
    long = [times for times in batches.values() if len(times) >= 30]
    early = fmean(pace for times in long for pace in times[:3])
    late = fmean(pace for times in long for pace in times[25:])
    assert early > 1.08 * late
    assert late == pytest.approx(1.0, abs=0.05)


def test_garments_take_longer_late_in_the_shift() -> None:
    tired = GarmentCell(
        spec(operators=(OperatorSpec("sew-1", 1.0, 0.1, learning=0.0, fatigue=0.3, absence=0.0),)),
        3,
        START_MS,
    )
    begin_ms: list[tuple[int, float]] = []
    for stretch in planned(tired, START_MS + 28 * DAY_MS):
        for each in stretch.detail[0].work.done:  # type: ignore[index]
            if each.quality == "good":
                hour = (each.end_ms - START_MS) % DAY_MS / 3_600_000
                begin_ms.append((int(hour), each.worked_ms / 60_000.0 / STYLES[each.style].smv))
    first = fmean(pace for hour, pace in begin_ms if hour == 0)
    last = fmean(pace for hour, pace in begin_ms if hour >= 8)
    assert last > 1.08 * first


def test_a_month_of_changeovers_batches_and_mending_lies_in_the_stated_ranges() -> None:
    _, stretches = month()
    changeovers = table(stretches, "changeovers")
    assert {row["kind"] for row in changeovers} == {"style"}
    assert all(row["from"] != row["to"] for row in changeovers)
    setups = [row for row in table(stretches, "downtime") if row["kind"] == "changeover"]
    lengths = [(number(row, "end_ms") - number(row, "begin_ms")) / 60_000 for row in setups]
    assert 4.0 < median(lengths) < 6.5
    assert max(lengths) <= 10.0
    assert all(8 <= number(row, "ordered") <= 60 for row in table(stretches, "jobs"))
    qualities = Counter(row["quality"] for row in table(stretches, "cycles"))
    assert qualities["failed"] / sum(qualities.values()) == pytest.approx(0.05 * 0.75, rel=0.3)
    assert 0.005 < qualities["bad"] / sum(qualities.values()) < 0.03


def test_every_garment_of_a_finished_batch_is_good_or_bad() -> None:
    _, stretches = month()
    made: dict[object, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in table(stretches, "cycles"):
        made[row["job"]][0] += number(row, "good")
        made[row["job"]][1] += number(row, "bad")
        made[row["job"]][2] += row["quality"] == "failed"
    jobs = table(stretches, "jobs")
    assert len({row["job"] for row in jobs}) == len(jobs) > 30
    for row in jobs:
        good, bad, _ = made[row["job"]]
        assert (good, bad) == (row["good"], row["bad"])
        assert good + bad == row["ordered"]


def test_breaks_nights_and_holidays_are_kept_to_the_millisecond() -> None:
    _, stretches = month()
    calendar, at = Calendar(ZONE, (DAY,), frozenset({date(2026, 3, 11)})), START_MS
    off = []
    while at < stretches[-1].end_ms:
        span = calendar.at(at)
        if span.shift is None and span.end_ms < stretches[-1].end_ms:
            off.append((max(at, START_MS), span.end_ms, span.reason))
        at = span.end_ms
    for workplace in ("sew-1", "sew-2"):
        found = [
            (row.begin_ms, row.end_ms, row.cause)
            for row in states(stretches, workplace)
            if row.state == "DOWN_PLANNED" and row.end_ms < stretches[-1].end_ms
        ]
        assert found == off


def test_who_is_absent_is_so_for_the_whole_shift() -> None:
    _, stretches = month()
    absent = [row for row in states(stretches, "sew-2") if row.cause == "Operator absent"]
    days = {(row.begin_ms - START_MS) // DAY_MS for row in absent}
    assert 1 <= len(days) <= 14
    for row in states(stretches, "sew-2"):
        assert row.state != "RUNNING" or (row.begin_ms - START_MS) // DAY_MS not in days


class TestWhatIsSeen:
    contract = TestContract()

    @pytest.mark.parametrize("workplace", ["sew-1", "sew-2", "sew-3"])
    def test_the_status_is_that_of_the_state(self, workplace: str) -> None:
        rows = states(self.contract.stretches, workplace)
        said = series(self.contract.moments)[workplace, line_signals.WORKPLACE_STATUS]
        working = [(row.begin_ms, row.end_ms) for row in rows if row.state == "RUNNING"]
        ends = [change.time_ns // MS for change in said[1:]] + [self.contract.stretches[-1].end_ms]
        assert working == [
            (change.time_ns // MS, end)
            for change, end in zip(said, ends, strict=True)
            if change.value == "working"
        ]
        assert {str(change.value) for change in said} <= {
            "working",
            "waiting",
            "changeover",
            "stopped",
            "absent",
            "break",
            "off",
        }

    def test_counters_of_a_batch_rise_by_its_garments_and_begin_anew_with_the_next(self) -> None:
        cycles = table(self.contract.stretches, "cycles")
        columns = {signal.GOOD_PARTS_COUNTER: "good", signal.BAD_PARTS_COUNTER: "bad"}
        for (workplace, name), changes in series(self.contract.moments).items():
            if name in columns:
                rises = sum(max(float(b.value) - float(a.value), 0.0) for a, b in pairwise(changes))
                assert rises == sum(number(row, columns[name]) for row in cycles if row["asset"] == workplace)

    def test_operations_follow_one_another_within_a_garment(self) -> None:
        names = [name for name, _ in STYLES[0].operations]
        for workplace in ("sew-1", "sew-3"):
            said = series(self.contract.moments)[workplace, line_signals.OPERATION_NAME]
            for earlier, later in pairwise([str(change.value) for change in said]):
                if earlier in {"", names[-1]}:
                    assert later in {names[0], ""}
                else:
                    assert later == names[names.index(earlier) + 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"operators": ()}, "needs workplaces"),
        ({"styles": ()}, "needs a style"),
        ({"styles": (StyleSpec("x", (("sew", 0.0),)),)}, "style x"),
        ({"batch_size": (0, 5)}, r"batch sizes \(0, 5\)"),
    ],
)
def test_a_cell_that_cannot_be_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**changed)


def test_a_snapshot_of_another_cell_is_refused() -> None:
    cell = GarmentCell(spec(operators=spec().operators[:2]), 1, START_MS)
    with pytest.raises(ValueError, match="has 3 workplaces, the cell 2"):
        cell.restore(GarmentCell(spec(), 1, START_MS).snapshot())
