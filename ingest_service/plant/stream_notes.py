"""What is known of streams beside their numbers: what came again, and what agents lost without a word. Blocking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from ingest_service.plant.accounting_schema import stream_note as table
from ingest_service.plant.engine import insert_new


class StreamNote(NamedTuple):
    """One stream."""

    stream_id: str
    agent_id: str
    repeated: int
    vanished_through: int
    vanished_at: int | None


def add_repeated(engine: sa.Engine, repeated: Mapping[str, tuple[str, int]]) -> None:
    """Add to the repeats of streams: stream -> (agent, rows)."""
    if not repeated:
        return
    streams = sorted(repeated)
    new = [{"stream_id": stream, "agent_id": repeated[stream][0]} for stream in streams]
    more = [{"which": stream, "rows": repeated[stream][1]} for stream in streams]
    with engine.begin() as connection:
        connection.execute(insert_new(engine, table), new)
        connection.execute(
            table.update()
            .where(table.c.stream_id == sa.bindparam("which"))
            .values(repeated=table.c.repeated + sa.bindparam("rows")),
            more,
        )


def put_vanished(engine: sa.Engine, agent_id: str, vanished: Mapping[str, int], now: int) -> None:
    """Note stream -> the highest number that waited at the edge and does not any more."""
    with engine.begin() as connection:
        for stream_id, through in sorted(vanished.items()):
            connection.execute(insert_new(engine, table), [{"stream_id": stream_id, "agent_id": agent_id}])
            connection.execute(
                table.update()
                .where(table.c.stream_id == stream_id, table.c.vanished_through < through)
                .values(vanished_through=through, vanished_at=now)
            )


def load(engine: sa.Engine, streams: Sequence[str] | None) -> list[StreamNote]:
    """Return the notes on streams, None for all."""
    query = sa.select(*(table.c[name] for name in StreamNote._fields))
    if streams is not None:
        query = query.where(table.c.stream_id.in_(streams))
    with engine.connect() as connection:
        return [StreamNote(*row) for row in connection.execute(query)]
