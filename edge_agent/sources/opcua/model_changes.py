"""Has a server say when its address space changes, so that what is new is found at once (Part 3 §9.32, Part 5 §6.4.32)."""

from __future__ import annotations

import logging
from typing import Final

from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.coverage import Mark
from edge_agent.sources.opcua.decode import Notification
from edge_agent.sources.opcua.event_fields import TypeTree, event_filter
from edge_agent.sources.opcua.kept import Tracked
from edge_agent.sources.opcua.listening import monitor
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.session import ServiceFault, standard_node
from edge_agent.sources.opcua.subscription import Subscriptions

log = logging.getLogger(__name__)

MODEL: Final = "(model)"
"""Name of the subscription where there is no other for it; no group can be called so."""
_HANDLE: Final = 0
"""Nothing else in such a subscription sends events."""
_SERVER: Final = standard_node(ObjectIds.Server)
# BaseModelChangeEventType itself says that something changed, and not what. Not SemanticChangeEventType: it is about values.
_CHANGED: Final = TypeTree(
    standard_node(ObjectIds.GeneralModelChangeEventType), [standard_node(ObjectIds.BaseModelChangeEventType)]
)


class ModelChanges:
    """The taker of a subscription that brings nothing but changes of the address space."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def listen(self, subscriptions: Subscriptions) -> None:
        """Have changes reported, in a subscription that there is if possible: small servers have few.

        A server that does not report them is searched at its time, as if nobody had asked.
        """
        session = self._live.session
        try:
            if subscriptions.of_variables() is None:
                await subscriptions.create(MODEL, SubscribeGroup(), self)
            tracked = subscriptions.of_variables() or subscriptions.tracked(MODEL)
            if tracked.hears_model:
                return
            wanted = event_filter([], _CHANGED)
            refused, _ = await monitor(session, tracked.number, _SERVER, wanted, handle=_HANDLE, queue_size=1)
        except ServiceFault as fault:
            refused = str(fault)
        else:
            tracked.hears_model = not refused
        if refused:
            log.debug("source %s: changes of the address space: %s", session.config.name, refused)

    async def take(
        self, subscription: Tracked, notification: Notification, received: int, mark: Mark
    ) -> None:
        """See Taker."""
        del subscription, received, mark
        if notification.events:
            self._live.model_changed()

    async def idle(self, subscription: Tracked, received: int, mark: Mark) -> None:
        """See Taker."""
