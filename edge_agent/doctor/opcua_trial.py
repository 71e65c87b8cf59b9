"""What a server really grants: nodes watched for a moment as the agent would, and none of it left behind.

The subscription never publishes, and at most a hundred items of it exist at a time: a small controller that the agent
reads at this moment has few to spare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.decode import Columns, MalformedMessage, read_history
from edge_agent.sources.opcua.monitoring import item_request
from edge_agent.sources.opcua.request_config import DeadbandConfig
from edge_agent.sources.opcua.session import NO, YES, ServiceFault, Session, status_name

_ITEMS_AT_A_TIME: Final = 100
_LIFETIME_S: Final = 60.0
_MAX_HISTORY_NODES: Final = 200
_HISTORY_SPAN: Final = timedelta(hours=1)
_NO_DATA: Final = frozenset({StatusCodes.BadNoData, StatusCodes.BadBoundNotFound})


@dataclass(frozen=True, slots=True)
class GrantedSubscription:
    """What became of a group's settings."""

    publishing_interval_ms: float
    keepalive_count: int
    lifetime_count: int


@dataclass(frozen=True, slots=True)
class GrantedItem:
    """What became of a node's settings; ``refused`` says why it can't be watched, if it can't."""

    sampling_interval_ms: float = 0.0
    queue_size: int = 0
    refused: str = ""
    deadband_refused: str = ""
    """Why the server watches the node without the deadband that was asked for, if so."""


async def try_subscription(
    session: Session,
    config: OpcUaConfig,
    settings: SubscribeGroup,
    nodes: Sequence[tuple[NodeConfig, ua.NodeId]],
) -> tuple[GrantedSubscription, list[GrantedItem]]:
    """Create a group's subscription, watch each node in it for a moment, and delete everything.

    Returns:
        What was granted, and for each node in order what it was granted.

    Raises:
        ServiceFault: the server grants no subscription.
        SourceUnavailable: it does not answer any more; then it forgets the subscription with the session.
    """
    request = ua.CreateSubscriptionRequest()
    parameters = request.Parameters
    interval_ms = settings.publishing_interval_ms
    keepalives = max(1, math.ceil(config.keepalive_s * 1000 / interval_ms))
    parameters.RequestedPublishingInterval = ua.Double(interval_ms)
    parameters.RequestedMaxKeepAliveCount = ua.UInt32(keepalives)
    parameters.RequestedLifetimeCount = ua.UInt32(
        max(3 * keepalives, math.ceil(_LIFETIME_S * 1000 / interval_ms))
    )
    parameters.MaxNotificationsPerPublish = ua.UInt32(1)
    parameters.PublishingEnabled = NO
    answer = (await session.ask(request, ua.CreateSubscriptionResponse)).Parameters
    granted = GrantedSubscription(
        float(answer.RevisedPublishingInterval),
        int(answer.RevisedMaxKeepAliveCount),
        int(answer.RevisedLifetimeCount),
    )
    items: list[GrantedItem] = []
    try:
        size = min(_ITEMS_AT_A_TIME, session.limits.monitor)
        for start in range(0, len(nodes), size):
            items += await _try_items(session, answer.SubscriptionId, settings, nodes[start : start + size])
    finally:
        delete = ua.DeleteSubscriptionsRequest()
        delete.Parameters.SubscriptionIds = [answer.SubscriptionId]
        with suppress(ServiceFault):  # closing the session deletes it in any case
            await session.call(delete)
    return granted, items


async def _try_items(
    session: Session,
    subscription: int,
    settings: SubscribeGroup,
    nodes: Sequence[tuple[NodeConfig, ua.NodeId]],
) -> list[GrantedItem]:
    """Watch nodes for a moment; those that are refused with a deadband once more without, as the agent does."""
    deadbands = [config.deadband or settings.deadband for config, _ in nodes]
    items = await _watch(session, subscription, settings, [node for _, node in nodes], deadbands)
    again = [number for number, item in enumerate(items) if item.refused and deadbands[number] is not None]
    if again:
        plain = await _watch(
            session, subscription, settings, [nodes[n][1] for n in again], [None] * len(again)
        )
        for number, item in zip(again, plain, strict=True):
            if not item.refused:
                items[number] = replace(item, deadband_refused=items[number].refused)
    return items


