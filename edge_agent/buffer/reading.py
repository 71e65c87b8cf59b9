"""The buffer's file seen from another process, while its agent writes or while nobody does.

Nothing here writes, and no read lasts longer than one row or one sum: a reader that kept a snapshot open would let
the write-ahead log grow. What was delivered since the last transaction still shows as pending.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from edge_agent.buffer.file import SCHEMA_VERSION
from edge_agent.buffer.packing import ROW_OVERHEAD_BYTES, decode_row
from shopfloor.block import SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SpanRecord


@dataclass(slots=True)
class StreamHolding:
    """What the file holds of one stream."""

    stream_id: str
    committed: int
    """Delivered through this sequence number."""
    last_seq: int
    pending_samples: int = 0
    pending_bytes: int = 0
    recent_bytes: int = 0
    """Of rows that wait, those that were received since the time asked for."""
    oldest_pending_time: int | None = None
    """Received time, UTC ns."""
    used_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PendingRow:
    """Undelivered samples of one row; ``block`` is None where the row is damaged."""

    stream_id: str
    first_seq: int
    count: int
    block: SampleBlock | None


class BufferReader:
    """Reads one buffer file; close it, or use it as a context manager.

    Raises (all methods): StoreUnavailable where there is no file, it can't be read, or is not a buffer of a version
    that this process knows.
    """

    def __init__(self, path: Path) -> None:
        """Open read-only; creates nothing.

        Without a write-ahead log nobody has the file open, and SQLite is told that nothing changes: else it would make
        a log and an index of it, owned by whoever looks, that the agent's own user could then not open.
        """
        self._path = path
        if not path.exists():
            raise StoreUnavailable(f"{path}: there is no buffer yet; the agent makes it when it first runs")
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=5.0
            )
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        if version > SCHEMA_VERSION:
            self._db.close()
            raise StoreUnavailable(f"{path}: schema {version}, this version knows {SCHEMA_VERSION}")

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the file go."""
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def streams(self, recent_since: int = 0) -> list[StreamHolding]:
        """Return all streams, the newest last; ``recent_since`` (UTC ns) says what counts as recent."""
        try:
            self._db.execute("BEGIN")
            found = {
                number: StreamHolding(stream_id, committed, committed)
                for number, stream_id, committed in self._db.execute(
                    "SELECT number, stream_id, committed FROM stream ORDER BY number"
                )
            }
            # Summed up here: SQLite would carry the payloads along into its sorter.
            for number, first_seq, count, oldest, size in self._db.execute(
                "SELECT stream, first_seq, count, oldest_time, length(payload) FROM block ORDER BY number"
            ):
                if number in found:
                    _count(found[number], first_seq, count, oldest, size + ROW_OVERHEAD_BYTES, recent_since)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._unavailable(error) from error
        return list(found.values())

    def spans(self, limit: int) -> tuple[list[SpanRecord], int]:
        """Return the oldest span records that wait to be sent, at most ``limit``, and how many there are."""
        rows = self._all("SELECT body FROM span ORDER BY number LIMIT ?", limit)
        total = int(self._all("SELECT count(*) FROM span")[0][0])
        try:
            return [msgspec.json.decode(body, type=SpanRecord) for (body,) in rows], total
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._unavailable(error) from error

    def free_bytes(self) -> int:
        """Return the bytes inside the file that new rows can use."""
        return int(self._all("PRAGMA freelist_count")[0][0] * self._all("PRAGMA page_size")[0][0])

    def pending(self, stream_id: str | None = None) -> Iterator[PendingRow]:
        """Yield what waits, row by row, of one stream or of all; what is delivered meanwhile is left out."""
        query = (
            "SELECT b.number, s.stream_id, s.number, s.committed, b.first_seq, b.count, b.checksum, b.payload "
            "FROM block b JOIN stream s ON s.number = b.stream WHERE b.number > ? "
            "AND b.first_seq + b.count - 1 > s.committed AND (? IS NULL OR s.stream_id = ?) ORDER BY b.number LIMIT 1"
        )
        number = -(2**62)
        done: dict[str, int] = {}
        while found := self._all(query, number, stream_id, stream_id):
            number, name, stream, committed, first_seq, count, checksum, payload = found[0]
            # A row that was read may have become part of a larger one with a higher number meanwhile.
            skip = max(0, max(committed, done.get(name, 0)) + 1 - first_seq)
            if skip >= count:
                continue
            done[name] = first_seq + count - 1
            block = decode_row(stream, first_seq, count, checksum, payload)
            if block is not None and skip:
                block = block.take(np.arange(skip, count))
            yield PendingRow(name, first_seq + skip, count - skip, block)

    def _all(self, query: str, *parameters: object) -> list[Any]:
        try:
            with closing(self._db.execute(query, parameters)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path}: {error}")


def _count(
    stream: StreamHolding, first_seq: int, count: int, oldest: int, size: int, recent_since: int
) -> None:
    last_seq = first_seq + count - 1
    stream.last_seq = max(stream.last_seq, last_seq)
    stream.used_bytes += size
    if last_seq <= stream.committed:
        return
    stream.pending_samples += last_seq - max(first_seq - 1, stream.committed)
    stream.pending_bytes += size
    if oldest >= recent_since:
        stream.recent_bytes += size
    if stream.oldest_pending_time is None or oldest < stream.oldest_pending_time:
        stream.oldest_pending_time = oldest
