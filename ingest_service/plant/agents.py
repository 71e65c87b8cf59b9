"""What is remembered of agents, and what they say about their series. Blocking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from ingest_service.plant.engine import replace_rows
from ingest_service.plant.schema import agent, declaration
from shopfloor.messages import Heartbeat, SeriesDeclaration, SeriesDeclarations


class AgentRow(NamedTuple):
    """What is remembered of an agent."""

    agent_id: str
    asset: str
    last_contact: int | None
    """UTC ns by our clock."""
    heartbeat: Heartbeat | None
    declared_hash: str
    first_seen: int | None = None
    retired_at: int | None = None
    """When an operator took it out of the registry."""


def load(engine: sa.Engine, ids: Sequence[str] | None = None) -> list[AgentRow]:
    """Return all agents ever seen, or some of them."""
    query = sa.select(agent)
    if ids is not None:
        query = query.where(agent.c.agent_id.in_(ids))
    with engine.connect() as connection:
        return [
            AgentRow(
                row.agent_id,
                row.asset,
                row.last_contact,
                msgspec.json.decode(row.heartbeat, type=Heartbeat) if row.heartbeat else None,
                row.declared_hash,
                row.first_seen,
                row.retired_at,
            )
            for row in connection.execute(query)
        ]


def save(engine: sa.Engine, agents: Iterable[AgentRow]) -> None:
    """Keep agents as they are now."""
    records = [
        {
            **one._asdict(),
            "heartbeat": msgspec.json.encode(one.heartbeat).decode() if one.heartbeat else None,
        }
        for one in agents
    ]
    replace_rows(engine, agent, ["agent_id"], records)


def put_declarations(engine: sa.Engine, declarations: SeriesDeclarations) -> None:
    """Keep what an agent's configuration says about its series; the newest word on a series wins."""
    records = {
        (one.asset, one.signal): {**msgspec.to_builtins(one), "agent_id": declarations.agent_id}
        for one in declarations.series
    }
    replace_rows(engine, declaration, ["asset", "signal"], records.values())


def load_declarations(engine: sa.Engine) -> list[SeriesDeclaration]:
    """Return what is known about series."""
    table = declaration.c
    with engine.connect() as connection:
        rows = connection.execute(sa.select(table.asset, table.signal, table.unit, table.description))
        return [SeriesDeclaration(*row) for row in rows]
