"""What the messages of all edge nodes brought, until somebody takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from edge_agent.sources.sparkplug.rows import Rows


class Gap(NamedTuple):
    """Readings that will not come."""

    reason: str
    from_time: int
    to_time: int
    asset: str
    messages: int
    """How many messages are missing, at least."""


@dataclass(slots=True)
class Findings:
    """Shared by all edge nodes of a host."""

    rows: Rows = field(default_factory=Rows)
    gaps: list[Gap] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)
    """What has to be remembered, in the transaction of the samples."""

    def count(self, what: str, number: int = 1) -> None:
        """Count an event."""
        self.rows.counts[what] += number
