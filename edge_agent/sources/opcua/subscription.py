"""Subscriptions without asyncua's own: acknowledged after the disk has it, several requests outstanding, watched."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Never

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.coverage import Mark, State
from edge_agent.sources.opcua.decode import (
    MalformedMessage,
    Notification,
    Readings,
    read_header,
    read_publish,
)
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.monitoring import Deadbands, item_request
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.requests import publish_request
from edge_agent.sources.opcua.resolve import Problem
from edge_agent.sources.opcua.session import TOO_MUCH, YES, ServiceFault, Session, status_name
from shopfloor.errors import SourceUnavailable

_LIFETIME_S: Final = 60.0
_SILENT_FACTOR: Final = 3.0
_MAX_NOTIFICATIONS: Final = 10_000
_STATE_INTERVAL_NS: Final = 3 * 1_000_000_000
"""How often an idle subscription's mark is saved."""
_OVERFLOW: Final = np.uint32(0x0000_0480)
_OVERFLOW_MASK: Final = np.uint32(0x0000_0C80)
"""InfoType DataValue and the overflow bit (Part 4 §7.39)."""
GONE: Final = (
    StatusCodes.BadNodeIdUnknown,
    StatusCodes.BadNodeIdInvalid,
    StatusCodes.BadMonitoredItemIdInvalid,
)
"""The node itself has disappeared (a program was loaded into the controller)."""


@dataclass(slots=True)
class _Subscription:
    group: str
    silent_s: float
    """After so many seconds without a word it counts as dead."""
    last_heard_s: float
    last_sequence: int = 0
    last_saved_ns: int = 0


