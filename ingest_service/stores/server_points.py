"""What a database server does for a store: take points, and give them back. All of it blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ingest_service.stores import Capabilities, Partials, TimeSpan
from ingest_service.stores.own_points import Point
from shopfloor.block import Int64, SampleBlock, UInt32
from shopfloor.signal import SeriesKey


class Turned(NamedTuple):
    """Rows that the server turned away for what they are, and why; all others are there."""

    rows: Int64
    reason: str


NOTHING_TURNED = Turned(np.empty(0, np.int64), "")


class Fetched(NamedTuple):
    """Samples of some series."""

    block: SampleBlock
    """Its series are those that were asked for, in their order; its rows lie by (series, source time)."""
    more: frozenset[int]
    """Places of series of which there may be more than were asked for."""


class Rolled(NamedTuple):
    """Partial aggregates of hours, ``n`` of them."""

    place: npt.NDArray[np.intp]
    """int[n], whose: places among the series that were asked for."""
    start: Int64
    """int64[n], the hours' begins, UTC ns."""
    partials: Partials


class RollupStore(Protocol):
    """A server that gives partial aggregates back as they are, bit by bit. All of it blocks."""

    def write_rollups(self, keys: Sequence[SeriesKey], rolled: Rolled) -> None:
        """Make partial aggregates durable, in place of those of the same series and hour."""
        ...

    def fetch_rollups(self, keys: Sequence[SeriesKey], span: TimeSpan) -> Rolled:
        """Return the partial aggregates of hours that begin in a span, in any order."""
        ...


class PointStore(Protocol):
    """One database server. Raises StoreUnavailable where it does not answer as it should."""

    @property
    def rollups(self) -> RollupStore | None:
        """Where partial aggregates can be kept beside the points; None for nowhere."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """See `SampleStore.capabilities`; what is said there holds with what the PlantStore keeps."""
        ...

    def unfit(self, ids: UInt32, block: SampleBlock) -> npt.NDArray[np.bool_]:
        """Return bool[n]: the rows that would not come back as they are, so that the PlantStore has to keep them."""
        ...

    def write(self, keys: Sequence[SeriesKey], ids: UInt32, block: SampleBlock) -> Turned:
        """Make rows durable; writing them again changes nothing.

        Args:
            keys: all series; series ``i + 1`` stands at ``i``.
            ids: uint32[n], the rows' series; those of the block are not looked at.
            block: the rows.
        """
        ...

    def fetch(
        self, keys: Sequence[SeriesKey], span: TimeSpan, limit: int, *, newest_first: bool = False
    ) -> Fetched:
        """Return the oldest, or the newest, ``limit`` samples of each series in a span."""
        ...

    def report(self, points: Sequence[Point]) -> None:
        """Write points of the service's own; they need not be durable when this returns."""
        ...

    def check(self) -> None:
        """Raise StoreUnavailable where the server does not answer."""
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


def repeated_times(ids: UInt32, source_time: Int64) -> npt.NDArray[np.bool_]:
    """Return bool[n]: rows whose series and time stood in an earlier row already. A point has one value."""
    order = np.lexsort((source_time, ids))
    same = (ids[order][1:] == ids[order][:-1]) & (source_time[order][1:] == source_time[order][:-1])
    repeated = np.zeros(len(ids), np.bool_)
    repeated[order[1:]] = same
    return repeated
