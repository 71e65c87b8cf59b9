"""What several processes on one PlantStore have to tell each other beside samples: agents and their declarations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import sqlalchemy as sa

from ingest_service.agents import AgentBook
from ingest_service.plant import agents as agent_rows
from ingest_service.plant.engine import is_shared
from ingest_service.plant.schema import agent
from ingest_service.plant.store import PlantStore
from shopfloor.messages import SeriesDeclaration

FOLLOW_S: Final = 2.0
"""Agents are saved and looked up so often: well below the 10 s without a heartbeat that end a contact."""
_CHUNK: Final = 500


class Companions:
    """Looks up which agents spoke to other processes. Without other processes it does nothing."""

    def __init__(
        self,
        plant: PlantStore,
        book: AgentBook,
        declare: Callable[[Iterable[SeriesDeclaration]], None],
        heard: deque[tuple[str, list[str]]],
    ) -> None:
        self.shared = is_shared(plant.engine)
        self._plant = plant
        self._heard = heard
        self._book = book
        self._declare = declare

    async def follow(self) -> None:
        """Take what other processes saved since the last call; raises StoreUnavailable."""
        if not self.shared:
            return
        while self._heard:
            self._book.take_assets(*self._heard.popleft())
        known = self._book.last_contacts()
        hashes = self._book.declared_hashes()
        rows = await self._plant.run(_newer, self._plant.engine, known)
        self._book.take_rows(rows)
        if any(row.declared_hash and hashes.get(row.agent_id) != row.declared_hash for row in rows):
            self._declare(await self._plant.run(self._plant.load_declarations))


def _newer(engine: sa.Engine, known: dict[str, int]) -> list[agent_rows.AgentRow]:
    """Return the agents that somebody else heard of later than ``known`` says."""
    query = sa.select(agent.c.agent_id, agent.c.last_contact, agent.c.retired_at)
    with engine.connect() as connection:
        found = connection.execute(query).all()
    newer = [
        row.agent_id
        for row in found
        if (row.retired_at is not None and row.agent_id in known)
        or (
            row.retired_at is None
            and (row.agent_id not in known or (row.last_contact or 0) > known[row.agent_id])
        )
    ]
    return [
        row
        for start in range(0, len(newer), _CHUNK)
        for row in agent_rows.load(engine, newer[start : start + _CHUNK])
    ]
