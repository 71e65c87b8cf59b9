"""Makes rollups by hour on a server that keeps them, once an hour is over; `server_rollups` reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import sqlalchemy as sa

from ingest_service.plant import rollups
from ingest_service.plant.rollups import BLOCK_BITS, HOUR_NS, Due, RolledSpan
from ingest_service.stores import Buckets, Grid, SeriesInfo, TimeSpan
from ingest_service.stores.buckets import NO_PARTIALS, concat_partials, single
from ingest_service.stores.series import SeriesIndex
from ingest_service.stores.server_points import Rolled, RollupStore
from ingest_service.stores.server_rollups import Samples
from shopfloor.errors import StoreUnavailable

SETTLED_NS: Final = 600 * 1_000_000_000
"""So long after its end an hour is rolled up: most of what comes late is there then."""
AGAIN_NS: Final = 600 * 1_000_000_000
"""An hour of a block that was tried, or became due again, gives way to others for so long."""
_DAY_NS: Final = 24 * HOUR_NS
_BACK_NS: Final = 400 * _DAY_NS
"""History before that is read from samples."""
_TOGETHER: Final = 32
"""Series whose samples are read at once."""
_LOOKED_AT: Final = 200
"""Series whose oldest sample is asked for at once."""
_WAITING: Final = 1_000
_MOST_BUCKETS: Final = 10**9
_NOTHING: Final = single(np.zeros(1, np.int64), np.full(1, np.nan), np.zeros(1, np.uint8))


class History(Samples, Protocol):
    """What rollups are made of."""

    def earliest(self, series: list[SeriesInfo], span: TimeSpan) -> int | None:
        """Return the source time of the oldest sample of some series in a span; None where there is none."""
        ...


class Roller:
    """Makes rollups, a step at a time, for one thread at a time. One process should do it; if two do, it is done twice.

    Args:
        store: takes them.
        engine: the PlantStore's.
        history: what they are made of.
        index: all series.
        learn: brings series of other processes, up to a number, into the index.
    """

    def __init__(
        self,
        store: RollupStore,
        engine: sa.Engine,
        history: History,
        index: SeriesIndex,
        learn: Callable[[int], None],
    ) -> None:
        self._store = store
        self._engine = engine
        self._history = history
        self._index = index
        self._learn = learn
        self._looked_at = 0
        self._oldest: int | None = None
        self._tried: dict[tuple[int, int], int] = {}
        self._closing = False

    def close(self) -> None:
        """Let the present step end soon, by StoreUnavailable."""
        self._closing = True

    def step(self, now_ns: int) -> bool:
        """Do one piece of work; tell whether there is more. Raises StoreUnavailable, SQLAlchemyError."""
        settled = (now_ns - SETTLED_NS) // HOUR_NS * HOUR_NS
        known = rollups.span(self._engine)
        if known is None:
            if len(self._index):
                rollups.begin(self._engine, settled)
            return bool(len(self._index))
        if settled > known.through:
            through = min(settled, known.through + _DAY_NS)
            rollups.extend(self._engine, known.begin, through, is_complete=known.is_complete)
            oldest = (now_ns - _BACK_NS) // HOUR_NS * HOUR_NS
            if known.begin < oldest:
                rollups.drop_before(self._engine, min(oldest, through))
            return True
        self._tried = {unit: at for unit, at in self._tried.items() if now_ns - at < AGAIN_NS}
        waiting = rollups.next_due(self._engine, _WAITING)
        due = next((one for one in waiting if (one.start, one.block) not in self._tried), None)
        if due is not None:
            # One that fails again and again, or never rests, must not keep all others from it.
            self._tried[due.start, due.block] = now_ns
            self._roll_up(due)
            return True
        return not known.is_complete and len(waiting) < _WAITING and self._go_back(known, now_ns)

    def _go_back(self, known: RolledSpan, now_ns: int) -> bool:
        limit = (now_ns - _BACK_NS) // HOUR_NS * HOUR_NS
        if self._looked_at < len(self._index):
            first = self._looked_at + 1
            series = self._series(first, first + _LOOKED_AT - 1)
            found = self._history.earliest(series, TimeSpan(limit, max(limit, known.begin)))
            if found is not None:
                self._oldest = found if self._oldest is None else min(self._oldest, found)
            self._looked_at += len(series)
            return True
        oldest = known.begin if self._oldest is None else self._oldest // HOUR_NS * HOUR_NS
        goal = max(limit, oldest)
        begin = max(goal, known.begin - _DAY_NS)
        rollups.extend(self._engine, begin, known.through, is_complete=begin == goal)
        return True

    def _roll_up(self, due: Due) -> None:
        first, last = due.block << BLOCK_BITS, ((due.block + 1) << BLOCK_BITS) - 1
        self._learn(last)
        span = TimeSpan(due.start, due.start + HOUR_NS)
        grid = Grid(np.array(span, np.int64), HOUR_NS)
        for begin in range(max(1, first), last + 1, _TOGETHER):
            if self._closing:
                raise StoreUnavailable("the store is closing")
            series = self._series(begin, min(last, begin + _TOGETHER - 1))
            if series:
                buckets = self._history.from_samples(series, grid, _MOST_BUCKETS)
                self._write(series, span, buckets)
        rollups.done(self._engine, due)

    def _write(self, series: list[SeriesInfo], span: TimeSpan, buckets: Buckets) -> None:
        keys = [one.key for one in series]
        place_of = {one.id: place for place, one in enumerate(series)}
        places = np.array([place_of[one.id] for one in buckets.series], np.intp)[buckets.series_index]
        # Where a sample was replaced by one that does not count, nothing may be left of its rollup.
        gone = np.setdiff1d(self._store.fetch_rollups(keys, span).place, places)
        if not len(places) and not len(gone):
            return
        self._store.write_rollups(
            keys,
            Rolled(
                np.concatenate([places, gone]),
                np.full(len(places) + len(gone), span.from_ns, np.int64),
                concat_partials([NO_PARTIALS, buckets.partials, *[_NOTHING] * len(gone)]),
            ),
        )

    def _series(self, first: int, last: int) -> list[SeriesInfo]:
        """Return the series with numbers from ``first`` to ``last`` that there are, by key."""
        last = min(last, len(self._index))
        series = [SeriesInfo(number, self._index.keys[number - 1]) for number in range(first, last + 1)]
        return sorted(series, key=lambda one: one.key)
