"""The open file, its second copy, and what is known of both in memory: opened, repaired, written in transactions.

Rows stay for a while after delivery: they are the record from which the repeat index is rebuilt when the process
starts again. What is older than the window is summed up in a checkpoint (the newest time and digest of every series) in
the same transaction that deletes the rows.
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

from edge_agent.buffer import BufferStats
from edge_agent.buffer.file import BufferFile
from edge_agent.buffer.inventory import Inventory, Row, Stream
from edge_agent.buffer.losses import dropped
from edge_agent.buffer.mirror import GENERATION_BYTES, Copy, Mirror
from edge_agent.buffer.packing import Checkpoint, packed_checkpoint
from edge_agent.buffer.quarantine import set_row_aside
from edge_agent.buffer.repair import finish_repair, repaired
from edge_agent.buffer.repeats import RepeatIndex
from edge_agent.buffer.room import BufferLimits
from shopfloor.block import SampleBlock
from shopfloor.errors import StoreUnavailable, WireError
from shopfloor.messages import SpanRecord, new_id

log = logging.getLogger(__name__)

FILE_NAME: Final = "buffer.sqlite3"
_IDLE_COMMIT_S: Final = 2.0
_MIRROR_SHARE: Final = 8
"""Each of the mirror's two files has at most this fraction of what the buffer may take."""


