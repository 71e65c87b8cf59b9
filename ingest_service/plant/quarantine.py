"""Samples that were refused, and why. Blocking."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import sqlalchemy as sa

from ingest_service.plant.engine import insert_new
from ingest_service.plant.schema import quarantine as table
from ingest_service.stores import Refused
from shopfloor.block import Int64
from shopfloor.messages import Batch


def put(engine: sa.Engine, batch: Batch, refused: Refused) -> int:
    """Keep refused rows, keyed by (stream, seq): a repeat changes nothing. Return how many are new."""
    now = time.time_ns()
    rows = batch.block.take(refused.rows)
    reasons = refused.reason_index.tolist()
    records = [
        {
            "stream_id": batch.stream_id,
            "seq": batch.first_seq + row,
            "agent_id": batch.agent_id,
            "reason": refused.reasons[reason],
            "quarantined_at": now,
            "asset": str(sample.series.asset),
            "signal": sample.series.signal,
            "source_time": sample.source_time,
            "received_time": sample.received_time,
            "value": None if np.isnan(sample.value) else sample.value,
            "quality": sample.quality,
            "status": sample.status,
            "text": sample.text,
        }
        for row, reason, sample in zip(refused.rows.tolist(), reasons, rows.rows(), strict=True)
    ]
    if not records:
        return 0
    with engine.begin() as connection:
        result = connection.execute(
            insert_new(engine, table), records, execution_options={"preserve_rowcount": True}
        )
    return max(0, result.rowcount)


def seqs_above(engine: sa.Engine, stream_id: str, mark: int) -> Int64:
    """Return int64[k]: which numbers of a stream above ``mark`` lie in quarantine, ascending."""
    query = (
        sa.select(table.c.seq).where(table.c.stream_id == stream_id, table.c.seq > mark).order_by(table.c.seq)
    )
    with engine.connect() as connection:
        return np.array(connection.scalars(query).all(), np.int64)


def lying(engine: sa.Engine, stream_id: str, first_seq: int, last_seq: int) -> tuple[int, int]:
    """Return how many of these numbers wait in quarantine, and how many were re-admitted from it."""
    query = sa.select(sa.func.count(), sa.func.count(table.c.readmitted_at)).where(
        table.c.stream_id == stream_id, table.c.seq >= first_seq, table.c.seq <= last_seq
    )
    with engine.connect() as connection:
        total, readmitted = connection.execute(query).one()
    return total - readmitted, readmitted


def count(engine: sa.Engine) -> int:
    """Return how many samples lie in quarantine."""
    with engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def newest(engine: sa.Engine, limit: int) -> list[dict[str, Any]]:
    """Return the newest quarantined samples."""
    query = sa.select(table).order_by(table.c.quarantined_at.desc()).limit(limit)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
