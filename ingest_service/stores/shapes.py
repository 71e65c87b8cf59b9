"""What goes into a store of samples and comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np

from shopfloor.block import NO_TEXT, Float64, Int64, SampleBlock, UInt8, UInt32
from shopfloor.messages import Batch, Rejection
from shopfloor.signal import SeriesKey

MAX_REJECTIONS: Final = 100
"""A Receipt names at most so many rejections; it counts all."""


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """The rows of a batch that admission turned away: ``k`` rows in ascending order, and why."""

    rows: Int64
    """int64[k], row numbers."""
    reason_index: UInt8
    """uint8[k], positions in ``reasons``."""
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def after(self, row: int) -> Refused:
        """Return the part that begins at ``row``."""
        start = int(np.searchsorted(self.rows, row))
        return self if start == 0 else Refused(self.rows[start:], self.reason_index[start:], self.reasons)

    def counts(self) -> dict[str, int]:
        """Return how many rows each reason has."""
        numbers = np.bincount(self.reason_index, minlength=len(self.reasons)).tolist()
        return {reason: count for reason, count in zip(self.reasons, numbers, strict=True) if count}

    def rejections(self, first_seq: int) -> tuple[Rejection, ...]:
        """Return the first of them as a Receipt names them."""
        return tuple(
            Rejection(first_seq + row, self.reasons[reason])
            for row, reason in zip(
                self.rows[:MAX_REJECTIONS].tolist(), self.reason_index[:MAX_REJECTIONS].tolist(), strict=True
            )
        )


NOTHING_REFUSED: Final = Refused(np.empty(0, np.int64), np.empty(0, np.uint8), ())


class Admitted(NamedTuple):
    """A batch after admission: the refused rows lie in quarantine already, the store leaves them out."""

    batch: Batch
    refused: Refused = NOTHING_REFUSED


class Outcome(NamedTuple):
    """What became of one batch. ``stored + repeated + refused`` is its number of rows."""

    received_through: int
    durable_through: int
    stored: int
    repeated: int
    """Rows at or under the watermark: they were here before."""
    refused: Refused = NOTHING_REFUSED
    """The refused rows above the watermark."""
    missing: tuple[int, int] | None = None
    """First and last seq that were skipped, where the batch began above watermark + 1."""


class Watermark(NamedTuple):
    """Up to where a stream is received, and up to where durable; 0 for a stream never seen."""

    received_through: int
    durable_through: int


class SeriesInfo(NamedTuple):
    """One series and its small number, valid as long as the store is open."""

    id: int
    key: SeriesKey


class TimeSpan(NamedTuple):
    """A span of source time, UTC ns: ``from_ns`` inclusive, ``to_ns`` exclusive."""

    from_ns: int
    to_ns: int


class Position(NamedTuple):
    """Where in the order (asset, signal, source time) a reader stands: the place of the last sample it was given."""

    asset: str
    signal: str
    source_time: int
    rows: int
    """How many samples of this series and time the reader has; others of the same time may follow."""


class Raw(NamedTuple):
    """Samples sorted by (asset, signal, source time), and whether there were more than asked for."""

    series: tuple[SeriesInfo, ...]
    """In the order of the block's series."""
    block: SampleBlock
    truncated: bool

    def position(self, after: Position | None = None) -> Position | None:
        """Return where the next page begins; ``after`` is where this one began. None for an empty page."""
        block = self.block
        if not len(block):
            return after
        index, time = int(block.series_index[-1]), int(block.source_time[-1])
        asset, signal = block.series[index]
        start = int(np.searchsorted(block.series_index, np.uint32(index)))
        rows = len(block) - start - int(np.searchsorted(block.source_time[start:], time))
        if after is not None and after[:3] == (asset, signal, time):
            rows += after.rows
        return Position(str(asset), signal, time, rows)


class Run(NamedTuple):
    """What the store knows of consecutive seq of a stream (a ledger row); holes between runs are missing."""

    stream_id: str
    agent_id: str
    first_seq: int
    last_seq: int
    stored: int
    rejected: int
    received_from: int = 0
    """When the first of them became durable, UTC ns."""
    received_to: int = 0


class Capabilities(NamedTuple):
    """How stores differ, for readers and for whoever writes what a store can't hold elsewhere."""

    resolution_ns: int
    """Source times are kept as multiples of it."""
    keeps_text: bool
    keeps_status: bool
    """Whether status codes and received times come back as they went in."""
    back_ns: int | None
    """Samples that are older than so much are not kept; None where there is no bound."""
    ahead_ns: int | None
    """Samples that lie further ahead of the store's clock than so much are not kept; None: no bound."""
    durable: Literal["on_write", "later"]
    """``on_write``: an Outcome's two marks are equal. ``later``: durable_through follows."""


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """The rows that just became durable, ``n`` of them, as the store numbers their series."""

    series_id: UInt32
    source_time: Int64
    received_time: Int64
    value: Float64
    quality: UInt8
    text: Mapping[int, str] = field(default_factory=lambda: NO_TEXT)


CommitListener = Callable[[Committed], None]
"""Called after each commit, on the store's own thread: it must be quick and must not raise."""
QuarantineSink = Callable[[Batch, Refused], None]
"""Makes refused rows of a batch durable elsewhere, keyed by (stream, seq); called on the store's own thread."""
