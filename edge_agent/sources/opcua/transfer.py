"""The services that bring back what an interruption hid: TransferSubscriptions and Republish."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.decode import MalformedMessage, Notification, read_republish
from edge_agent.sources.opcua.session import NO, ServiceFault, Session, status_name
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)

_OURS: Final = frozenset({StatusCodes.Good, StatusCodes.BadNothingToDo})
"""BadNothingToDo: node-opcua says so of a subscription that the session has already."""


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
