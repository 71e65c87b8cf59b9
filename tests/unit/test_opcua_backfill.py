"""Histories that give less than they are asked for, or take their time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.backfill import Backfill
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.coverage import Coverage, Mark, series_id
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.session import ServiceFault
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

    def server_now(self) -> int:
        return BEGIN + 1_000 * SECOND

    async def call_history(self, request: Any) -> bytes:
        parameters = request.Parameters
        details, nodes = parameters.HistoryReadDetails, parameters.NodesToRead
        self.asked.append((len(nodes), details.NumValuesPerNode))
        if len(nodes) > self.most_nodes or len(nodes) * details.NumValuesPerNode > self.most_values:
            if isinstance(self.failure, TimeoutError):
                raise SourceUnavailable("no answer to HistoryRead within 20 s") from self.failure
            raise self.failure
        response: Any = ua.HistoryReadResponse()
        response.Results = [
            ua.HistoryReadResult(HistoryData=ua.HistoryData(self._values(details))) for _ in nodes
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

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        self.busy = True
        await asyncio.sleep(0)
        self.busy = False
        self.found |= {(row.series.signal, row.source_time) for row in block.rows()}
        self.saved |= state or {}

    def state(self) -> Mapping[str, bytes]:
        return {}

    async def gap(self, *_arguments: Any, **_options: Any) -> None:
        raise AssertionError("no gap is expected")

    def report(self, state: SourceState, message: str = "") -> None:
        pass

    def clock_offset(self, offset_ns: int) -> None:
        pass

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number


async def fill(session: PlayedHistory) -> Sink:
    """Have a hole of all nodes filled."""
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
    task = asyncio.create_task(Backfill(live).run())
    async with asyncio.timeout(60):
        while (coverage.holes or sink.busy) and not task.done():
            await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return sink


def everything() -> set[tuple[str, int]]:
    return {(f"s{node}", BEGIN + number * SECOND) for node in range(NODES) for number in range(VALUES)}


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError(),
        ServiceFault("HistoryRead", StatusCodes.BadTooManyOperations),
        ServiceFault("HistoryRead", StatusCodes.BadEncodingLimitsExceeded),
    ],
)
async def test_fewer_nodes_are_asked_for_when_all_are_too_much(failure: Exception) -> None:
    session = PlayedHistory()
    session.most_nodes, session.failure = 2, failure
    sink = await fill(session)
    assert sink.found == everything()
    assert [size for size, _ in session.asked[:3]] == [8, 4, 2]
    assert session.limits.history == 2


@pytest.mark.parametrize(
    "failure", [TimeoutError(), ServiceFault("HistoryRead", StatusCodes.BadResponseTooLarge)]
)
async def test_fewer_values_are_asked_for_when_one_node_is_too_much(failure: Exception) -> None:
    session = PlayedHistory()
    session.most_values, session.failure = 30, failure
    sink = await fill(session)
    assert sink.found == everything()
    assert sink.counts["history_refused"] >= 1
    assert session.asked[-1][1] <= 30


async def test_another_failure_of_the_connection_is_one() -> None:
    session = PlayedHistory()
    session.most_nodes, session.failure = 0, SourceUnavailable("the connection is closed")
    with pytest.raises(SourceUnavailable, match="the connection is closed"):
        await fill(session)
