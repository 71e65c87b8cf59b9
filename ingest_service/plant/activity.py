"""What agents did in a span of time, by the ledger and the quarantine. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from ingest_service.plant.schema import quarantine, span
from ingest_service.plant.server_schema import ledger
from shopfloor.messages import SpanKind, SpanRecord


class Activity(NamedTuple):
    """Counts of one span of time."""

    stored: Mapping[str, int]
    """Agent -> samples stored."""
    refused: Mapping[str, int]
    """Agent -> samples refused."""
    reasons: Mapping[tuple[str, str], int]
    """(agent, reason without its details) -> samples that went to quarantine."""
    gaps: Mapping[str, int]
    """Agent -> loss records of what nobody has any more: dropped by the edge, or never got from a source."""


NOTHING = Activity({}, {}, {}, {})


def between(engine: sa.Engine, from_ns: int, to_ns: int) -> Activity:
    """Return what was stored and refused at or after ``from_ns`` and before ``to_ns`` (UTC ns, our clock)."""
    of_ledger = (
        sa.select(ledger.c.agent_id, sa.func.sum(ledger.c.stored), sa.func.sum(ledger.c.rejected))
        .where(ledger.c.received_at >= from_ns, ledger.c.received_at < to_ns)
        .group_by(ledger.c.agent_id)
    )
    of_quarantine = (
        sa.select(quarantine.c.agent_id, quarantine.c.reason, sa.func.count())
        .where(quarantine.c.quarantined_at >= from_ns, quarantine.c.quarantined_at < to_ns)
        .group_by(quarantine.c.agent_id, quarantine.c.reason)
    )
    of_spans = (
        sa.select(span.c.agent_id, sa.func.count())
        .where(
            span.c.recorded_at >= from_ns,
            span.c.recorded_at < to_ns,
            span.c.kind != SpanKind.QUARANTINED.value,
        )
        .group_by(span.c.agent_id)
    )
    stored: dict[str, int] = {}
    refused: dict[str, int] = {}
    reasons: dict[tuple[str, str], int] = {}
    with engine.connect() as connection:
        for agent_id, good, bad in connection.execute(of_ledger):
            stored[agent_id], refused[agent_id] = int(good), int(bad)
        for agent_id, reason, count in connection.execute(of_quarantine):
            # What follows the colon may differ from sample to sample: a tag must not.
            name = (agent_id, reason.partition(":")[0][:64])
            reasons[name] = reasons.get(name, 0) + int(count)
        gaps = {agent_id: int(count) for agent_id, count in connection.execute(of_spans)}
    return Activity(stored, refused, reasons, gaps)


def losses(engine: sa.Engine, from_ns: int, limit: int) -> list[tuple[SpanRecord, int]]:
    """Return the loss records that were recorded at or after ``from_ns``, newest first, with that time (UTC ns)."""
    query = (
        sa.select(span).where(span.c.recorded_at >= from_ns).order_by(span.c.recorded_at.desc()).limit(limit)
    )
    with engine.connect() as connection:
        return [
            (msgspec.convert(_words(row), SpanRecord), row["recorded_at"])
            for row in connection.execute(query).mappings()
        ]


def _words(row: Mapping[Any, Any]) -> dict[str, Any]:
    words = {name: row[name] for name in SpanRecord.__struct_fields__}
    return words | {"at_least": bool(words["at_least"])}
