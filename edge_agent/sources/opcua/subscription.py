"""Subscriptions without asyncua's own: acknowledged after the disk has it, several requests outstanding, watched.

Notifications are numbered. What is missing between two of them, or between the last one and a keep-alive, is fetched
with Republish; so is, before anything else, what a session that broke had not taken. A number that the server does
not have any more ends the session, and what its nodes did meanwhile is read from history or recorded as a gap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Never

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.changes import Changes, disappeared
from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.coverage import Mark
from edge_agent.sources.opcua.decode import Notification
from edge_agent.sources.opcua.kept import (
    Arrived,
    Kept,
    SubscriptionLost,
    Taker,
    Tracked,
    following,
    is_behind,
)
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.publishing import Publisher
from edge_agent.sources.opcua.resolve import Problem
from edge_agent.sources.opcua.session import ServiceFault, Session, status_name
from edge_agent.sources.opcua.transfer import create, delete, republish, transfer
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)


class Subscriptions:
    """All subscriptions of one session."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._session: Session = live.session
        self._changes = Changes(live)
        self._takers: dict[str, Taker] = {}
        self._by_id: dict[int, Tracked] = {}
        self._by_group: dict[str, Tracked] = {}
        self._publisher = Publisher(live.session, live.clock)
        self._at_hand: list[Arrived] = []
        """What is being put into the buffer, in order."""
        self._joining = 0
        self._any = asyncio.Event()
        """Set once there is a subscription."""
        self._inherited = self._session.inherited
        self._session.keep = self.keep

    def __contains__(self, group: str) -> bool:
        return group in self._by_group

    async def create(self, group: str, settings: SubscribeGroup, taker: Taker | None = None) -> None:
        """Create a group's subscription, unless there is one; raises ServiceFault.

        Args:
            group: its name.
            settings: how often it is published.
            taker: who gets its notifications; None for those of variables.
        """
        self._takers[group] = taker or self._changes
        if group in self._by_group:
            return
        self._track(await create(self._session, self._live.config, group, settings))

    async def monitor(
        self, group: str, settings: SubscribeGroup, nodes: Sequence[tuple[int, ua.NodeId]]
    ) -> tuple[list[Problem | None], int]:
        """Have the server watch nodes; see `Changes.monitor`."""
        return await self._changes.monitor(self._by_group[group].number, settings, nodes)

    def tracked(self, group: str) -> Tracked:
        """Return the subscription of a group; raises KeyError where it has none."""
        return self._by_group[group]

    def of_variables(self) -> Tracked | None:
        """Return the first subscription of variables, None where there is none."""
        own = (each for group, each in self._by_group.items() if self._takers[group] is self._changes)
        return next(own, None)

    async def run(self) -> Never:
        """Publish for ever, from the first subscription on.

        Raises:
            SourceUnavailable: a subscription has died or fallen silent.
        """
        await self._any.wait()
        loop = asyncio.get_running_loop()
        for subscription in self._by_id.values():
            subscription.last_heard_s = loop.time()
        wanted = len(self._by_id) + 2
        async with asyncio.TaskGroup() as requests:
            for _ in range(wanted):
                requests.create_task(self._publisher.publish())
            while True:
                arrived = await self._next()
                began_s = loop.time()
                await self._take(arrived)
                if loop.time() - began_s > 1.0:
                    # We were the slow ones (a full buffer that waits): nobody can be blamed for having been silent.
                    for subscription in self._by_id.values():
                        subscription.last_heard_s = loop.time()
                requests.create_task(self._publisher.publish())

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Hold for as long as the server watches something of which the books on disk know nothing yet.

        A session that ends meanwhile leaves nothing to go on with: what was before it came would be taken for read.
        """
        self._joining += 1
        yield
        self._joining -= 1

    def keep(self) -> Kept | None:
        """Return what the next session needs to go on with these subscriptions, None where there are none."""
        if self._inherited is not None:
            return self._inherited
        if not self._by_id or self._joining:
            return None
        waiting = [*self._at_hand, *self._publisher.waiting()]
        return Kept(
            self._live.sink,
            list(self._by_id.values()),
            dict(self._changes.items),
            {number: node for number, node in self._live.nodes.ids.items() if number in self._changes.items},
            self._live.nodes.readable & self._changes.items.keys(),
            list(self._publisher.acknowledge),
            [arrived for arrived in waiting if arrived.notification.has_data],
        )

    async def inherit(self, groups: dict[str, Taker | None]) -> list[int]:
        """Go on with what the session before has left, as far as the server still has it.

        Args:
            groups: those that are wanted, and who takes their notifications (None: `Changes`).

        Returns:
            The nodes that are watched already, whose missed changes are now in the buffer.
        """
        kept = self._inherited
        if kept is None:
            return []
        numbers = [tracked.number for tracked in kept.tracked]
        if kept.foreign:
            owned = await transfer(self._session, numbers)
            kept.tracked = [tracked for tracked in kept.tracked if tracked.number in owned]
        for tracked in kept.tracked:
            tracked.moved = kept.foreign
        kept.foreign = False
        fits = self._fits(kept)
        unwanted = [each for each in kept.tracked if not fits or each.group not in groups]
        if unwanted:
            await delete(self._session, [tracked.number for tracked in unwanted])
            kept.tracked = [tracked for tracked in kept.tracked if tracked not in unwanted]
        loop = asyncio.get_running_loop()
        for tracked in kept.tracked:
            tracked.heard, tracked.last_heard_s = False, loop.time()
            tracked.expected = tracked.expected or 1
            self._takers[tracked.group] = groups[tracked.group] or self._changes
            self._track(tracked)
        watched = [number for number in kept.nodes if self._group_of(number) in self._by_group]
        self._changes.items = {number: kept.items[number] for number in watched}
        for number in watched:
            self._live.nodes.works(number, kept.nodes[number])
        self._live.nodes.readable |= kept.readable.intersection(watched)
        for group in dict.fromkeys(map(self._group_of, watched)):
            members = [number for number in watched if self._group_of(number) == group]
            self._live.coverage.resume(group, members)
        self._publisher.acknowledge = [pair for pair in kept.acknowledge if pair[0] in self._by_id]
        self._at_hand = [
            arrived for arrived in kept.arrived if arrived.notification.subscription in self._by_id
        ]
        # From here on `keep` speaks of these.
        self._inherited = None
        await self._catch_up()
        return [number for number in watched if self._group_of(number) in self._by_group]

    def _fits(self, kept: Kept) -> bool:
        """Tell whether the books of the sink are those that the subscriptions were followed by."""
        return kept.sink is self._live.sink and all(
            self._live.coverage.covered_to(number) is not None for number in kept.nodes
        )

    async def _catch_up(self) -> None:
        """Take what had come before the interruption, then what the server sent and nobody acknowledged."""
        waiting, self._at_hand = self._at_hand, []
        self._publisher.put_back(waiting)
        for arrived in self._publisher.waiting():
            await self._take(arrived)
        for subscription in list(self._by_id.values()):
            try:
                await self._fetch(subscription, None)
            except ServiceFault as fault:
                log.info("source %s: %s", self._live.config.name, fault)
                if fault.code in _GONE:
                    del self._by_id[subscription.number], self._by_group[subscription.group]
                    if not self._by_id:
                        self._any.clear()
                # Without Republish the number of what comes next tells whether something is missing.

    async def _next(self) -> Arrived:
        if self._publisher:
            return await self._publisher.arrival()
        first = min(self._by_id.values(), key=lambda each: each.last_heard_s + each.silent_s)
        patience_s = first.last_heard_s + first.silent_s - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(patience_s, 0.0)):
                return await self._publisher.arrival()
        except TimeoutError as error:
            # Whatever this one was good for once: if it has not said a word since, going on with it helps nobody.
            kind = SourceUnavailable if first.heard else SubscriptionLost
            raise kind("a subscription has fallen silent: no data and no keep-alive") from error

    async def _take(self, arrived: Arrived) -> None:
        """Make a notification durable, and before it what is missing between it and the last one."""
        notification = arrived.notification
        subscription = self._by_id.get(notification.subscription)
        if subscription is None:
            raise SubscriptionLost(
                f"the server publishes for subscription {notification.subscription}, not ours"
            )
        subscription.last_heard_s = asyncio.get_running_loop().time()
        subscription.heard = True
        self._at_hand.append(arrived)
        expected = subscription.expected
        if expected and notification.sequence != expected and not is_behind(notification.sequence, expected):
            await self._fetch(subscription, notification.sequence)
        await self._store(subscription, arrived)

    async def _fetch(self, subscription: Tracked, until: int | None) -> None:
        """Have messages sent again, from the expected one up to ``until``; None is as far as the server has them.

        Raises:
            SubscriptionLost: one before ``until`` is not to be had any more.
            ServiceFault: Republish itself was refused, and ``until`` is None.
        """
        while subscription.expected != until:
            try:
                notification = await republish(self._session, subscription.number, subscription.expected)
            except ServiceFault:
                if until is None:
                    raise
                notification = None
            if notification is None:
                if until is None:
                    return
                self._live.sink.count("missed_notification")
                raise SubscriptionLost(
                    f"notification {subscription.expected} is missing, {until} came instead, "
                    "and the server can't send it again"
                )
            self._live.sink.count("notification_republished")
            arrived = Arrived(notification, self._live.clock())
            self._at_hand.insert(0, arrived)
            await self._store(subscription, arrived)

    async def _store(self, subscription: Tracked, arrived: Arrived) -> None:
        """Put a notification into the buffer and remember to acknowledge it; in that order."""
        notification = arrived.notification
        if notification.status_change == StatusCodes.GoodSubscriptionTransferred and subscription.moved:
            # Meant for the session that had it (Part 4 §5.14.7.1); where that one is gone, node-opcua tells the heir.
            subscription.moved = False
            self._at_hand.remove(arrived)
            self._done(subscription, notification)
            return
        if notification.status_change:
            raise SubscriptionLost(f"the subscription ended: {status_name(notification.status_change)}")
        mark = Mark(self._session.server_time(notification.publish_time), arrived.received)
        taker = self._takers[subscription.group]
        if not notification.has_data:
            self._at_hand.remove(arrived)
            await taker.idle(subscription, arrived.received, mark)
            return
        await taker.take(subscription, notification, arrived.received, mark)
        self._at_hand.remove(arrived)
        self._done(subscription, notification)

    def _done(self, subscription: Tracked, notification: Notification) -> None:
        self._publisher.acknowledge.append((notification.subscription, notification.sequence))
        if subscription.expected in {0, notification.sequence}:
            subscription.expected = following(notification.sequence)
        else:
            # Sent again although it was taken: the buffer has recognised it.
            self._live.sink.count("notification_repeated")

    def _track(self, subscription: Tracked) -> None:
        self._by_id[subscription.number] = self._by_group[subscription.group] = subscription
        self._any.set()

    def _group_of(self, node: int) -> str:
        return self._live.nodes.configs[node].group


_GONE: Final = frozenset({StatusCodes.BadSubscriptionIdInvalid, StatusCodes.BadNoSubscription})

__all__ = ["Subscriptions", "Taker", "disappeared"]
