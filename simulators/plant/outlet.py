"""What a site's protocols have in common: what is said is logged between `take` and `expose`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from shopfloor.signal import SeriesKey
from simulators.emissions import Row, SeriesColumns
from simulators.physics.meter import MeterReading
from simulators.physics.unit import Moment


class Outlet(Protocol):
    """One protocol of a site. Everything belongs to one thread."""

    @property
    def cells(self) -> Collection[str]:
        """The cells whose moments it takes."""
        ...

    @property
    def metered(self) -> Collection[str]:
        """The cells whose meter readings it takes."""
        ...

    @property
    def has_past(self) -> bool:
        """Whether it tells what happened before anybody could listen."""
        ...

    @property
    def series_total(self) -> int:
        """How many series it says."""
        ...

    @property
    def unacknowledged(self) -> int:
        """What it has taken and cannot be sure of yet."""
        ...

    def remember(self, past: Mapping[SeriesKey, SeriesColumns]) -> None:
        """Learn what was said in earlier lives, before anything is taken."""
        ...

    def pass_over(self, cell: str, moments: Sequence[Moment], until_ms: int) -> None:
        """See moments go by that an earlier life has told of already, or that nobody will hear of."""
        ...

    def take(self, cell: str, moments: Sequence[Moment], until_ms: int) -> list[Row]:
        """Take what is to be seen of a cell, in order of time; return the log's rows of what will be said of it."""
        ...

    def begin(self, now_ms: int) -> list[Row]:
        """Take what is to be seen at ``now_ms`` (UTC ms) of signals that have had no value in all their past."""
        ...

    def take_reading(self, cell: str, reading: MeterReading) -> list[Row]:
        """The same for a meter's reading."""
        ...

    async def expose(self, *, past: bool) -> int:
        """Say what was taken, now that it is logged; returns how many values.

        Args:
            past: it all happened before anybody could listen.
        """
        ...

    def snapshots(self) -> dict[str, bytes]:
        """Return what it must remember over a restart besides the log, by cell."""
        ...

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Go on from `snapshots`."""
        ...

    async def start(self) -> None:
        """Listen, or begin to connect; raises StoreUnavailable where the port is taken."""
        ...

    def feed(self) -> None:
        """Go on with what is under way; called every tick."""
        ...

    async def stop(self) -> None:
        """Close everything."""
        ...
