"""Monitored variables: had watched in batches, and their data changes made durable."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.coverage import Mark, State
from edge_agent.sources.opcua.decode import Notification, Readings, read_header
from edge_agent.sources.opcua.kept import Tracked
from edge_agent.sources.opcua.limits import LARGEST_LIMIT
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.monitoring import Deadbands, item_request
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.resolve import Problem
from edge_agent.sources.opcua.session import TOO_MUCH, ServiceFault, Session, status_name
from shopfloor.errors import SourceUnavailable

_STATE_INTERVAL_NS: Final = 3 * 1_000_000_000
"""How often an idle subscription's mark is saved."""
_FEW: Final = 50
"""A server that does not answer when it is asked to watch so few is not there."""
_OVERFLOW: Final = np.uint32(0x0000_0480)
_OVERFLOW_MASK: Final = np.uint32(0x0000_0C80)
"""InfoType DataValue and the overflow bit (Part 4 §7.39)."""
GONE: Final = (
    StatusCodes.BadNodeIdUnknown,
    StatusCodes.BadNodeIdInvalid,
    StatusCodes.BadMonitoredItemIdInvalid,
)
"""The node itself has disappeared (a program was loaded into the controller)."""


class Changes:
    """The monitored variables of one session."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._session: Session = live.session
        self._deadbands = Deadbands(live)
        limits = live.session.limits
        limits.monitor = min(limits.monitor, live.nodes.watched_at_once or limits.monitor)
        self.items: dict[int, int] = {}
        """Monitored item of each node."""

    async def monitor(
        self, subscription: int, settings: SubscribeGroup, nodes: Sequence[tuple[int, ua.NodeId]]
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
            outcome, watched_from = await self._create_items(subscription, settings, part)
            results.extend(outcome)
        return results, watched_from

    async def take(
        self, subscription: Tracked, notification: Notification, received: int, mark: Mark
    ) -> None:
        """Put what has changed into the buffer; return once it is durable."""
        if notification.events:
            self._live.model_changed()
        block, readings = await self._live.samples(notification.columns, received)
        state: State = {}
        if nodes := overflowed(readings):
            state |= await self._live.overflowed(subscription.group, nodes, mark.server)
        if not notification.more:
            state |= self._live.coverage.advance(subscription.group, mark)
            subscription.last_saved_ns = received
        await self._live.sink.put(self._live.nodes.worded(block), state)
        if gone := disappeared(readings):
            await self._forget(subscription.number, gone)

    async def idle(self, subscription: Tracked, received: int, mark: Mark) -> None:
        """Note that nothing has changed; saved now and then."""
        if received - subscription.last_saved_ns >= _STATE_INTERVAL_NS:
            subscription.last_saved_ns = received
            await self._live.sink.put(NO_SAMPLES, self._live.coverage.advance(subscription.group, mark))

    async def _create_items(
        self, subscription: int, settings: SubscribeGroup, nodes: Sequence[tuple[int, ua.NodeId]]
    ) -> tuple[list[Problem | None], int]:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = ua.UInt32(subscription)
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
            return await self.monitor(subscription, settings, nodes)
        except SourceUnavailable as error:
            # The server may have created them all the same: not again in this session, and fewer in the next one.
            if isinstance(error.__cause__, TimeoutError) and len(nodes) > _FEW:
                self._live.nodes.watched_at_once = max(_FEW, len(nodes) // 4)
            raise
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
                self.items[number] = result.MonitoredItemId
        watched_from = self._session.server_time(read_header(body).server_time)
        if again:
            outcome, watched_from = await self.monitor(subscription, settings, list(again.values()))
            for place, found in zip(again, outcome, strict=True):
                results[place] = found
        return results, watched_from

    async def _forget(self, subscription: int, gone: Sequence[int]) -> None:
        """Delete the items of nodes that have disappeared, so that they can be watched anew when they are back."""

        async def delete(items: Sequence[ua.UInt32]) -> Sequence[ua.StatusCode]:
            request = ua.DeleteMonitoredItemsRequest()
            request.Parameters.SubscriptionId = ua.UInt32(subscription)
            request.Parameters.MonitoredItemIds = list(items)
            return (await self._session.ask(request, ua.DeleteMonitoredItemsResponse)).Results or ()

        items = [ua.UInt32(self.items.pop(number)) for number in gone if number in self.items]
        with suppress(ServiceFault):  # the server may have deleted them itself
            await self._session.in_batches("monitor", items, delete, LARGEST_LIMIT)
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
