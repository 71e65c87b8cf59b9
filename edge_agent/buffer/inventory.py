"""What lies on disk, as kept in memory: rows and streams, what waits, what may go. No input or output here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """One block on disk."""

    number: int
    stream: int
    first_seq: int
    count: int
    oldest_time: int
    """Smallest received time, UTC ns."""
    size: int
    """Bytes that it takes."""

    @property
    def last_seq(self) -> int:
        """Sequence number of its last sample."""
        return self.first_seq + self.count - 1


@dataclass(slots=True)
class Stream:
    """A run of consecutive sequence numbers."""

    number: int
    stream_id: str
    committed: int
    """Delivered through this; on disk it may be lower for a while."""
    next_seq: int
    in_flight: int = 0
    """Through which a batch has been handed out: what is there is not dropped."""
    waiting: deque[Row] = field(default_factory=deque)
    """Rows with something undelivered, in order."""


class Inventory:
    """All rows and streams of a buffer."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self._rows: dict[int, Row] = {}
        self.used_bytes = 0
        self.pending_samples = 0
        self.pending_bytes = 0
        """Of rows with something undelivered."""

    @property
    def current(self) -> Stream:
        """The live stream."""
        return self.streams[max(self.streams)]

    def last_row_number(self, without: Sequence[Row] = ()) -> int:
        """Return the highest row number in use (once ``without`` are gone), 0 for none."""
        gone = {row.number for row in without}
        return next((number for number in reversed(self._rows) if number not in gone), 0)

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    def newest_first(self) -> Iterator[Row]:
        """Yield every row, the newest first."""
        return reversed(self._rows.values())

    def by_id(self, stream_id: str) -> Stream | None:
        """Return the stream of an id."""
        return next((stream for stream in self.streams.values() if stream.stream_id == stream_id), None)

    def add(self, row: Row) -> None:
        """Take up a row; rows of a stream come in order."""
        stream = self.streams[row.stream]
        self._rows[row.number] = row
        self.used_bytes += row.size
        stream.next_seq = max(stream.next_seq, row.last_seq + 1)
        if row.last_seq > stream.committed:
            stream.waiting.append(row)
            self.pending_bytes += row.size
            self.pending_samples += row.last_seq - max(row.first_seq - 1, stream.committed)

    def commit(self, stream: Stream, through: int) -> int:
        """Note what was delivered; return how many samples that were."""
        delivered = 0
        while stream.waiting and stream.waiting[0].first_seq <= through:
            row = stream.waiting[0]
            delivered += min(row.last_seq, through) - max(row.first_seq - 1, stream.committed)
            if row.last_seq > through:
                break
            stream.waiting.popleft()
            self.pending_bytes -= row.size
        stream.committed = through
        stream.in_flight = 0
        self.pending_samples -= delivered
        return delivered

    def next_rows(self, stream: Stream, limit: int) -> list[Row]:
        """Return the oldest undelivered rows that follow one another without a hole, about ``limit`` samples."""
        rows: list[Row] = []
        samples = 0
        for row in stream.waiting:
            if samples >= limit or (rows and row.first_seq != rows[-1].last_seq + 1):
                break
            rows.append(row)
            samples += row.count
        return rows

    def backlog(self) -> Stream | None:
        """Return the oldest stream that still waits and is not the live one."""
        current = self.current
        waiting = [
            number for number, stream in self.streams.items() if stream.waiting and stream is not current
        ]
        return self.streams[min(waiting)] if waiting else None

    def oldest_pending_time(self) -> int | None:
        """Return the received time of the oldest row that waits."""
        return min(
            (stream.waiting[0].oldest_time for stream in self.streams.values() if stream.waiting),
            default=None,
        )

    def live_samples(self) -> int:
        """Return how many samples of the live stream wait."""
        current = self.current
        return sum(row.last_seq - max(row.first_seq - 1, current.committed) for row in current.waiting)

    def pending(self) -> tuple[tuple[str, int, int], ...]:
        """Return (stream id, first seq, last seq) of what each stream still has to deliver."""
        return tuple(
            (stream.stream_id, max(stream.committed + 1, stream.waiting[0].first_seq), stream.next_seq - 1)
            for stream in self.streams.values()
            if stream.waiting
        )

    def waiting_streams(self) -> int:
        """Return how many streams still wait."""
        return sum(1 for stream in self.streams.values() if stream.waiting)

    def delivered_beyond(self, samples: int) -> list[Row]:
        """Return delivered rows of which nothing is among the newest ``samples`` samples."""
        seen, found = 0, []
        for row in self.newest_first():
            if seen >= samples and row.last_seq <= self.streams[row.stream].committed:
                found.append(row)
            seen += row.count
        return found

    def droppable(self, to_free: int) -> list[Row]:
        """Return the oldest undelivered rows that are not on their way, until ``to_free`` bytes are reached."""
        found = []
        for row in self._rows.values():
            if to_free <= 0:
                break
            stream = self.streams[row.stream]
            if row.last_seq > stream.committed and row.first_seq > stream.in_flight:
                found.append(row)
                to_free -= row.size
        return found

    def remove(self, rows: Sequence[Row]) -> None:
        """Forget rows, delivered or not."""
        gone = {row.number for row in rows}
        touched = {row.stream for row in rows}
        for row in rows:
            stream = self.streams[row.stream]
            if row.last_seq > stream.committed:
                self.pending_samples -= row.last_seq - max(row.first_seq - 1, stream.committed)
                self.pending_bytes -= row.size
            self.used_bytes -= row.size
            del self._rows[row.number]
        for number in touched:
            stream = self.streams[number]
            if any(row.number in gone for row in stream.waiting):
                stream.waiting = deque(row for row in stream.waiting if row.number not in gone)

    def replace(self, rows: Sequence[Row], merged: Row) -> None:
        """Let neighbours be one row, which has the number of the last of them; delivered or undelivered, all alike."""
        stream = self.streams[merged.stream]
        before = sum(row.size for row in rows)
        for row in rows[:-1]:
            del self._rows[row.number]
        self._rows[merged.number] = merged
        self.used_bytes += merged.size - before
        if merged.last_seq > stream.committed:
            gone = {row.number for row in rows}
            self.pending_bytes += merged.size - before
            kept = [row for row in stream.waiting if row.number not in gone]
            # Rows of a stream wait in the order of their numbers.
            place = next((n for n, row in enumerate(kept) if row.first_seq > merged.first_seq), len(kept))
            stream.waiting = deque([*kept[:place], merged, *kept[place:]])

    def empty_streams(self, without: Sequence[Row] = ()) -> list[int]:
        """Return streams other than the live one that have no row (once ``without`` are gone)."""
        gone = {row.number for row in without}
        used = {row.stream for row in self._rows.values() if row.number not in gone}
        return sorted(set(self.streams) - used - {self.current.number})
