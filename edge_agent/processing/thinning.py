"""Leaves out what rules allow to leave out; the state of all series, and the way from blocks to decisions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from edge_agent.processing import held
from edge_agent.processing.config import RuleConfig
from edge_agent.processing.records import (
    LIMITS,
    Mask,
    Records,
    gathered,
    limits_of,
    nothing_seen,
    scatter,
    text_tag,
)
from edge_agent.processing.rounds import Readings, decide, release_held
from edge_agent.processing.single import decide_run
from edge_agent.processing.step import NOTHING, Step
from shopfloor.block import Float64, Int64, Quality, SampleBlock, UInt32, concat, make_block
from shopfloor.signal import SeriesKey

WIDE: Final = 48
"""From so many series on, deciding for all at once is cheaper than for one after the other."""


class _Earlier(NamedTuple):
    """Readings of earlier blocks that are kept after all: for each the position of its series, and its memory."""

    position: UInt32
    memory: Records


class Thinner:
    """The memory of every series that a rule thins; bounded as the sources' series are."""

    def __init__(self, saved: Mapping[str, bytes]) -> None:
        """Begin with what an earlier life of the process held (any state; other keys are left alone)."""
        self._keys: list[SeriesKey] = []
        self._memory = nothing_seen(64)
        self._limits = np.zeros(64, dtype=LIMITS)
        self._named: dict[int, int] = {}
        self._restored = held.restore(saved)
        self._outdated = [key for key in saved if key.startswith(held.PREFIX)]
        self._interrupted = False

    def register(self, key: SeriesKey, rule: RuleConfig) -> int:
        """Return the number of a series that has not been seen before."""
        number = len(self._keys)
        self._keys.append(key)
        if number == len(self._memory):
            self._memory = np.concatenate([self._memory, nothing_seen(number)])
            self._limits = np.concatenate([self._limits, np.zeros(number, dtype=LIMITS)])
        self._limits[number] = limits_of(rule)
        return number

    def interrupt(self) -> None:
        """Let the next readings of all series be kept: nobody knows what happened before them."""
        self._interrupted = len(self._keys) > 0

    @property
    def is_unsettled(self) -> bool:
        """Whether readings wait that have to be kept before anything else."""
        return self._interrupted or bool(self._outdated)

    def settle(self, now_ns: int) -> Step:
        """Keep what must not wait any longer: after a restart, an interruption, or its time (monotonic ns)."""
        step = Step(NOTHING)
        if self._outdated:
            step.block, step.state = self._restored, dict.fromkeys(self._outdated, b"")
            step.back.append(partial(self._unrestore, self._restored, self._outdated))
            self._restored, self._outdated = NOTHING, []
        count = len(self._keys)
        memory, limits = self._memory[:count], self._limits[:count]
        interrupted, self._interrupted = self._interrupted, False
        if interrupted:
            numbers = np.arange(count)
            release = memory["waits"] & (memory["held"] | limits["previous"])
            step.back.append(self.interrupt)
        else:
            numbers = np.flatnonzero(memory["held"] & (now_ns - memory["held_since"] >= limits["hold_ns"]))
            release = np.ones(len(numbers), dtype=np.bool_)
        if not len(numbers):
            return step
        before = gathered(memory, numbers)
        after = release_held(before)
        if interrupted:
            after["begun"] = False
            after["in_minute"] = 0
        step.thinned = int((before["waits"] & ~release).sum())
        released = numbers[release]
        if len(released):
            series = tuple(self._keys[number] for number in released.tolist())
            late = _samples(series, np.arange(len(series), dtype=np.uint32), before[release])
            step.block = concat([step.block, late]) if len(step.block) else late
        self._remember(numbers, before, after, step)
        return step

    def take(self, block: SampleBlock, numbers: Int64, now_ns: int) -> Step:
        """Return what is left of a block.

        Args:
            block: n samples.
            numbers: int64[n], what `register` returned for each row's series, -1 for series without limits.
            now_ns: monotonic ns.
        """
        rows = np.flatnonzero(numbers >= 0)
        if not len(rows):
            return Step(block)
        mine = numbers[rows]
        readings = _readings(block, rows)
        keep = np.ones(len(block), dtype=np.bool_)
        keep[rows] = False
        earlier: list[_Earlier] = []
        # In the blocks of a poll each series stands once, in one order.
        alone = len(rows) >= WIDE and bool((mine[1:] > mine[:-1]).all())
        touched = mine if alone else np.unique(mine)
        before = gathered(self._memory, touched)
        self._memory["seen_row"][touched] = -1
        if alone:
            self._decide_round(block, mine, readings, now_ns, keep, earlier)
        else:
            self._decide_mixed(block, mine, readings, now_ns, keep, earlier)

        after = gathered(self._memory, touched)
        came = sum(len(each.position) for each in earlier)
        step = Step(block)
        if not keep.all():
            step.block = block.take(keep)
        if earlier:
            first = _samples(
                block.series,
                np.concatenate([each.position for each in earlier]),
                np.concatenate([each.memory for each in earlier]),
            )
            step.block = concat([first, step.block])
        step.thinned = (
            len(rows) - int(keep[rows].sum()) - came + int(before["waits"].sum()) - int(after["waits"].sum())
        )
        self._remember(touched, before, after, step)
        return step

    def _decide_mixed(
        self,
        block: SampleBlock,
        numbers: Int64,
        new: Readings,
        now_ns: int,
        keep: Mask,
        earlier: list[_Earlier],
    ) -> None:
        """Decide on the first reading of every series, then on the second, while there are many; then on the rest."""
        order = np.argsort(numbers, kind="stable")
        grouped = numbers[order]
        starts = np.flatnonzero(np.diff(grouped, prepend=-1))
        occurrence = np.arange(len(grouped)) - np.repeat(starts, np.diff(starts, append=len(grouped)))
        by_round = np.argsort(occurrence, kind="stable")
        done = 0
        for size in np.bincount(occurrence).tolist():
            if size < WIDE:
                break
            chosen = order[by_round[done : done + size]]
            self._decide_round(block, numbers[chosen], new.take(chosen), now_ns, keep, earlier)
            done += size
        rest = order[np.sort(by_round[done:])]
        if len(rest):
            self._decide_runs(block, numbers[rest], new.take(rest), now_ns, keep, earlier)

    def _decide_round(
        self,
        block: SampleBlock,
        numbers: Int64,
        new: Readings,
        now_ns: int,
        keep: Mask,
        earlier: list[_Earlier],
    ) -> None:
        before = gathered(self._memory, numbers)
        decision = decide(before, gathered(self._limits, numbers), new, now_ns)
        scatter(self._memory, numbers, decision.after)
        keep[new.row[decision.keep]] = True
        if decision.release.any():
            row = before["seen_row"]
            keep[row[decision.release & (row >= 0)]] = True
            old = decision.release & (row < 0)
            if old.any():
                earlier.append(_Earlier(block.series_index[new.row[old]], before[old]))

    def _decide_runs(
        self,
        block: SampleBlock,
        numbers: Int64,
        new: Readings,
        now_ns: int,
        keep: Mask,
        earlier: list[_Earlier],
    ) -> None:
        columns = [column.tolist() for column in new]
        bounds = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1)).tolist()
        for start, end in pairwise(bounds):
            number = int(numbers[start])
            before = self._memory[number : number + 1].copy()
            run = decide_run(
                before[0],
                self._limits[number],
                zip(*(column[start:end] for column in columns), strict=True),
                now_ns,
            )
            self._memory[number] = run.after
            keep[run.kept] = True
            if run.released:
                earlier.append(
                    _Earlier(block.series_index[columns[0][start] : columns[0][start] + 1], before)
                )

    def _remember(self, numbers: Int64, before: Records, after: Records, step: Step) -> None:
        """Make ``after`` what is known, add to ``step`` what has to be saved of it, and the way back."""
        scatter(self._memory, numbers, after)
        step.back.append(partial(self._go_back, numbers, before))
        changed = before["held"] | after["held"]
        if not changed.any():
            return
        pages = np.unique(numbers[changed] // held.PAGE)
        step.state |= held.held_pages(self._memory[: len(self._keys)], pages)
        for page in pages.tolist():
            start, end = page * held.PAGE, min(len(self._keys), (page + 1) * held.PAGE)
            known = self._named.get(page, 0)
            if known < end - start:
                step.state[held.series_key(page)] = held.series_names(self._keys[start:end])
                step.back.append(partial(self._named.__setitem__, page, known))
                self._named[page] = end - start

    def _go_back(self, numbers: Int64, before: Records) -> None:
        scatter(self._memory, numbers, before)

    def _unrestore(self, restored: SampleBlock, outdated: list[str]) -> None:
        self._restored, self._outdated = restored, outdated


def _readings(block: SampleBlock, rows: Int64) -> Readings:
    value, status = block.value[rows], block.status[rows]
    good = block.quality[rows] == Quality.GOOD
    tag = status.astype(np.uint64)
    plain = np.isfinite(value)
    if block.text:
        for position, row in enumerate(rows.tolist()):
            text = block.text.get(row)
            if text is not None:
                tag[position] = text_tag(int(status[position]), text)
                plain[position] = True
    return Readings(
        rows, block.source_time[rows], value, block.received_time[rows], status, tag, plain & good
    )


def _samples(series: tuple[SeriesKey, ...], positions: UInt32, memory: Records) -> SampleBlock:
    value: Float64 = memory["seen_value"]
    return make_block(
        series,
        positions,
        memory["seen_time"],
        memory["seen_received"],
        value,
        Quality.GOOD,
        memory["seen_status"],
    )
