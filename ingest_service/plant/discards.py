"""Refused samples that do not lie in quarantine, or not any more: how many of which stream, and why. Blocking."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import sqlalchemy as sa

from ingest_service.plant.accounting_schema import discard as table
from ingest_service.plant.engine import insert_new
from ingest_service.stores import Refused
from shopfloor.messages import Batch


class Fate(StrEnum):
    """What became of them."""

    FULL = "full"
    """There was no room in quarantine: dropped."""
    PURGED = "purged"
    """Somebody threw them away: dropped."""
    READMITTED = "readmitted"
    """They are stored; the row that said so was purged."""


class Discard(NamedTuple):
    """``samples`` of them, with numbers from ``first_seq`` to ``last_seq`` of a stream."""

    stream_id: str
    agent_id: str
    first_seq: int
    last_seq: int
    samples: int
    fate: Fate
    reason: str


def put_full(engine: sa.Engine, batch: Batch, refused: Refused) -> None:
    """Count the refused rows of a batch for which there was no room; a repeat changes nothing."""
    first_seq = batch.first_seq + int(refused.rows[0])
    # One id for the same rows of the same stream.
    digest = hashlib.sha256(batch.stream_id.encode()).hexdigest()[:24]
    record = {
        "discard_id": f"full.{digest}.{first_seq}",
        "stream_id": batch.stream_id,
        "agent_id": batch.agent_id,
        "first_seq": first_seq,
        "last_seq": batch.first_seq + int(refused.rows[-1]),
        "count": len(refused),
        "fate": str(Fate.FULL),
        "reason": ", ".join(refused.counts())[:200],
        "at": time.time_ns(),
    }
    with engine.begin() as connection:
        connection.execute(insert_new(engine, table), [record])


def forget_above(engine: sa.Engine, stream_id: str, mark: int) -> None:
    """Forget what was counted of batches that did not become durable."""
    query = sa.select(table.c.discard_id).where(
        table.c.stream_id == stream_id, table.c.first_seq > mark, table.c.fate == str(Fate.FULL)
    )
    with engine.connect() as connection:
        found = connection.scalars(query).all()
    if found:
        with engine.begin() as connection:
            connection.execute(table.delete().where(table.c.discard_id.in_(found)))


def of_streams(engine: sa.Engine, streams: Sequence[str] | None) -> list[Discard]:
    """Return what was discarded of streams, None for all, by (stream, first seq)."""
    query = sa.select(table).order_by(table.c.stream_id, table.c.first_seq)
    if streams is not None:
        query = query.where(table.c.stream_id.in_(streams))
    with engine.connect() as connection:
        return [
            Discard(
                row["stream_id"],
                row["agent_id"],
                row["first_seq"],
                row["last_seq"],
                row["count"],
                Fate(row["fate"]),
                row["reason"],
            )
            for row in connection.execute(query).mappings()
        ]
