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
    def room(self) -> int:
        """How many messages more should be read from the broker."""
        if self._waiting_bytes >= self._max_waiting_bytes:
            return 0
        return max(0, self._max_waiting - len(self._waiting))

    @property
    def is_half_empty(self) -> bool:
        """Whether reading may go on after it was full."""
        return (
            len(self._waiting) <= self._max_waiting // 2
            and self._waiting_bytes <= self._max_waiting_bytes // 2
        )

    def take_in(self, messages: Sequence[Message]) -> int:
        """Let messages wait, in order.

        Returns:
            How many were repetitions on this connection, which need nothing more.
        """
        unacknowledged = self._unacknowledged
        fresh: list[Message] = []
        for message in messages:
            if message.mid:
                if message.dup and self._came_already(message):
                    continue
                unacknowledged[message.mid] = message
            fresh.append(message)
        self._waiting.extend(fresh)
        self._waiting_bytes += sum([len(message.payload) for message in fresh])
        return len(messages) - len(fresh)

    def take_out(self, max_messages: int, max_bytes: int) -> list[Message]:
        """Return the oldest waiting messages: some, as long as there are any."""
        if len(self._waiting) <= max_messages and self._waiting_bytes <= max_bytes:
            taken = list(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            return taken
        taken = []
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
        unacknowledged, acknowledged = self._unacknowledged, self._acknowledged
        identifiers: list[int] = []
        for message in messages:
            mid = message.mid
            # A broker that has given the identifier to another message is done with this one.
            if mid and unacknowledged.get(mid) is message:
                del unacknowledged[mid]
                acknowledged[mid] = (hash((message.topic, message.payload)), now)
                identifiers.append(mid)
        return identifiers

    def _came_already(self, message: Message) -> bool:
        """Tell whether this repeats a message of this connection whose PUBACK is due, or just went out.

        A second PUBACK could meet another message that has the identifier by then.
        """
        if message.mid in self._unacknowledged:
            return True
        digest, when = self._acknowledged.get(message.mid, (0, 0.0))
        return digest == hash((message.topic, message.payload)) and self._now() - when < _CROSSING_S
