"""The buffer on SQLite: WAL, synchronous=FULL, one row a block, a checksum a row.

Rows stay for a while after delivery: they are the record from which the repeat index is rebuilt when the process
starts again, so nothing extra is written for it. What is older than the window is summed up in a checkpoint (the
newest time and digest of every series) in the same transaction that deletes the rows.

docs/specs/delivery.md says in MUSTs what this file keeps.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge_agent.buffer import BufferStats, Parcel, Position, WhenFull
from edge_agent.buffer.inventory import Inventory, Row, Stream
from edge_agent.buffer.repeats import RepeatIndex
from edge_agent.buffer.salvage import Salvaged, salvage, set_aside
from shopfloor import wire
from shopfloor.block import SampleBlock, concat
from shopfloor.errors import StoreUnavailable, WireError
from shopfloor.messages import Batch, Lane, SpanKind, SpanRecord, encode_json, new_id

log = logging.getLogger(__name__)

FILE_NAME: Final = "buffer.sqlite3"
_ROW_OVERHEAD_BYTES: Final = 64
_MAINTENANCE_APPENDS: Final = 256
_DISK_CHECK_INTERVAL_S: Final = 1.0
_DROP_LOG_INTERVAL_S: Final = 60.0
_SCHEMA: Final = """
CREATE TABLE stream(number INTEGER PRIMARY KEY, stream_id TEXT NOT NULL UNIQUE, committed INTEGER NOT NULL);
CREATE TABLE block(
    number INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,
    oldest_time INTEGER NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE state(scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(scope, key)) WITHOUT ROWID;
CREATE TABLE span(number INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE checkpoint(id INTEGER PRIMARY KEY CHECK(id = 1), through INTEGER NOT NULL, body BLOB NOT NULL);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """How much the buffer may take, and what it does then."""

    max_bytes: int = 2 * 2**30
    disk_reserve_bytes: int = 256 * 2**20
    """Free space that is left to others on the buffer's disk."""
    when_full: WhenFull = WhenFull.DROP_OLDEST
    repeat_window_samples: int = 200_000


class _Checkpoint(msgspec.Struct, array_like=True):
    series: bytes
    times: bytes
    digests: bytes


class SqliteBuffer:
    """A Buffer in one SQLite file in ``folder``; all methods belong to one thread."""

    def __init__(
        self,
        folder: Path,
        limits: BufferLimits,
        agent_id: str,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        """Open or create the buffer; a damaged file is set aside and salvaged.

        Raises:
            StoreUnavailable: the folder can't be written.
        """
        self._folder, self._limits, self._agent_id = folder, limits, agent_id
        self._now_ns, self._free_bytes = now_ns, free_bytes
        self._stats = BufferStats(limit_bytes=limits.max_bytes)
        self._held = Inventory()
        self._repeats = RepeatIndex(limits.repeat_window_samples)
        self._dirty_commits: set[int] = set()
        self._open_drop: SpanRecord | None = None
        """The last record of dropped samples: while nobody has seen it, the next drop extends it."""
        self._appends_since_maintenance = 0
        self._disk_checked_s = 0.0
        self._drop_logged_s = -_DROP_LOG_INTERVAL_S
        self._disk_short = False
        self._closed = False
        path = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = _open(path)
            try:
                self._load()
            except (sqlite3.DatabaseError, WireError, msgspec.MsgspecError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._db.close()
                self._repair(path, str(error))
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreUnavailable(f"buffer {path}: {error}") from error
        self.begin_stream()

    # Taking

    def append(self, parcels: Sequence[Parcel]) -> Position:
        """See Buffer.append."""
        blocks = [parcel.block for parcel in parcels if len(parcel.block)]
        if self._limits.when_full is WhenFull.BLOCK and blocks and self._is_full():
            self._trim()
            if self._is_full():
                raise StoreUnavailable("the buffer is full and its policy is to wait", retry_after_s=1.0)
        stream = self._held.current
        admitted = self._repeats.admit(concat(blocks)) if blocks else None
        block = admitted.block if admitted else None
        row: Row | None = None
        try:
            with self._transaction():
                if block is not None and len(block):
                    row = self._insert(stream, block)
                for parcel in parcels:
                    self._save_state(parcel)
                    for span in parcel.spans:
                        self._insert_span(span)
                self._write_commits()
        except StoreUnavailable:
            # The index has learned samples that did not become durable: it must not call them repeats.
            self._forget_index()
            raise
        if row is not None and block is not None and admitted is not None:
            self._held.add(row)
            self._stats.appended_samples_total += row.count
            self._stats.appended_bytes_total += row.size
        if admitted is not None:
            self._stats.repeats_total += admitted.repeats
            self._stats.moved_total += admitted.moved
        self._appends_since_maintenance += 1
        if self._appends_since_maintenance >= _MAINTENANCE_APPENDS or self._is_full():
            self._maintain(row)
        return Position(stream.stream_id, stream.next_seq - 1)

    def state(self, scope: str) -> dict[str, bytes]:
        """See Buffer.state."""
        with self._reading():
            return dict(self._db.execute("SELECT key, value FROM state WHERE scope = ?", (scope,)).fetchall())

    def begin_stream(self) -> None:
        """See Buffer.begin_stream; a stream that never got a sample goes on instead."""
        streams = self._held.streams
        if streams and self._held.current.next_seq == 1:
            return
        number, stream_id = max(streams, default=0) + 1, new_id()
        with self._transaction():
            self._db.execute("INSERT INTO stream VALUES (?, ?, 0)", (number, stream_id))
        streams[number] = Stream(number, stream_id, 0, 1)

    # Giving

    def peek(self, limit: int, lane: Lane = Lane.LIVE) -> Batch | None:
        """See Buffer.peek."""
        while True:
            stream = self._held.current if lane is Lane.LIVE else self._held.backlog()
            rows = self._held.next_rows(stream, limit) if stream is not None else []
            if stream is None or not rows:
                return None
            blocks: list[SampleBlock] = []
            for row in rows:
                block = self._read(row)
                if block is None:
                    self._give_up(row)
                    break
                blocks.append(block)
            if not blocks:
                continue
            first_seq = rows[0].first_seq
            joined = concat(blocks)
            skip = max(0, stream.committed + 1 - first_seq)
            take = min(limit, len(joined) - skip)
            if skip or take < len(joined):
                joined = joined.take(np.arange(skip, skip + take))
            batch = Batch(self._agent_id, stream.stream_id, lane, first_seq + skip, joined)
            stream.in_flight = batch.last_seq
            return batch

    def commit(self, stream_id: str, through: int) -> None:
        """See Buffer.commit."""
        stream = self._held.by_id(stream_id)
        if stream is None or through <= stream.committed:
            return
        self._stats.delivered_samples_total += self._held.commit(stream, min(through, stream.next_seq - 1))
        # Written with the next append: losing it costs a repeat, which the service drops.
        self._dirty_commits.add(stream.number)

    def quarantine(self, batch: Batch, reason: str) -> None:
        """See Buffer.quarantine."""
        folder = self._folder / "quarantine"
        path = folder / f"{batch.stream_id}-{batch.first_seq}-{batch.last_seq}.sfb"
        try:
            folder.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(wire.encode_batch(batch))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable(f"quarantine {path}: {error}") from error
        with self._transaction():
            self._insert_span(
                self._span(
                    SpanKind.QUARANTINED,
                    reason,
                    batch.stream_id,
                    batch.first_seq,
                    batch.last_seq,
                    batch.block,
                )
            )
        self._stats.quarantined_samples_total += len(batch.block)
        self.commit(batch.stream_id, batch.last_seq)

    def spans(self, limit: int) -> list[SpanRecord]:
        """See Buffer.spans."""
        with self._reading():
            rows = self._db.execute("SELECT body FROM span ORDER BY number LIMIT ?", (limit,)).fetchall()
        # What has been handed out may be at the service already: it is not extended any more.
        self._open_drop = None
        return [msgspec.json.decode(body, type=SpanRecord) for (body,) in rows]

    def commit_spans(self, record_ids: Sequence[str]) -> None:
        """See Buffer.commit_spans."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM span WHERE record_id = ?", [(record_id,) for record_id in record_ids]
            )

    def stats(self) -> BufferStats:
        """See Buffer.stats."""
        return replace(
            self._stats,
            streams=self._held.waiting_streams(),
            pending_samples=self._held.pending_samples,
            live_samples=self._held.live_samples(),
            waiting_spans=self._waiting_spans(),
            oldest_pending_time=self._held.oldest_pending_time(),
            used_bytes=self._held.used_bytes,
        )

    def _waiting_spans(self) -> int:
        with self._reading():
            return int(self._db.execute("SELECT count(*) FROM span").fetchone()[0])

    def close(self) -> None:
        """See Buffer.close."""
        if not self._closed:
            self._closed = True
            try:
                with self._transaction():
                    self._write_commits()
            except StoreUnavailable as error:
                log.warning(
                    "closing the buffer: %s; what was delivered is sent again at the next start", error
                )
            self._db.close()

    # Inside

    def _read(self, row: Row) -> SampleBlock | None:
        with self._reading():
            found = self._db.execute(
                "SELECT checksum, payload FROM block WHERE number = ?", (row.number,)
            ).fetchone()
        return None if found is None else _decode(row.stream, row.first_seq, row.count, *found)

    def _insert(self, stream: Stream, block: SampleBlock) -> Row:
        payload = wire.encode_block(block)
        first_seq, count, oldest = stream.next_seq, len(block), int(block.received_time.min())
        checksum = _checksum(stream.number, first_seq, count, payload)
        cursor = self._db.execute(
            "INSERT INTO block(stream, first_seq, count, oldest_time, checksum, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (stream.number, first_seq, count, oldest, checksum, payload),
        )
        number = cursor.lastrowid
        assert number is not None
        return Row(number, stream.number, first_seq, count, oldest, len(payload) + _ROW_OVERHEAD_BYTES)

    def _save_state(self, parcel: Parcel) -> None:
        for key, value in parcel.state.items():
            if value:
                self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (parcel.scope, key, value))
            else:
                self._db.execute("DELETE FROM state WHERE scope = ? AND key = ?", (parcel.scope, key))

    def _insert_span(self, span: SpanRecord) -> None:
        self._db.execute(
            "INSERT INTO span(record_id, body) VALUES (?, ?) ON CONFLICT(record_id) DO UPDATE SET body = excluded.body",
            (span.record_id, encode_json(span)),
        )

    def _span(
        self,
        kind: SpanKind,
        reason: str,
        stream_id: str,
        first_seq: int,
        last_seq: int,
        block: SampleBlock | None,
    ) -> SpanRecord:
        now = self._now_ns()
        sound = block is not None and len(block) > 0
        return SpanRecord(
            record_id=new_id(),
            stream_id=stream_id,
            first_seq=first_seq,
            last_seq=last_seq,
            kind=kind,
            reason=reason[:1000],
            from_time=int(block.source_time.min()) if sound and block is not None else now,
            to_time=int(block.source_time.max()) if sound and block is not None else now,
            count=last_seq - first_seq + 1,
        )

    def _write_commits(self) -> None:
        for number in self._dirty_commits:
            self._db.execute(
                "UPDATE stream SET committed = ? WHERE number = ?",
                (self._held.streams[number].committed, number),
            )
        self._dirty_commits.clear()

    def _is_full(self) -> bool:
        if self._held.used_bytes > self._limits.max_bytes:
            return True
        now_s = time.monotonic()
        if now_s - self._disk_checked_s >= _DISK_CHECK_INTERVAL_S:
            self._disk_checked_s = now_s
            self._disk_short = self._free_bytes(self._folder) < self._limits.disk_reserve_bytes
        return self._disk_short

    def _maintain(self, newest: Row | None) -> None:
        """Forget delivered rows beyond the window; where that is not enough, drop by policy."""
        self._appends_since_maintenance = 0
        self._trim()
        if self._is_full() and self._limits.when_full is not WhenFull.BLOCK:
            self._drop(newest)

    def _trim(self) -> None:
        """Delete delivered rows, newest kept for the repeat window unless space is short."""
        keep = 0 if self._is_full() else self._limits.repeat_window_samples
        self._delete(self._held.delivered_beyond(keep), ())

    def _drop(self, newest: Row | None) -> None:
        """Drop undelivered rows until there is room for a tenth more; each run becomes one span record."""
        goal = self._limits.max_bytes if self._disk_short else int(self._limits.max_bytes * 0.9)
        to_free = max(self._held.used_bytes - goal, newest.size if newest else 1)
        doomed = self._held.droppable(to_free)
        if self._limits.when_full is WhenFull.DROP_NEWEST:
            doomed = [newest] if newest is not None else []
        runs: list[list[Row]] = []
        for row in doomed:
            if runs and runs[-1][-1].stream == row.stream and runs[-1][-1].last_seq + 1 == row.first_seq:
                runs[-1].append(row)
            else:
                runs.append([row])
        reason = "disk reserve reached" if self._disk_short else "buffer full"
        spans = []
        for run in runs:
            stream = self._held.streams[run[0].stream]
            first_seq = max(run[0].first_seq, stream.committed + 1)
            span = self._span(SpanKind.DROPPED, reason, stream.stream_id, first_seq, run[-1].last_seq, None)
            spans.append(
                msgspec.structs.replace(span, from_time=run[0].oldest_time, to_time=run[-1].oldest_time)
            )
        dropped = sum(span.count for span in spans)
        self._stats.dropped_samples_total += dropped
        merged = self._merge_drops(spans)
        self._delete(doomed, merged)
        if merged:
            self._open_drop = merged[-1]
            if time.monotonic() - self._drop_logged_s > _DROP_LOG_INTERVAL_S:
                self._drop_logged_s = time.monotonic()
                total = self._stats.dropped_samples_total
                log.error(
                    "dropping samples (%s, %s): %d since the start", reason, self._limits.when_full, total
                )

    def _merge_drops(self, spans: list[SpanRecord]) -> list[SpanRecord]:
        """Let the first record extend the last one that is still unseen: a full buffer drops all the time."""
        before = self._open_drop
        if not spans or before is None:
            return spans
        first = spans[0]
        if (before.stream_id, before.reason, before.last_seq + 1) != (
            first.stream_id,
            first.reason,
            first.first_seq,
        ):
            return spans
        longer = msgspec.structs.replace(
            before, last_seq=first.last_seq, to_time=first.to_time, count=before.count + first.count
        )
        return [longer, *spans[1:]]

    def _give_up(self, row: Row) -> None:
        """A row whose checksum is wrong: its samples are lost, which is recorded; the bytes are kept aside."""
        stream = self._held.streams[row.stream]
        first_seq = max(row.first_seq, stream.committed + 1)
        log.error("row %d of the buffer is damaged: %d samples are lost", row.number, row.count)
        with self._reading():
            found = self._db.execute("SELECT payload FROM block WHERE number = ?", (row.number,)).fetchone()
        if found is not None:
            (self._folder / f"damaged-{stream.stream_id}-{row.first_seq}.bin").write_bytes(found[0])
        span = self._span(
            SpanKind.DROPPED, "buffer row damaged", stream.stream_id, first_seq, row.last_seq, None
        )
        self._delete(
            [row], [msgspec.structs.replace(span, from_time=row.oldest_time, to_time=row.oldest_time)]
        )
        self._stats.damaged_rows_total += 1
        self._stats.dropped_samples_total += row.last_seq - first_seq + 1

    def _delete(self, rows: Sequence[Row], spans: Sequence[SpanRecord]) -> None:
        if not rows and not spans:
            return
        with self._transaction():
            self._write_checkpoint()
            self._db.executemany("DELETE FROM block WHERE number = ?", [(row.number,) for row in rows])
            for span in spans:
                self._insert_span(span)
            self._write_commits()
            emptied = self._held.empty_streams(rows)
            self._db.executemany("DELETE FROM stream WHERE number = ?", [(number,) for number in emptied])
        self._held.remove(rows)
        for number in emptied:
            del self._held.streams[number]

    def _write_checkpoint(self) -> None:
        series, times, digests = self._repeats.newest()
        table = "\n".join(f"{key.asset}\0{key.signal}" for key in series).encode()
        body = msgspec.msgpack.encode(_Checkpoint(table, times.tobytes(), digests.tobytes()))
        through = self._held.last_row_number
        self._db.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (through, body))

    def _forget_index(self) -> None:
        """Rebuild the repeat index from what is on disk."""
        self._repeats = RepeatIndex(self._limits.repeat_window_samples)
        try:
            self._load_index()
        except (StoreUnavailable, sqlite3.Error) as error:
            log.warning("the index of repeats can't be read again (%s); repeats may be stored", error)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        """Name the failure; a file found damaged is repaired at once, so that the next attempt finds a sound one."""
        path = self._folder / FILE_NAME
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError | sqlite3.ProgrammingError | sqlite3.IntegrityError
        ):
            self._db.close()
            try:
                self._repair(path, str(error))
                self.begin_stream()
            except (OSError, sqlite3.Error) as again:
                return StoreUnavailable(f"buffer {path}: {error}; repairing it: {again}")
        return StoreUnavailable(f"buffer {path}: {error}")

    # Opening

    def _load(self) -> None:
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'block'").fetchone():
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        for number, stream_id, committed in self._db.execute(
            "SELECT * FROM stream ORDER BY number"
        ).fetchall():
            self._held.streams[number] = Stream(number, stream_id, committed, committed + 1)
        rows = self._db.execute(
            "SELECT number, stream, first_seq, count, oldest_time, length(payload) FROM block ORDER BY number"
        ).fetchall()
        for number, stream, first_seq, count, oldest_time, size in rows:
            self._held.add(Row(number, stream, first_seq, count, oldest_time, size + _ROW_OVERHEAD_BYTES))
        self._load_index()

    def _load_index(self) -> None:
        through = 0
        found = self._db.execute("SELECT through, body FROM checkpoint").fetchone()
        if found is not None:
            through = found[0]
            body = msgspec.msgpack.decode(found[1], type=_Checkpoint)
            series = wire.parse_series_table(body.series)
            self._repeats.restore(
                series,
                np.frombuffer(body.times, dtype=np.int64),
                np.frombuffer(body.digests, dtype=np.uint64),
            )
        samples, first = 0, 0
        for row in self._held.newest_first():
            samples += row.count
            first = row.number
            if samples >= self._limits.repeat_window_samples and row.number <= through:
                break
        for number, stream, first_seq, count, checksum, payload in self._db.execute(
            "SELECT number, stream, first_seq, count, checksum, payload FROM block WHERE number >= ? ORDER BY number",
            (first,),
        ):
            block = _decode(stream, first_seq, count, checksum, payload)
            if block is not None and number in self._held:
                self._repeats.remember(block)

    def _repair(self, path: Path, reason: str) -> None:
        aside = set_aside(path, self._now_ns())
        log.error(
            "the buffer is damaged (%s); the file is kept as %s, what is readable is taken over",
            reason,
            aside,
        )
        found: Salvaged = salvage(aside)
        self._held = Inventory()
        self._repeats = RepeatIndex(self._limits.repeat_window_samples)
        self._db = _open(path)
        self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        with self._transaction():
            self._db.executemany("INSERT INTO stream VALUES (?, ?, ?)", found.streams)
            self._db.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)", found.blocks)
            self._db.executemany("INSERT INTO state VALUES (?, ?, ?)", found.state)
            for body in found.spans:
                self._insert_span(msgspec.json.decode(body, type=SpanRecord))
            now = self._now_ns()
            for stream_id, first_seq, last_seq in found.missing:
                span = self._span(
                    SpanKind.DROPPED, f"buffer damaged: {reason}", stream_id, first_seq, last_seq, None
                )
                self._insert_span(span)
                self._stats.dropped_samples_total += span.count
            # What was never numbered in a readable place can't be counted: the record says "at least none".
            self._insert_span(
                SpanRecord(
                    record_id=new_id(), stream_id="", kind=SpanKind.DROPPED, from_time=now, to_time=now,
                    reason=f"buffer damaged, file set aside as {aside.name}: {reason}"[:1000], count=0, at_least=True,
                )
            )  # fmt: skip
        self._load()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute("PRAGMA cache_size = -4096")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            database.close()
            raise
        # Not a database at all: _load meets the same error and has the file set aside.
    return database


def _checksum(stream: int, first_seq: int, count: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(b"%d %d %d" % (stream, first_seq, count)))


def _decode(stream: int, first_seq: int, count: int, checksum: int, payload: bytes) -> SampleBlock | None:
    """Return the block of a row, None where the row is not what was written."""
    if not isinstance(payload, bytes) or _checksum(stream, first_seq, count, payload) != checksum:
        return None
    try:
        block = wire.decode_block(payload)
    except WireError:
        return None
    return block if len(block) == count else None
