"""The tables of the embedded store, and how its file is opened.

Samples arrive in hot files (one generation each, the last one takes what comes), of which as much counts as ``hot`` says,
and go on into Parquet files, which count only while ``part`` names them. `docs/store.md` says it for users.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from ingest_service.stores.duckdb_hot import HotFiles
from ingest_service.stores.duckdb_hot_file import Hot
from ingest_service.stores.duckdb_rows import COLUMNS, Rows, arrow_of_rows, rows_of_arrow
from shopfloor.asset import parse_asset
from shopfloor.durable import sync
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey, parse_signal

SCHEMA_VERSION: Final = 3
FILES_SINCE: Final = 3
"""Version of the schema from which on hot rows stand in files, before it in tables."""

PARTIAL_COLUMNS: Final = (
    *("count", "bad", "minimum", "maximum", "sum", "first", "first_time", "last", "last_time", "area"),
    "increase",
)
"""The columns of `buckets.Partials`, in their order, as table ``rollup`` holds them."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS series (series_id UINTEGER NOT NULL, asset VARCHAR NOT NULL, signal VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS batch (
    stream_id VARCHAR NOT NULL, agent_id VARCHAR NOT NULL, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
    stored BIGINT NOT NULL, rejected BIGINT NOT NULL, received_at BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS hot (number BIGINT NOT NULL, bytes BIGINT NOT NULL, rows BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS part (
    part_id BIGINT NOT NULL, run BIGINT NOT NULL, file VARCHAR, keeping VARCHAR NOT NULL, day INTEGER NOT NULL,
    first_time BIGINT NOT NULL, last_time BIGINT NOT NULL, samples BIGINT NOT NULL, repeats BIGINT NOT NULL,
    bytes BIGINT NOT NULL, sha256 VARCHAR NOT NULL, minutes BOOLEAN NOT NULL, hours BOOLEAN NOT NULL,
    made_at BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS rollup (
    part_id BIGINT NOT NULL, level UTINYINT NOT NULL, series_id UINTEGER NOT NULL, start BIGINT NOT NULL,
    count BIGINT NOT NULL, bad BIGINT NOT NULL, minimum DOUBLE, maximum DOUBLE, sum DOUBLE, first DOUBLE,
    first_time BIGINT NOT NULL, last DOUBLE, last_time BIGINT NOT NULL, area DOUBLE, increase DOUBLE
);
CREATE TABLE IF NOT EXISTS newest (
    series_id UINTEGER NOT NULL, source_time BIGINT NOT NULL, received_time BIGINT NOT NULL, value DOUBLE,
    quality UTINYINT NOT NULL, text VARCHAR
);
CREATE TABLE IF NOT EXISTS setting (name VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS removed (removed_at BIGINT NOT NULL, day INTEGER NOT NULL, samples BIGINT NOT NULL);
"""


class Tuning(NamedTuple):
    """What of the machine the store may use, and when it rewrites rows as files."""

    memory_bytes: int = 1024 * 2**20
    threads: int = 2
    checkpoint_bytes: int = 256 * 2**20
    """Write-ahead log at which a checkpoint runs: larger means fewer slow commits, and a longer start."""
    reserve_bytes: int = 256 * 2**20
    """Free bytes of the disk below which nothing more is acknowledged."""
    hot_rows: int = 1_000_000
    """Rows at which a hot file is closed and rewritten: what a rewriting holds in memory."""
    hot_commits: int = 20_000
    """Commits at which a hot file is closed: each takes some time when the service starts."""
    hot_s: float = 600.0
    """Seconds after which a hot file is closed where it has enough rows for a part worth reading."""
    part_rows: int = 16_000_000
    """Rows of a Parquet file at most (one series alone may have more)."""
    least_rows: int = 10_000
    """A day with fewer rows stays hot instead of becoming a file, as long as there are few such rows."""
    compaction_share: float = 0.5
    """Share of one processor core that rewriting takes as long as it is not behind."""
    compaction: bool = True
    """False leaves everything hot until `DuckDBStore.compact` is called."""


def begin_hot(connection: duckdb.DuckDBPyConnection, files: HotFiles, number: int) -> Hot:
    """Begin a generation; raises OSError, duckdb.Error."""
    files.begin(number)
    connection.execute("INSERT INTO hot VALUES (?, 0, 0)", [number])
    return Hot(number, 0, 0)


def connect(path: Path, tuning: Tuning) -> duckdb.DuckDBPyConnection:
    """Open or create the file, and bring one of an older version up to date.

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
        try:
            # Order of insertion is no promise of ours, and keeping it costs memory in large scans.
            connection.execute("SET preserve_insertion_order = false")
            with contextlib.closing(HotFiles(path.with_suffix(""))) as files:
                _migrate(connection, path, files)
        except BaseException:
            connection.close()
            raise
    except (duckdb.Error, OSError) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    return connection


_MOVED_ROWS: Final = 1_000_000
_WORTH_SHRINKING: Final = 16 * 2**20


def shrink(path: Path) -> None:
    """Copy a database file of which most is free space to a smaller one in its place; for the start.

    DuckDB uses the space of what was removed again, but gives none back to the disk.

    Raises:
        StoreUnavailable: another process holds the file, or the disk refuses; the file is as it was.
    """
    draft = path.with_name(path.name + ".shrunk")
    draft.unlink(missing_ok=True)
    if not path.exists():
        return
    try:
        with contextlib.closing(duckdb.connect(str(path), config={"threads": "1"})) as connection:
            connection.execute("CHECKPOINT")
            size = connection.execute(
                "SELECT block_size, total_blocks, used_blocks FROM pragma_database_size()"
            )
            block, total, used = size.fetchall()[0]
            if (total - used) * block < _WORTH_SHRINKING or used * 2 > total:
                return
            name = connection.execute("SELECT current_database()").fetchall()[0][0]
            connection.execute(f"ATTACH '{str(draft).replace(chr(39), chr(39) * 2)}' AS shrunk_copy")
            connection.execute(f'COPY FROM DATABASE "{name}" TO shrunk_copy')
            connection.execute("DETACH shrunk_copy")
        sync(draft)
        sync(path.parent)
        # The old file has no write-ahead log any more: closing it ended in a checkpoint.
        if not path.with_name(path.name + ".wal").exists():
            draft.replace(path)
    except (duckdb.Error, OSError) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path, files: HotFiles) -> None:
    connection.execute("BEGIN TRANSACTION")
    connection.execute("CREATE TABLE IF NOT EXISTS store_version (version INTEGER NOT NULL)")
    version = version_of(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise StoreUnavailable(f"{path}: written by a newer version (schema {version})")
    connection.execute(_TABLES)
    if version is None:
        begin_hot(connection, files, 1)
        connection.execute("INSERT INTO store_version VALUES (?)", [SCHEMA_VERSION])
    elif version < SCHEMA_VERSION:
        # Versions 1 and 2 had hot rows in tables: one for all time, or one a generation.
        number = 0
        for table in _tables_before_3(connection):
            reader = connection.sql(f"SELECT {COLUMNS} FROM {table}").to_arrow_reader(_MOVED_ROWS)  # noqa: S608 - ours
            batches = (pa.Table.from_batches([batch]) for batch in reader if batch.num_rows)
            moved = [files.put(at, rows_of_arrow(rows)) for at, rows in enumerate(batches, number + 1)]
            for hot in moved:
                connection.execute("INSERT INTO hot VALUES (?, ?, ?)", list(hot))
            connection.execute(f"DROP TABLE {table}")
            number += len(moved)
        begin_hot(connection, files, number + 1)
        connection.execute("DROP TABLE IF EXISTS generation")
        connection.execute("UPDATE store_version SET version = ?", [SCHEMA_VERSION])
    connection.execute("COMMIT")


def version_of(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return the version of a store's tables; None where there are none yet."""
    versions = connection.execute("SELECT version FROM store_version").fetchall()
    return versions[0][0] if versions else None


def _tables_before_3(connection: duckdb.DuckDBPyConnection) -> list[str]:
    if version_of(connection) == 1:
        return ["sample"]
    numbers = connection.execute("SELECT number FROM generation ORDER BY 1").fetchall()
    return [f"sample_{number}" for (number,) in numbers]


def count_hot_before_3(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many hot rows a store of an older version has."""
    return sum(
        connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]  # noqa: S608 - a name of ours
        for table in _tables_before_3(connection)
    )


def hots(connection: duckdb.DuckDBPyConnection) -> list[Hot]:
    """Return how much of each hot file counts, oldest first; the last one takes what comes."""
    rows = connection.execute("SELECT number, max(bytes), sum(rows)::BIGINT FROM hot GROUP BY 1 ORDER BY 1")
    return [Hot._make(row) for row in rows.fetchall()]


def all_samples_sql(connection: duckdb.DuckDBPyConnection, folder: Path) -> str:
    """Return a query for every sample of a store that nobody writes to, hot or in files, for checks and exports.

    Args:
        connection: open on the store's file, reading suffices.
        folder: where the Parquet files lie.
    """
    with contextlib.closing(HotFiles(folder)) as hot:
        connection.register("hot_rows", arrow_of_rows(hot.rows(hots(connection))))
    selects = [f"SELECT {COLUMNS} FROM hot_rows"]  # noqa: S608 - names of ours
    files = connection.execute("SELECT file FROM part WHERE file IS NOT NULL ORDER BY part_id").fetchall()
    selects += [
        "SELECT series_id, epoch_ns(source_time), epoch_ns(source_time) + delay * delay_unit, "  # noqa: S608 - ours
        "coalesce(value, scaled / 10.0 ** scale), quality, status, text "
        f"FROM read_parquet('{str(folder / name).replace(chr(39), chr(39) * 2)}')"
        for (name,) in files
    ]
    return " UNION ALL ".join(selects)


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


def load_newest(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Return the newest sample of each series as it was when rows last became files."""
    return rows_of_arrow(
        connection.sql(
            "SELECT series_id, source_time, received_time, value, quality, 0::UINTEGER AS status, text FROM newest"
        ).to_arrow_table()
    )
