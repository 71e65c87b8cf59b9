"""The buffer's file: tables, rows and their checksums. Every statement that writes it stands here (reading.py only reads).

Methods raise sqlite3.Error as it comes; what that means is decided by the buffer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.buffer.inventory import Row, Stream
from edge_agent.buffer.packing import (
    ROW_OVERHEAD_BYTES,
    Checkpoint,
    decode_row,
    packed_checkpoint,
    parse_checkpoint,
    row_checksum,
)
from edge_agent.buffer.salvage import Salvaged
from shopfloor import wire
from shopfloor.block import SampleBlock
from shopfloor.messages import SpanRecord, encode_json

SCHEMA_VERSION: Final = 1
_PAGES_GIVEN_BACK: Final = 4_096
"""At once: 16 MiB, so that no append waits long for it."""
_SCHEMA: Final = f"""
CREATE TABLE stream(number INTEGER PRIMARY KEY, stream_id TEXT NOT NULL UNIQUE, committed INTEGER NOT NULL);
CREATE TABLE block(
    number INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,
    oldest_time INTEGER NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE state(scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(scope, key)) WITHOUT ROWID;
CREATE TABLE span(number INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE checkpoint(id INTEGER PRIMARY KEY CHECK(id = 1), through INTEGER NOT NULL, body BLOB NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
"""


class BufferFile:
    """One SQLite file: WAL, synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        """Open or create it; raises sqlite3.OperationalError where that is impossible."""
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA journal_size_limit = 4194304")
            self._db.execute("PRAGMA temp_store = MEMORY")
            self._db.execute("PRAGMA cache_size = -4096")
        except sqlite3.OperationalError:
            self._db.close()
            raise
        except sqlite3.DatabaseError:
            # Not a database at all: verify() meets the same error, and has the file set aside.
            return

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def verify(self) -> None:
        """Check the structure and make the tables of a new file.

        Raises:
            sqlite3.OperationalError: a later version's file: sound, but not ours to touch.
            sqlite3.DatabaseError: damage.
        """
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise sqlite3.OperationalError(
                f"written by a later version (schema {version}, this one knows {SCHEMA_VERSION}): upgrade again, or move it away"
            )
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'block'").fetchone():
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all that happens inside durable, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def free_bytes(self) -> int:
        """Return the bytes inside the file that new rows can use without making it longer."""
        pages, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
        )
        return int(pages * size)

    def give_back(self) -> None:
        """Return free pages to the disk; not inside a transaction. Waits for no reader."""
        # As a script: execute() stops a statement without columns after its first step, which is one page.
        self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK});")
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def take_over(self, found: Salvaged) -> None:
        """Write what was salvaged from another file."""
        self._db.executemany("INSERT INTO stream VALUES (?, ?, ?)", found.streams)
        self._db.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)", found.blocks)
        self._db.executemany("INSERT INTO state VALUES (?, ?, ?)", found.state)
        if found.checkpoint is not None:
            # Rows have got other numbers: whichever are there lie behind it.
            self._write_checkpoint(0, found.checkpoint)
        for body in found.spans:
            self.put_span(msgspec.json.decode(body, type=SpanRecord))

    # Streams

    def streams(self) -> list[Stream]:
        """Return all streams; what follows in them is not known yet."""
        rows = self._db.execute("SELECT number, stream_id, committed FROM stream ORDER BY number").fetchall()
        return [Stream(number, stream_id, committed, committed + 1) for number, stream_id, committed in rows]

    def insert_stream(self, number: int, stream_id: str) -> None:
        """Begin a stream."""
        self._db.execute("INSERT INTO stream VALUES (?, ?, 0)", (number, stream_id))

    def delete_streams(self, numbers: Iterable[int]) -> None:
        """Forget streams."""
        self._db.executemany("DELETE FROM stream WHERE number = ?", [(number,) for number in numbers])

    def write_committed(self, streams: Iterable[Stream]) -> None:
        """Write down through which number streams are delivered."""
        self._db.executemany(
            "UPDATE stream SET committed = ? WHERE number = ?",
            [(stream.committed, stream.number) for stream in streams],
        )

    # Blocks

    def rows(self) -> list[Row]:
        """Return what the file holds, without the samples themselves."""
        found = self._db.execute(
            "SELECT number, stream, first_seq, count, oldest_time, length(payload) FROM block ORDER BY number"
        ).fetchall()
        return [
            Row(number, stream, first_seq, count, oldest_time, size + ROW_OVERHEAD_BYTES)
            for number, stream, first_seq, count, oldest_time, size in found
        ]

    def insert_block(self, stream: Stream, first_seq: int, block: SampleBlock, payload: bytes) -> Row:
        """Write a block whose first sample has the number ``first_seq``; ``payload`` is what it is encoded to."""
        count, oldest = len(block), int(block.received_time.min())
        checksum = row_checksum(stream.number, first_seq, count, payload)
        cursor = self._db.execute(
            "INSERT INTO block(stream, first_seq, count, oldest_time, checksum, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (stream.number, first_seq, count, oldest, checksum, payload),
        )
        number = cursor.lastrowid
        assert number is not None
        return Row(number, stream.number, first_seq, count, oldest, len(payload) + ROW_OVERHEAD_BYTES)

    def merge_blocks(self, rows: Sequence[Row], block: SampleBlock) -> Row:
        """Write neighbours as one row, which has the number of the last of them; a single one is written anew."""
        first, last = rows[0], rows[-1]
        payload = wire.encode_block(block)
        oldest = min(row.oldest_time for row in rows)
        checksum = row_checksum(first.stream, first.first_seq, len(block), payload)
        self._db.execute(
            "UPDATE block SET first_seq = ?, count = ?, oldest_time = ?, checksum = ?, payload = ? WHERE number = ?",
            (first.first_seq, len(block), oldest, checksum, payload, last.number),
        )
        self.delete_blocks(rows[:-1])
        size = len(payload) + ROW_OVERHEAD_BYTES
        return Row(last.number, first.stream, first.first_seq, len(block), oldest, size)

    def read_block(self, row: Row) -> SampleBlock | None:
        """Return a row's block, None where it is not what was written."""
        found = self._db.execute(
            "SELECT checksum, payload FROM block WHERE number = ?", (row.number,)
        ).fetchone()
        return None if found is None else decode_row(row.stream, row.first_seq, row.count, *found)

    def raw_payload(self, row: Row) -> bytes | None:
        """Return a row's bytes, whatever they are."""
        found = self._db.execute("SELECT payload FROM block WHERE number = ?", (row.number,)).fetchone()
        return found[0] if found and isinstance(found[0], bytes) else None

    def blocks_from(self, number: int) -> Iterator[tuple[int, SampleBlock]]:
        """Yield every sound block from a row number on, with its number."""
        query = "SELECT number, stream, first_seq, count, checksum, payload FROM block WHERE number >= ? ORDER BY number"
        for found, *rest in self._db.execute(query, (number,)):
            block = decode_row(*rest)
            if block is not None:
                yield found, block

    def delete_blocks(self, rows: Iterable[Row]) -> None:
        """Forget rows."""
        self._db.executemany("DELETE FROM block WHERE number = ?", [(row.number,) for row in rows])

    # What else is remembered

    def save_state(self, scope: str, state: Mapping[str, bytes]) -> None:
        """Write state; an empty value deletes its key."""
        for key, value in state.items():
            if value:
                self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (scope, key, value))
            else:
                self._db.execute("DELETE FROM state WHERE scope = ? AND key = ?", (scope, key))

    def state(self, scope: str) -> dict[str, bytes]:
        """Return all state of a scope."""
        return dict(self._db.execute("SELECT key, value FROM state WHERE scope = ?", (scope,)).fetchall())

    def put_span(self, span: SpanRecord) -> None:
        """Write a span record, or another version of one."""
        self._db.execute(
            "INSERT INTO span(record_id, body) VALUES (?, ?) ON CONFLICT(record_id) DO UPDATE SET body = excluded.body",
            (span.record_id, encode_json(span)),
        )

    def spans(self, limit: int) -> list[SpanRecord]:
        """Return the oldest span records."""
        rows = self._db.execute("SELECT body FROM span ORDER BY number LIMIT ?", (limit,)).fetchall()
        return [msgspec.json.decode(body, type=SpanRecord) for (body,) in rows]

    def count_spans(self) -> int:
        """Return how many span records there are."""
        return int(self._db.execute("SELECT count(*) FROM span").fetchone()[0])

    def delete_spans(self, record_ids: Sequence[str]) -> None:
        """Forget span records."""
        self._db.executemany(
            "DELETE FROM span WHERE record_id = ?", [(record_id,) for record_id in record_ids]
        )

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        self._write_checkpoint(checkpoint.through, packed_checkpoint(checkpoint))

    def _write_checkpoint(self, through: int, body: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (through, body))

    def checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint, if there is one; raises msgspec.MsgspecError or WireError for a damaged one."""
        found = self._db.execute("SELECT through, body FROM checkpoint").fetchone()
        return None if found is None else parse_checkpoint(*found)
