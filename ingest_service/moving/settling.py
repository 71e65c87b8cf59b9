"""The end of a move: ledger and watermarks, in one transaction with everything else that agents are answered by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.moving import plant_copy, progress
from ingest_service.plant.server_schema import ledger, stream
from shopfloor.errors import StoreUnavailable

_ROWS: Final = 2000
_COLUMNS: Final = ("stream_id", "agent_id", "first_seq", "last_seq", "stored", "rejected", "received_at")


class Settled(NamedTuple):
    """What was brought along."""

    streams: int
    ledger_samples: int
    """Samples that the ledger says were stored, whatever retention has removed since."""
    plant_rows: int


def settle(engine: sa.Engine, rows: Sequence[tuple[Any, ...]], plant: sa.Engine | None) -> Settled:
    """Let agents go on here: what they have delivered counts as delivered from the moment of this commit.

    Args:
        engine: the PlantStore of the new service; nothing was delivered to it.
        rows: the old ledger, see `EmbeddedSource.ledger`.
        plant: the old PlantStore, where it is another one.
    """
    records = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    streams: dict[str, dict[str, Any]] = {}
    for one in records:
        known = streams.setdefault(
            one["stream_id"], {"stream_id": one["stream_id"], "agent_id": one["agent_id"], "through": 0}
        )
        known["through"] = max(known["through"], one["last_seq"])
    with engine.begin() as connection:
        # Claims of batches with nothing in them may have left rows without a watermark.
        connection.execute(sa.delete(stream).where(stream.c.through == 0))
        for table, new in ((ledger, records), (stream, list(streams.values()))):
            for first in range(0, len(new), _ROWS):
                connection.execute(sa.insert(table), new[first : first + _ROWS])
        copied = plant_copy.copy(plant, connection) if plant is not None else 0
        stored = sum(one["stored"] for one in records)
        there = connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(ledger.c.stored), 0), sa.func.count()).select_from(ledger)
        ).one()
        if (int(there[0]), there[1]) != (stored, len(records)):
            raise StoreUnavailable(
                f"the ledger has {there[1]} rows of {there[0]} samples, not {len(records)} of {stored}"
            )
        progress.finish(connection)
    return Settled(len(streams), stored, copied)
