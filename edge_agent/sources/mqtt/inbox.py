"""Messages between the broker and the buffer: what waits, what is unacknowledged, what came twice. No input or output."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 32 * 2**20
_CROSSING_S: Final = 10.0
"""For how long a PUBACK and the broker's repetition of its message may be crossing on the line."""


class Message(NamedTuple):
    """One PUBLISH as it came in."""

    topic: str
    payload: bytes
    received_time: int
    """UTC ns by the agent's clock, different for every message."""
    qos: int = 0
    mid: int = 0
    """Packet identifier: what a PUBACK names; 0 with QoS 0."""
    dup: bool = False
    retain: bool = False
    oversize: int = 0
    """Bytes of a packet whose payload was too large to be kept; 0 for others."""


class Inbox:
    """The messages of one connection."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._now = now
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._unacknowledged: dict[int, Message] = {}
        self._acknowledged: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read from the broker."""
        return len(self._waiting) >= self._max_waiting or self._waiting_bytes >= self._max_waiting_bytes

    @property
    def is_half_empty(self) -> bool:
        """Whether reading may go on after it was full."""
        return (
            len(self._waiting) <= self._max_waiting // 2
            and self._waiting_bytes <= self._max_waiting_bytes // 2
        )

    def take_in(self, message: Message) -> bool:
        """Let a message wait; False for a repetition on this connection, which needs nothing more."""
        if message.mid:
            if message.dup and self._came_already(message):
                return False
            self._unacknowledged[message.mid] = message
        self._waiting.append(message)
        self._waiting_bytes += len(message.payload)
        return True

    def take_out(self, max_messages: int, max_bytes: int) -> list[Message]:
        """Return the oldest waiting messages: some, as long as there are any."""
        taken: list[Message] = []
        taken_bytes = 0
        while self._waiting and len(taken) < max_messages and taken_bytes < max_bytes:
            message = self._waiting.popleft()
            taken.append(message)
            taken_bytes += len(message.payload)
        self._waiting_bytes -= taken_bytes
        return taken

    def acknowledge(self, messages: Sequence[Message]) -> list[int]:
        """Return the packet identifiers to acknowledge, in order, now that ``messages`` are durable."""
        now = self._now()
        identifiers: list[int] = []
        for message in messages:
            # A broker that has given the identifier to another message is done with this one.
            if message.qos == 1 and self._unacknowledged.get(message.mid) is message:
                del self._unacknowledged[message.mid]
                self._acknowledged[message.mid] = (_digest(message), now)
                identifiers.append(message.mid)
        return identifiers

    def _came_already(self, message: Message) -> bool:
        """Tell whether this repeats a message of this connection whose PUBACK is due, or just went out.

        A second PUBACK could meet another message that has the identifier by then.
        """
        if message.mid in self._unacknowledged:
            return True
        digest, when = self._acknowledged.get(message.mid, (0, 0.0))
        return digest == _digest(message) and self._now() - when < _CROSSING_S


def _digest(message: Message) -> int:
    return hash((message.topic, message.payload))
