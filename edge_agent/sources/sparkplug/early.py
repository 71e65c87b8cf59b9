"""Messages of an edge node whose birth is not known: some only overtook it, the others can't be read."""

from __future__ import annotations

from typing import Final

from edge_agent.sources.sparkplug.ordering import Received

_MAX_MESSAGES: Final = 512
_MAX_METRICS: Final = 100_000


class EarlyMessages:
    """What is held for a birth that may come, and what had to be dropped since the last one."""

    def __init__(self) -> None:
        self._held: list[Received] = []
        self._metrics = 0
        self._since_s = 0.0
        self.dropped_since: int | None = None
        """Received time, UTC ns, of the first message that was dropped."""
        self.dropped = 0
        """How many were dropped since the last birth."""

    @property
    def waits_since_s(self) -> float | None:
        """Since when (the caller's seconds) something is held; None while nothing is."""
        return self._since_s if self._held else None

    def hold(self, message: Received, now_s: float) -> int:
        """Hold a message; return how many had to be dropped for it."""
        dropped = 0
        if len(self._held) >= _MAX_MESSAGES or self._metrics > _MAX_METRICS:
            dropped = self.drop()
        if not self._held:
            self._since_s = now_s
        self._held.append(message)
        self._metrics += len(message.payload.metrics)
        return dropped

    def drop(self) -> int:
        """Forget what is held; return how many messages that were."""
        messages, self._held, self._metrics = self._held, [], 0
        if messages:
            self.dropped_since = self.dropped_since or messages[0].received_time
            self.dropped += len(messages)
        return len(messages)

    def take_since(self, timestamp_ms: int | None) -> list[Received]:
        """Return what was sent at or after a birth, and so belongs to it; drop the rest."""
        kept: list[Received] = []
        if timestamp_ms is not None:
            kept = [each for each in self._held if (each.payload.timestamp_ms or 0) >= timestamp_ms]
            self._held = [each for each in self._held if (each.payload.timestamp_ms or 0) < timestamp_ms]
        return kept

    def begin_anew(self) -> None:
        """Count from nothing again: the birth is known now."""
        self.dropped_since = None
        self.dropped = 0
