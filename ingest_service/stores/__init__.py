"""What a store of samples is, and the shapes that go in and out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Protocol

import numpy as np

from shopfloor.block import NO_TEXT, Float64, Int64, SampleBlock, UInt8, UInt32
from shopfloor.errors import StoreUnavailable
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


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series: below any of ``assets`` and with any of ``signals``, all of them inside ``within``."""

    assets: tuple[str, ...] = ()
    """Asset paths; none selects all."""
    signals: tuple[str, ...] = ()
    """Globs such as ``barrel.*``; none selects all."""
    within: str = ""
    """The asset path that the reader may see; empty for everything."""

    def matches(self, key: SeriesKey) -> bool:
        """Tell whether a series is meant."""
        asset = key.asset
        return (
            (not self.within or below(asset, self.within))
            and (not self.assets or any(below(asset, path) for path in self.assets))
            and (not self.signals or any(fnmatchcase(key.signal, glob) for glob in self.signals))
        )


def below(asset: str, path: str) -> bool:
    """Tell whether ``asset`` is ``path`` or lies below it; everything lies below the empty path."""
    return not path or asset == path or asset.startswith(path + "/")


class TimeSpan(NamedTuple):
    """A span of source time, UTC ns: ``from_ns`` inclusive, ``to_ns`` exclusive."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """``n`` aggregates, by series and start; columns of equal length. Null and BAD values are left out."""

    series: tuple[SeriesInfo, ...]
    series_index: UInt32
    start: Int64
    """Begin of the bucket, UTC ns, a multiple of the width since 1970."""
    count: Int64
    minimum: Float64
    maximum: Float64
    mean: Float64
    first: Float64
    last: Float64


class Raw(NamedTuple):
    """Samples sorted by (series, source time), and whether there were more than asked for."""

    series: tuple[SeriesInfo, ...]
    """In the order of the block's series."""
    block: SampleBlock
    truncated: bool


class Run(NamedTuple):
    """What the store knows of consecutive seq of a stream (a ledger row); holes between runs are missing."""

    stream_id: str
    agent_id: str
    first_seq: int
    last_seq: int
    stored: int
    rejected: int


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


class SampleStore(Protocol):
    """Keeps samples exactly once. All methods may be called from any task; none blocks the event loop."""

    async def write(self, admitted: Sequence[Admitted]) -> Sequence[Outcome | StoreUnavailable]:
        """Make batches durable together with their watermarks; one outcome a batch, a bad one fails alone.

        Rows at or under the stream's watermark are repeats and change nothing. Calls take effect in the order
        in which they are made.
        """
        ...

    async def watermark(self, stream_id: str) -> Watermark:
        """Return up to where a stream is received and durable."""
        ...

    async def series(self, selector: Selector) -> Sequence[SeriesInfo]:
        """Return the series that a selector means, by id."""
        ...

    async def latest(self, selector: Selector) -> Raw:
        """Return the newest sample of each series; "newest" as `stores.latest` decides it."""
        ...

    async def read(self, selector: Selector, span: TimeSpan, limit: int) -> Raw:
        """Return at most ``limit`` samples; raises StoreUnavailable."""
        ...

    async def downsample(self, selector: Selector, span: TimeSpan, every_ns: int, limit: int) -> Buckets:
        """Return aggregates per bucket of ``every_ns``, at most ``limit``; raises StoreUnavailable."""
        ...

    async def runs(self, stream_id: str) -> Sequence[Run]:
        """Return a stream's ledger, ascending and without overlaps; neighbouring rows are joined."""
        ...

    async def close(self) -> None:
        """Finish what waits, then let go of everything; safe to call twice."""
        ...
