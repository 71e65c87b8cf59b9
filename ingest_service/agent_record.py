"""What the service remembers of one agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ingest_service.plant.agents import AgentRow
from shopfloor.messages import NO_CONTACT_AFTER_S, Heartbeat, PendingStream

_NO_CONTACT_NS: Final = int(NO_CONTACT_AFTER_S * 1e9)


@dataclass(slots=True)
class AgentRecord:
    """One agent."""

    agent_id: str
    asset: str
    last_contact: int | None = None
    heartbeat: Heartbeat | None = None
    declared_hash: str = ""
    first_seen: int | None = None
    clock_offset_ns: int = 0
    quiet_ns: int = _NO_CONTACT_NS
    """Without a word for so long, it has no contact."""
    outside: tuple[str, ...] = ()
    """Assets that it speaks for and that its token does not reach."""
    unexplained: dict[str, int] = field(default_factory=dict)
    """Stream -> highest number that waited and does not any more."""

    def notepending_of(self, newer: Heartbeat) -> None:
        """Note which numbers a newer heartbeat does not name any more."""
        if newer.buffer.pending is None:
            return
        named = {one.stream_id: one.last_seq for one in newer.buffer.pending}
        for one in pending_of(self.heartbeat):
            self.unexplained[one.stream_id] = max(one.last_seq, self.unexplained.get(one.stream_id, 0))
        self.unexplained = {
            stream: through for stream, through in self.unexplained.items() if named.get(stream, 0) < through
        }

    def row(self, retired_at: int | None = None) -> AgentRow:
        """Return what to keep of it."""
        return AgentRow(
            self.agent_id,
            self.asset,
            self.last_contact,
            self.heartbeat,
            self.declared_hash,
            self.first_seen,
            retired_at,
        )


def pending_of(heartbeat: Heartbeat | None) -> tuple[PendingStream, ...]:
    """Return the streams of which a heartbeat says that something waits."""
    return (heartbeat.buffer.pending or ()) if heartbeat else ()


def is_complete(heartbeat: Heartbeat | None) -> bool:
    """Tell whether what a heartbeat does not name is not there: it names streams, and no loss record is on its way."""
    return (
        heartbeat is not None and heartbeat.buffer.pending is not None and not heartbeat.buffer.waiting_spans
    )
