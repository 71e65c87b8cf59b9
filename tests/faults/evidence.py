"""What a campaign leaves to be held against one another: what was said, what is held, what is recorded, what is permitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shopfloor.block import Float64, Int64
from shopfloor.messages import SpanKind

STRIDE: Final = 2**32
"""More numbers than any series has."""


@dataclass(frozen=True, slots=True)
class Said:
    """What machines logged before they exposed it; ``n`` rows in any order."""

    source_of: Sequence[str]
    """Of each series, the source that reads it: ``history``, ``plain``, ``kept`` (QoS 1) or ``lossy`` (QoS 0)."""
    series: Int64
    """int64[n]: position in ``source_of``."""
    number: Int64
    """int64[n]: the value, from 1 on in each series."""
    source_time: Int64
    """int64[n], UTC ns by the machine's clock."""
    real_time: Int64
    """int64[n], UTC ns by the clock of the harness, which nobody steps."""

    @property
    def key(self) -> Int64:
        """Series and number in one."""
        return self.series * STRIDE + self.number


@dataclass(frozen=True, slots=True)
class Held:
    """Samples of a store or a quarantine, in any order; series -1 is one that no machine has."""

    series: Int64
    value: Float64
    source_time: Int64
    quality: Int64

    def __len__(self) -> int:
        return len(self.series)


class Loss(NamedTuple):
    """A span record as the service keeps it."""

    kind: SpanKind
    reason: str
    source: str
    stream_id: str
    first_seq: int
    last_seq: int
    from_time: int
    to_time: int
    samples: int
    at_least: bool


class Window(NamedTuple):
    """A span of real time, UTC ns, both ends included."""

    begin: int
    end: int


EVER: Final = Window(-(2**62), 2**62)


@dataclass(frozen=True, slots=True)
class Damaged:
    """What lay undelivered in a buffer when a page of it was overwritten; ``n`` samples."""

    stream_id: Sequence[str]
    seq: Int64
    series: Int64
    number: Int64


@dataclass(frozen=True, slots=True)
class Permits:
    """What the fault log permits to be lost. Nothing else is."""

    windows: Mapping[str, Sequence[Window]] = field(default_factory=dict)
    """For ``plain`` and ``lossy``: when the way from the machine to the buffer was broken."""
    clock_steps: Sequence[tuple[int, int]] = ()
    """The plain server's clock: from when (real UTC ns) it was how many ns ahead."""
    damaged: Sequence[Damaged] = ()
    overlap_ns: int = 0
    """By how much earlier than what may be lost a gap of the plain server begins, at most."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the service took of each stream."""

    holes: Sequence[tuple[str, int, int]] = ()
    """(stream id, first, last seq) of numbers that neither a batch nor a span record covers."""
    last_seq: Mapping[str, int] = field(default_factory=dict)
    """The highest number that a batch brought."""
    twice: Sequence[tuple[str, int, int]] = ()
    """(stream id, first, last seq) of numbers that two rows of the service's ledger cover."""
    batches: Sequence[tuple[str, int, int]] = ()
    """(stream id, first, last seq) of each row."""
