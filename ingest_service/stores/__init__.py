"""What a store of samples is. The shapes that go in and out: `shapes`, `selector`, `buckets`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ingest_service.stores.buckets import Buckets, Grid, Partials, regular_grid
from ingest_service.stores.selector import Selector, below
from ingest_service.stores.shapes import (
    MAX_REJECTIONS,
    NOTHING_REFUSED,
    Admitted,
    Capabilities,
    CommitListener,
    Committed,
    Outcome,
    Position,
    QuarantineSink,
    Raw,
    Refused,
    Run,
    SeriesInfo,
    TimeSpan,
    Watermark,
)
from shopfloor.errors import StoreUnavailable

__all__ = [
    "MAX_REJECTIONS",
    "NOTHING_REFUSED",
    "Admitted",
    "Buckets",
    "Capabilities",
    "CommitListener",
    "Committed",
    "Grid",
    "Outcome",
    "Partials",
    "Position",
    "QuarantineSink",
    "Raw",
    "Refused",
    "Run",
    "SampleStore",
    "Selector",
    "SeriesInfo",
    "TimeSpan",
    "Watermark",
    "below",
    "regular_grid",
]


class SampleStore(Protocol):
    """Keeps samples exactly once. All methods may be called from any task; none blocks the event loop.

    Every answer is sorted by (asset, signal) as texts, then by source time.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it holds, how exactly, and from when on."""
        ...

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
        """Return the series that a selector means."""
        ...

    async def latest(self, selector: Selector) -> Raw:
        """Return the newest sample of each series; "newest" as `stores.latest` decides it."""
        ...

    async def read(
        self, selector: Selector, span: TimeSpan, limit: int, after: Position | None = None
    ) -> Raw:
        """Return at most ``limit`` samples of a span; raises StoreUnavailable.

        A large result is read page by page: ``after`` is `Raw.position` of the page before; while nothing is
        written into the span, no sample is left out or given twice.
        """
        ...

    async def downsample(self, selector: Selector, grid: Grid, limit: int) -> Buckets:
        """Return the partial aggregates of each series and bucket, at most ``limit``; raises StoreUnavailable."""
        ...

    async def before(self, selector: Selector, at_ns: int, within_ns: int) -> Raw:
        """Return the newest usable sample of each series in ``[at_ns - within_ns, at_ns)``; raises StoreUnavailable.

        Usable are samples with a value or a text whose quality is not BAD.
        """
        ...

    async def runs(self, stream_id: str) -> Sequence[Run]:
        """Return a stream's ledger, ascending and without overlaps; neighbouring rows are joined."""
        ...

    async def ledger(self, streams: Collection[str] | None, received: TimeSpan) -> Sequence[Run]:
        """Return the ledger of several streams, None for all, by (stream, seq); raises StoreUnavailable.

        Only rows that became durable in ``received`` (UTC ns of this service's clock), each at one moment for ever;
        neighbouring ones are joined.
        """
        ...

    async def close(self) -> None:
        """Finish what waits, then let go of everything; safe to call twice."""
        ...