class Holding:
    """What a buffer has on disk. Whatever its methods raise, they did nothing.

    Raises (all methods): StoreUnavailable where the disk does not take or give the data.
    """

    def __init__(
        self, folder: Path, limits: BufferLimits, stats: BufferStats, now_ns: Callable[[], int]
    ) -> None:
        """Open or create the files; a damaged one is set aside and salvaged. ``stats`` are kept up to date."""
        self._folder, self._path = folder, folder / FILE_NAME
        self._window_samples = limits.repeat_window_samples
        self._stats, self._now_ns = stats, now_ns
        self.rows = Inventory()
        self.repeats = RepeatIndex(self._window_samples)
        self._mirror = Mirror(self._path, min(GENERATION_BYTES, limits.max_bytes // _MIRROR_SHARE))
        self._delivered: set[int] = set()
        """Numbers of streams of which more was delivered than the file says."""
        self._written_s = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not finish_repair(self._path):
                # What the copy holds belongs to a file that somebody has taken away.
                self._mirror.clear()
            self.file = BufferFile(self._path)
            try:
                self._load()
                self._load_index()
            except (sqlite3.DatabaseError, WireError, msgspec.MsgspecError, ValueError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self.file.close()
                self._repair(str(error))
                self._load_index()
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreUnavailable(f"buffer {self._path}: {error}") from error
        # Always a new stream: numbers of one whose rows were all dropped must not be given out again.
        self.new_stream()
        self._forget_empty_streams()

    def close(self) -> None:
        """Write what is still only in memory and let the files go."""
        try:
            with self.transaction():
                pass
        except StoreUnavailable as error:
            log.warning("closing the buffer: %s; what was delivered is sent again at the next start", error)
        self._mirror.close()
        self.file.close()

    # Transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens inside durable, and with it what was delivered since the last one."""
        with self.reading(), self.file.transaction():
            yield
            self.file.write_committed([self.rows.streams[number] for number in self._delivered])
        self._delivered.clear()
        self._written_s = time.monotonic()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what the file raises inside into StoreUnavailable."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        """Name the failure; a file found damaged is repaired at once, so that the next attempt finds a sound one.

        The index of repeats stays as it is: it knows more than a damaged file.
        """
        harmless = sqlite3.OperationalError | sqlite3.ProgrammingError | sqlite3.IntegrityError
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, harmless):
            self.file.close()
            try:
                self._repair(str(error))
                self.new_stream()
            except (OSError, sqlite3.Error) as again:
                return StoreUnavailable(f"buffer {self._path}: {error}; repairing it: {again}")
        return StoreUnavailable(f"buffer {self._path}: {error}")

    # Rows

    def take(self, rows: Sequence[Row], payloads: Sequence[bytes]) -> None:
        """Take up rows of the live stream that have become durable; their samples are in the repeat index by now."""
        stream = self.rows.current
        for row in rows:
            self.rows.add(row)
            self._stats.appended_samples_total += row.count
            self._stats.appended_bytes_total += row.size
        name, committed = stream.stream_id, stream.committed
        self._mirror.write(
            (
                Copy(stream.number, name, committed, row.first_seq, row.count, payload)
                for row, payload in zip(rows, payloads, strict=True)
            ),
            self._checkpoint,
        )

    def read(self, row: Row) -> SampleBlock | None:
        """Return a row's block, None where it is damaged and there is no copy of it."""
        with self.reading():
            block = self.file.read_block(row)
        if block is not None:
            return block
        block = self._copy_of(row)
        if block is not None:
            log.warning("row %d of the buffer is damaged; restored from its second copy", row.number)
            with self.transaction():
                again = self.file.merge_blocks([row], block)
            self.rows.replace([row], again)
            self._stats.damaged_rows_total += 1
        return block

    def give_up(self, row: Row) -> None:
        """Let a row go that can't be read: its samples are lost, which is recorded; the bytes are kept aside."""
        log.error("row %d of the buffer is damaged: %d samples are lost", row.number, row.count)
        with self.reading():
            payload = self.file.raw_payload(row)
        records = dropped([row], self.rows.streams, "buffer row damaged")
        if payload is not None:
            set_row_aside(self._folder, records[0].stream_id, row.first_seq, payload)
        self.delete([row], records)
        self._stats.damaged_rows_total += 1
        self._stats.dropped_samples_total += records[0].count

    def delete(
        self, rows: Sequence[Row], records: Sequence[SpanRecord], gone: Sequence[SpanRecord] | None = None
    ) -> None:
        """Delete rows and record what was lost with them; streams that have none any more go as well.

        Args:
            rows: delivered or not.
            records: what is written, which may extend a record that was there.
            gone: what is lost now, where that is not the same.
        """
        if not rows and not records:
            return
        emptied = self.rows.empty_streams(rows)
        marks = [
            Copy(0, record.stream_id, 0, record.first_seq, record.count, b"")
            for record in (records if gone is None else gone)
        ]
        with self.transaction():
            # Through a row that stays: the numbers of deleted last ones are given out again.
            through = self.rows.last_row_number(rows)
            self.file.write_checkpoint(Checkpoint(through, *self.repeats.newest()))
            self.file.delete_blocks(rows)
            for record in records:
                self.file.put_span(record)
            self.file.delete_streams(emptied)
        self._mirror.write(marks, self._checkpoint)
        self.rows.remove(rows)
        for number in emptied:
            del self.rows.streams[number]

    def give_back(self) -> None:
        """Return to a disk that is short what can be spared."""
        with self.reading():
            self.file.give_back()
        self._mirror.shrink()

    # Streams

    def new_stream(self) -> None:
        """Let what comes from now on be a new stream."""
        number, stream_id = max(self.rows.streams, default=0) + 1, new_id()
        with self.transaction():
            self.file.insert_stream(number, stream_id)
        self.rows.streams[number] = Stream(number, stream_id, 0, 1)

    def commit(self, stream: Stream, through: int) -> int:
        """Note that a stream is delivered through a number; return how many samples that were.

        Written with the next transaction: losing it costs a repeat, which the service drops.
        """
        self._delivered.add(stream.number)
        return self.rows.commit(stream, through)

    def write_idle_commits(self) -> None:
        """Write down what was delivered when nothing has done so for a while: a restart would send it again."""
        if self._delivered and time.monotonic() - self._written_s >= _IDLE_COMMIT_S:
            with self.transaction():
                pass

    def settle_aside(self, stream: Stream | None, through: int, record: SpanRecord) -> None:
        """Record that a batch was set aside, and go on behind it, in one transaction."""
        with self.transaction():
            self.file.put_span(record)
            if stream is not None:
                # With the record: a crash between the two would have the batch refused and recorded again.
                self._delivered.discard(stream.number)
                self.file.write_committed([replace(stream, committed=max(stream.committed, through))])

    def _forget_empty_streams(self) -> None:
        emptied = self.rows.empty_streams()
        with self.transaction():
            self.file.delete_streams(emptied)
        for number in emptied:
            del self.rows.streams[number]

    # Opening

    def _load(self) -> None:
        self.file.verify()
        self.rows = Inventory()
        self.rows.streams = {stream.number: stream for stream in self.file.streams()}
        for row in self.file.rows():
            self.rows.add(row)

    def _load_index(self) -> None:
        """Rebuild the repeat index: the checkpoint, then every row of the window or behind the checkpoint."""
        self.repeats = RepeatIndex(self._window_samples)
        checkpoint = self.file.checkpoint()
        through = 0
        if checkpoint is not None:
            through = checkpoint.through
            self.repeats.restore(checkpoint.series, checkpoint.times, checkpoint.digests)
        samples, needed = 0, dict[int, Row]()
        for row in self.rows.newest_first():
            if samples >= self._window_samples and row.number <= through:
                break
            samples += row.count
            needed[row.number] = row
        for number, block in self.file.blocks_from(min(needed, default=1)):
            if needed.pop(number, None) is not None:
                self.repeats.remember(block)
        for row in needed.values():
            copy = self._copy_of(row)
            if copy is not None:
                self.repeats.remember(copy)

    def _repair(self, reason: str) -> None:
        """Go on in a new file with what is readable of the old one, which must be closed."""
        self.file, lost = repaired(self._path, self._mirror, reason, self._now_ns())
        self._stats.dropped_samples_total += lost
        self._delivered.clear()
        self._load()

    def _copy_of(self, row: Row) -> SampleBlock | None:
        return self._mirror.find(self.rows.streams[row.stream].stream_id, row.first_seq, row.count)

    def _checkpoint(self) -> bytes:
        return packed_checkpoint(Checkpoint(0, *self.repeats.newest()))
