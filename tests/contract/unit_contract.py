"""What every simulated Unit does; a unit's test subclasses UnitContract and says how one is made."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor import signal
from shopfloor.signal import parse_signal
from simulators.physics.unit import MAX_STRETCH_MS, MS, Change, CycleEnd, Facts, Moment, Stretch, Unit
from simulators.truth import TABLES, TruthWriter, read_truth

START_MS: Final = 1_772_409_600_000
"""Monday 2 March 2026, 00:00 UTC: 08:00 in Hong Kong."""
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
STATES: Final = {"RUNNING", "IDLE", "SETUP", "DOWN_UNPLANNED", "DOWN_PLANNED", "OFF"}
DOWNTIME: Final = {"stop", "micro_stop", "changeover", "planned", "starved", "blocked"}
QUALITY: Final = {"good", "bad", "test", "failed"}


class Played(NamedTuple):
    """A stretch with all that was to be seen in it, and the snapshots around it."""

    before: bytes
    stretch: Stretch
    moments: list[Moment]
    after: bytes


class StateRow(NamedTuple):
    begin_ms: int
    end_ms: int
    state: str
    cause: str | None


def live(unit: Unit, to_ms: int) -> Iterator[Played]:
    """Plan and play a unit until its stretches reach ``to_ms``."""
    while True:
        before = unit.snapshot()
        stretch = unit.plan()
        yield Played(before, stretch, list(unit.play(stretch)), unit.snapshot())
        if stretch.end_ms >= to_ms:
            return


def planned(unit: Unit, to_ms: int) -> list[Stretch]:
    """Only plan."""
    stretches = [unit.plan()]
    while stretches[-1].end_ms < to_ms:
        stretches.append(unit.plan())
    return stretches


def rows(facts: Facts, default_cell: str) -> Iterator[dict[str, object]]:
    """Yield the rows of a fact, each with the ``asset`` (cell) it is about."""
    columns = dict(facts.columns)
    count = len(columns["begin_ms"]) if isinstance(columns["begin_ms"], np.ndarray | list | tuple) else 1
    columns.setdefault("asset", default_cell)
    spread = [
        values.tolist() if isinstance(values, np.ndarray) else [*map(_item, values)]
        for values in (
            values if isinstance(values, np.ndarray | list | tuple) else [values] * count
            for values in columns.values()
        )
    ]
    for row in zip(*spread, strict=True):
        yield dict(zip(columns, row, strict=True))


def _item(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def table(stretches: Iterable[Stretch], name: str, default_cell: str = "") -> list[dict[str, object]]:
    """Return all rows of one table, in the order in which they were told."""
    return [
        row
        for stretch in stretches
        for facts in stretch.facts
        if facts.table == name
        for row in rows(facts, default_cell)
    ]


def states(stretches: Iterable[Stretch], cell: str, default_cell: str = "") -> list[StateRow]:
    """Return the state intervals of a cell; where a stretch cut one, it is whole again."""
    joined: list[StateRow] = []
    for row in table(stretches, "states", default_cell):
        if row["asset"] != cell:
            continue
        begin, end = int(str(row["begin_ms"])), int(str(row["end_ms"]))
        cause = row.get("cause")
        new = StateRow(begin, end, str(row["state"]), None if cause is None else str(cause))
        if joined and joined[-1][1:] == (begin, *new[2:]):
            joined[-1] = joined[-1]._replace(end_ms=end)
        else:
            joined.append(new)
    return joined


def series(moments: Iterable[Moment]) -> Mapping[tuple[str, str], list[Change]]:
    """Return the changes by cell and signal."""
    found: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for moment in moments:
        if isinstance(moment, Change):
            found[moment.cell, moment.signal].append(moment)
    return found


def told(stretch: Stretch) -> object:
    """Return a stretch's truth in a form that compares: facts, energy and limits."""
    facts = [
        (each.table, {name: _plain(column) for name, column in sorted(each.columns.items())})
        for each in stretch.facts
    ]
    energy = {
        cell: (each.time_ms.tolist(), each.kwh.tolist(), each.power_factor)
        for cell, each in sorted(stretch.energy.items())
    }
    return stretch.begin_ms, stretch.end_ms, facts, energy


def _plain(column: object) -> object:
    if isinstance(column, np.ndarray):
        return column.tolist()
    return list(column) if isinstance(column, list | tuple) else column


_LIVES: Final[dict[str, tuple[list[str], list[Played]]]] = {}


