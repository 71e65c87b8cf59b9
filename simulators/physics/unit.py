"""What every simulated unit is: it plans the truth stretch by stretch, and plays a stretch as a machine shows it.

A unit is a machine, a line of stations, a cell of operators, a compressor. `plan` decides what happens next, in
columns and without looking at single moments; `play` says what somebody who watched the machine would see. Fast runs
only plan; live runs plan and play the same stretches. A unit's future follows from its snapshot alone: after a kill it
plans and plays the very same again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Value: TypeAlias = float | str
Column: TypeAlias = npt.NDArray[np.generic] | Sequence[object] | str | float | int | bool | None
"""Values row by row, or one value for all rows."""
MS: Final = 1_000_000
"""Nanoseconds of a millisecond."""
MAX_STRETCH_MS: Final = 3_600_000
"""No stretch is longer, so that no live run has to hold more than an hour of plan."""


class Change(NamedTuple):
    """A signal that took another value; times are whole milliseconds, as UTC ns."""

    cell: str
    signal: str
    time_ns: int
    value: Value


class CycleEnd(NamedTuple):
    """A finished cycle with all that the machine knows of it, for protocols that say it in one message."""

    cell: str
    time_ns: int
    values: Mapping[str, Value]
    """By signal name; what the machine does not measure is absent."""


Moment: TypeAlias = Change | CycleEnd


class Energy(NamedTuple):
    """Energy drawn since the unit's life began, linear between the points; times in UTC ms."""

    time_ms: npt.NDArray[np.int64]
    kwh: npt.NDArray[np.float64]
    power_factor: float
    """Over the whole stretch."""

    def at(self, time_ms: int) -> float:
        """Return the kWh at a time within the stretch."""
        return float(np.interp(time_ms, self.time_ms, self.kwh))


class Facts(NamedTuple):
    """Rows of one table of the truth; `simulators.truth.TABLES` says which columns there are."""

    table: str
    columns: Mapping[str, Column]
    """Times are UTC ms (``begin_ms``, ``end_ms``)."""


@dataclass(slots=True)
class Stretch:
    """A piece of a unit's future, begun where the last one ended; times in UTC ms."""

    begin_ms: int
    end_ms: int
    facts: list[Facts] = field(default_factory=list)
    """What is true of it. A row may begin before the stretch; none ends after it."""
    energy: Mapping[str, Energy] = field(default_factory=dict)
    """By cell, for cells with an energy meter."""
    detail: object = None
    """What `play` of the same unit needs."""


class Unit(Protocol):
    """A simulated unit on an injected clock. The same construction gives the same stretches and moments."""

    @property
    def cells(self) -> Sequence[str]:
        """Its cells: the last segments of their asset paths, unique within the site."""
        ...

    def plan(self) -> Stretch:
        """Return the next stretch, at most `MAX_STRETCH_MS` and at least a millisecond long."""
        ...

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """Yield what is to be seen in a stretch just planned, begin inclusive, end exclusive, in order of time.

        Lazily: hardly more than a minute is worked out ahead. A signal is said at its first value and then only when it
        changes; within one cell and signal, times rise strictly.
        """
        ...

    def snapshot(self) -> bytes:
        """Return all that its future depends on, between two stretches."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot of a unit that was made with the same arguments."""
        ...
