"""Backup of the embedded store while it runs, verified restore, and verification of either.

A backup is a folder: ``samples.duckdb`` with everything but files, ``samples/`` with the parts, ``samples.hot/`` with the
hot files as far as they count, ``plant.sqlite`` where there is one, and ``manifest.json`` with the size and SHA-256 of each, written last: a folder without it is no backup.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_catalog import Part, parts_of, view_of
from ingest_service.stores.duckdb_hot import HotFiles, hot_folder, name_of
from ingest_service.stores.duckdb_part import make_durable
from ingest_service.stores.duckdb_rows import numbers_of
from ingest_service.stores.duckdb_schema import (
    FILES_SINCE,
    Tuning,
    connect,
    count_hot_before_3,
    hots,
    version_of,
)
from shopfloor.durable import sync
from shopfloor.errors import StoreUnavailable

MANIFEST: Final = "manifest.json"
DATABASE: Final = "samples.duckdb"
FILES: Final = "samples"
PLANT: Final = "plant.sqlite"
_VERSION: Final = 1


def back_up(cursor: duckdb.DuckDBPyConnection, folder: Path, plant: Path | None, to: Path) -> dict[str, Any]:
    """Copy a store as it is at one moment; writers and readers go on.

    Args:
        cursor: of the running store. The caller holds its files (see `Pins.reading`) from before until this returns.
        folder: where its Parquet files lie.
        plant: SQLite file of the plant model; None where there is none.
        to: a folder that does not exist yet.

    Returns:
        The manifest.

    Raises:
        OSError, StoreUnavailable: the copy can't be made; what was begun is no backup.
    """
    to.mkdir(parents=True)
    name = "backup_" + hashlib.sha256(str(to).encode()).hexdigest()[:16]
    source = cursor.execute("SELECT current_database()").fetchall()[0][0]
    target = str(to / DATABASE).replace("'", "''")
    try:
        cursor.execute(f"ATTACH '{target}' AS {name}")
        try:
            # One transaction: what it copies is the state of one moment.
            cursor.execute(f'COPY FROM DATABASE "{source}" TO {name}')
        finally:
            cursor.execute(f"DETACH {name}")
    except duckdb.Error as error:
        raise StoreUnavailable(f"{to}: {error}") from error
    with contextlib.closing(duckdb.connect(str(to / DATABASE), read_only=True)) as copy:
        parts, hot = view_of(copy)
    for part in parts:
        if part.file is not None:
            _copy(folder / part.file, to / FILES / part.file)
    for one in (one for one in hot if one.bytes):
        target_file = hot_folder(to / FILES) / name_of(one.number)
        _copy(hot_folder(folder) / name_of(one.number), target_file)
        # What was appended since is not of this moment.
        os.truncate(target_file, one.bytes)
    if plant is not None and plant.exists():
        with (
            contextlib.closing(sqlite3.connect(plant)) as running,
            contextlib.closing(sqlite3.connect(to / PLANT)) as copied,
        ):
            running.backup(copied)
    entries = {
        str(path.relative_to(to)): {"bytes": path.stat().st_size, "sha256": make_durable(path)}
        for path in sorted(to.rglob("*"))
        if path.is_file()
    }
    for part in parts:
        if part.file is not None and entries[f"{FILES}/{part.file}"]["sha256"] != part.sha256:
            raise StoreUnavailable(
                f"{folder / part.file} is damaged: its checksum is not the one of its making"
            )
    manifest = {"version": _VERSION, "made_at": time.time_ns(), "files": entries}
    draft = to / (MANIFEST + ".part")
    draft.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    make_durable(draft)
    draft.rename(to / MANIFEST)
    sync(to)
    return manifest


def verify_backup(backup: Path) -> list[str]:
    """Compare a backup with its manifest, and what it holds with itself; return what is wrong."""
    try:
        manifest = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))
        entries: dict[str, Any] = manifest["files"]
        if manifest["version"] > _VERSION:
            return [f"{backup}: made by a newer version"]
    except FileNotFoundError:
        return [f"{backup}: no {MANIFEST}: this is no backup, or one that was not finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{backup / MANIFEST}: unreadable: {error}"]
    problems = [problem for name, entry in entries.items() for problem in _check_file(backup / name, entry)]
    if DATABASE not in entries:
        problems.append(f"{backup}: the manifest names no {DATABASE}")
    return problems or verify_closed(backup)


def verify_closed(data: Path) -> list[str]:
    """Verify a store that nobody runs, in a data folder or a backup; nothing in it is changed."""
    try:
        with contextlib.closing(duckdb.connect(str(data / DATABASE), read_only=True)) as connection:
            return list(verify(connection, data / FILES))
    except duckdb.Error as error:
        return [f"{data / DATABASE}: {error}"]


def verify(cursor: duckdb.DuckDBPyConnection, folder: Path) -> Iterator[str]:
    """Yield what is wrong with a store, running or not: files against the catalogue, samples against the ledger.

    For a running one the caller holds its files, and the cursor has a transaction.
    """
    kept = 0
    for part in parts_of(cursor):
        kept += part.repeats if part.file is not None else 0
        if part.file is not None:
            kept += part.samples
            yield from _check_part(folder, part)
    if (version_of(cursor) or 0) < FILES_SINCE:
        hot = count_hot_before_3(cursor)
    else:
        with contextlib.closing(HotFiles(folder)) as files:
            hot = files.count(hots(cursor))
            yield from files.problems(hots(cursor))
    removed = cursor.execute("SELECT coalesce(sum(samples), 0)::BIGINT FROM removed").fetchall()[0][0]
    stored = cursor.execute("SELECT coalesce(sum(stored), 0)::BIGINT FROM batch").fetchall()[0][0]
    if stored != hot + kept + removed:
        yield (
            f"the ledger says {stored} samples were stored; {hot} are hot, {kept} in files (repeats counted), "
            f"{removed} were removed by retention"
        )
    unknown = cursor.execute(
        "SELECT count(*) FROM rollup WHERE part_id NOT IN (SELECT part_id FROM part)"
    ).fetchall()[0][0]
    if unknown:
        yield f"{unknown} rollups belong to no part"


def restore(backup: Path, data: Path) -> None:
    """Bring a backup into a data folder that holds no store yet, verified before and after.

    Raises:
        StoreUnavailable: the backup is damaged, or the folder has a store; nothing was changed.
        OSError: the disk refuses.
    """
    problems = verify_backup(backup)
    if problems:
        raise StoreUnavailable("; ".join(problems[:5]))
    names = (DATABASE, f"{DATABASE}.wal", FILES, hot_folder(Path(FILES)).name, PLANT)
    taken = [name for name in names if (data / name).exists()]
    if taken:
        raise StoreUnavailable(f"{data} holds {taken[0]} already: restore into a folder without a store")
    data.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))["files"]
    # The database comes last: without it the folder holds no store.
    for name in sorted(entries, key=lambda one: one == DATABASE):
        draft = data / (name + ".part")
        _copy(backup / name, draft)
        if make_durable(draft) != entries[name]["sha256"]:
            raise StoreUnavailable(f"{data / name}: what was written is not what was read")
        draft.rename(data / name)
    sync(data)
    connect(data / DATABASE, Tuning()).close()


def _check_file(path: Path, entry: dict[str, Any]) -> Iterator[str]:
    try:
        if path.stat().st_size != entry["bytes"]:
            yield f"{path}: {path.stat().st_size} bytes instead of {entry['bytes']}"
            return
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                yield f"{path}: its checksum is not the one in the manifest"
    except OSError as error:
        yield f"{path}: {error}"


def _check_part(folder: Path, part: Part) -> Iterator[str]:
    assert part.file is not None
    path = folder / part.file
    problems = list(_check_file(path, {"bytes": part.bytes, "sha256": part.sha256}))
    if problems:
        yield from problems
        return
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            if file.metadata.num_rows != part.samples:
                yield f"{path}: {file.metadata.num_rows} samples instead of {part.samples}"
            table = file.read(["series_id", "source_time"])
    except (OSError, pa.ArrowException) as error:
        yield f"{path}: {error}"
        return
    ids = numbers_of(table.column("series_id"), np.uint32)
    starts = run_starts(ids)
    if len(set(ids[starts].tolist())) != len(starts):
        yield f"{path}: not sorted by series"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
