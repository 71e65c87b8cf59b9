"""Reading a group of nodes at fixed times."""

from __future__ import annotations

import asyncio
from typing import Final, Never

import numpy as np
import numpy.typing as npt
from asyncua.ua.attribute_ids import AttributeIds

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.config import PollGroup
from edge_agent.sources.opcua.coverage import Mark
from edge_agent.sources.opcua.decode import Columns, MalformedMessage, Readings, read_header, read_values
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.session import ServiceFault, read_request
from edge_agent.sources.opcua.subscription import GONE, TOO_MUCH
from shopfloor.errors import SourceUnavailable

_STATE_INTERVAL_NS: Final = 3 * 1_000_000_000


class Poll:
    """One poll group of one session."""

    def __init__(self, live: Live, group: str, settings: PollGroup) -> None:
        self._live = live
        self._group = group
        self._interval_s = settings.interval_s
        count = len(live.nodes.configs)
        self._seen_time = np.full(count, NO_TIME, dtype=np.int64)
        self._seen_value = np.zeros(count, dtype=np.float64)
        self._seen_status = np.zeros(count, dtype=np.uint32)
        self._last_saved_ns = 0

    async def run(self) -> Never:
        """Read for ever, at times that do not drift; what can't be kept up with is skipped and counted."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            await self._read()
            due_s += self._interval_s
            late_s = loop.time() - due_s
            if late_s >= self._interval_s:
                missed = int(late_s // self._interval_s)
                self._live.sink.count("poll_overrun", missed)
                due_s += missed * self._interval_s
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def _read(self) -> None:
        active = self._live.nodes.active(self._group)
        start = 0
        while start < len(active):
            part = active[start : start + self._live.session.limits.read]
            try:
                body = await self._live.session.call(
                    read_request([self._live.nodes.ids[number] for number in part], AttributeIds.Value)
                )
            except ServiceFault as fault:
                if len(part) == 1 or fault.code not in TOO_MUCH:
                    raise SourceUnavailable(str(fault)) from fault
                self._live.session.limits.read = max(1, len(part) // 2)
                continue
            start += len(part)
            await self._take(part, body, last=start >= len(active))

    async def _take(self, part: list[int], body: bytes, *, last: bool) -> None:
        received = self._live.clock()
        columns = Columns()
        try:
            read_values(body, part, columns)
            mark = Mark(self._live.session.server_time(read_header(body).server_time), received)
        except MalformedMessage as error:
            raise SourceUnavailable(str(error)) from error
        block, readings = self._live.block(columns, received)
        gone = np.isin(readings.status, GONE)
        block = block.take(self._news(readings) & ~gone)
        state = {}
        if last and (len(block) or received - self._last_saved_ns >= _STATE_INTERVAL_NS):
            state = self._live.coverage.advance(self._group, mark)
            self._last_saved_ns = received
        if len(block) or state:
            await self._live.sink.put(block if len(block) else NO_SAMPLES, state)
        self._remember(readings)
        if gone.any():
            await self._live.lose(readings.handle[gone].tolist(), "the node has disappeared")

    def _news(self, readings: Readings) -> npt.NDArray[np.bool_]:
        """Mask what is not simply the reading of the last time: same source time, value and status."""
        nodes = readings.handle
        textless = np.ones(len(nodes), dtype=np.bool_)
        textless[list(readings.text)] = False
        same_value = (readings.value == self._seen_value[nodes]) | (np.isnan(readings.value) & textless)
        seen = (
            (readings.source_time != NO_TIME)
            & (readings.source_time == self._seen_time[nodes])
            & (readings.status == self._seen_status[nodes])
            & same_value
        )
        news: npt.NDArray[np.bool_] = ~seen
        return news

    def _remember(self, readings: Readings) -> None:
        nodes = readings.handle
        self._seen_time[nodes] = readings.source_time
        self._seen_value[nodes] = readings.value
        self._seen_status[nodes] = readings.status
