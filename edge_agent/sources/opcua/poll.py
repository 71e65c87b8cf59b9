"""Reading a group of nodes at fixed times."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, Never

import numpy as np
import numpy.typing as npt
from asyncua.ua.attribute_ids import AttributeIds

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.changes import disappeared
from edge_agent.sources.opcua.config import PollGroup
from edge_agent.sources.opcua.coverage import Mark
from edge_agent.sources.opcua.decode import Columns, MalformedMessage, Readings, read_header, read_values
from edge_agent.sources.opcua.limits import CAUTIOUS
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.requests import EncodedRequest, encode
from edge_agent.sources.opcua.session import TOO_MUCH, ServiceFault, read_request
from shopfloor.block import SampleBlock, UInt32, concat
from shopfloor.errors import SourceUnavailable

_STATE_INTERVAL_NS: Final = 3 * 1_000_000_000
_PUT_SAMPLES: Final = 10_000
"""So many are put at once: as many as a batch of the uplink."""
_FEW: Final = 16
"""A server that does not take so many nodes may be troubled by one of them."""


class _Batch(NamedTuple):
    """Nodes that are read with one request, encoded once."""

    numbers: UInt32
    request: EncodedRequest


class _Answer(NamedTuple):
    """What one request brought."""

    mark: Mark
    news: SampleBlock
    readings: Readings
    gone: list[int]
    """Nodes that have disappeared."""
    nodes: int
    """How many were wanted."""


class Poll:
    """One poll group of one session."""

    def __init__(self, live: Live, group: str, settings: PollGroup) -> None:
        self._live = live
        self._group = group
        self._interval_s = settings.interval_s
        self._seen_time = np.empty(0, dtype=np.int64)
        self._seen_value = np.empty(0, dtype=np.float64)
        self._seen_status = np.empty(0, dtype=np.uint32)
        self._nodes = 0
        """How many were wanted when room was made for what was seen."""
        self._last_saved_ns = 0
        self._requests: list[_Batch] = []
        self._made_for: tuple[int, int] | None = None
        """State of the nodes, and how many go into a request."""

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
        """Read every node once and put what is news, in as few puts as the size of a block allows."""
        limits = self._live.session.limits
        stated, taken = limits.read, limits.read
        waiting = deque(self._current_batches())
        gathered: list[_Answer] = []
        while waiting:
            batch = waiting.popleft()
            try:
                body = await self._live.session.call(batch.request)
            except ServiceFault as fault:
                if fault.code not in TOO_MUCH:
                    raise SourceUnavailable(str(fault)) from fault
                if len(batch.numbers) > 1:
                    taken = len(batch.numbers) // 2
                    waiting = self._refused(batch, waiting)
                    continue
                # It was this one all the time, not their number.
                limits.read = taken = stated
                await self._live.lose(batch.numbers.tolist(), str(fault))
                await self._put(gathered, last=not waiting)
                gathered = []
                continue
            except SourceUnavailable as error:
                # A server that takes more than it can answer in time is asked for less, once a session.
                if not isinstance(error.__cause__, TimeoutError) or len(batch.numbers) <= CAUTIOUS:
                    raise
                limits.read = taken = CAUTIOUS
                waiting = self._smaller(batch, waiting)
                continue
            gathered.append(await self._answer(batch, body))
            if not waiting or sum(len(answer.news) for answer in gathered) >= _PUT_SAMPLES:
                await self._put(gathered, last=not waiting)
                gathered = []
        limits.read = taken

    def _current_batches(self) -> list[_Batch]:
        """Return the requests for the nodes that work now, the same as the last time if they are the same."""
        nodes = self._live.nodes
        made_for = (nodes.changes, self._live.session.limits.read)
        if made_for != self._made_for:
            self._requests = self._batches(np.array(nodes.active(self._group), np.uint32))
            self._made_for = made_for
        return self._requests

    def _refused(self, batch: _Batch, waiting: Iterable[_Batch]) -> deque[_Batch]:
        """Return what is left to be read after a request was too large for the server."""
        half = len(batch.numbers) // 2
        if half >= _FEW:
            self._live.session.limits.read = half
            return self._smaller(batch, waiting)
        # So few can't be too many: one of them may be too large, the others need not suffer from it.
        return deque([*self._batches(batch.numbers, half), *waiting])

    def _smaller(self, refused: _Batch, waiting: Iterable[_Batch]) -> deque[_Batch]:
        """Return what is left to be read, in requests of the size that counts now."""
        return deque(self._batches(np.concatenate([refused.numbers, *(batch.numbers for batch in waiting)])))

    def _batches(self, numbers: UInt32, limit: int = 0) -> list[_Batch]:
        limit, ids = limit or self._live.session.limits.read, self._live.nodes.ids
        parts = (numbers[start : start + limit] for start in range(0, len(numbers), limit))
        return [
            _Batch(
                part,
                encode(read_request([ids[number] for number in part.tolist()], AttributeIds.Value)),
            )
            for part in parts
        ]

    async def _answer(self, batch: _Batch, body: bytes) -> _Answer:
        received = self._live.clock()
        columns = Columns()
        nodes = len(self._live.nodes.configs)
        try:
            read_values(body, batch.numbers, columns)
            mark = Mark(self._live.session.server_time(read_header(body).server_time), received)
        except MalformedMessage as error:
            raise SourceUnavailable(str(error)) from error
        block, readings = await self._live.samples(columns, received)
        # Where more nodes have come meanwhile, what was seen can't be told: then all of it is news.
        unmoved = nodes == len(self._live.nodes.configs)
        wanted = self._news(readings) if unmoved else np.ones(len(block), np.bool_)
        gone = disappeared(readings)
        if gone:
            wanted &= ~np.isin(readings.handle, gone)
        news = block if wanted.all() else block.take(wanted)
        return _Answer(mark, self._live.nodes.worded(news), readings, gone, nodes)

    async def _put(self, answers: list[_Answer], *, last: bool) -> None:
        """Put what is news; ``last`` says that with it everything has been read up to the last answer."""
        if not answers:
            return
        block = concat([answer.news for answer in answers])
        mark = answers[-1].mark
        state = {}
        if last and (len(block) or mark.agent - self._last_saved_ns >= _STATE_INTERVAL_NS):
            state = self._live.coverage.advance(self._group, mark)
            self._last_saved_ns = mark.agent
        if len(block) or state:
            await self._live.sink.put(block if len(block) else NO_SAMPLES, state)
        for answer in answers:
            self._remember(answer)
        gone = [number for answer in answers for number in answer.gone]
        if gone:
            await self._live.lose(gone, "the node has disappeared")

    def _news(self, readings: Readings) -> npt.NDArray[np.bool_]:
        """Mask what is not simply the reading of the last time: same source time, value and status."""
        self._fit()
        series = readings.series
        textless = np.ones(len(series), dtype=np.bool_)
        textless[list(readings.text)] = False
        same_value = (readings.value == self._seen_value[series]) | (np.isnan(readings.value) & textless)
        seen = (
            (readings.source_time != NO_TIME)
            & (readings.source_time == self._seen_time[series])
            & (readings.status == self._seen_status[series])
            & same_value
        )
        news: npt.NDArray[np.bool_] = ~seen
        return news

    def _fit(self) -> None:
        """Make room for the series that there are now. Those beside their nodes' own move when there are more nodes."""
        nodes = self._live.nodes
        kept = min(
            len(self._seen_time), self._nodes if self._nodes != len(nodes.configs) else len(nodes.series)
        )
        more = len(nodes.series) - kept
        if more or kept != len(self._seen_time):
            self._seen_time = np.append(self._seen_time[:kept], np.full(more, NO_TIME))
            self._seen_value = np.append(self._seen_value[:kept], np.zeros(more))
            self._seen_status = np.append(self._seen_status[:kept], np.zeros(more, np.uint32))
        self._nodes = len(nodes.configs)

    def _remember(self, answer: _Answer) -> None:
        readings = answer.readings
        rows: slice | npt.NDArray[np.bool_] = slice(None)
        if answer.nodes != len(self._live.nodes.configs):
            # More nodes have come meanwhile: only the nodes' own series are still where they were.
            rows = readings.series < answer.nodes
        self._fit()
        series = readings.series[rows]
        self._seen_time[series] = readings.source_time[rows]
        self._seen_value[series] = readings.value[rows]
        self._seen_status[series] = readings.status[rows]
