"""The buffer on SQLite.

Rows stay for a while after delivery: they are the record from which the repeat index is rebuilt when the process
starts again, so nothing extra is written for it. What is older than the window is summed up in a checkpoint (the
newest time and digest of every series) in the same transaction that deletes the rows.

docs/specs/delivery.md says in MUSTs what this file keeps.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge_agent.buffer import BufferStats, Parcel, Position, WhenFull
from edge_agent.buffer.file import BufferFile, Checkpoint
from edge_agent.buffer.inventory import Inventory, Row, Stream
from edge_agent.buffer.losses import dropped, extended, span_of
from edge_agent.buffer.merging import mergeable
from edge_agent.buffer.quarantine import set_batch_aside, set_row_aside
from edge_agent.buffer.repair import repaired
from edge_agent.buffer.repeats import RepeatIndex
from edge_agent.buffer.room import BufferLimits, Room, disk_free_bytes
from edge_agent.buffer.shape import ROW_TEXT_BYTES, gathered, named_only, row_blocks, storable, text_bytes
from edge_agent.trouble import Trouble
from shopfloor.block import SampleBlock, concat
from shopfloor.errors import StoreUnavailable, WireError
from shopfloor.messages import Batch, Lane, SpanKind, SpanRecord, new_id

log = logging.getLogger(__name__)

FILE_NAME: Final = "buffer.sqlite3"
_MAINTENANCE_APPENDS: Final = 256
_ROOM_AGAIN_AFTER_S: Final = 60.0
"""A buffer that is full drops something every now and then."""
_IDLE_COMMIT_S: Final = 2.0


class SqliteBuffer:
    """A Buffer in one SQLite file in ``folder``; all methods belong to one thread."""

    def __init__(
        self,
        folder: Path,
        limits: BufferLimits,
        agent_id: str,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[Path], int] = disk_free_bytes,
    ) -> None:
        """Open or create the buffer; a damaged file is set aside and salvaged.

        Raises:
            StoreUnavailable: the folder can't be written.
        """
        self._folder, self._limits, self._agent_id = folder, limits, agent_id
        self._path = folder / FILE_NAME
        self._now_ns = now_ns
        self._free_bytes = free_bytes
        self._room = Room(folder, limits, free_bytes)
        self._stats = BufferStats(limit_bytes=limits.max_bytes)
        self._held = Inventory()
        self._repeats = RepeatIndex(limits.repeat_window_samples)
        self._dirty_commits: set[int] = set()
        self._open_drop: SpanRecord | None = None
        """The last record of dropped samples: while nobody has seen it, the next drop extends it."""
        self._decoded: dict[Lane, tuple[Row, SampleBlock]] = {}
        """The row that each lane read last: the next batch often begins inside it."""
        self._appends_since_maintenance = 0
        self._written_s = time.monotonic()
        self._room_trouble = Trouble(log, "buffer")
        self._closed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = BufferFile(self._path)
            try:
                self._load()
            except (sqlite3.DatabaseError, WireError, msgspec.MsgspecError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._file.close()
                self._repair(str(error))
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreUnavailable(f"buffer {self._path}: {error}") from error
        # Always a new stream: numbers of one whose rows were all dropped must not be given out again.
        self._new_stream()
        self._forget_empty_streams()

    def limit(self, limits: BufferLimits) -> None:
        """Keep within other limits from now on; the window for repeats stays as it was when the buffer was opened."""
        self._limits = replace(limits, repeat_window_samples=self._limits.repeat_window_samples)
        self._room = Room(self._folder, self._limits, self._free_bytes)
        self._stats.limit_bytes = limits.max_bytes

    # Taking

    def append(self, parcels: Sequence[Parcel]) -> Position:
        """See Buffer.append."""
        blocks = [parcel.block for parcel in parcels if len(parcel.block)]
        if self._limits.when_full is WhenFull.BLOCK and blocks and self._is_full():
            self._trim()
            if self._is_full():
                raise StoreUnavailable("the buffer is full and its policy is to wait", retry_after_s=1.0)
        stream = self._held.current
        admitted = [self._repeats.admit(storable(block)) for block in gathered(blocks)]
        rows: list[Row] = []
        first_seq = stream.next_seq
        try:
            with self._transaction():
                for each in admitted:
                    for block in row_blocks(each.block):
                        rows.append(self._file.insert_block(stream, first_seq, block))
                        first_seq += len(block)
                for parcel in parcels:
                    self._file.save_state(parcel.scope, parcel.state)
                    for span in parcel.spans:
                        self._file.put_span(span)
        except StoreUnavailable:
            # The index has learned samples that did not become durable: it must not call them repeats.
            self._forget_index()
            raise
        for row in rows:
            self._held.add(row)
            self._stats.appended_samples_total += row.count
            self._stats.appended_bytes_total += row.size
        self._stats.repeats_total += sum(each.repeats for each in admitted)
        self._stats.moved_total += sum(each.moved for each in admitted)
        self._appends_since_maintenance += 1
        if self._appends_since_maintenance >= _MAINTENANCE_APPENDS or self._is_full():
            try:
                self._maintain(rows)
            except StoreUnavailable as error:
                # What came is durable and stays so.
                self._room_trouble.met(f"can't make room: {error}")
        return Position(stream.stream_id, stream.next_seq - 1)

    def state(self, scope: str) -> dict[str, bytes]:
        """See Buffer.state."""
        with self._reading():
            return self._file.state(scope)

    def begin_stream(self) -> None:
        """See Buffer.begin_stream; a stream that never got a sample goes on instead."""
        if self._held.current.next_seq > 1:
            self._new_stream()

    # Giving

    def peek(self, limit: int, lane: Lane = Lane.LIVE) -> Batch | None:
        """See Buffer.peek; a batch whose texts are long has fewer samples, so that the service can take it."""
        while True:
            stream = self._held.current if lane is Lane.LIVE else self._held.backlog()
            rows = self._held.next_rows(stream, limit) if stream is not None else []
            if stream is None or not rows:
                self._write_idle_commits()
                return None
            blocks: list[SampleBlock] = []
            texts = 0
            for row in rows:
                block = self._read(row, lane)
                if block is None:
                    self._give_up(row)
                    break
                texts += sum(map(text_bytes, block.text.values()))
                if blocks and texts > ROW_TEXT_BYTES:
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

    def _write_idle_commits(self) -> None:
        """Write down what was delivered when no append has done so for a while: a restart would send it again."""
        if self._dirty_commits and time.monotonic() - self._written_s >= _IDLE_COMMIT_S:
            with self._transaction():
                pass

    def _read(self, row: Row, lane: Lane) -> SampleBlock | None:
        """Return a row's block, None where it is damaged; a row larger than a batch is decoded once, not for each."""
        known = self._decoded.get(lane)
        if known is not None and known[0] is row:
            return known[1]
        with self._reading():
            block = self._file.read_block(row)
        if block is not None:
            self._decoded[lane] = row, block
        return block

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
        set_batch_aside(self._folder, batch)
        stream = self._held.by_id(batch.stream_id)
        times = (int(batch.block.source_time.min()), int(batch.block.source_time.max()))
        with self._transaction():
            self._file.put_span(
                span_of(SpanKind.QUARANTINED, reason, batch.stream_id, batch.first_seq, batch.last_seq, times)
            )
            if stream is not None:
                # With the record: a crash between the two would have the batch refused and recorded again.
                self._dirty_commits.discard(stream.number)
                self._file.write_committed([replace(stream, committed=max(stream.committed, batch.last_seq))])
        self._stats.quarantined_samples_total += len(batch.block)
        self.commit(batch.stream_id, batch.last_seq)

    def spans(self, limit: int) -> list[SpanRecord]:
        """See Buffer.spans."""
        with self._reading():
            records = self._file.spans(limit)
        # What has been handed out may be at the service already: it is not extended any more.
        self._open_drop = None
        return records

    def commit_spans(self, record_ids: Sequence[str]) -> None:
        """See Buffer.commit_spans."""
        with self._transaction():
            self._file.delete_spans(record_ids)

    def stats(self) -> BufferStats:
        """See Buffer.stats."""
        with self._reading():
            waiting_spans, inside = self._file.count_spans(), self._file.free_bytes()
        return replace(
            self._stats,
            streams=self._held.waiting_streams(),
            pending_samples=self._held.pending_samples,
            live_samples=self._held.live_samples(),
            waiting_spans=waiting_spans,
            oldest_pending_time=self._held.oldest_pending_time(),
            used_bytes=self._held.used_bytes,
            pending_bytes=self._held.pending_bytes,
            left_bytes=self._room.left_bytes(self._held.used_bytes, self._held.pending_bytes, inside),
        )

    def close(self) -> None:
        """See Buffer.close."""
        if self._closed:
            return
        self._closed = True
        try:
            with self._transaction():
                pass
        except StoreUnavailable as error:
            log.warning("closing the buffer: %s; what was delivered is sent again at the next start", error)
        self._file.close()

    # Keeping within bounds

    def _is_full(self) -> bool:
        with self._reading():
            return self._room.is_full(self._held.used_bytes, self._file.free_bytes)

    def _maintain(self, newest: Sequence[Row]) -> None:
        """Forget delivered rows beyond the window; where that is not enough, drop by policy."""
        is_due = self._appends_since_maintenance >= _MAINTENANCE_APPENDS
        self._appends_since_maintenance = 0
        self._trim()
        if self._is_full() and self._limits.when_full is not WhenFull.BLOCK:
            self._drop(newest)
        else:
            total = self._stats.dropped_samples_total
            self._room_trouble.over(
                f"has room again, {total} samples dropped since the start", well_s=_ROOM_AGAIN_AFTER_S
            )
        if is_due:
            self._merge()

    def _merge(self) -> None:
        """Make few large rows of the many small ones that came since the last time."""
        for run in mergeable(self._held, 2 * _MAINTENANCE_APPENDS):
            with self._reading():
                blocks = [block for row in run if (block := self._file.read_block(row)) is not None]
            if len(blocks) == len(run):
                with self._transaction():
                    merged = self._file.merge_blocks(run, named_only(concat(blocks)))
                self._held.replace(run, merged)

    def _trim(self) -> None:
        """Delete delivered rows, newest kept for the repeat window unless space is short."""
        full = self._is_full()
        self._delete(self._held.delivered_beyond(0 if full else self._limits.repeat_window_samples), ())
        with self._reading():
            if full and self._room.disk_is_short:
                self._room.look(self._file.free_bytes())
            if self._room.reserve_is_touched():
                self._file.give_back()

    def _drop(self, newest: Sequence[Row]) -> None:
        """Drop undelivered rows until there is room for a tenth more; each run becomes one span record."""
        goal = self._limits.max_bytes if self._room.disk_is_short else int(self._limits.max_bytes * 0.9)
        came = sum(row.size for row in newest)
        doomed = self._held.droppable(max(self._held.used_bytes - goal, came or 1))
        if self._limits.when_full is WhenFull.DROP_NEWEST:
            doomed = [row for row in newest if row.number in self._held]
        reason = "disk reserve reached" if self._room.disk_is_short else "buffer full"
        records = dropped(doomed, self._held.streams, reason)
        if not records:
            return
        merged = extended(self._open_drop, records)
        self._delete(doomed, merged)
        self._open_drop = merged[-1]
        self._stats.dropped_samples_total += sum(record.count for record in records)
        self._room_trouble.met(f"dropping samples ({reason}, {self._limits.when_full})", level=logging.ERROR)

    def _give_up(self, row: Row) -> None:
        """A row whose checksum is wrong: its samples are lost, which is recorded; the bytes are kept aside."""
        log.error("row %d of the buffer is damaged: %d samples are lost", row.number, row.count)
        with self._reading():
            payload = self._file.raw_payload(row)
        records = dropped([row], self._held.streams, "buffer row damaged")
        if payload is not None:
            set_row_aside(self._folder, records[0].stream_id, row.first_seq, payload)
        self._delete([row], records)
        self._stats.damaged_rows_total += 1
        self._stats.dropped_samples_total += records[0].count

    def _delete(self, rows: Sequence[Row], records: Sequence[SpanRecord]) -> None:
        if not rows and not records:
            return
        emptied = self._held.empty_streams(rows)
        with self._transaction():
            # Through a row that stays: the numbers of deleted last ones are given out again.
            through = self._held.last_row_number(rows)
            self._file.write_checkpoint(Checkpoint(through, *self._repeats.newest()))
            self._file.delete_blocks(rows)
            for record in records:
                self._file.put_span(record)
            self._file.delete_streams(emptied)
        self._held.remove(rows)
        for number in emptied:
            del self._held.streams[number]

    # Inside

    def _new_stream(self) -> None:
        number, stream_id = max(self._held.streams, default=0) + 1, new_id()
        with self._transaction():
            self._file.insert_stream(number, stream_id)
        self._held.streams[number] = Stream(number, stream_id, 0, 1)

    def _forget_empty_streams(self) -> None:
        emptied = self._held.empty_streams()
        with self._transaction():
            self._file.delete_streams(emptied)
        for number in emptied:
            del self._held.streams[number]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Make what happens inside durable, and with it what was delivered since the last one."""
        with self._reading(), self._file.transaction():
            yield
            self._file.write_committed([self._held.streams[number] for number in self._dirty_commits])
        self._dirty_commits.clear()
        self._written_s = time.monotonic()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        """Name the failure; a file found damaged is repaired at once, so that the next attempt finds a sound one."""
        harmless = sqlite3.OperationalError | sqlite3.ProgrammingError | sqlite3.IntegrityError
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, harmless):
            self._file.close()
            try:
                self._repair(str(error))
                self._new_stream()
            except (OSError, sqlite3.Error) as again:
                return StoreUnavailable(f"buffer {self._path}: {error}; repairing it: {again}")
        return StoreUnavailable(f"buffer {self._path}: {error}")

    # Opening

    def _load(self) -> None:
        self._file.verify()
        self._held = Inventory()
        self._held.streams = {stream.number: stream for stream in self._file.streams()}
        for row in self._file.rows():
            self._held.add(row)
        self._load_index()

    def _load_index(self) -> None:
        """Rebuild the repeat index: the checkpoint, then every row of the window or behind the checkpoint."""
        self._repeats = RepeatIndex(self._limits.repeat_window_samples)
        checkpoint = self._file.checkpoint()
        through = 0
        if checkpoint is not None:
            through = checkpoint.through
            self._repeats.restore(checkpoint.series, checkpoint.times, checkpoint.digests)
        samples, first = 0, 0
        for row in self._held.newest_first():
            samples += row.count
            first = row.number
            if samples >= self._limits.repeat_window_samples and row.number <= through:
                break
        for number, block in self._file.blocks_from(first):
            if number in self._held:
                self._repeats.remember(block)

    def _forget_index(self) -> None:
        """Rebuild the repeat index from what is on disk."""
        try:
            self._load_index()
        except (sqlite3.Error, WireError, msgspec.MsgspecError) as error:
            log.warning("the index of repeats can't be read again (%s); repeats may be stored", error)

    def _repair(self, reason: str) -> None:
        """Go on in a new file with what is readable of the old one, which must be closed."""
        self._file, lost = repaired(self._path, reason, self._now_ns())
        self._stats.dropped_samples_total += lost
        self._dirty_commits.clear()
        self._load()


__all__ = ["FILE_NAME", "BufferLimits", "SqliteBuffer"]
