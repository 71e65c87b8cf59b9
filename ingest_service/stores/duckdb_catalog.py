"""Which parts and hot files count, and when those that no longer do may be removed."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np

from ingest_service.stores.duckdb_hot_file import Hot
from ingest_service.stores.duckdb_schema import hots
from ingest_service.stores.shapes import TimeSpan

DAY_NS: Final = 86_400 * 1_000_000_000
_COLUMNS: Final = (
    "part_id, run, file, keeping, day, first_time, last_time, samples, repeats, bytes, sha256, minutes, hours, "
    "made_at"
)
_log = logging.getLogger(__name__)


class Part(NamedTuple):
    """A row of table ``part``: a file, or what retention left of it."""

    part_id: int
    run: int
    """Parts of a run hold different series: a series stands in one of them at most."""
    file: str | None
    """Inside the store's folder; None where retention removed the samples and kept their rollups."""
    keeping: str
    """Name of the retention rule that all its series fall under."""
    day: int
    """UTC day of all its samples, counted from 1970."""
    first_time: int
    last_time: int
    samples: int
    repeats: int
    """Rows that said again what a sample of the file says."""
    bytes: int
    sha256: str
    minutes: bool
    """Whether rollups of this level are there, for all of its series."""
    hours: bool
    made_at: int
    """UTC ns."""


class View(NamedTuple):
    """What a transaction sees."""

    parts: tuple[Part, ...]
    """By first time."""
    hot: tuple[Hot, ...]
    """Oldest first."""


def view_of(cursor: duckdb.DuckDBPyConnection, span: TimeSpan | None = None) -> View:
    """Return the parts that reach into a span, and all hot files, as the cursor's transaction sees them."""
    return View(parts_of(cursor, span), tuple(hots(cursor)))


def parts_of(cursor: duckdb.DuckDBPyConnection, span: TimeSpan | None = None) -> tuple[Part, ...]:
    """Return the parts that reach into a span."""
    where, values = "", list[int]()
    if span is not None:
        where, values = "WHERE last_time >= ? AND first_time < ?", [*span]
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM part {where} ORDER BY first_time, part_id",  # noqa: S608 - nothing of a user's in it
        values,
    ).fetchall()
    return tuple(Part._make(row) for row in rows)


def next_part_id(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return a number that no part has, nor a file of rows that stayed hot."""
    highest: int = cursor.execute(
        "SELECT greatest((SELECT coalesce(max(greatest(part_id, run)), 0) FROM part), "
        "(SELECT coalesce(max(-number), 0) FROM hot))"
    ).fetchall()[0][0]
    return highest + 1


def insert_parts(cursor: duckdb.DuckDBPyConnection, parts: list[Part]) -> None:
    """Let parts count, in the caller's transaction."""
    marks = ", ".join("?" * len(Part._fields))
    for part in parts:
        cursor.execute(f"INSERT INTO part VALUES ({marks})", list(part))  # noqa: S608 - question marks alone


def delete_parts(cursor: duckdb.DuckDBPyConnection, parts: list[Part]) -> None:
    """Forget parts and their rollups, in the caller's transaction."""
    gone: dict[str, Any] = {"part_id": np.array([part.part_id for part in parts], np.int64)}
    cursor.execute("DELETE FROM rollup WHERE part_id IN (SELECT part_id FROM gone)")
    cursor.execute("DELETE FROM part WHERE part_id IN (SELECT part_id FROM gone)")
    del gone


class Pins:
    """Keeps what a reader may still need: removals wait for all readers that began before them.

    A reader begins before it looks at the catalogue; a removal is asked for after the commit that made something
    needless. So whoever saw it has begun by then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[int, int] = {}
        self._next = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Hold everything that counts now."""
        with self._lock:
            number = self._next
            self._next += 1
            self._readers[number] = number
        try:
            yield
        finally:
            with self._lock:
                del self._readers[number]

    def remove_later(self, remove: Callable[[], None]) -> None:
        """Call ``remove`` once all present readers are through; see `sweep`."""
        with self._lock:
            self._waiting.append((self._next, remove))

    def sweep(self) -> None:
        """Do the removals that nobody holds up; one that fails is logged and not tried again before a restart."""
        with self._lock:
            oldest = min(self._readers, default=self._next)
            due = [remove for number, remove in self._waiting if number <= oldest]
            self._waiting = [one for one in self._waiting if one[0] > oldest]
        for remove in due:
            try:
                remove()
            except (OSError, duckdb.Error) as error:
                _log.warning("what is no longer needed stays until the next start: %s", error)


def remove_stray_files(folder: Path, cursor: duckdb.DuckDBPyConnection) -> int:
    """Remove files that do not count, left by a process that ended while writing; return how many."""
    if not folder.is_dir():
        return 0
    known = {part.file for part in parts_of(cursor)}
    strays = [path for path in folder.glob("*/*.parquet") if f"{path.parent.name}/{path.name}" not in known]
    for path in strays:
        path.unlink()
    for day in folder.iterdir():
        with contextlib.suppress(OSError):
            day.rmdir()
    if strays:
        _log.info("removed %d unfinished files from %s", len(strays), folder)
    return len(strays)
