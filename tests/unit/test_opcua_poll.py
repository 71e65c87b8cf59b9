"""A poll group against a server that is played: batches, limits that lie, answers that come too late."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig, PollGroup
from edge_agent.sources.opcua.coverage import Coverage, series_id
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.poll import Poll
from edge_agent.sources.opcua.requests import EncodedRequest
from edge_agent.sources.opcua.session import ServiceFault
from shopfloor.block import SampleBlock
from shopfloor.errors import SourceUnavailable
from shopfloor.messages import SourceState

COUNT = 1_200


class PlayedSession:
    """Answers every Read with the nodes' numbers, as long as it takes the request."""

    def __init__(self) -> None:
        self.limits = Limits(read=1_000)
        self.most = COUNT
        self.slow_above = COUNT
        self.huge: set[int] = set()
        self.sizes: list[int] = []
        self.requests: list[EncodedRequest] = []
        self.status = 0
        self.offset = 0.0
        self.moment: Any = None
        self.elements: dict[int, list[float]] = {}

    async def call(self, request: EncodedRequest) -> bytes:
        self.requests.append(request)
        asked: Any = struct_from_binary(ua.ReadRequest, Buffer(request.body(ua.NodeId(), 1, 1)))
        nodes = asked.Parameters.NodesToRead
        self.sizes.append(len(nodes))
        if len(nodes) > self.most:
            raise ServiceFault("Read", StatusCodes.BadTooManyOperations)
        if any(node.NodeId.Identifier in self.huge for node in nodes):
            raise ServiceFault("Read", StatusCodes.BadResponseTooLarge)
        if len(nodes) > self.slow_above:
            raise SourceUnavailable("no answer to Read within 5 s") from TimeoutError()
        response: Any = ua.ReadResponse()
        response.Results = [
            ua.DataValue(
                ua.Variant(
                    self.elements.get(node.NodeId.Identifier, node.NodeId.Identifier + self.offset),
                    ua.VariantType.Double,
                ),
                ua.StatusCode(ua.UInt32(self.status)),
                self.moment,
            )
            for node in nodes
        ]
        return struct_to_binary(response)

    def server_time(self, stated: int) -> int:
        return stated


class Sink:
    def __init__(self) -> None:
        self.blocks: list[SampleBlock] = []
        self.counts: Counter[str] = Counter()

    async def put(self, block: SampleBlock, _state: Mapping[str, bytes] | None = None) -> None:
        self.blocks.append(block)

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


class Played:
    """A poll group and everything around it."""

    def __init__(self) -> None:
        config = OpcUaConfig.model_validate(
            {
                "name": "plc",
                "endpoint": "opc.tcp://plc:4840",
                "groups": {"slow": {"mode": "poll"}},
                "nodes": [
                    {
                        "node": f"ns=2;i={number}",
                        "asset": "a/b/c/d/e",
                        "signal": f"s{number}",
                        "group": "slow",
                    }
                    for number in range(COUNT)
                ],
            }
        )
        self.session, self.sink, self.nodes = PlayedSession(), Sink(), Nodes(config)
        for number in range(COUNT):
            self.nodes.works(number, ua.NodeId(ua.Int32(number), ua.Int16(2)))
        ids = [series_id(node.asset, node.signal) for node in config.nodes]
        coverage = Coverage("plc", ids, {}, overlap_ns=0, batch=50)
        ticks = itertools.count(1_700_000_000_000_000_000, 1_000_000_000)
        live = Live(cast("Any", self.session), config, self.sink, self.nodes, coverage, lambda: next(ticks))
        self._poll = Poll(live, "slow", PollGroup(interval_s=0.01))

    async def read(self) -> None:
        await self._poll._read()

    def newest(self) -> set[tuple[str, float | None]]:
        """Signals and values of the last block that had any, None for a null."""
        block = [block for block in self.sink.blocks if len(block)][-1]
        return {(row.series.signal, None if math.isnan(row.value) else row.value) for row in block.rows()}

    def values(self) -> list[float]:
        return [value for block in self.sink.blocks for value in block.value.tolist()]


def everything() -> list[float]:
    return [float(number) for number in range(COUNT)]