class Subscriptions:
    """All subscriptions of one session."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._session: Session = live.session
        self._deadbands = Deadbands(live)
        self._by_id: dict[int, _Subscription] = {}
        self._id_of: dict[str, int] = {}
        self._items: dict[int, int] = {}
        self._acknowledge: list[tuple[int, int]] = []
        self._arrived: asyncio.Queue[Notification] = asyncio.Queue()
        self._outstanding = 0

    def __bool__(self) -> bool:
        return bool(self._by_id)

    async def create(self, group: str, settings: SubscribeGroup) -> None:
        """Create a group's subscription; raises ServiceFault."""
        interval_ms = settings.publishing_interval_ms
        request = ua.CreateSubscriptionRequest()
        parameters = request.Parameters
        parameters.RequestedPublishingInterval = ua.Double(interval_ms)
        keepalives = max(1, math.ceil(self._live.config.keepalive_s * 1000 / interval_ms))
        parameters.RequestedMaxKeepAliveCount = ua.UInt32(keepalives)
        parameters.RequestedLifetimeCount = ua.UInt32(
            max(3 * keepalives, math.ceil(_LIFETIME_S * 1000 / interval_ms))
        )
        parameters.MaxNotificationsPerPublish = ua.UInt32(_MAX_NOTIFICATIONS)
        parameters.PublishingEnabled = YES
        answer = (await self._session.ask(request, ua.CreateSubscriptionResponse)).Parameters
        period_s = answer.RevisedPublishingInterval * max(1, answer.RevisedMaxKeepAliveCount) / 1000
        loop = asyncio.get_running_loop()
        self._by_id[answer.SubscriptionId] = _Subscription(
            group, _SILENT_FACTOR * max(period_s, 0.1) + self._live.config.request_timeout_s / 2, loop.time()
        )
        self._id_of[group] = answer.SubscriptionId

    async def monitor(
        self, group: str, settings: SubscribeGroup, nodes: Sequence[tuple[int, ua.NodeId]]
    ) -> tuple[list[Problem | None], int]:
        """Have the server watch nodes.

        Returns:
            For each node None or why it can't be watched; and a moment of the server's clock (UTC ns) at which all
            that can be were being watched.
        """
        results: list[Problem | None] = []
        watched_from = 0
        while len(results) < len(nodes):
            part = nodes[len(results) : len(results) + self._session.limits.monitor]
            outcome, watched_from = await self._create_items(group, settings, part)
            results.extend(outcome)
        return results, watched_from

    async def run(self) -> Never:
        """Publish for ever; raises SourceUnavailable when a subscription has died or fallen silent."""
        loop = asyncio.get_running_loop()
        for subscription in self._by_id.values():
            subscription.last_heard_s = loop.time()
        wanted = len(self._by_id) + 2
        async with asyncio.TaskGroup() as requests:
            for _ in range(wanted):
                requests.create_task(self._publish())
            while True:
                notification = await self._next()
                began_s = loop.time()
                await self._take(notification)
                if loop.time() - began_s > 1.0:
                    # We were the slow ones (a full buffer that waits): nobody can be blamed for having been silent.
                    for subscription in self._by_id.values():
                        subscription.last_heard_s = loop.time()
                requests.create_task(self._publish())

    async def _create_items(
        self, group: str, settings: SubscribeGroup, nodes: Sequence[tuple[int, ua.NodeId]]
    ) -> tuple[list[Problem | None], int]:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = ua.UInt32(self._id_of[group])
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [
            item_request(number, node_id, settings, self._deadbands.wanted(number, settings))
            for number, node_id in nodes
        ]
        try:
            body = await self._session.call(request)
        except ServiceFault as fault:
            if len(nodes) == 1 or fault.code not in TOO_MUCH:
                return [Problem(str(fault))] * len(nodes), self._session.server_now()
            self._session.limits.monitor = max(1, len(nodes) // 2)
            return await self.monitor(group, settings, nodes)
        answer = self._session.parse(body, ua.CreateMonitoredItemsResponse)
        if len(answer.Results) != len(nodes):
            raise SourceUnavailable(
                f"CreateMonitoredItems: {len(answer.Results)} results for {len(nodes)} nodes"
            )
        results: list[Problem | None] = []
        again: dict[int, tuple[int, ua.NodeId]] = {}
        for (number, node_id), result in zip(nodes, answer.Results, strict=True):
            good = result.StatusCode.is_good()
            if self._deadbands.refused(number, settings, result.StatusCode.value):
                again[len(results)] = number, node_id
            results.append(None if good else Problem(status_name(result.StatusCode.value)))
            if good:
                self._items[number] = result.MonitoredItemId
        watched_from = self._session.server_time(read_header(body).server_time)
        if again:
            outcome, watched_from = await self.monitor(group, settings, list(again.values()))
            for place, found in zip(again, outcome, strict=True):
                results[place] = found
        return results, watched_from

    async def _publish(self) -> None:
        """Send one Publish request, with the acknowledgements that have come up, and hand on what it brings."""
        acknowledged, self._acknowledge = self._acknowledge, []
        request = publish_request(acknowledged)
        self._outstanding += 1
        try:
            while True:
                try:
                    body = await self._session.call(request, 0)
                    self._arrived.put_nowait(read_publish(body))
                except MalformedMessage as error:
                    raise SourceUnavailable(str(error)) from error
                except ServiceFault as fault:
                    if fault.code == StatusCodes.BadTimeout:
                        continue
                    if fault.code == StatusCodes.BadTooManyPublishRequests and self._outstanding > 1:
                        self._acknowledge.extend(acknowledged)
                        return
                    raise SourceUnavailable(str(fault)) from fault
                return
        finally:
            self._outstanding -= 1

    async def _next(self) -> Notification:
        loop = asyncio.get_running_loop()
        if self._arrived.empty():
            patience_s = min(sub.last_heard_s + sub.silent_s for sub in self._by_id.values()) - loop.time()
            try:
                async with asyncio.timeout(max(patience_s, 0.0)):
                    return await self._arrived.get()
            except TimeoutError as error:
                raise SourceUnavailable(
                    "a subscription has fallen silent: no data and no keep-alive"
                ) from error
        return self._arrived.get_nowait()

    async def _take(self, notification: Notification) -> None:
        """Put a notification into the buffer and remember to acknowledge it; in that order."""
        subscription = self._by_id.get(notification.subscription)
        if subscription is None:
            raise SourceUnavailable(
                f"the server publishes for subscription {notification.subscription}, not ours"
            )
        subscription.last_heard_s = asyncio.get_running_loop().time()
        if notification.status_change:
            raise SourceUnavailable(f"the subscription ended: {status_name(notification.status_change)}")
        received = self._live.clock()
        mark = Mark(self._session.server_time(notification.publish_time), received)
        if not notification.has_data:
            if received - subscription.last_saved_ns >= _STATE_INTERVAL_NS:
                subscription.last_saved_ns = received
                await self._live.sink.put(NO_SAMPLES, self._live.coverage.advance(subscription.group, mark))
            return
        expected = 1 if subscription.last_sequence == 0xFFFF_FFFF else subscription.last_sequence + 1
        if subscription.last_sequence and notification.sequence != expected:
            self._live.sink.count("missed_notification")
            raise SourceUnavailable(
                f"notification {expected} is missing, {notification.sequence} came instead"
            )
        block, readings = await self._live.samples(notification.columns, received)
        state: State = {}
        if nodes := overflowed(readings):
            state |= await self._live.overflowed(subscription.group, nodes, mark.server)
        if not notification.more:
            state |= self._live.coverage.advance(subscription.group, mark)
            subscription.last_saved_ns = received
        await self._live.sink.put(self._live.nodes.worded(block), state)
        subscription.last_sequence = notification.sequence
        self._acknowledge.append((notification.subscription, notification.sequence))
        if gone := disappeared(readings):
            await self._forget(subscription, gone)

    async def _forget(self, subscription: _Subscription, gone: Sequence[int]) -> None:
        """Delete the items of nodes that have disappeared, so that they can be watched anew when they are back."""
        request = ua.DeleteMonitoredItemsRequest()
        request.Parameters.SubscriptionId = ua.UInt32(self._id_of[subscription.group])
        items = [self._items.pop(number) for number in gone if number in self._items]
        request.Parameters.MonitoredItemIds = [ua.UInt32(item) for item in items]
        with suppress(ServiceFault):  # the server may have deleted them itself
            await self._session.call(request)
        await self._live.lose(gone, "the node has disappeared")


def overflowed(readings: Readings) -> list[int]:
    """Return the nodes whose queues on the server overflowed, as their status says."""
    if not readings.status.any():  # nearly always: all are simply Good
        return []
    return _nodes_where(readings, (readings.status & _OVERFLOW_MASK) == _OVERFLOW)


def disappeared(readings: Readings) -> list[int]:
    """Return the nodes that do not exist any more, as their status says."""
    if not readings.status.any():
        return []
    return _nodes_where(readings, np.isin(readings.status, GONE))


def _nodes_where(readings: Readings, mask: npt.NDArray[np.bool_]) -> list[int]:
    return sorted(set(readings.handle[mask].tolist()))
