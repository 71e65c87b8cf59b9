"""Backup of the PlantStore where it is a file of SQLite beside a store that is a server.

A folder with ``plant.sqlite`` and ``manifest.json``, as a backup of the embedded store is one. The samples are copied by
the server's own tools, and after this: what was written in between is there then although nothing says so, while a watermark
that is ahead of the samples would hide that they are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from shopfloor.durable import sync
from shopfloor.errors import StoreUnavailable

PLANT: Final = "plant.sqlite"
MANIFEST: Final = "manifest.json"
_VERSION: Final = 1


def back_up(data: Path, to: Path) -> int:
    """Copy the PlantStore of a data folder into a new folder, also while a service writes it; return its bytes.

    Raises:
        StoreUnavailable: there is none, or it can't be read.
        OSError: the folder is there already, or the disk refuses.
    """
    if not (data / PLANT).exists():
        raise StoreUnavailable(f"{data / PLANT}: there is no store")
    to.mkdir(parents=True)
    _copy(data / PLANT, to / PLANT)
    content = (to / PLANT).read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    draft = to / f"{MANIFEST}.part"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"version": _VERSION, "made_at": time.time_ns(), "files": {PLANT: entry}}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(to / MANIFEST)
    return len(content)


def verify_backup(backup: Path) -> list[str]:
    """Compare a backup with its manifest, and have SQLite look through it; return what is wrong."""
    try:
        manifest = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))
        wanted = manifest["files"][PLANT]["sha256"]
        found = hashlib.sha256((backup / PLANT).read_bytes()).hexdigest()
    except FileNotFoundError as error:
        return [
            f"{error.filename}: is missing: {backup} is no backup of a PlantStore, or one that was not finished"
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{backup / MANIFEST}: unreadable: {error}"]
    if found != wanted:
        return [f"{backup / PLANT}: damaged: its checksum is not the one of its making"]
    return verify(backup)


def verify(data: Path) -> list[str]:
    """Have SQLite look through the PlantStore of a folder; return what is wrong."""
    if not (data / PLANT).exists():
        return [f"{data / PLANT}: there is no store"]
    try:
        with contextlib.closing(
            sqlite3.connect(f"{(data / PLANT).absolute().as_uri()}?mode=ro", uri=True)
        ) as found:
            said = [row[0] for row in found.execute("PRAGMA integrity_check(20)")]
    except sqlite3.Error as error:
        return [f"{data / PLANT}: {error}"]
    return [] if said == ["ok"] else [f"{data / PLANT}: {line}" for line in said]


def restore(backup: Path, data: Path) -> None:
    """Bring a backup into a data folder without a PlantStore.

    Raises:
        StoreUnavailable: the backup is damaged, or the folder has one; nothing was changed.
        OSError: the disk refuses.
    """
    problems = verify_backup(backup)
    if problems:
        raise StoreUnavailable("; ".join(problems[:5]))
    if (data / PLANT).exists():
        raise StoreUnavailable(f"{data} holds {PLANT} already: restore into a folder without a store")
    data.mkdir(parents=True, exist_ok=True)
    draft = data / f"{PLANT}.part"
    draft.unlink(missing_ok=True)
    _copy(backup / PLANT, draft)
    _forget_rollups(draft)
    draft.rename(data / PLANT)


def _forget_rollups(file: Path) -> None:
    """Let the server's rollups be made again: what was stored after the backup has not said which of them are wrong."""
    try:
        with contextlib.closing(sqlite3.connect(file)) as restored, restored:
            for (table,) in restored.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('rollup', 'rollup_due')"
            ).fetchall():
                restored.execute(f"DELETE FROM {table}")  # noqa: S608 - one of the two
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{file}: {error}") from error


def _copy(file: Path, to: Path) -> None:
    try:
        with (
            contextlib.closing(sqlite3.connect(file)) as running,
            contextlib.closing(sqlite3.connect(to)) as copied,
        ):
            running.backup(copied)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{file}: {error}") from error
    sync(to)
