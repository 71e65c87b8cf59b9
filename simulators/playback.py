"""Plays a unit on a clock: plans stretch after stretch, says what is to be seen, and hands on what was true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from simulators.physics.unit import MS, Change, CycleEnd, Facts, Moment, Stretch, Unit
from simulators.truth_so_far import so_far

TruthSink = Callable[[Unit, Sequence[Facts]], None]


@runtime_checkable
class SaysAnew(Protocol):
    """A unit that can say everything again to somebody who has not listened before."""

    def say_anew(self) -> None:
        """Say every signal again in the next stretch."""
        ...


class Playback:
    """One unit on an injected clock.

    Args:
        unit: fresh or restored; its next stretch is the first that is played. If it can, it says everything anew.
        told: takes the facts of each stretch once it is over.
    """

    def __init__(self, unit: Unit, told: TruthSink | None = None) -> None:
        self.unit = unit
        self._told = told
        self.snapshot = b""
        """What the unit was at the begin of the stretch that is being played: to restart from."""
        self._stretch: Stretch
        self._moments: Iterator[Moment]
        self._next: Moment | None
        if isinstance(unit, SaysAnew):
            unit.say_anew()
        self._begin()

    @property
    def begin_ms(self) -> int:
        """When the stretch began that is being played, UTC ms."""
        return self._stretch.begin_ms

    def advance(self, to_ns: int) -> list[Moment]:
        """Return all that is to be seen up to ``to_ns`` (inclusive) since the last call, in order of time."""
        seen: list[Moment] = []
        while True:
            while self._next is not None and self._next.time_ns <= to_ns:
                seen.append(self._next)
                self._next = next(self._moments, None)
            if self._stretch.end_ms * MS > to_ns:
                return seen
            assert self._next is None, "a unit played a moment at or after its stretch's end"
            if self._told is not None:
                self._told(self.unit, self._stretch.facts)
            self._begin()

    def skip(self, to_ns: int) -> list[Change]:
        """Let time pass unseen; return the newest change of each signal, in order of time."""
        newest: dict[tuple[str, str], Change] = {}
        for moment in self.advance(to_ns):
            if not isinstance(moment, CycleEnd):
                newest[moment.cell, moment.signal] = moment
        return sorted(newest.values(), key=lambda change: change.time_ns)

    def energy_kwh(self, cell: str, at_ns: int) -> float:
        """Return what a cell has drawn in its life, at a time that `advance` has reached but no later stretch."""
        return self._stretch.energy[cell].at(at_ns // MS)

    def power_factor(self, cell: str) -> float:
        """Return a cell's power factor in the present stretch."""
        return self._stretch.energy[cell].power_factor

    def unfinished(self, now_ns: int) -> list[Facts]:
        """Return what is true of the present stretch so far."""
        return so_far(self._stretch.facts, now_ns // MS)

    def _begin(self) -> None:
        self.snapshot = self.unit.snapshot()
        self._stretch = self.unit.plan()
        self._moments = iter(self.unit.play(self._stretch))
        self._next = next(self._moments, None)
