"""The PlantStore: SQLite, or PostgreSQL by URL. What lies in it has a module each, of functions of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ingest_service.plant import agents, machine_states, quarantine, spans
from ingest_service.plant.agents import AgentRow
from ingest_service.plant.engine import connect
from ingest_service.stores import Refused
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, SeriesDeclaration, SeriesDeclarations, SpanRecord

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class PlantStore:
    """The plant's database, its threads, and what is asked most; blocking but for `run`."""

    def __init__(self, address: Path | sa.URL) -> None:
        self.engine = connect(address)
        self._threads = ThreadPoolExecutor(4, "plant-store")
        self.quarantined = quarantine.count(self.engine)
        """Rows in quarantine; a bound is kept on it."""

    async def run(
        self, function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Answer:
        """Run a blocking call on a thread of this store; raises StoreUnavailable."""

        def guarded() -> Answer:
            try:
                return function(*args, **kwargs)
            except SQLAlchemyError as error:
                raise StoreUnavailable(f"the plant store failed: {error}", retry_after_s=2.0) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, guarded)

    def close(self) -> None:
        """Finish what runs and close the file."""
        self._threads.shutdown()
        self.engine.dispose()

    def check(self) -> None:
        """Raise where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(sa.select(1))

    def put_quarantine(self, batch: Batch, refused: Refused) -> None:
        """See `quarantine.put`."""
        self.quarantined += quarantine.put(self.engine, batch, refused)

    def list_quarantine(self, limit: int = 1000) -> list[dict[str, Any]]:
        """See `quarantine.newest`."""
        return quarantine.newest(self.engine, limit)

    def put_spans(self, agent_id: str, records: Sequence[SpanRecord]) -> None:
        """See `spans.put`."""
        spans.put(self.engine, agent_id, records)

    def spans_of(self, stream_id: str) -> list[tuple[int, int, str, int]]:
        """See `spans.of_stream`."""
        return spans.of_stream(self.engine, stream_id)

    def load_agents(self) -> list[AgentRow]:
        """See `agents.load`."""
        return agents.load(self.engine)

    def save_agents(self, rows: Iterable[AgentRow]) -> None:
        """See `agents.save`."""
        agents.save(self.engine, rows)

    def put_declarations(self, declarations: SeriesDeclarations) -> None:
        """See `agents.put_declarations`."""
        agents.put_declarations(self.engine, declarations)

    def load_declarations(self) -> list[SeriesDeclaration]:
        """See `agents.load_declarations`."""
        return agents.load_declarations(self.engine)

    def load_machine_states(self) -> dict[str, tuple[str, int]]:
        """See `machine_states.load`."""
        return machine_states.load(self.engine)

    def save_machine_states(self, states: Mapping[str, tuple[str, int]]) -> None:
        """See `machine_states.save`."""
        machine_states.save(self.engine, states)
