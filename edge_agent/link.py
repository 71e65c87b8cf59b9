"""The way to the service: its tasks, which begin anew where the service or the token changes."""

from __future__ import annotations

import asyncio
from typing import Any

from edge_agent.config import Config, UplinkConfig
from edge_agent.delivery import Delivery, DeliveryLimits
from edge_agent.heartbeats import Heartbeats
from edge_agent.intake import BufferThread, Intake
from edge_agent.reports import Reports
from edge_agent.uplink import AiohttpExchange, Answer, HttpUplink, client_context


def connect_uplink(config: Config) -> AiohttpExchange:
    """Return the way to the configured service; nothing is sent yet. Raises OSError for a certificate of no use."""
    uplink = config.uplink
    return AiohttpExchange(
        uplink.url,
        uplink.token.get_secret_value(),
        timeout_s=uplink.timeout_s,
        tls=client_context(uplink.ca_file, uplink.cert, uplink.key)
        if uplink.url.startswith("https:")
        else None,
    )


def delivery_limits(uplink: UplinkConfig) -> DeliveryLimits:
    """Return how the link may be used."""
    return DeliveryLimits(
        batch_samples=uplink.batch_samples,
        linger_s=uplink.linger_ms / 1000,
        backlog_share=uplink.backlog_share,
    )


class Link:
    """Delivery and heartbeats to the service that is configured now."""

    def __init__(
        self,
        agent_id: str,
        uplink: UplinkConfig,
        exchange: AiohttpExchange,
        buffer: BufferThread,
        intake: Intake,
    ) -> None:
        self._config, self._exchange = uplink, exchange
        self.uplink = HttpUplink(self._exchanged, agent_id=agent_id)
        self.delivery = Delivery(buffer, intake, self.uplink, delivery_limits(uplink))
        self._tasks: list[asyncio.Task[Any]] = []

    def leads_elsewhere(self, uplink: UplinkConfig) -> bool:
        """Tell whether a changed configuration leads to another service, or there in another way."""
        return _way(uplink) != _way(self._config)

    def start(self, tasks: asyncio.TaskGroup, reports: Reports) -> None:
        """Begin to deliver."""
        heartbeats = Heartbeats(reports, self.uplink, self.delivery)
        self._tasks = [
            tasks.create_task(self.delivery.run_live(), name="live"),
            tasks.create_task(self.delivery.run_backlog(), name="backlog"),
            tasks.create_task(heartbeats.run(), name="heartbeats"),
        ]

    async def change_to(
        self,
        uplink: UplinkConfig,
        exchange: AiohttpExchange | None,
        tasks: asyncio.TaskGroup,
        reports: Reports,
    ) -> None:
        """Go on with another configuration; ``exchange`` is the new one where it needs another.

        What was on its way is sent again by the new one, and dropped by the service as a repeat if it had arrived.
        """
        self._config = uplink
        self.delivery.limits = delivery_limits(uplink)
        if exchange is None:
            return
        await self._pause()
        old, self._exchange = self._exchange, exchange
        await old.close()
        self.delivery.report.connected = self.delivery.report.unauthorised = False
        self.delivery.report.message = "nothing sent yet with the changed configuration"
        self.start(tasks, reports)

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def _pause(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _exchanged(self, method: str, path: str, body: bytes, media_type: str) -> Answer:
        return await self._exchange(method, path, body, media_type)


def _way(uplink: UplinkConfig) -> tuple[object, ...]:
    return uplink.url, uplink.token, uplink.ca_file, uplink.cert, uplink.key, uplink.timeout_s
