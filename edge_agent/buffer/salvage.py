"""Takes over what is readable of a damaged buffer file, and of the mirror what is not; the file itself is set aside."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.buffer.mirror import Copies, Copy, overlaps
from edge_agent.buffer.packing import decode_row, parse_checkpoint, row_checksum
from shopfloor.errors import WireError
from shopfloor.messages import SpanRecord

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
    checkpoint: bytes | None = None
    restored_samples: int = 0
    """Of rows that came from the mirror."""
    missing: list[tuple[str, int, int]] = field(default_factory=list)
    """(stream id, first seq, last seq) of runs that lie between what was delivered and the last readable row."""


def salvage(path: Path, mirrored: Copies) -> Salvaged:
    """Read every row that can be read, here or in the mirror; never raises for what the files hold.

    Rows are numbered anew, in the order in which they came.
    """
    found = Salvaged()
    try:
        database = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        log.error("%s: nothing can be salvaged: %s", path, error)  # noqa: TRY400  the damage is known, a trace says nothing
    else:
        try:
            found.streams = list(filter(_is_stream, _readable(database, "stream", "number")))
            found.blocks = list(filter(_is_sound, _readable(database, "block", "number")))
            _add_streams(found, mirrored.rows)
            found.streams += _named_by_index(database, found)
            found.state = _all(database, "SELECT scope, key, value FROM state")
            bodies = [body for (body,) in _all(database, "SELECT body FROM span ORDER BY number")]
            found.spans = [body for body in bodies if _is_span(body)]
            bodies = [body for (body,) in _all(database, "SELECT body FROM checkpoint")]
        finally:
            database.close()
        found.checkpoint = next((body for body in bodies if _is_checkpoint(body)), None)
    _add_streams(found, mirrored.rows)
    _add_rows(found, mirrored.rows)
    if found.checkpoint is None and mirrored.checkpoint is not None and _is_checkpoint(mirrored.checkpoint):
        found.checkpoint = mirrored.checkpoint
    known = {row[0] for row in found.streams}
    orphans = [row for row in found.blocks if row[1] not in known]
    if orphans:
        log.error("%s: %d rows belong to streams that can't be read", path, len(orphans))
    rows = sorted((row for row in found.blocks if row[1] in known), key=lambda row: row[1:3])
    found.blocks = [(number, *row[1:]) for number, row in enumerate(rows, 1)]
    found.missing = _holes(found)
    return found


def _add_streams(found: Salvaged, copies: Sequence[Copy]) -> None:
    """Name streams that can't be read: what they had delivered when their last row was written is sent at most again."""
    names, numbers = {row[1] for row in found.streams}, {row[0] for row in found.streams}
    lost: dict[str, Row] = {}
    for copy in copies:
        if copy.stream_id not in names and copy.stream not in numbers:
            lost[copy.stream_id] = (copy.stream, copy.stream_id, copy.committed)
    found.streams = sorted([*found.streams, *lost.values()])


def _add_rows(found: Salvaged, copies: Sequence[Copy]) -> None:
    """Add rows that can't be read, or are not what was written; what was delivered is the memory of repeats."""
    numbers = {row[1]: row[0] for row in found.streams}
    here: dict[int, list[tuple[int, int]]] = {}
    for _, number, first_seq, count, *_ in found.blocks:
        here.setdefault(number, []).append((first_seq, first_seq + count - 1))
    for spans in here.values():
        spans.sort()
    for copy in copies:
        place = numbers.get(copy.stream_id)
        if place is None or overlaps(here.get(place, []), copy):
            continue
        checksum = row_checksum(place, copy.first_seq, copy.samples, copy.payload)
        block = decode_row(place, copy.first_seq, copy.samples, checksum, copy.payload)
        if block is not None:
            oldest = int(block.received_time.min())
            found.blocks.append((0, place, copy.first_seq, copy.samples, oldest, checksum, copy.payload))
            found.restored_samples += copy.samples


def _is_stream(row: Row) -> bool:
    return isinstance(row[0], int) and isinstance(row[1], str) and isinstance(row[2], int)


def _is_sound(row: Row) -> bool:
    """Tell whether a block's row is what was written: of another one nothing can be believed, not even its numbers."""
    _, stream, first_seq, count, oldest, checksum, payload = row
    numbers = all(isinstance(each, int) for each in (stream, first_seq, count, oldest))
    return (
        numbers and isinstance(payload, bytes) and row_checksum(stream, first_seq, count, payload) == checksum
    )


def _is_span(body: object) -> bool:
    try:
        return isinstance(body, bytes) and bool(msgspec.json.decode(body, type=SpanRecord))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def _is_checkpoint(body: object) -> bool:
    try:
        return isinstance(body, bytes) and bool(parse_checkpoint(0, body))
    except (msgspec.MsgspecError, WireError, ValueError):
        return False


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
