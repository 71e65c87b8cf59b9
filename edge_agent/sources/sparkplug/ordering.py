"""The order of one edge node's messages by ``seq`` (Eclipse Sparkplug 3.0, sections 5.2 and 6.4.4). No clock, no socket."""

from __future__ import annotations

from typing import Final, NamedTuple

from shopfloor.sparkplug import SEQ_MODULO, Payload

_AHEAD: Final = SEQ_MODULO // 2
"""A number this far ahead or more lies behind: the message comes late, or a second time."""
_MAX_HELD: Final = 100
"""Less than `_AHEAD`, lest a stream that goes on past a hole seem to lie behind it."""
_MAX_HELD_METRICS: Final = 100_000


class Received(NamedTuple):
    """One message of an edge node or of a device behind it."""

    kind: str
    """NBIRTH, NDATA, DBIRTH and so on."""
    device: str
    """Empty for the edge node itself."""
    payload: Payload
    received_time: int
    """UTC ns by the agent's clock."""


class Ordering:
    """Lets messages pass in the order in which they were sent; holds those that overtook others."""

    def __init__(self) -> None:
        self._expected = 0
        self._held: dict[int, Received] = {}
        self._held_metrics = 0
        self._since_s = 0.0

    @property
    def waits_since_s(self) -> float | None:
        """Since when (the caller's seconds) a message is missing; None while none is."""
        return self._since_s if self._held else None

    @property
    def is_overfull(self) -> bool:
        """Whether to wait no longer, although the time is not over."""
        return len(self._held) >= _MAX_HELD or self._held_metrics > _MAX_HELD_METRICS

    def begin(self, seq: int, keep: list[Received], now_s: float) -> list[Received]:
        """Start at a birth with number ``seq``; return those of ``keep`` that follow it at once, hold the others.

        What is held is forgotten: take it out before.
        """
        self._expected = (seq + 1) % SEQ_MODULO
        self._held.clear()
        self._held_metrics = 0
        self._since_s = now_s
        for message in keep:
            self._hold(message)
        return self._released()

    def is_next(self, message: Received) -> bool:
        """Tell whether a message has the number that comes next."""
        return message.payload.seq == self._expected

    def offer(self, message: Received, now_s: float) -> tuple[list[Received], bool]:
        """Return the messages that may pass now, and whether they are late ones out of order."""
        seq = message.payload.seq
        if seq is None or seq >= SEQ_MODULO:
            return [message], True
        ahead = (seq - self._expected) % SEQ_MODULO
        if ahead >= _AHEAD:
            return [message], True
        if ahead:
            self._since_s = self._since_s if self._held else now_s
            self._hold(message)
            return [], False
        self._expected = (seq + 1) % SEQ_MODULO
        released = [message, *self._released()]
        # Whatever is still missing had no chance to come before this.
        self._since_s = now_s
        return released, False

    def give_up(self) -> tuple[list[Received], int]:
        """Return all that is held, in order, and how many messages are missing before and between it, at least."""
        expected = self._expected
        order = sorted(self._held, key=lambda seq: (seq - expected) % SEQ_MODULO)
        missing = (order[-1] - expected + 1) % SEQ_MODULO - len(order) if order else 0
        if order:
            self._expected = (order[-1] + 1) % SEQ_MODULO
        messages = [self._held.pop(seq) for seq in order]
        self._held_metrics = 0
        return messages, missing

    def take_since(self, timestamp_ms: int | None) -> list[Received]:
        """Return what is held although it was sent at or after ``timestamp_ms``: it belongs to a later birth."""
        if timestamp_ms is None:
            return []
        later = [
            seq for seq, message in self._held.items() if (message.payload.timestamp_ms or 0) >= timestamp_ms
        ]
        messages = [self._held.pop(seq) for seq in later]
        self._held_metrics -= sum(len(each.payload.metrics) for each in messages)
        return messages

    def _hold(self, message: Received) -> None:
        seq = message.payload.seq
        if seq is not None and seq < SEQ_MODULO:
            self._held[seq] = message
            self._held_metrics += len(message.payload.metrics)

    def _released(self) -> list[Received]:
        released: list[Received] = []
        while self._expected in self._held:
            released.append(self._held.pop(self._expected))
            self._held_metrics -= len(released[-1].payload.metrics)
            self._expected = (self._expected + 1) % SEQ_MODULO
        return released
