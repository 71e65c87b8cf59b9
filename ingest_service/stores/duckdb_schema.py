"""The tables of the embedded store, and how its file is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from shopfloor.asset import parse_asset
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey, parse_signal

SCHEMA_VERSION: Final = 1

# No PRIMARY KEY on samples: it makes inserts 7 times slower and the file 7 times larger. The ledger's watermark is
# what keeps rows unique. A column of NULL text costs next to nothing.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS store_version (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS series (series_id UINTEGER NOT NULL, asset VARCHAR NOT NULL, signal VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS sample (
    series_id UINTEGER NOT NULL, source_time BIGINT NOT NULL, received_time BIGINT NOT NULL,
    value DOUBLE, quality UTINYINT NOT NULL, status UINTEGER NOT NULL, text VARCHAR
);
CREATE TABLE IF NOT EXISTS batch (
    stream_id VARCHAR NOT NULL, agent_id VARCHAR NOT NULL, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
    stored BIGINT NOT NULL, rejected BIGINT NOT NULL, received_at BIGINT NOT NULL
);
"""


class Tuning(NamedTuple):
    """What of the machine the database may use."""

    memory_bytes: int = 1024 * 2**20
    threads: int = 2
    checkpoint_bytes: int = 256 * 2**20
    """Write-ahead log at which a checkpoint runs: larger means fewer slow commits, and a longer start."""


def connect(path: Path, tuning: Tuning) -> duckdb.DuckDBPyConnection:
    """Open or create the file.

    Raises:
        StoreUnavailable: another process holds it, the disk refuses, or a newer version wrote it.
    """
    try:
        connection = duckdb.connect(
            str(path),
            config={
                "threads": str(tuning.threads),
                "memory_limit": f"{tuning.memory_bytes}B",
                "checkpoint_threshold": f"{tuning.checkpoint_bytes}B",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        # Order of insertion is no promise of ours, and keeping it costs memory in large scans.
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(_TABLES)
        versions = connection.execute("SELECT version FROM store_version").fetchall()
        if not versions:
            connection.execute("INSERT INTO store_version VALUES (?)", [SCHEMA_VERSION])
        elif versions[0][0] > SCHEMA_VERSION:
            connection.close()
            raise StoreUnavailable(f"{path}: written by a newer version (schema {versions[0][0]})")
    except duckdb.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    return connection


def load_series(connection: duckdb.DuckDBPyConnection) -> list[SeriesKey]:
    """Return all series in the order of their ids, which are 1, 2, 3..."""
    rows = connection.execute("SELECT series_id, asset, signal FROM series ORDER BY series_id").fetchall()
    if [row[0] for row in rows] != list(range(1, len(rows) + 1)):
        raise StoreUnavailable("the series table is damaged: its ids have holes")
    return [SeriesKey(parse_asset(asset), parse_signal(signal)) for _, asset, signal in rows]


def load_watermarks(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return the watermark of each stream: the highest seq of its ledger."""
    return dict(connection.execute("SELECT stream_id, max(last_seq) FROM batch GROUP BY 1").fetchall())


def load_stream_agents(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the agent that wrote each stream first."""
    rows = connection.execute("SELECT stream_id, arg_min(agent_id, first_seq) FROM batch GROUP BY 1")
    return dict(rows.fetchall())
