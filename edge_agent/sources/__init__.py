"""What a source of readings is, and what it is given.

A source knows one protocol and one peer. It never retries by itself: it raises, and the supervisor starts it again
with backoff and jitter. It never drops: `BlockSink.put` returns when the block is durable, and that return is
both the acknowledgement (send the PUBACK, acknowledge the notification) and the backpressure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Never, Protocol

from shopfloor.block import SampleBlock
from shopfloor.messages import SeriesDeclaration, SourceState


class BlockSink(Protocol):
    """What a source is given: the way to the buffer, and the agent's ears for what it has to say."""

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        """Return once the block is durable, and ``state`` with it, in the same transaction.

        Repeats (a series' same source time and value again) are recognised and dropped here, so a source may hand
        over a reading twice whenever it is not sure. An empty block with state saves the state alone.
        ``state`` keys belong to the source that wrote them; a value of ``b""`` deletes its key.

        Raises:
            StoreUnavailable: the disk does not take it; nothing was acknowledged, nothing may be.
        """
        ...

    def state(self) -> Mapping[str, bytes]:
        """Return the state that this source last saved durably, by key."""
        ...

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None:
        """Record durably that readings between two times (UTC ns) will not come; ``count`` is a lower bound."""
        ...

    def report(self, state: SourceState, message: str = "") -> None:
        """Say what the source is doing; goes into heartbeats, ``/health`` and the log (once a change)."""
        ...

    def clock_offset(self, offset_ns: int) -> None:
        """Report the machine's clock minus the agent's, as last estimated."""
        ...

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter of ``/metrics`` (``shopfloor_source_events_total{source,what}``).

        ``what`` is a short snake_case name from a small fixed set, such as ``unmatched_topic``.
        """
        ...


class Source(Protocol):
    """One OPC UA server, one MQTT broker."""

    @property
    def name(self) -> str:
        """The name that the configuration gives it, unique within the agent."""
        ...

    @property
    def protocol(self) -> str:
        """``opcua``, ``mqtt`` or ``sparkplug``."""
        ...

    @property
    def assets(self) -> tuple[str, ...]:
        """Asset paths that it speaks for: while it is down, they have no contact."""
        ...

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        """Return what the configuration says about its series (units, descriptions), as far as it knows them."""
        ...

    async def run(self, sink: BlockSink) -> Never:
        """Read for ever; cancelling it closes everything that it opened.

        Raises:
            SourceUnavailable: connect again later.
            SourceMisconfigured: it can't work as configured; the supervisor retries slowly all the same.
        """
        ...
