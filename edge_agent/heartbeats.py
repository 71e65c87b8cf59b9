"""Tells the service every few seconds how the agent is, and what its series are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Never

from edge_agent.delivery import Delivery
from edge_agent.reports import Reports
from edge_agent.trouble import Trouble
from edge_agent.uplink import HttpUplink
from shopfloor import memory
from shopfloor.errors import UplinkUnavailable
from shopfloor.messages import HeartbeatReply, SeriesDeclaration

log = logging.getLogger(__name__)


class Heartbeats:
    """The heartbeats of one agent."""

    def __init__(self, reports: Reports, uplink: HttpUplink, delivery: Delivery) -> None:
        self._reports, self._uplink, self._delivery = reports, uplink, delivery
        self._declared: Sequence[tuple[SeriesDeclaration, ...]] = ()
        self._outside = Trouble(log, "the service")

    async def run(self) -> Never:
        """Send them for ever."""
        while True:
            started = time.monotonic()
            await self._reports.refresh()
            await self._send()
            interval_s = self._reports.config.uplink.heartbeat_s
            await asyncio.sleep(max(0.1, interval_s - (time.monotonic() - started)))

    async def _send(self) -> None:
        reports, delivery = self._reports, self._delivery
        try:
            reply = await self._uplink.send_heartbeat(reports.heartbeat())
            self._note(reply)
            known = reports.known_series()
            # A source that learns of its series from what it meets has more to say as time goes by.
            if reply.declarations_wanted or known != self._declared:
                await self._uplink.declare(reports.declarations())
                self._declared = known
                # The text of ten thousand declarations, and what a source needed to find out about them, has gone.
                memory.give_back()
            if not reports.stats.pending_samples:
                # With something pending, only a receipt for it shows that all is well.
                delivery.connected()
            delivery.heartbeat_sent()
        except UplinkUnavailable as error:
            delivery.heartbeat_failed(error)

    def _note(self, reply: HeartbeatReply) -> None:
        if reply.outside:
            named = ", ".join(reply.outside[:3])
            self._outside.met(
                f"takes no word about {len(reply.outside)} assets, such as {named}: the token does not reach them",
                kind=named,
            )
        else:
            self._outside.over("takes word about all assets again")
