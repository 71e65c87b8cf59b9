"""What a broken session leaves to the next one of the same source: subscriptions that the server may still have.

A server goes on filling the queues of a subscription while nobody fetches them, until its lifetime ends (Part 4
§5.14.1.2). So when only the connection broke, what is needed to go on with it is kept: which messages were taken,
which are not acknowledged yet, which node is whose client handle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from asyncua import ua

from edge_agent.sources import BlockSink
from edge_agent.sources.opcua.coverage import Mark
from edge_agent.sources.opcua.decode import MalformedMessage, Notification
from shopfloor.errors import SourceUnavailable, StoreUnavailable

_NUMBERS: Final = 2**32 - 1
"""Sequence numbers are UInt32 without 0: behind the highest comes 1 (Part 4 §7.6, Counter)."""


class SubscriptionLost(SourceUnavailable):
    """What the server has of a subscription is of no use any more: the next session needs a new one."""


class Arrived(NamedTuple):
    """A notification that is not in the buffer yet."""

    notification: Notification
    received: int
    """UTC ns by the agent's clock."""


@dataclass(slots=True, eq=False)
class Tracked:
    """One subscription, as far as it was followed."""

    number: int
    """The server's SubscriptionId."""
    group: str
    silent_s: float
    """After so many seconds without a word it counts as dead."""
    lifetime_s: float
    """After so many seconds without being asked the server deletes it."""
    last_heard_s: float
    heard: bool = False
    """Whether it said anything in this session."""
    expected: int = 0
    """Sequence number of the next notification; 0 as long as the first one is still to come."""
    last_saved_ns: int = 0
    moved: bool = False
    """Whether this session took it over from another one and the server has not said so."""
    hears_model: bool = False
    """Whether it also brings changes of the address space."""


class Taker(Protocol):
    """What becomes of a subscription's notifications."""

    async def take(
        self, subscription: Tracked, notification: Notification, received: int, mark: Mark
    ) -> None:
        """Return once all of it is durable; ``mark`` is when it was sent."""
        ...

    async def idle(self, subscription: Tracked, received: int, mark: Mark) -> None:
        """Take note of a keep-alive: there was nothing up to ``mark``."""
        ...


@dataclass(slots=True, eq=False)
class Kept:
    """All subscriptions of a session that broke."""

    sink: BlockSink
    """Whose buffer has everything that was taken; another one knows nothing of it."""
    tracked: list[Tracked]
    items: dict[int, int]
    """Monitored item of each node."""
    nodes: dict[int, ua.NodeId]
    """Nodes that worked."""
    readable: set[int]
    """Those of them with a history."""
    acknowledge: list[tuple[int, int]]
    """(SubscriptionId, sequence number) of what is in the buffer and may not be acknowledged yet."""
    arrived: list[Arrived] = field(default_factory=list)
    """What has come and is not in the buffer, in order."""
    foreign: bool = False
    """Whether they belong to another session than the one that now knows of them, and have to be transferred."""

    @property
    def lifetime_s(self) -> float:
        """How long a server keeps the one that it deletes last."""
        return max((tracked.lifetime_s for tracked in self.tracked), default=0.0)


def following(sequence: int) -> int:
    """Return the sequence number behind one."""
    return 1 if sequence >= _NUMBERS else sequence + 1


def is_behind(sequence: int, expected: int) -> bool:
    """Tell whether a sequence number lies before the expected one, that is nearer behind than ahead of it."""
    return (sequence - expected) % _NUMBERS > _NUMBERS // 2


def only_interrupted(error: BaseException) -> bool:
    """Tell whether what ended a session leaves its subscriptions worth going on with.

    The connection may have broken, or our disk may be full; but not: the server said something that it would only say
    again, or we were told to stop.
    """
    leaves = list(_leaves(error))
    return all(
        isinstance(leaf, SourceUnavailable | StoreUnavailable)
        and not isinstance(leaf, SubscriptionLost)
        and not isinstance(leaf.__cause__, MalformedMessage)
        for leaf in leaves
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
