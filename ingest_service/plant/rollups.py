"""Which hours of which series have their rollups on a server: all of a span, but for those that are due.

An hour is due from the moment on at which it is counted among those of the span, or at which a sample of it is stored
later. What is stored says so in the transaction that moves its watermark, and that transaction keeps the span as it is:
so a rollup that was read from samples which are all there, and is not due, is right.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from ingest_service.plant.engine import insert_new, insert_or_replace, is_shared
from ingest_service.plant.server_schema import rollup, rollup_due, series
from shopfloor.block import Int64, UInt32

HOUR_NS: Final = 3600 * 1_000_000_000
BLOCK_BITS: Final = 8
"""Series ``n`` belongs to block ``n >> BLOCK_BITS``: those of a block become due and are rolled up together."""
_ONLY: Final = 1
_CHUNK: Final = 500


class RolledSpan(NamedTuple):
    """The hours that are counted."""

    begin: int
    """Source time, UTC ns, a whole hour."""
    through: int
    """The first hour that is not counted."""
    is_complete: bool
    """Nothing before it is worth it."""


class Due(NamedTuple):
    """An hour of a block of series that has to be rolled up."""

    start: int
    block: int
    version: int


def span(engine: sa.Engine) -> RolledSpan | None:
    """Return the span; None before the first."""
    with engine.connect() as connection:
        return _span(connection)


def begin(engine: sa.Engine, hour: int) -> None:
    """Count from an hour on; nothing is rolled up yet. Changes nothing where another process has done it."""
    with engine.begin() as connection:
        if is_shared(engine):
            # Whoever looked for the span, found none and has not committed yet is waited for.
            connection.execute(sa.text("LOCK TABLE rollup IN EXCLUSIVE MODE"))
        row = {"rollup_id": _ONLY, "begin_at": hour, "through": hour, "complete": 0}
        connection.execute(insert_new(engine, rollup), row)


def drop_before(engine: sa.Engine, hour: int) -> None:
    """Count no hours before one any more: they are read from samples."""
    with engine.begin() as connection:
        connection.execute(sa.update(rollup).where(rollup.c.begin_at < hour).values(begin_at=hour))
        connection.execute(sa.delete(rollup_due).where(rollup_due.c.start < hour))


def extend(engine: sa.Engine, begin_ns: int, through_ns: int, *, is_complete: bool) -> None:
    """Count more hours, at either end: whole ones, of which all are due now.

    Waits until what has been stored without knowing of it is committed.
    """
    with engine.begin() as connection:
        # Takes the row before it is read: on both databases nobody else changes it from here on.
        connection.execute(sa.update(rollup).values(rollup_id=_ONLY))
        known = _span(connection)
        if known is None:  # all is being made again
            return
        begin_ns, through_ns = min(begin_ns, known.begin), max(through_ns, known.through)
        blocks = range(
            ((connection.scalar(sa.select(sa.func.max(series.c.series_id))) or 0) >> BLOCK_BITS) + 1
        )
        hours = [*range(begin_ns, known.begin, HOUR_NS), *range(known.through, through_ns, HOUR_NS)]
        version = _new_version()
        rows = [{"start": hour, "block": block, "version": version} for hour in hours for block in blocks]
        for first in range(0, len(rows), _CHUNK):
            connection.execute(insert_new(engine, rollup_due), rows[first : first + _CHUNK])
        values = {"begin_at": begin_ns, "through": through_ns, "complete": int(is_complete)}
        connection.execute(sa.update(rollup).values(values))


def mark(engine: sa.Engine, connection: sa.Connection, ids: UInt32, source_time: Int64) -> None:
    """Let hours be due again of which samples are being stored, in the transaction that acknowledges them.

    Args:
        engine: the connection's.
        connection: has written something already, so that nobody else's write comes between.
        ids: uint32[n], series.
        source_time: int64[n], UTC ns.
    """
    # Held until the commit: who counts more hours waits for it.
    known = _span(connection, shared=True)
    if known is None:
        return
    late = (source_time < known.through) & (source_time >= known.begin)
    if not late.any():
        return
    units = np.stack([source_time[late] // HOUR_NS, ids[late].astype(np.int64) >> BLOCK_BITS], axis=1)
    # Sorted: of two processes that mark the same ones in other orders one would fail.
    version = _new_version()
    rows = [
        {"start": hour * HOUR_NS, "block": block, "version": version}
        for hour, block in np.unique(units, axis=0).tolist()
    ]
    statement = insert_or_replace(engine, rollup_due, ("start", "block"), ("version",))
    for first in range(0, len(rows), _CHUNK):
        connection.execute(statement, rows[first : first + _CHUNK])


def next_due(engine: sa.Engine, most: int = 1) -> list[Due]:
    """Return what should be rolled up next: the newest first."""
    query = sa.select(rollup_due).order_by(rollup_due.c.start.desc(), rollup_due.c.block).limit(most)
    with engine.connect() as connection:
        return [Due(*row) for row in connection.execute(query)]


def count_due(engine: sa.Engine) -> int:
    """Return how many hours of blocks are due."""
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(rollup_due)) or 0


def done(engine: sa.Engine, due: Due) -> None:
    """Note that a rollup is there; it stays due where more has been stored since it was asked for.

    Where another process has made it meanwhile it becomes due again: this one may have written over something newer.
    """
    column = rollup_due.c
    with engine.begin() as connection:
        deleted = connection.execute(
            sa.delete(rollup_due).where(
                column.start == due.start, column.block == due.block, column.version == due.version
            )
        )
        if not deleted.rowcount:
            row = {"start": due.start, "block": due.block, "version": _new_version()}
            connection.execute(insert_new(engine, rollup_due), row)


def due_in(engine: sa.Engine, blocks: Collection[int], begin_ns: int, end_ns: int) -> dict[int, list[int]]:
    """Return the hours of a span that are due, ascending, of those blocks that have any."""
    column = rollup_due.c
    found: dict[int, list[int]] = {}
    names = sorted(blocks)
    with engine.connect() as connection:
        for first in range(0, len(names), _CHUNK):
            query = (
                sa.select(column.block, column.start)
                .where(
                    column.block.in_(names[first : first + _CHUNK]),
                    column.start >= begin_ns,
                    column.start < end_ns,
                )
                .order_by(column.start)
            )
            for block, start in connection.execute(query):
                found.setdefault(block, []).append(start)
    return found


def restart(connection: sa.Connection) -> None:
    """Forget all: samples were brought in without `mark`, in the caller's transaction."""
    connection.execute(sa.delete(rollup_due))
    connection.execute(sa.delete(rollup))


def _new_version() -> int:
    # One that came back would let a rollup count that lacks what was stored in between.
    return secrets.randbits(62)


def _span(connection: sa.Connection, *, shared: bool = False) -> RolledSpan | None:
    query = sa.select(rollup.c.begin_at, rollup.c.through, rollup.c.complete)
    row = connection.execute(query.with_for_update(read=True) if shared else query).one_or_none()
    return RolledSpan(row.begin_at, row.through, bool(row.complete)) if row else None


def blocks_of(ids: Iterable[int]) -> set[int]:
    """Return the blocks of some series."""
    return {number >> BLOCK_BITS for number in ids}
