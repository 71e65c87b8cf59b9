"""What travels between an edge agent and the ingestion service.

A Batch travels in the binary form of `shopfloor.wire`; everything else is small and travels as JSON, encoded and
checked by msgspec with the types below.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from shopfloor.block import SampleBlock

BATCH_MEDIA_TYPE: Final = "application/vnd.shopfloor.batch"
REFUSAL_MEDIA_TYPE: Final = "application/vnd.shopfloor.refusal+json"
"""Only an answer of this type moves a batch to the agent's quarantine: no proxy sends it by accident."""


class Lane(StrEnum):
    """Live data is sent at once; a backlog drains beside it and never replaces a newer live value."""

    LIVE = "live"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples of one stream; row ``i`` has the sequence number ``first_seq + i``."""

    agent_id: str
    stream_id: str
    lane: Lane
    first_seq: int
    block: SampleBlock

    @property
    def last_seq(self) -> int:
        """Sequence number of the last row (``first_seq - 1`` for an empty batch)."""
        return self.first_seq + len(self.block) - 1


class Rejection(msgspec.Struct, frozen=True):
    """One sample that went to the service's quarantine."""

    seq: int
    reason: str


class Receipt(msgspec.Struct, frozen=True):
    """The answer to a Batch. ``durable_through`` lags behind only for stores that acknowledge before they sync."""

    received_through: int
    """The agent may send what follows this sequence number."""
    durable_through: int
    """The agent may delete up to and with this sequence number."""
    rejections: tuple[Rejection, ...] = ()
    """At most the first hundred; ``rejected`` counts all."""
    rejected: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """Our own service's word that a batch as a whole is unacceptable for ever."""

    refused: str
    """The reason, for people."""


class SpanKind(StrEnum):
    """Why a run of samples will not come."""

    DROPPED = "dropped"
    """Numbered samples that the edge had to discard: its buffer was full, or its file was damaged."""
    QUARANTINED = "quarantined"
    """Numbered samples that the service refused; they lie in a file at the edge."""
    SOURCE_GAP = "source_gap"
    """Readings that the edge never got: they have no sequence numbers."""


def new_id() -> str:
    """Return a random id of 16 hexadecimal bytes."""
    return secrets.token_hex(16)


Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
ShortText = Annotated[str, msgspec.Meta(max_length=1000)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
TimeNs = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class SpanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the edge accounts for what will not come; repeating one changes nothing (``record_id``)."""

    record_id: Id
    stream_id: str
    """Empty for a source gap."""
    first_seq: Seq = 0
    last_seq: Seq = 0
    kind: SpanKind
    reason: ShortText
    source: ShortText = ""
    """Name of the source that had the gap."""
    asset: ShortText = ""
    """Asset path below which the gap lies, where it is known."""
    from_time: TimeNs
    """UTC ns."""
    to_time: TimeNs
    """UTC ns."""
    count: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    at_least: bool = False
    """Whether ``count`` is only a lower bound."""
    agent_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Who reports it; what has no stream can't be told by it."""


class SourceState(StrEnum):
    """What a source is doing."""

    CONNECTING = "connecting"
    RUNNING = "running"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


MAX_SOURCE_EVENTS: Final = 64
"""Kinds of events in one source's report, at most."""


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One source's part of a heartbeat."""

    name: ShortText
    protocol: ShortText
    state: SourceState
    since: TimeNs
    """UTC ns of the last change of ``state``."""
    message: ShortText = ""
    """Why, where the state is not ``running``; never a secret."""
    assets: tuple[ShortText, ...] = ()
    """The assets that this source speaks for: while it is not running, they have no contact."""
    clock_offset_ns: int | None = None
    """Machine's clock minus the agent's, estimated."""
    events: Annotated[
        dict[ShortText, Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=MAX_SOURCE_EVENTS)
    ] = {}
    """What the source met since the agent started, such as ``node_failed`` or ``poll_overrun``, and how often."""


MAX_PENDING_STREAMS: Final = 1000
"""Streams that a heartbeat names, at most."""


class PendingStream(msgspec.Struct, frozen=True):
    """A stream of which something still waits at the edge: what is numbered and not delivered lies between these."""

    stream_id: Id
    first_seq: Seq
    last_seq: Seq


class BufferReport(msgspec.Struct, frozen=True, kw_only=True):
    """The buffer's part of a heartbeat."""

    streams: int
    pending_samples: int
    oldest_pending_time: int | None
    """Received time (UTC ns) of the oldest sample that waits."""
    used_bytes: int
    limit_bytes: int
    hours_left: float | None
    """Bytes left divided by the current fill rate; None while it does not fill."""
    dropped_samples: int = 0
    quarantined_samples: int = 0
    pending: Annotated[tuple[PendingStream, ...], msgspec.Meta(max_length=MAX_PENDING_STREAMS)] | None = None
    """All streams with something undelivered; None where the agent does not say."""
    waiting_spans: int = 0
    """Loss records that are still to be sent: until then some of ``pending`` may be lost already."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent every few seconds, also when there is nothing else to send. None for 10 s is "no contact"."""

    agent_id: Id
    asset: ShortText
    """The asset that the agent serves (usually its site)."""
    version: ShortText
    wire_version: int
    config_hash: ShortText
    """Of the configuration that runs."""
    started: TimeNs
    sent: TimeNs
    """UTC ns by the agent's clock; the service estimates the clock's offset from it."""
    sources: tuple[SourceReport, ...] = ()
    buffer: BufferReport
    config_valid: bool = True
    """Whether the configuration file is the one that runs; false while it holds one that was refused."""
    config_message: ShortText = ""
    """Why it was refused."""


class HeartbeatReply(msgspec.Struct, frozen=True):
    """The service's answer to a heartbeat."""

    now: int
    """UTC ns by the service's clock."""
    declarations_wanted: bool = False
    """The service does not know this configuration's series yet: send a SeriesDeclarations."""
    outside: tuple[str, ...] = ()
    """Assets of sources that the token does not reach, or that are no asset paths: left out; at most a hundred."""


class TokenInfo(msgspec.Struct, frozen=True):
    """What the service says of the token that a request carries."""

    role: str
    """``agent``, ``viewer`` or ``admin``; agents and administrators write."""
    asset: str
    """It reaches this path and what lies below it; empty for everything."""
    now: int
    """UTC ns by the service's clock."""


class SeriesDeclaration(msgspec.Struct, frozen=True):
    """What a configuration says about one series; travels once a configuration, not with every sample."""

    asset: ShortText
    signal: ShortText
    unit: ShortText = ""
    """UCUM, such as ``Cel``, ``bar``, ``kW.h``; empty where it has none."""
    description: ShortText = ""


class SeriesDeclarations(msgspec.Struct, frozen=True):
    """All series of an agent's present configuration."""

    agent_id: Id
    config_hash: ShortText
    series: tuple[SeriesDeclaration, ...]


def _plain(value: object) -> str:
    """Msgspec encodes str itself, but no kind of it."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} does not travel")


encode_json: Final = msgspec.json.Encoder(enc_hook=_plain).encode
"""Return the JSON bytes of a message; asset paths are written as text."""

HEARTBEAT_INTERVAL_S: Final = 2.0
NO_CONTACT_AFTER_S: Final = 10.0
