"""Stores of older versions: everything in them is there after the first start, and backups of theirs can be restored."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import duckdb
import pytest

from ingest_service.stores import Selector
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_backup import restore, verify_backup, verify_closed
from ingest_service.stores.duckdb_schema import SCHEMA_VERSION, Tuning, hots, version_of
from tests.contract.store_contract import ALWAYS, batch, write

SMALL = Tuning(memory_bytes=256 * 2**20, threads=1, compaction=False, least_rows=0)
_SAMPLE = (
    "(series_id UINTEGER NOT NULL, source_time BIGINT NOT NULL, received_time BIGINT NOT NULL, value DOUBLE, "
    "quality UTINYINT NOT NULL, status UINTEGER NOT NULL, text VARCHAR)"
)
_LEDGER = (
    "(stream_id VARCHAR NOT NULL, agent_id VARCHAR NOT NULL, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL, "
    "stored BIGINT NOT NULL, rejected BIGINT NOT NULL, received_at BIGINT NOT NULL)"
)
_SERIES = "(series_id UINTEGER NOT NULL, asset VARCHAR NOT NULL, signal VARCHAR NOT NULL)"


def old_store(path: Path, version: int) -> None:
    """Make a store as versions 1 and 2 did: hot rows in one table, or in one a generation."""
    tables = ["sample"] if version == 1 else ["sample_3", "sample_4"]
    with contextlib.closing(duckdb.connect(str(path))) as connection:
        connection.execute("CREATE TABLE store_version (version INTEGER NOT NULL)")
        connection.execute("INSERT INTO store_version VALUES (?)", [version])
        connection.execute(f"CREATE TABLE series {_SERIES}")
        connection.execute("INSERT INTO series VALUES (1, 'acme/hk01/a/b', 'x'), (2, 'acme/hk01/a/b', 'job')")
        connection.execute(f"CREATE TABLE batch {_LEDGER}")
        connection.execute("INSERT INTO batch VALUES ('stream-1', 'agent', 1, 10, 10, 0, 1000)")
        for number, table in enumerate(tables):
            connection.execute(f"CREATE TABLE {table} {_SAMPLE}")
            share = 10 // len(tables)
            for seq in range(number * share + 1, (number + 1) * share + 1):
                values: list[object] | None = (
                    [2, seq * 1000, seq * 1000 + 5, None, 0, 0, "job é"] if seq == 10 else None
                )
                values = values or [1, seq * 1000, seq * 1000 + 5, float(seq), 1, 7, None]
                connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        if version == 2:
            connection.execute("CREATE TABLE generation (number BIGINT NOT NULL)")
            connection.execute("INSERT INTO generation VALUES (3), (4)")
            connection.execute(
                "CREATE TABLE part (part_id BIGINT NOT NULL, run BIGINT NOT NULL, file VARCHAR, "
                "keeping VARCHAR NOT NULL, day INTEGER NOT NULL, first_time BIGINT NOT NULL, "
                "last_time BIGINT NOT NULL, samples BIGINT NOT NULL, repeats BIGINT NOT NULL, bytes BIGINT NOT NULL, "
                "sha256 VARCHAR NOT NULL, minutes BOOLEAN NOT NULL, hours BOOLEAN NOT NULL, made_at BIGINT NOT NULL)"
            )
            connection.execute("CREATE TABLE removed (removed_at BIGINT, day INTEGER, samples BIGINT)")
            connection.execute("CREATE TABLE rollup (part_id BIGINT)")


@pytest.mark.parametrize("version", [1, 2])
async def test_hot_tables_become_hot_files(tmp_path: Path, version: int) -> None:
    path = tmp_path / "samples.duckdb"
    old_store(path, version)
    store = DuckDBStore(path, SMALL)
    with store._cursor() as cursor:
        assert version_of(cursor) == SCHEMA_VERSION
        assert [hot.rows for hot in hots(cursor)] == ([10, 0] if version == 1 else [5, 5, 0])
        tables = {row[0] for row in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        assert not {"sample", "sample_3", "sample_4", "generation"} & tables
    block = (await store.read(Selector(), ALWAYS, 100)).block
    assert block.source_time.tolist() == [10_000, *range(1000, 10_000, 1000)]
    assert (block.received_time - block.source_time).tolist() == [5] * 10
    assert block.value[1:].tolist() == [float(seq) for seq in range(1, 10)]
    assert block.quality.tolist() == [0] + [1] * 9
    assert block.status.tolist() == [0] + [7] * 9
    assert dict(block.text) == {0: "job é"}
    assert (await store.latest(Selector())).block.source_time.tolist() == [10_000, 9000]
    assert await store.watermark("stream-1") == (10, 10)
    assert await store.verify() == []
    await write(store, batch(1, 5, stream="stream-2"))
    await store.compact()
    await store.close()
    again = DuckDBStore(path, SMALL)
    assert len((await again.read(Selector(), ALWAYS, 100)).block) == 15
    assert await again.verify() == []
    await again.close()


def test_a_backup_of_an_older_version_is_restored(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    old_store(backup / "samples.duckdb", 2)
    content = (backup / "samples.duckdb").read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"version": 1, "made_at": 1, "files": {"samples.duckdb": entry}}
    (backup / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert verify_backup(backup) == []
    restore(backup, tmp_path / "data")
    assert verify_closed(tmp_path / "data") == []
