"""What people decide on quarantined samples: to store them after all, or to throw them away. Blocking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ingest_service.plant.accounting_schema import discard
from ingest_service.plant.discards import Fate
from ingest_service.plant.schema import quarantine as table
from shopfloor.messages import new_id

Key = tuple[str, int]
"""Stream and number."""


class Decision(NamedTuple):
    """Who decides, and when."""

    by: str
    at: int
    """UTC ns."""


def claim(engine: sa.Engine, keys: Sequence[Key], stream_id: str, decision: Decision) -> list[dict[str, Any]]:
    """Give samples that wait numbers of a stream of the service's own; return their rows, in that order.

    From then on they are stored exactly once: whoever finishes this, now or after a restart, writes the same numbers.
    Samples that are gone or claimed by now are left out.
    """
    with engine.begin() as connection:
        rows = [row for row in _locked(connection, keys) if row["readmit_stream"] is None]
        if not rows:
            return []
        for number, row in enumerate(rows, 1):
            row |= {"readmit_stream": stream_id, "readmit_seq": number, "readmitted_by": decision.by[:200]}
        connection.execute(
            _where_key().values(
                readmit_stream=stream_id, readmit_seq=sa.bindparam("number"), readmitted_by=decision.by[:200]
            ),
            [{"stream": row["stream_id"], "of": row["seq"], "number": row["readmit_seq"]} for row in rows],
        )
    return rows


def settle(engine: sa.Engine, stream_id: str, at: int) -> dict[str, int]:
    """Note that a claimed stream is stored, but for what the store itself refused: that waits as before.

    Return how many that are, by reason.
    """
    refused: dict[str, int] = {}
    with engine.begin() as connection:
        query = sa.select(table.c.seq, table.c.reason).where(table.c.stream_id == stream_id)
        for number, reason in connection.execute(query).all():
            refused[reason] = refused.get(reason, 0) + 1
            connection.execute(
                table.update()
                .where(table.c.readmit_stream == stream_id, table.c.readmit_seq == number)
                .values(readmit_stream=None, readmit_seq=None, readmitted_by="")
            )
            # It lies here under the number that it got as well: one of the two is enough.
            connection.execute(table.delete().where(table.c.stream_id == stream_id, table.c.seq == number))
        connection.execute(
            table.update()
            .where(table.c.readmit_stream == stream_id, table.c.readmitted_at.is_(None))
            .values(readmitted_at=at)
        )
    return refused


def open_claims(engine: sa.Engine) -> list[str]:
    """Return the streams of claims that are not settled."""
    query = (
        sa.select(table.c.readmit_stream)
        .where(table.c.readmit_stream.is_not(None), table.c.readmitted_at.is_(None))
        .distinct()
    )
    with engine.connect() as connection:
        return list(connection.scalars(query))


def claimed(engine: sa.Engine, stream_id: str) -> list[dict[str, Any]]:
    """Return the rows of a claim in the order of their new numbers."""
    query = sa.select(table).where(table.c.readmit_stream == stream_id).order_by(table.c.readmit_seq)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def purge(engine: sa.Engine, keys: Sequence[Key], decision: Decision) -> int:
    """Throw samples away, in one transaction with the count of them; return how many.

    What is about to be stored stays. Of what is stored only the copy here is thrown away.
    """
    with engine.begin() as connection:
        rows = [
            row
            for row in _locked(connection, keys)
            if row["readmit_stream"] is None or row["readmitted_at"] is not None
        ]
        if not rows:
            return 0
        connection.execute(discard.insert(), list(_discards(rows, decision)))
        connection.execute(
            table.delete().where(
                table.c.stream_id == sa.bindparam("stream"), table.c.seq == sa.bindparam("of")
            ),
            [{"stream": row["stream_id"], "of": row["seq"]} for row in rows],
        )
    return len(rows)


def _discards(rows: Iterable[Mapping[str, Any]], decision: Decision) -> Iterable[dict[str, Any]]:
    groups: dict[tuple[str, str, Fate, int], list[int]] = {}
    for row in rows:
        fate = Fate.PURGED if row["readmitted_at"] is None else Fate.READMITTED
        # One record a batch, whose samples have one moment: so it belongs to one moment as well.
        group = (row["stream_id"], row["agent_id"], fate, row["quarantined_at"])
        groups.setdefault(group, []).append(row["seq"])
    for (stream_id, agent_id, fate, _), seqs in groups.items():
        yield {
            "discard_id": new_id(),
            "stream_id": stream_id,
            "agent_id": agent_id,
            "first_seq": min(seqs),
            "last_seq": max(seqs),
            "count": len(seqs),
            "fate": str(fate),
            "reason": f"by {decision.by}"[:200],
            "at": decision.at,
            "by": decision.by[:200],
        }


def _locked(connection: sa.Connection, keys: Sequence[Key]) -> list[dict[str, Any]]:
    """Return the rows of keys in their order, locked where the database knows that (PostgreSQL)."""
    by_stream: dict[str, list[int]] = {}
    for stream_id, seq in keys:
        by_stream.setdefault(stream_id, []).append(seq)
    rows = []
    for stream_id, seqs in sorted(by_stream.items()):
        query = (
            sa.select(table)
            .where(table.c.stream_id == stream_id, table.c.seq.in_(seqs))
            .order_by(table.c.seq)
            .with_for_update()
        )
        rows += [dict(row) for row in connection.execute(query).mappings()]
    return rows


def _where_key() -> sa.Update:
    return table.update().where(
        table.c.stream_id == sa.bindparam("stream"), table.c.seq == sa.bindparam("of")
    )
