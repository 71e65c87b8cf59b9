"""The services that make subscriptions, and that bring back what an interruption hid of them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.config import OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.decode import MalformedMessage, Notification, read_republish
from edge_agent.sources.opcua.kept import Tracked
from edge_agent.sources.opcua.session import NO, YES, ServiceFault, Session, status_name
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)

_LIFETIME_S: Final = 60.0
_SILENT_FACTOR: Final = 3.0
_MAX_NOTIFICATIONS: Final = 10_000
_OURS: Final = frozenset({StatusCodes.Good, StatusCodes.BadNothingToDo})
"""BadNothingToDo: node-opcua says so of a subscription that the session has already."""


async def create(session: Session, config: OpcUaConfig, group: str, settings: SubscribeGroup) -> Tracked:
    """Create a group's subscription (Part 4 §5.14.2); raises ServiceFault."""
    interval_ms = settings.publishing_interval_ms
    request = ua.CreateSubscriptionRequest()
    parameters = request.Parameters
    parameters.RequestedPublishingInterval = ua.Double(interval_ms)
    keepalives = max(1, math.ceil(config.keepalive_s * 1000 / interval_ms))
    lifetime_s = max(_LIFETIME_S, config.session_timeout_s)
    parameters.RequestedMaxKeepAliveCount = ua.UInt32(keepalives)
    parameters.RequestedLifetimeCount = ua.UInt32(
        max(3 * keepalives, math.ceil(lifetime_s * 1000 / interval_ms))
    )
    parameters.MaxNotificationsPerPublish = ua.UInt32(_MAX_NOTIFICATIONS)
    parameters.PublishingEnabled = YES
    answer = (await session.ask(request, ua.CreateSubscriptionResponse)).Parameters
    period_s = answer.RevisedPublishingInterval * max(1, answer.RevisedMaxKeepAliveCount) / 1000
    return Tracked(
        number=answer.SubscriptionId,
        group=group,
        silent_s=_SILENT_FACTOR * max(period_s, 0.1) + config.request_timeout_s / 2,
        lifetime_s=answer.RevisedPublishingInterval * answer.RevisedLifetimeCount / 1000,
        last_heard_s=asyncio.get_running_loop().time(),
    )


async def transfer(session: Session, subscriptions: Sequence[int]) -> set[int]:
    """Have a session take over subscriptions of another one (Part 4 §5.14.7); return those that it has now.

    Initial values are not asked for: everything that was not acknowledged comes by Republish.
    """
    request = ua.TransferSubscriptionsRequest()
    request.Parameters.SubscriptionIds = [ua.UInt32(number) for number in subscriptions]
    request.Parameters.SendInitialValues = NO
    try:
        results = (await session.ask(request, ua.TransferSubscriptionsResponse)).Parameters.Results
    except ServiceFault as fault:
        log.info("source %s: %s", session.config.name, fault)
        return set()
    if len(results) != len(subscriptions):
        raise SourceUnavailable(f"TransferSubscriptions: {len(results)} results for {len(subscriptions)}")
    refused = {
        status_name(result.StatusCode.value) for result in results if result.StatusCode.value not in _OURS
    }
    if refused:
        log.info("source %s: TransferSubscriptions: %s", session.config.name, ", ".join(sorted(refused)))
    return {
        number
        for number, result in zip(subscriptions, results, strict=True)
        if result.StatusCode.value in _OURS
    }


async def republish(session: Session, subscription: int, sequence: int) -> Notification | None:
    """Return a notification that was sent and not acknowledged (Part 4 §5.14.6), None where the server has it not.

    Raises:
        ServiceFault: there is no such subscription, or no such service.
        SourceUnavailable: no answer in time, or a malformed one.
    """
    request = ua.RepublishRequest()
    request.Parameters.SubscriptionId = ua.UInt32(subscription)
    request.Parameters.RetransmitSequenceNumber = ua.UInt32(sequence)
    try:
        body = await session.call(request)
        notification = read_republish(body, subscription)
    except MalformedMessage as error:
        raise SourceUnavailable(str(error)) from error
    except ServiceFault as fault:
        if fault.code == StatusCodes.BadMessageNotAvailable:
            return None
        raise
    # asyncua's server answers with an empty message where it should refuse.
    return notification if notification.has_data and notification.sequence == sequence else None


async def delete(session: Session, subscriptions: Sequence[int]) -> None:
    """Delete subscriptions that will not be gone on with; what the server says to it changes nothing."""
    request = ua.DeleteSubscriptionsRequest()
    request.Parameters.SubscriptionIds = [ua.UInt32(number) for number in subscriptions]
    try:
        await session.call(request)
    except ServiceFault as fault:
        log.info("source %s: %s", session.config.name, fault)
