"""A history that is read: a played server, a sink in memory, and a hole of all nodes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, cast

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.backfill import Backfill
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.coverage import Coverage, Mark, series_id
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.trouble import Trouble
from shopfloor.block import SampleBlock
from shopfloor.errors import SourceUnavailable
from shopfloor.messages import SourceState
from tests.unit.opcua_values import EPOCH

NODES, VALUES = 8, 40
SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND


class PlayedHistory:
    """A session with a server that keeps a value a second of every node, from BEGIN on."""

    def __init__(self) -> None:
        self.limits = Limits(history=NODES)
        self.most_nodes = NODES
        self.most_values = 10_000
        self.failure: Exception = TimeoutError()
        self.asked: list[tuple[int, int]] = []
        self.asked_of: Counter[int] = Counter()
        """Requests of each node."""
        self.odd: dict[int, Callable[[], Any]] = {}
        """The nodes whose history is another one, and what it is."""
        self.released: list[bytes] = []

    def server_now(self) -> int:
        return BEGIN + 1_000 * SECOND

    async def call_history(self, request: Any) -> bytes:
        parameters = request.Parameters
        details, nodes = parameters.HistoryReadDetails, parameters.NodesToRead
        if parameters.ReleaseContinuationPoints:
            self.released += [node.ContinuationPoint for node in nodes]
            return struct_to_binary(cast("Any", ua.HistoryReadResponse()))
        self.asked_of.update(node.NodeId.Identifier for node in nodes)
        self.asked.append((len(nodes), details.NumValuesPerNode))
        if len(nodes) > self.most_nodes or len(nodes) * details.NumValuesPerNode > self.most_values:
            if isinstance(self.failure, TimeoutError):
                raise SourceUnavailable("no answer to HistoryRead within 20 s") from self.failure
            raise self.failure
        response: Any = ua.HistoryReadResponse()
        response.Results = [
            self.odd[node.NodeId.Identifier]()
            if node.NodeId.Identifier in self.odd
            else ua.HistoryReadResult(HistoryData=ua.HistoryData(self._values(details)))
            for node in nodes
        ]
        return struct_to_binary(response)

    def _values(self, details: Any) -> list[Any]:
        moments = [
            EPOCH + timedelta(microseconds=(BEGIN + number * SECOND) // 1000) for number in range(VALUES)
        ]
        wanted = [moment for moment in moments if details.StartTime <= moment <= details.EndTime]
        return [
            ua.DataValue(ua.Variant(1.0), ua.StatusCode(ua.UInt32(0)), cast("Any", moment))
            for moment in wanted[: details.NumValuesPerNode]
        ]


class Sink:
    def __init__(self) -> None:
        self.found: set[tuple[str, int]] = set()
        self.counts: Counter[str] = Counter()
        self.saved: dict[str, bytes] = {}
        self.busy = False
        self.gaps: list[tuple[str, int, int]] = []

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        self.busy = True
        await asyncio.sleep(0)
        self.busy = False
        self.found |= {(row.series.signal, row.source_time) for row in block.rows()}
        self.saved |= state or {}

    def state(self) -> Mapping[str, bytes]:
        return {}

    async def gap(self, reason: str, from_time: int, to_time: int, **_options: Any) -> None:
        self.gaps.append((reason, from_time, to_time))

    def report(self, state: SourceState, message: str = "") -> None:
        pass

    def clock_offset(self, offset_ns: int) -> None:
        pass

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number


class Filling(NamedTuple):
    """What is filled."""

    live: Live
    sink: Sink
    trouble: Trouble


def with_a_hole(session: PlayedHistory) -> Filling:
    """Return a session all of whose nodes have missed the first 100 s."""
    config = OpcUaConfig.model_validate(
        {
            "name": "plc",
            "endpoint": "opc.tcp://plc:4840",
            "retry_s": 0.1,
            "history": {"page_values": 800, "overlap_s": 0},
            "nodes": [
                {"node": f"ns=2;i={number}", "asset": "a/b/c/d/e", "signal": f"s{number}"}
                for number in range(NODES)
            ],
        }
    )
    nodes, sink = Nodes(config), Sink()
    for number in range(NODES):
        nodes.works(number, ua.NodeId(ua.Int32(number), ua.Int16(2)))
        nodes.readable.add(number)
    ids = [series_id(node.asset, node.signal) for node in config.nodes]
    coverage = Coverage("plc", ids, {}, overlap_ns=0, batch=50)
    coverage.join(
        "live",
        range(NODES),
        Mark(BEGIN + 100 * SECOND, 0),
        readable=nodes.readable,
        backfill_ns=100 * SECOND,
    )
    live = Live(
        cast("Any", session), config, cast("Any", sink), nodes, coverage, lambda: BEGIN + 1_000 * SECOND
    )
    return Filling(live, sink, Trouble(logging.getLogger(__name__), "source plc: reading history"))


async def fill(filling: Filling, until: Callable[[], bool] | None = None) -> Sink:
    """Have holes filled until there are none any more, or until something else is so."""
    live, sink = filling.live, filling.sink
    reached = until or (lambda: not live.coverage.holes)
    task = asyncio.create_task(Backfill(live, filling.trouble).run())
    async with asyncio.timeout(60):
        while (not reached() or sink.busy) and not task.done():
            await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return sink


def everything(*, but: int | None = None) -> set[tuple[str, int]]:
    """Return all values that there are, of all nodes or of all but one."""
    return {
        (f"s{node}", BEGIN + number * SECOND)
        for node in range(NODES)
        for number in range(VALUES)
        if node != but
    }
