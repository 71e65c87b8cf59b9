"""Since when machines are in their states, so that "since" outlives a restart. Blocking."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from ingest_service.plant.engine import replace_rows
from ingest_service.plant.schema import machine_state as table


def load(engine: sa.Engine) -> dict[str, tuple[str, int]]:
    """Return asset -> (state, since UTC ns) as last saved."""
    with engine.connect() as connection:
        return {row.asset: (row.state, row.since) for row in connection.execute(sa.select(table))}


def save(engine: sa.Engine, states: Mapping[str, tuple[str, int]]) -> None:
    """Keep states."""
    records = [{"asset": asset, "state": state, "since": since} for asset, (state, since) in states.items()]
    replace_rows(engine, table, ["asset"], records)