async def _watch(
    session: Session,
    subscription: int,
    settings: SubscribeGroup,
    nodes: Sequence[ua.NodeId],
    deadbands: Sequence[DeadbandConfig | None],
) -> list[GrantedItem]:
    request = ua.CreateMonitoredItemsRequest()
    request.Parameters.SubscriptionId = ua.UInt32(subscription)
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.ItemsToCreate = [
        item_request(number, node, settings, deadband if deadband is not None and deadband.size else None)
        for number, (node, deadband) in enumerate(zip(nodes, deadbands, strict=True))
    ]
    try:
        results = (await session.ask(request, ua.CreateMonitoredItemsResponse)).Results
    except ServiceFault as fault:
        return [GrantedItem(refused=str(fault))] * len(nodes)
    created = [result.MonitoredItemId for result in results if result.StatusCode.is_good()]
    if created:
        delete = ua.DeleteMonitoredItemsRequest()
        delete.Parameters.SubscriptionId = ua.UInt32(subscription)
        delete.Parameters.MonitoredItemIds = created
        with suppress(ServiceFault):
            await session.call(delete)
    granted = [
        GrantedItem(float(result.RevisedSamplingInterval), int(result.RevisedQueueSize))
        if result.StatusCode.is_good()
        else GrantedItem(refused=status_name(result.StatusCode.value))
        for result in results
    ]
    missing = len(nodes) - len(granted)
    return granted + [GrantedItem(refused="the server did not answer for it")] * missing


async def try_history(session: Session, nodes: Sequence[ua.NodeId]) -> list[str]:
    """Read one value of the last hour from each node's history, of the first 200 nodes.

    Returns:
        For each node ``yes``, or why its history can't be read; empty for those that were not tried.
    """
    answers: list[str] = []
    tried = nodes[:_MAX_HISTORY_NODES]
    for start in range(0, len(tried), session.limits.history):
        answers += await _read_past(session, tried[start : start + session.limits.history])
    return answers + [""] * (len(nodes) - len(answers))


async def _read_past(session: Session, nodes: Sequence[ua.NodeId]) -> list[str]:
    now = datetime.fromtimestamp(session.server_now() / 1e9, UTC)
    request = ua.HistoryReadRequest()
    request.Parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
        IsReadModified=NO,
        StartTime=now - _HISTORY_SPAN,
        EndTime=now,
        NumValuesPerNode=ua.UInt32(1),
        ReturnBounds=NO,
    )
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.ReleaseContinuationPoints = NO
    request.Parameters.NodesToRead = [ua.HistoryReadValueId(NodeId=node) for node in nodes]
    try:
        pages = read_history(await session.call_history(request), list(range(len(nodes))), Columns())
    except ServiceFault as fault:
        return [str(fault)] * len(nodes)
    except MalformedMessage as error:
        return [f"a malformed answer: {error}"] * len(nodes)
    await _release(session, request, [page.continuation for page in pages])
    return [
        "yes" if page.status >> 30 < 2 or page.status & 0xFFFF_0000 in _NO_DATA else status_name(page.status)
        for page in pages
    ]


async def _release(session: Session, request: ua.HistoryReadRequest, points: Sequence[bytes | None]) -> None:
    """Give continuation points back: servers have few (Part 4 §7.9)."""
    kept = [
        ua.HistoryReadValueId(NodeId=read.NodeId, ContinuationPoint=point)
        for read, point in zip(request.Parameters.NodesToRead, points, strict=True)
        if point
    ]
    if kept:
        request.Parameters.ReleaseContinuationPoints = YES
        request.Parameters.NodesToRead = kept
        with suppress(ServiceFault):
            await session.call(request)
