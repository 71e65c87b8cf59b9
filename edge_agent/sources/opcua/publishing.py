"""Publish requests (Part 4 §5.14.5): several outstanding, each with the acknowledgements that have come up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.decode import MalformedMessage, read_publish
from edge_agent.sources.opcua.kept import Arrived, SubscriptionLost
from edge_agent.sources.opcua.requests import publish_request
from edge_agent.sources.opcua.session import ServiceFault, Session
from shopfloor.errors import SourceUnavailable


class Publisher:
    """The Publish requests of one session.

    Args:
        session: with the server.
        clock: UTC ns, the agent's.
    """

    def __init__(self, session: Session, clock: Callable[[], int]) -> None:
        self._session, self._clock = session, clock
        self._arrived: asyncio.Queue[Arrived] = asyncio.Queue()
        self._outstanding = 0
        self.acknowledge: list[tuple[int, int]] = []
        """(SubscriptionId, sequence number) of what is in the buffer and may not be acknowledged yet."""

    def __bool__(self) -> bool:
        """Tell whether something has come that nobody has taken."""
        return not self._arrived.empty()

    def put_back(self, arrived: Iterable[Arrived]) -> None:
        """Queue what came before."""
        for each in arrived:
            self._arrived.put_nowait(each)

    def waiting(self) -> Iterator[Arrived]:
        """Take what has come, as far as it has."""
        while not self._arrived.empty():
            yield self._arrived.get_nowait()

    async def arrival(self) -> Arrived:
        """Take the next notification, or wait for it."""
        return await self._arrived.get()

    async def publish(self) -> None:
        """Send one request, and queue what it brings.

        Raises:
            SourceUnavailable: the connection is gone, or the answer malformed.
            SubscriptionLost: the server has nothing to publish for us.
        """
        acknowledged, self.acknowledge = self.acknowledge, []
        request = publish_request(acknowledged)
        self._outstanding += 1
        answered = False
        try:
            while True:
                try:
                    body = await self._session.call(request, 0)
                    answered = True
                    self._arrived.put_nowait(Arrived(read_publish(body), self._clock()))
                except MalformedMessage as error:
                    raise SourceUnavailable(str(error)) from error
                except ServiceFault as fault:
                    if fault.code == StatusCodes.BadTimeout:
                        continue
                    if fault.code == StatusCodes.BadTooManyPublishRequests and self._outstanding > 1:
                        return
                    raise SubscriptionLost(str(fault)) from fault
                return
        finally:
            self._outstanding -= 1
            if not answered:
                self.acknowledge.extend(acknowledged)
