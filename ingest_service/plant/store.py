"""The PlantStore: SQLite, or PostgreSQL by URL. Blocking; `PlantStore.run` moves a call off the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ingest_service.plant import schema
from ingest_service.plant.engine import connect, insert_new, insert_or_replace
from ingest_service.stores import Refused
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Heartbeat, SeriesDeclaration, SeriesDeclarations, SpanRecord

_CHUNK: Final = 1000

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class AgentRow(NamedTuple):
    """What is remembered of an agent."""

    agent_id: str
    asset: str
    last_contact: int | None
    """UTC ns by our clock."""
    heartbeat: Heartbeat | None
    declared_hash: str


class PlantStore:
    """Tokens are in `ingest_service.auth`; the rest of the plant's tables is here. Raises StoreUnavailable."""

    def __init__(self, address: Path | sa.URL) -> None:
        self.engine = connect(address)
        self._threads = ThreadPoolExecutor(4, "plant-store")
        with self.engine.connect() as connection:
            self.quarantined = int(
                connection.scalar(sa.select(sa.func.count()).select_from(schema.quarantine)) or 0
            )
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

    def put_quarantine(self, batch: Batch, refused: Refused) -> None:
        """Keep refused rows, keyed by (stream, seq): a repeat changes nothing."""
        now = time.time_ns()
        block = batch.block
        rows = block.take(refused.rows)
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
        with self.engine.begin() as connection:
            result = connection.execute(
                insert_new(self.engine, schema.quarantine),
                records,
                execution_options={"preserve_rowcount": True},
            )
        self.quarantined += max(0, result.rowcount)

    def list_quarantine(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the newest quarantined samples."""
        query = sa.select(schema.quarantine).order_by(schema.quarantine.c.quarantined_at.desc()).limit(limit)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def put_spans(self, agent_id: str, spans: Sequence[SpanRecord]) -> None:
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
            with self.engine.begin() as connection:
                connection.execute(insert_new(self.engine, schema.span), records)

    def spans_of(self, stream_id: str) -> list[tuple[int, int, str, int]]:
        """Return (first seq, last seq, kind, count) of a stream's loss records, ascending."""
        table = schema.span
        query = (
            sa.select(table.c.first_seq, table.c.last_seq, table.c.kind, table.c["count"])
            .where(table.c.stream_id == stream_id)
            .order_by(table.c.first_seq)
        )
        with self.engine.connect() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]

    def load_agents(self) -> list[AgentRow]:
        """Return all agents ever seen."""
        with self.engine.connect() as connection:
            return [
                AgentRow(
                    row.agent_id,
                    row.asset,
                    row.last_contact,
                    msgspec.json.decode(row.heartbeat, type=Heartbeat) if row.heartbeat else None,
                    row.declared_hash,
                )
                for row in connection.execute(sa.select(schema.agent))
            ]

    def save_agents(self, agents: Iterable[AgentRow]) -> None:
        """Keep agents as they are now."""
        records = [
            {
                **one._asdict(),
                "heartbeat": msgspec.json.encode(one.heartbeat).decode() if one.heartbeat else None,
            }
            for one in agents
        ]
        self._upsert(schema.agent, ["agent_id"], records)

    def put_declarations(self, declarations: SeriesDeclarations) -> None:
        """Keep what an agent's configuration says about its series; the newest word on a series wins."""
        records = [
            {**msgspec.to_builtins(one), "agent_id": declarations.agent_id} for one in declarations.series
        ]
        self._upsert(schema.declaration, ["asset", "signal"], records)

    def load_declarations(self) -> list[SeriesDeclaration]:
        """Return what is known about series."""
        table = schema.declaration.c
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(table.asset, table.signal, table.unit, table.description))
            return [SeriesDeclaration(*row) for row in rows]

    def load_machine_states(self) -> dict[str, tuple[str, int]]:
        """Return asset -> (state, since UTC ns) as last saved."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(schema.machine_state))
            return {row.asset: (row.state, row.since) for row in rows}

    def save_machine_states(self, states: Mapping[str, tuple[str, int]]) -> None:
        """Keep states, so that "since" outlives a restart."""
        records = [
            {"asset": asset, "state": state, "since": since} for asset, (state, since) in states.items()
        ]
        self._upsert(schema.machine_state, ["asset"], records)

    def check(self) -> None:
        """Raise where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(sa.select(1))

    def _upsert(self, table: sa.Table, key: list[str], records: list[dict[str, Any]]) -> None:
        if not records:
            return
        # Two processes that write the same rows in other orders would wait for each other.
        records.sort(key=lambda record: [record[name] for name in key])
        statement = insert_or_replace(self.engine, table, key, records[0])
        with self.engine.begin() as connection:
            for start in range(0, len(records), _CHUNK):
                connection.execute(statement, records[start : start + _CHUNK])
