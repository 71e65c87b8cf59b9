"""What a buffer promises: what it took is on disk, numbered, bounded, and leaves only when it was delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from shopfloor.block import SampleBlock
from shopfloor.messages import Batch, Lane, SpanRecord


class WhenFull(StrEnum):
    """What gives way when the buffer has reached its size."""

    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    BLOCK = "block"


class Position(NamedTuple):
    """A place in a stream; everything up to it was taken."""

    stream_id: str
    seq: int


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """What goes into the buffer in one piece: samples, and what their source wants to remember with them."""

    block: SampleBlock
    scope: str = ""
    """Whose state ``state`` is (a protocol and its peer, so that a renamed source finds it again)."""
    state: Mapping[str, bytes] = field(default_factory=dict)
    """Written in the same transaction as the samples; an empty value deletes its key."""
    spans: tuple[SpanRecord, ...] = ()


@dataclass(slots=True)
class BufferStats:
    """A buffer's figures; counters count since the process started."""

    streams: int = 0
    """Streams that still have something to deliver."""
    pending_samples: int = 0
    live_samples: int = 0
    """Pending samples of the live stream alone."""
    waiting_spans: int = 0
    pending: tuple[tuple[str, int, int], ...] | None = None
    """(stream id, first seq, last seq) of what each stream still has to deliver; None where that is not told."""
    oldest_pending_time: int | None = None
    """Received time, UTC ns."""
    used_bytes: int = 0
    limit_bytes: int = 0
    pending_bytes: int = 0
    """Of rows with something undelivered; the rest of ``used_bytes`` gives way when space is needed."""
    left_bytes: int = 0
    """How much more may wait, by the limit and by the disk's reserve, whichever is less."""
    appended_samples_total: int = 0
    appended_bytes_total: int = 0
    delivered_samples_total: int = 0
    repeats_total: int = 0
    """Samples recognised as already taken."""
    moved_total: int = 0
    """Samples moved by nanoseconds because their machine gave one time to two values."""
    dropped_samples_total: int = 0
    quarantined_samples_total: int = 0
    damaged_rows_total: int = 0


class Buffer(Protocol):
    """Blocking, for one owner thread. Whatever it raises, it did nothing.

    Raises (all methods): StoreUnavailable where the disk does not take or give the data.
    """

    def append(self, parcels: Sequence[Parcel]) -> Position:
        """Make all parcels durable in one transaction, repeats left out, and return where the stream ends."""
        ...

    def peek(self, limit: int, lane: Lane = Lane.LIVE) -> Batch | None:
        """Return up to ``limit`` of the oldest undelivered samples of the lane, None if nothing waits there.

        The live lane is the current stream; the backlog lane is the oldest other stream.
        """
        ...

    def commit(self, stream_id: str, through: int) -> None:
        """Forget what was delivered; idempotent. A crash may undo it: the service drops repeats."""
        ...

    def quarantine(self, batch: Batch, reason: str) -> None:
        """Set a refused batch aside in a file, record the span, and go on behind it."""
        ...

    def begin_stream(self) -> None:
        """Let what comes from now on be a new live stream; what still waits becomes backlog."""
        ...

    def state(self, scope: str) -> dict[str, bytes]:
        """Return what was last saved under a scope."""
        ...

    def spans(self, limit: int) -> list[SpanRecord]:
        """Return the oldest span records that wait to be sent."""
        ...

    def commit_spans(self, record_ids: Sequence[str]) -> None:
        """Forget span records that were delivered."""
        ...

    def stats(self) -> BufferStats:
        """Return the figures of now."""
        ...

    def close(self) -> None:
        """Write what is still only in memory and let the files go; safe to call twice."""
        ...