def _life(case: UnitContract) -> tuple[list[str], list[Played]]:
    """Return the life that all tests of a case look at, lived once."""
    name = f"{type(case).__module__}.{type(case).__qualname__}"
    if name not in _LIVES:
        unit = case.make(1)
        _LIVES[name] = list(unit.cells), list(live(unit, START_MS + round(case.hours * HOUR_MS)))
    return _LIVES[name]


class UnitContract:
    """Subclass it; pytest collects the subclass."""

    hours: ClassVar[float] = 26.0
    """How much of a life is looked at."""

    @abstractmethod
    def make(self, seed: int, start_ms: int = START_MS) -> Unit: ...

    @property
    def cells(self) -> list[str]:
        return _life(self)[0]

    @property
    def life(self) -> list[Played]:
        return _life(self)[1]

    @property
    def stretches(self) -> list[Stretch]:
        return [played.stretch for played in self.life]

    @property
    def moments(self) -> list[Moment]:
        return [moment for played in self.life for moment in played.moments]

    def test_cells_are_named_once_and_remain_the_same(self) -> None:
        assert len(set(self.cells)) == len(self.cells) > 0
        assert list(self.make(2).cells) == self.cells

    def test_stretches_abut_from_the_start_and_are_no_longer_than_an_hour(self) -> None:
        at = START_MS
        for stretch in self.stretches:
            assert stretch.begin_ms == at
            assert 1 <= stretch.end_ms - stretch.begin_ms <= MAX_STRETCH_MS
            at = stretch.end_ms

    def test_a_life_begins_at_any_millisecond(self) -> None:
        unit = self.make(1, START_MS + 7)
        stretch = unit.plan()
        moments = list(unit.play(stretch))
        assert stretch.begin_ms == moments[0].time_ns // MS == START_MS + 7

    def test_moments_lie_within_their_stretch_in_order_of_time_at_whole_milliseconds(self) -> None:
        for _, stretch, moments, _ in self.life:
            times = [moment.time_ns for moment in moments]
            assert times == sorted(times)
            assert all(time % MS == 0 for time in times)
            if times:
                assert stretch.begin_ms * MS <= times[0]
                assert times[-1] < stretch.end_ms * MS

    def test_a_signal_is_said_only_when_it_changes_and_its_times_rise_strictly(self) -> None:
        for changes in series(self.moments).values():
            for earlier, later in pairwise(changes):
                assert later.time_ns > earlier.time_ns, (earlier, later)
                assert later.value != earlier.value, (earlier, later)

    def test_every_moment_is_of_a_cell_of_the_unit_and_a_lawful_signal_with_a_value(self) -> None:
        assert self.moments
        for moment in self.moments:
            assert moment.cell in self.cells
            pairs = [moment[1:4:2]] if isinstance(moment, Change) else list(moment.values.items())
            for name, value in pairs:
                parse_signal(str(name))
                assert isinstance(value, str) or math.isfinite(value), moment

    def test_a_value_keeps_its_kind(self) -> None:
        for (cell, name), changes in series(self.moments).items():
            assert len({isinstance(change.value, str) for change in changes}) == 1, (cell, name)

    def test_the_same_construction_gives_the_same_life_and_another_seed_another(self) -> None:
        again = list(live(self.make(1), self.stretches[min(4, len(self.stretches) - 1)].end_ms))
        for first, second in zip(self.life, again, strict=False):
            assert told(second.stretch) == told(first.stretch)
            assert second.moments == first.moments
        other = self.make(2)
        assert [list(other.play(other.plan())) for _ in range(5)] != [each.moments for each in self.life[:5]]

    def test_play_leaves_no_trace_in_the_future(self) -> None:
        unit = self.make(1)
        for played in self.life:
            assert unit.snapshot() == played.before
            assert told(unit.plan()) == told(played.stretch)

    def test_any_snapshot_restores_the_very_same_future(self) -> None:
        for number in range(len(self.life)):
            unit = self.make(1)
            unit.restore(self.life[number].before)
            # What a snapshot after the first stretch does not hold would only be missed in the second.
            for played in self.life[number : number + (1 if number % 3 else 2)]:
                stretch = unit.plan()
                assert told(stretch) == told(played.stretch)
                assert list(unit.play(stretch)) == played.moments
                assert unit.snapshot() == played.after

    def test_a_snapshot_is_small_and_does_not_grow(self) -> None:
        sizes = [len(played.after) for played in self.life]
        assert max(sizes) < 65_536
        assert max(sizes[len(sizes) // 2 :]) < 2 * max(sizes[: len(sizes) // 2]) + 256

    def test_facts_fill_the_columns_of_the_truth_and_never_end_after_their_stretch(self) -> None:
        for stretch in self.stretches:
            for facts in stretch.facts:
                assert facts.columns.keys() <= {*TABLES[facts.table].names, "begin_ms", "end_ms"}
                for row in rows(facts, self.cells[0]):
                    assert row["asset"] in self.cells
                    assert int(str(row["begin_ms"])) <= int(str(row["end_ms"])) <= stretch.end_ms

    def test_the_truth_takes_the_facts(self, tmp_path: Path) -> None:
        writer = TruthWriter(tmp_path)
        for stretch in self.stretches:
            for facts in stretch.facts:
                writer.add("acme/hk01/a/l/c", facts)
        writer.close()
        for name in TABLES:
            assert read_truth(tmp_path, name).num_rows == len(table(self.stretches, name, self.cells[0]))

    def test_states_of_a_cell_leave_no_hole(self) -> None:
        names = {row["asset"] for row in table(self.stretches, "states", self.cells[0])}
        assert names
        for cell in names:
            found = states(self.stretches, str(cell), self.cells[0])
            assert found[0].begin_ms == START_MS
            for earlier, later in pairwise(found):
                assert later.begin_ms == earlier.end_ms
                assert earlier.begin_ms < earlier.end_ms
            assert {row.state for row in found} <= STATES

    def test_words_are_those_of_the_truth(self) -> None:
        assert {row["kind"] for row in table(self.stretches, "downtime", self.cells[0])} <= DOWNTIME
        assert {row["quality"] for row in table(self.stretches, "cycles", self.cells[0])} <= QUALITY

    def test_interruptions_of_a_cell_do_not_overlap_and_it_runs_in_none(self) -> None:
        for cell in self.cells:
            spans = [
                (int(str(row["begin_ms"])), int(str(row["end_ms"])))
                for row in table(self.stretches, "downtime", self.cells[0])
                if row["asset"] == cell
            ]
            for earlier, later in pairwise(sorted(spans)):
                assert earlier[1] <= later[0]
            running = np.array(
                [row[:2] for row in states(self.stretches, cell, self.cells[0]) if row.state == "RUNNING"],
                np.int64,
            ).reshape(-1, 2)
            for begin, end in spans:
                assert not ((running[:, 0] < end) & (running[:, 1] > begin)).any(), (cell, begin, end)

    def test_energy_rises_without_a_jump_and_is_told_by_state(self) -> None:
        for cell in {cell for stretch in self.stretches for cell in stretch.energy}:
            left: float | None = None
            first: float | None = None
            for stretch in self.stretches:
                energy = stretch.energy[cell]
                _check_points(energy.time_ms, energy.kwh, stretch)
                assert 0.0 < energy.power_factor <= 1.0
                assert left is None or math.isclose(energy.kwh[0], left, abs_tol=1e-9)
                first = float(energy.kwh[0]) if first is None else first
                left = float(energy.kwh[-1])
            rows_kwh = [
                float(str(row["kwh"]))
                for row in table(self.stretches, "energy", self.cells[0])
                if row["asset"] == cell
            ]
            assert left is not None
            assert first is not None
            if rows_kwh:
                # What is still going on at the end of the last stretch may not be told yet.
                assert sum(rows_kwh) <= left - first + 1e-6
                assert sum(rows_kwh) >= 0.8 * (left - first)

    def test_the_cycle_counter_rises_by_the_cycles_of_the_truth(self) -> None:
        cycles: dict[object, int] = defaultdict(int)
        for row in table(self.stretches, "cycles", self.cells[0]):
            cycles[row["asset"]] += 1
        for (cell, name), changes in series(self.moments).items():
            if name == signal.CYCLE_COUNTER:
                assert float(changes[-1].value) - float(changes[0].value) == cycles[cell]

    def test_every_finished_cycle_is_a_cycle_of_the_truth_at_its_very_end(self) -> None:
        ends: dict[str, list[int]] = defaultdict(list)
        for moment in self.moments:
            if isinstance(moment, CycleEnd):
                ends[moment.cell].append(moment.time_ns // MS)
        for cell, times in ends.items():
            assert times == [
                row["end_ms"]
                for row in table(self.stretches, "cycles", self.cells[0])
                if row["asset"] == cell
            ]


def _check_points(time_ms: npt.NDArray[np.int64], kwh: npt.NDArray[np.float64], stretch: Stretch) -> None:
    assert time_ms[0] == stretch.begin_ms
    assert time_ms[-1] == stretch.end_ms
    assert (np.diff(time_ms) > 0).all()
    assert (np.diff(kwh) >= 0).all()
