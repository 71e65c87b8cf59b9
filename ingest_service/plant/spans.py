"""Loss records: what will not come, and why. Blocking."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from ingest_service.plant.engine import insert_new
from ingest_service.plant.schema import span as table
from shopfloor.messages import SpanKind, SpanRecord


class Loss(NamedTuple):
    """A loss record of numbers of a stream."""

    first_seq: int
    last_seq: int
    kind: SpanKind
    reason: str
    recorded_at: int
    """When the service learned of it, UTC ns."""


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


def of_streams(engine: sa.Engine, streams: Sequence[str] | None) -> list[tuple[str, str, Loss]]:
    """Return (stream, agent, loss) of numbered losses of streams, None for all, by (stream, first seq)."""
    c = table.c
    query = (
        sa.select(c.stream_id, c.agent_id, c.first_seq, c.last_seq, c.kind, c.reason, c.recorded_at)
        .where(c.stream_id != "", c.kind != str(SpanKind.SOURCE_GAP))
        .order_by(c.stream_id, c.first_seq)
    )
    if streams is not None:
        query = query.where(c.stream_id.in_(streams))
    with engine.connect() as connection:
        return [
            (row[0], row[1], Loss(row[2], row[3], SpanKind(row[4]), row[5], row[6]))
            for row in connection.execute(query)
        ]


def source_gaps(engine: sa.Engine, from_ns: int, to_ns: int, limit: int) -> list[dict[str, Any]]:
    """Return the gaps of sources that reach into a span of the machines' time, by their beginning."""
    c = table.c
    query = (
        sa.select(table)
        .where(c.kind == str(SpanKind.SOURCE_GAP), c.from_time < to_ns, c.to_time >= from_ns)
        .order_by(c.from_time, c.record_id)
        .limit(limit)
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def without_numbers(
    engine: sa.Engine, agents: Collection[str] | None, from_ns: int, to_ns: int, limit: int
) -> list[dict[str, Any]]:
    """Return what was lost before it had a number, newest first: gaps of sources, and what a damaged file held.

    Args:
        engine: the plant's database.
        agents: whose; None for everybody's, also of unknown ones.
        from_ns: recorded at or after, UTC ns.
        to_ns: and before.
        limit: at most so many.
    """
    c = table.c
    query = (
        sa.select(table)
        .where(sa.or_(c.stream_id == "", c.kind == str(SpanKind.SOURCE_GAP)))
        .where(c.recorded_at >= from_ns, c.recorded_at < to_ns)
        .order_by(c.recorded_at.desc(), c.record_id)
        .limit(limit)
    )
    if agents is not None:
        query = query.where(c.agent_id.in_(list(agents)))
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
