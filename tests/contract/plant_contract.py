"""The contract of a PlantStore's database: subclass `PlantStoreContract` for each that it may lie in."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from ingest_service import plant as plant_package
from ingest_service.auth import Role, create_token, list_tokens, revoke_token
from ingest_service.plant import schema
from ingest_service.plant.agents import AgentRow
from ingest_service.plant.engine import connect
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Refused
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import (
    Batch,
    BufferReport,
    Heartbeat,
    Lane,
    SeriesDeclaration,
    SeriesDeclarations,
    SpanKind,
    SpanRecord,
)
from shopfloor.signal import SeriesKey

Address = Path | sa.URL
JOB = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "job.name")


def span(record_id: str, first_seq: int = 1, reason: str = "buffer full") -> SpanRecord:
    return SpanRecord(
        record_id=record_id,
        stream_id="s",
        first_seq=first_seq,
        last_seq=first_seq + 9,
        kind=SpanKind.DROPPED,
        reason=reason,
        from_time=-(2**63),
        to_time=2**63 - 1,
        count=2**62,
    )


def heartbeat(agent_id: str) -> Heartbeat:
    return Heartbeat(
        agent_id=agent_id,
        asset="acme/hk01",
        version="1",
        wire_version=1,
        config_hash="h",
        started=0,
        sent=1,
        buffer=BufferReport(
            streams=0,
            pending_samples=0,
            oldest_pending_time=None,
            used_bytes=0,
            limit_bytes=1,
            hours_left=None,
        ),
    )


def refused_texts(*texts: str) -> tuple[Batch, Refused]:
    n = len(texts)
    block = make_block((JOB,), np.zeros(n), np.arange(n), 0, np.nan, 2, 2**32 - 1, dict(enumerate(texts)))
    reasons = Refused(np.arange(n), np.zeros(n, np.uint8), ("implausible_time",))
    return Batch("agent", "s", Lane.LIVE, 2**62, block), reasons


class PlantStoreContract:
    """Subclass it with a fixture ``address``: a database that nobody has used."""

    @pytest.fixture
    def open_plant(self, address: Address) -> Iterator[Callable[[], PlantStore]]:
        opened: list[PlantStore] = []

        def open_it() -> PlantStore:
            opened.append(PlantStore(address))
            return opened[-1]

        yield open_it
        for plant in opened:
            plant.close()

    def test_migrations_make_the_tables_that_the_code_knows(
        self, open_plant: Callable[[], PlantStore]
    ) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        for module in pkgutil.iter_modules(plant_package.__path__):
            if module.name.endswith("schema"):
                importlib.import_module(f"{plant_package.__name__}.{module.name}")
        plant = open_plant()
        with plant.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []

    def test_a_database_of_each_released_version_is_brought_to_the_present_one(
        self, empty_engine: sa.Engine, address: Address
    ) -> None:
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        from ingest_service.plant.engine import MIGRATIONS, migrate

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        revisions = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()][::-1]
        assert revisions[0] == "0001"
        migrate(empty_engine, "0001")
        row = {
            "stream_id": "s",
            "seq": 1,
            "agent_id": "a",
            "reason": "r",
            "quarantined_at": 1,
            "asset": "acme",
            "signal": "x",
            "source_time": 1,
            "received_time": 1,
            "quality": 0,
            "status": 0,
            "text": "模具 7",
        }
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in row]
        with empty_engine.begin() as connection:
            connection.execute(sa.insert(sa.table("quarantine", *columns)).values(**row))
        for revision in revisions[1:]:
            migrate(empty_engine, revision)
        with contextlib.closing(PlantStore(address)) as plant:
            (kept,) = plant.list_quarantine()
        assert kept["text"] == "模具 7"

    def test_two_that_open_a_new_database_at_once_both_can(self, address: Address) -> None:
        failures: list[BaseException] = []

        def open_it() -> None:
            try:
                connect(address).dispose()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                failures.append(error)

        threads = [threading.Thread(target=open_it) for _ in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert not failures

    def test_tokens(self, open_plant: Callable[[], PlantStore]) -> None:
        engine = open_plant().engine
        assert create_token(engine, Role.AGENT, "acme/hk01", "one") != create_token(
            engine, Role.ADMIN, "acme", ""
        )
        (first, second) = list_tokens(engine)
        assert (first.role, first.asset, first.revoked_at) == ("agent", "acme/hk01", None)
        assert revoke_token(engine, first.token_id)
        assert not revoke_token(engine, first.token_id)
        assert list_tokens(engine)[0].revoked_at
        assert second.role == "admin"

    def test_quarantine_keeps_each_row_once_and_every_text(
        self, open_plant: Callable[[], PlantStore]
    ) -> None:
        plant = open_plant()
        batch, refused = refused_texts("模具 7", "a \0 b", "", "x" * 100_000)
        plant.put_quarantine(batch, refused)
        plant.put_quarantine(batch, refused)
        kept = {row["seq"] - 2**62: row for row in plant.list_quarantine()}
        assert {place: row["text"] for place, row in kept.items()} == dict(batch.block.text)
        assert kept[0]["status"] == 2**32 - 1
        assert kept[0]["value"] is None
        assert plant.quarantined == 4
        assert open_plant().quarantined == 4

    def test_a_loss_record_is_kept_once_whatever_its_reason_holds(
        self, open_plant: Callable[[], PlantStore]
    ) -> None:
        plant = open_plant()
        plant.put_spans("agent", [span("a", 11), span("b", 1, "NUL \0 in it")])
        plant.put_spans("agent", [span("a", 99)])
        assert plant.spans_of("s") == [(1, 10, "dropped", 2**62), (11, 20, "dropped", 2**62)]

    def test_the_newest_word_holds(self, open_plant: Callable[[], PlantStore]) -> None:
        plant = open_plant()
        plant.save_agents([AgentRow("b", "acme/hk01", 1, None, ""), AgentRow("a", "acme", None, None, "x")])
        plant.save_agents([AgentRow("b", "acme/hk02", 2**62, heartbeat("b"), "h")])
        rows = {row.agent_id: row for row in plant.load_agents()}
        assert rows["a"] == AgentRow("a", "acme", None, None, "x")
        assert rows["b"] == AgentRow("b", "acme/hk02", 2**62, heartbeat("b"), "h")
        for unit in ("Cel", "K"):
            declared = SeriesDeclaration("acme", "x", unit, "NUL \0")
            plant.put_declarations(SeriesDeclarations("a", "h", (declared,)))
        assert [one.unit for one in plant.load_declarations()] == ["K"]
        plant.save_machine_states({"acme/b": ("running", 1), "acme/a": ("idle", 2)})
        plant.save_machine_states({"acme/b": ("off", 3)})
        assert plant.load_machine_states() == {"acme/b": ("off", 3), "acme/a": ("idle", 2)}

    def test_many_threads_write_the_same_rows(self, open_plant: Callable[[], PlantStore]) -> None:
        """In whatever order each of them has them."""
        plants = [open_plant(), open_plant()]
        rows = [AgentRow(f"agent-{number}", "acme", number, None, "") for number in range(200)]
        failures: list[BaseException] = []

        def save(plant: PlantStore, ordered: list[AgentRow]) -> None:
            try:
                for _ in range(5):
                    plant.save_agents(ordered)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                failures.append(error)

        threads = [
            threading.Thread(target=save, args=(plant, rows[::step]))
            for plant, step in zip(plants, (1, -1), strict=True)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert not failures
        assert len(plants[0].load_agents()) == 200

    @pytest.fixture
    def empty_engine(self, address: Address) -> Iterator[sa.Engine]:
        url = sa.URL.create("sqlite", database=str(address)) if isinstance(address, Path) else address
        engine = sa.create_engine(url)
        yield engine
        engine.dispose()
