"""Loss records: what will not come, and why. Blocking."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from ingest_service.plant.engine import insert_new
from ingest_service.plant.schema import span as table
from shopfloor.messages import SpanRecord


def put(engine: sa.Engine, agent_id: str, spans: Sequence[SpanRecord]) -> None:
    """Keep loss records; one with a known ``record_id`` changes nothing."""
    now = time.time_ns()
    records = [
        {
            **msgspec.to_builtins(one),
            "agent_id": agent_id,
            "at_least": int(one.at_least),
            "recorded_at": now,
        }
        for one in spans
    ]
    if records:
        with engine.begin() as connection:
            connection.execute(insert_new(engine, table), records)


def of_stream(engine: sa.Engine, stream_id: str) -> list[tuple[int, int, str, int]]:
    """Return (first seq, last seq, kind, count) of a stream's loss records, ascending."""
    query = (
        sa.select(table.c.first_seq, table.c.last_seq, table.c.kind, table.c["count"])
        .where(table.c.stream_id == stream_id)
        .order_by(table.c.first_seq)
    )
    with engine.connect() as connection:
        return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]