async def test_one_poll_is_one_put() -> None:
    played = Played()
    await played.read()
    assert played.session.sizes == [1_000, 200]
    assert len(played.sink.blocks) == 1
    assert played.values() == everything()


async def test_the_same_requests_are_sent_until_other_nodes_work() -> None:
    played = Played()
    await played.read()
    await played.read()
    first = played.session.requests
    assert [first[0], first[1]] == [first[2], first[3]]
    assert first[0] is first[2]
    played.nodes.fails(7, "gone", 0.0, played.sink)
    await played.read()
    assert played.session.sizes[4:] == [1_000, 199]
    assert 7.0 not in played.sink.blocks[-1].value


async def test_a_limit_that_lies_is_halved_and_remembered() -> None:
    played = Played()
    played.session.most = 300
    await played.read()
    assert played.values() == everything()
    assert played.session.sizes == [1_000, 500, 250, 250, 250, 250, 200]
    await played.read()
    assert played.session.sizes[7:] == [250, 250, 250, 250, 200]


async def test_a_limit_of_a_few_is_found_and_remembered() -> None:
    played = Played()
    played.session.most = 5
    await played.read()
    assert played.values() == everything()
    assert played.session.limits.read <= 5
    played.session.sizes.clear()
    await played.read()
    assert max(played.session.sizes) <= 5


async def test_one_node_that_is_too_large_is_lost_alone() -> None:
    played = Played()
    played.session.huge = {777}
    await played.read()
    assert played.values() == [value for value in everything() if value != 777]
    assert 777 not in played.nodes.ids
    assert "BadResponseTooLarge" in played.nodes.summary()
    assert len(played.session.sizes) < 150
    played.session.sizes.clear()
    await played.read()
    assert played.session.sizes == [1_000, 199]


async def test_a_server_that_is_too_slow_for_its_own_limit_is_asked_for_less() -> None:
    played = Played()
    played.session.slow_above = 600
    await played.read()
    assert played.values() == everything()
    assert played.session.sizes == [1_000, 500, 500, 200]


async def test_a_server_that_does_not_answer_at_all_is_given_up() -> None:
    played = Played()
    played.session.slow_above = 0
    with pytest.raises(SourceUnavailable, match="within 5 s"):
        await played.read()
    assert played.session.sizes == [1_000, 500]
    assert not played.sink.blocks


async def test_nodes_that_have_disappeared_are_noted_and_their_values_left_out() -> None:
    played = Played()
    played.session.status = StatusCodes.BadNodeIdUnknown
    await played.read()
    assert not played.values()
    assert not played.nodes.ids
    assert played.sink.counts["node_failed"] == COUNT


async def test_elements_are_news_one_by_one() -> None:
    played = Played()
    played.session.moment = datetime(2023, 11, 14, tzinfo=UTC)
    played.session.elements = {3: [1.0, 2.0, 3.0], 5: [9.0]}
    await played.read()
    assert played.newest() >= {("s3.0", 1.0), ("s3.1", 2.0), ("s3.2", 3.0), ("s5.0", 9.0)}
    assert len(played.sink.blocks[-1]) == COUNT + 2
    puts = len(played.sink.blocks)
    await played.read()
    assert all(not len(block) for block in played.sink.blocks[puts:])
    played.session.elements[3] = [1.0, 7.0]
    await played.read()
    assert played.newest() == {("s3.1", 7.0), ("s3.2", None)}


async def test_what_was_seen_of_elements_is_not_taken_for_what_comes_of_new_nodes() -> None:
    played = Played()
    played.session.moment = datetime(2023, 11, 14, tzinfo=UTC)
    played.session.elements = {3: [float(COUNT), 2.0]}
    await played.read()
    # The new node stands where the first element stood, and has its value and time.
    played.nodes.add([NodeConfig(node=f"ns=2;i={COUNT}", asset="a/b/c/d/e", signal="late", group="slow")])
    played.nodes.works(COUNT, ua.NodeId(ua.Int32(COUNT), ua.Int16(2)))
    await played.read()
    assert ("late", float(COUNT)) in played.newest()
    puts = len(played.sink.blocks)
    await played.read()
    assert all(not len(block) for block in played.sink.blocks[puts:])
