"""The buffer on SQLite. docs/specs/delivery.md says in MUSTs what it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_agent.buffer import BufferStats, Parcel, Position
from edge_agent.buffer.bounds import Bounds
from edge_agent.buffer.holding import FILE_NAME, Holding
from edge_agent.buffer.inventory import Row
from edge_agent.buffer.losses import span_of
from edge_agent.buffer.quarantine import set_batch_aside
from edge_agent.buffer.room import BufferLimits, disk_free_bytes
from edge_agent.buffer.shape import ROW_TEXT_BYTES, gathered, row_blocks, storable, text_bytes
from shopfloor import wire
from shopfloor.block import SampleBlock, concat
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane, SpanKind, SpanRecord


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
        self._folder, self._agent_id = folder, agent_id
        self._stats = BufferStats(limit_bytes=limits.max_bytes)
        self._holding = Holding(folder, limits, self._stats, now_ns)
        self._bounds = Bounds(folder, limits, self._holding, self._stats, free_bytes)
        self._decoded: dict[Lane, tuple[Row, SampleBlock]] = {}
        """The row that each lane read last: the next batch often begins inside it."""
        self._closed = False

    def limit(self, limits: BufferLimits) -> None:
        """Keep within other limits from now on; the window for repeats stays as it was when the buffer was opened."""
        self._bounds.limit(limits)

    # Taking

    def append(self, parcels: Sequence[Parcel]) -> Position:
        """See Buffer.append."""
        blocks = [parcel.block for parcel in parcels if len(parcel.block)]
        if blocks and self._bounds.must_wait():
            raise StoreUnavailable("the buffer is full and its policy is to wait", retry_after_s=1.0)
        holding = self._holding
        stream, repeats = holding.rows.current, holding.repeats
        rows: list[Row] = []
        payloads: list[bytes] = []
        first_seq = stream.next_seq
        try:
            admitted = [repeats.admit(storable(block)) for block in gathered(blocks)]
            with holding.transaction():
                for each in admitted:
                    for block in row_blocks(each.block):
                        payloads.append(wire.encode_block(block))
                        rows.append(holding.file.insert_block(stream, first_seq, block, payloads[-1]))
                        first_seq += len(block)
                for parcel in parcels:
                    holding.file.save_state(parcel.scope, parcel.state)
                    for span in parcel.spans:
                        holding.file.put_span(span)
        except BaseException:
            # What did not become durable must not be called a repeat when it comes again.
            repeats.undo()
            raise
        repeats.settle()
        holding.take(rows, payloads)
        self._stats.repeats_total += sum(each.repeats for each in admitted)
        self._stats.moved_total += sum(each.moved for each in admitted)
        self._bounds.appended(rows)
        return Position(stream.stream_id, stream.next_seq - 1)

    def state(self, scope: str) -> dict[str, bytes]:
        """See Buffer.state."""
        with self._holding.reading():
            return self._holding.file.state(scope)

    def begin_stream(self) -> None:
        """See Buffer.begin_stream; a stream that never got a sample goes on instead."""
        if self._holding.rows.current.next_seq > 1:
            self._holding.new_stream()

    # Giving

    def peek(self, limit: int, lane: Lane = Lane.LIVE) -> Batch | None:
        """See Buffer.peek; a batch whose texts are long has fewer samples, so that the service can take it."""
        while True:
            held = self._holding.rows
            stream = held.current if lane is Lane.LIVE else held.backlog()
            rows = held.next_rows(stream, limit) if stream is not None else []
            if stream is None or not rows:
                self._holding.write_idle_commits()
                return None
            blocks: list[SampleBlock] = []
            texts = 0
            for row in rows:
                block = self._read(row, lane)
                if block is None:
                    self._holding.give_up(row)
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

    def _read(self, row: Row, lane: Lane) -> SampleBlock | None:
        """Return a row's block, None where it is damaged; a row larger than a batch is decoded once, not for each."""
        known = self._decoded.get(lane)
        if known is not None and known[0] is row:
            return known[1]
        block = self._holding.read(row)
        if block is not None:
            self._decoded[lane] = row, block
        return block

    def commit(self, stream_id: str, through: int) -> None:
        """See Buffer.commit."""
        stream = self._holding.rows.by_id(stream_id)
        if stream is None or through <= stream.committed:
            return
        through = min(through, stream.next_seq - 1)
        self._stats.delivered_samples_total += self._holding.commit(stream, through)

    def quarantine(self, batch: Batch, reason: str) -> None:
        """See Buffer.quarantine."""
        set_batch_aside(self._folder, batch)
        times = (int(batch.block.source_time.min()), int(batch.block.source_time.max()))
        record = span_of(
            SpanKind.QUARANTINED, reason, batch.stream_id, batch.first_seq, batch.last_seq, times
        )
        stream = self._holding.rows.by_id(batch.stream_id)
        self._holding.settle_aside(stream, batch.last_seq, record)
        self._stats.quarantined_samples_total += len(batch.block)
        self.commit(batch.stream_id, batch.last_seq)

    def spans(self, limit: int) -> list[SpanRecord]:
        """See Buffer.spans."""
        with self._holding.reading():
            records = self._holding.file.spans(limit)
        # What has been handed out may be at the service already: it is not extended any more.
        self._bounds.open_drop = None
        return records

    def commit_spans(self, record_ids: Sequence[str]) -> None:
        """See Buffer.commit_spans."""
        with self._holding.transaction():
            self._holding.file.delete_spans(record_ids)

    def stats(self) -> BufferStats:
        """See Buffer.stats."""
        with self._holding.reading():
            waiting_spans = self._holding.file.count_spans()
        left_bytes, held = self._bounds.left_bytes(), self._holding.rows
        return replace(
            self._stats,
            streams=held.waiting_streams(),
            pending_samples=held.pending_samples,
            live_samples=held.live_samples(),
            pending=held.pending(),
            waiting_spans=waiting_spans,
            oldest_pending_time=held.oldest_pending_time(),
            used_bytes=held.used_bytes,
            pending_bytes=held.pending_bytes,
            left_bytes=left_bytes,
        )

    def close(self) -> None:
        """See Buffer.close."""
        if not self._closed:
            self._closed = True
            self._holding.close()


__all__ = ["FILE_NAME", "BufferLimits", "SqliteBuffer"]
