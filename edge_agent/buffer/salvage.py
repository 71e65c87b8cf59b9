"""Takes over what is readable of a damaged buffer file; the file itself is set aside and never deleted."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

_GIVE_UP_AFTER: Final = 2_000
"""Unreadable row numbers in a row after which the rest counts as gone."""

Row = tuple[Any, ...]


@dataclass(slots=True)
class Salvaged:
    """What was readable, row by row, and which numbered samples were not."""

    streams: list[Row] = field(default_factory=list)
    blocks: list[Row] = field(default_factory=list)
    state: list[Row] = field(default_factory=list)
    spans: list[bytes] = field(default_factory=list)
    missing: list[tuple[str, int, int]] = field(default_factory=list)
    """(stream id, first seq, last seq) of runs that lie between what was delivered and the last readable row."""


def set_aside(path: Path, now_ns: int) -> Path:
    """Rename a database and its write-ahead log; return the new path."""
    aside = path.with_name(f"{path.name}.damaged-{now_ns // 1_000_000_000}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{now_ns // 1_000_000_000}-{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(aside.with_name(aside.name + suffix))
    return aside


def salvage(path: Path) -> Salvaged:
    """Read every row that can be read; never raises for what the file holds."""
    found = Salvaged()
    try:
        database = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        log.error("%s: nothing can be salvaged: %s", path, error)  # noqa: TRY400  the damage is known, a trace says nothing
        return found
    try:
        found.streams = _readable(database, "stream", "number")
        found.blocks = _readable(database, "block", "number")
        found.streams += _named_by_index(database, found)
        found.state = _all(database, "SELECT scope, key, value FROM state")
        found.spans = [body for (body,) in _all(database, "SELECT body FROM span ORDER BY number")]
    finally:
        database.close()
    known = {row[0] for row in found.streams}
    orphans = [row for row in found.blocks if row[1] not in known]
    found.blocks = [row for row in found.blocks if row[1] in known]
    if orphans:
        log.error("%s: %d rows belong to streams that can't be read", path, len(orphans))
    found.missing = _holes(found)
    return found


def _named_by_index(database: sqlite3.Connection, found: Salvaged) -> list[Row]:
    """Return streams whose own row can't be read, but whose rows and name can: the index of names holds the number too.

    What was delivered of them is not known any more; it is sent again under its numbers, and dropped there as a repeat.
    """
    lost = {row[1] for row in found.blocks} - {row[0] for row in found.streams}
    if not lost:
        return []
    names = _all(
        database,
        "SELECT number, stream_id FROM stream INDEXED BY sqlite_autoindex_stream_1 ORDER BY stream_id",
    )
    first_seq = {number: min(row[2] for row in found.blocks if row[1] == number) for number in lost}
    return [(number, name, first_seq[number] - 1) for number, name in names if number in lost]


def _all(database: sqlite3.Connection, query: str) -> list[Row]:
    try:
        return database.execute(query).fetchall()
    except sqlite3.Error as error:
        log.error("salvage: %s: %s", query, error)  # noqa: TRY400
        return []


def _readable(database: sqlite3.Connection, table: str, key: str) -> list[Row]:
    """Read a table by its integer key, stepping over what is damaged, from both ends."""
    rows: dict[int, Row] = {}
    try:
        for row in database.execute(f"SELECT * FROM {table} ORDER BY {key}"):  # noqa: S608  our own names
            rows[row[0]] = row
        return list(rows.values())
    except sqlite3.Error:
        last = max(rows, default=0)
    try:
        for row in database.execute(f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} DESC", (last,)):  # noqa: S608
            rows[row[0]] = row
    except sqlite3.Error:
        pass
    number, misses = last + 1, 0
    end = min((other for other in rows if other > last), default=last + _GIVE_UP_AFTER)
    while number < end and misses < _GIVE_UP_AFTER:
        try:
            row = database.execute(f"SELECT * FROM {table} WHERE {key} = ?", (number,)).fetchone()  # noqa: S608
        except sqlite3.Error:
            row = None
        if row is None:
            misses += 1
        else:
            misses = 0
            rows[number] = row
        number += 1
    return [rows[number] for number in sorted(rows)]


def _holes(found: Salvaged) -> list[tuple[str, int, int]]:
    holes: list[tuple[str, int, int]] = []
    for number, stream_id, committed in found.streams:
        expected = committed + 1
        for row in sorted((row for row in found.blocks if row[1] == number), key=lambda row: row[2]):
            first_seq, count = row[2], row[3]
            if first_seq > expected:
                holes.append((stream_id, expected, first_seq - 1))
            expected = max(expected, first_seq + count)
    return holes
