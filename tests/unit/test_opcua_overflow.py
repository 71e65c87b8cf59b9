"""A server's queue that overflowed: counted, then read from history, or a gap of at least what is known to be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.changes import Changes
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.coverage import Coverage, Mark, series_id
from edge_agent.sources.opcua.decode import Notification, read_republish
from edge_agent.sources.opcua.event_books import EVENTS
from edge_agent.sources.opcua.events import Events
from edge_agent.sources.opcua.kept import Tracked
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import Nodes
from shopfloor.block import Sample, SampleBlock

SECOND = 1_000_000_000
BEGIN = 1_748_779_200 * SECOND
THEN: Any = datetime(2025, 6, 1, 12, 0, 5, tzinfo=UTC)
OVERFLOWN = 0x0000_0480
CONFIG = OpcUaConfig.model_validate(
    {
        "name": "plc",
        "endpoint": "opc.tcp://plc:4840",
        "history": {"overlap_s": 0},
        "nodes": [
            {"node": f"ns=2;i={number}", "asset": f"a/b/{asset}", "signal": f"s{number}"}
            for number, asset in enumerate("xxxyy")
        ],
        "events": [{"asset": "a/b/x", "fields": {"Severity": "severity"}}],
    }
)


class PlayedSession:
    config, limits = CONFIG, Limits()

    def server_now(self) -> int:
        return BEGIN


class Sink:
    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.counts: Counter[str] = Counter()
        self.gaps: list[tuple[str, str, int, int, int]] = []
        self.saved: dict[str, bytes] = {}

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        self.samples += block.rows()
        self.saved |= state or {}

    async def gap(self, reason: str, start: int, end: int, *, asset: str = "", count: int = 0) -> None:
        self.gaps.append((asset, reason, start, end, count))

    def state(self) -> Mapping[str, bytes]:
        return self.saved

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number


class World:
    """A session in which all variables are watched and the Server object is listened to, since BEGIN."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.nodes = Nodes(CONFIG)
        ids = [series_id(node.asset, node.signal) for node in CONFIG.nodes]
        self.coverage = Coverage("plc", ids, {}, overlap_ns=0, batch=50)
        self.coverage.join("live", range(5), Mark(BEGIN, 0), readable=(), backfill_ns=0)
        self.live = Live(
            cast("Any", PlayedSession()), CONFIG, cast("Any", self.sink), self.nodes, self.coverage, lambda: 0
        )


def notification(content: Any) -> Notification:
    message = ua.NotificationMessage(SequenceNumber=ua.UInt32(1), NotificationData=[content])
    return read_republish(struct_to_binary(ua.RepublishResponse(NotificationMessage=message)), 1)


def tracked(group: str) -> Tracked:
    return Tracked(number=1, group=group, silent_s=1, lifetime_s=1, last_heard_s=0)


def changed(status: int, *handles: int) -> Notification:
    values = [
        ua.MonitoredItemNotification(
            ua.UInt32(handle), ua.DataValue(ua.Variant(1.5), ua.StatusCode(ua.UInt32(status)), THEN)
        )
        for handle in handles
    ]
    return notification(ua.DataChangeNotification(values))


async def test_values_that_a_queue_lost_are_read_from_history_or_a_gap_of_at_least_so_many() -> None:
    world = World()
    world.nodes.readable = {0, 3}
    mark = Mark(BEGIN + 10 * SECOND, 0)
    await Changes(world.live).take(tracked("live"), changed(OVERFLOWN, 0, 1, 2, 3, 4), mark.server, mark)
    assert world.sink.counts["server_queue_overflow"] == 5
    reason = "the server's queue overflowed, and it keeps no history"
    span = BEGIN, BEGIN + 10 * SECOND
    assert world.sink.gaps == [("a/b/x", reason, *span, 2), ("a/b/y", reason, *span, 1)]
    (hole,) = world.coverage.holes.values()
    assert (hole.nodes, hole.start, hole.end) == ((0, 3), *span)
    assert world.live.history_wanted.is_set()
    assert f"plc/hole/{hole.number}" in world.sink.saved, "durable with the values"
    assert {sample.status for sample in world.sink.samples} == {OVERFLOWN}


@pytest.mark.parametrize("status", [0, 0x0000_0400, 0x0000_0080, 0x8000_0000, 0x4000_0000])
async def test_other_bits_are_no_overflow(status: int) -> None:
    world = World()
    await Changes(world.live).take(tracked("live"), changed(status, 0, 1), 0, Mark(BEGIN + SECOND, 0))
    assert world.sink.counts["server_queue_overflow"] == 0
    assert world.sink.gaps == []
    assert world.coverage.holes == {}


@pytest.mark.parametrize("with_history", [True, False])
async def test_events_that_a_queue_lost_are_read_from_history_or_a_gap_of_at_least_one(
    *, with_history: bool
) -> None:
    world = World()
    events = Events("plc", CONFIG.events)
    assert not events.open(world.live)
    (listener,) = events.listeners
    listener.node, listener.with_history = ua.NodeId(ua.Int32(2253), ua.Int16(0)), with_history
    await events._books.joined(listener)
    books = events._books.coverage
    for hole in list(books.holes.values()):
        books.forget(hole)
    kind = ua.NodeId(ua.Int32(ObjectIds.EventQueueOverflowEventType), ua.Int16(0))
    fields = [
        ua.Variant(b"\x01", ua.VariantType.ByteString),
        ua.Variant(kind, ua.VariantType.NodeId),
        ua.Variant(THEN, ua.VariantType.DateTime),
        ua.Variant(500, ua.VariantType.UInt16),
    ]
    content = ua.EventNotificationList([ua.EventFieldList(ua.UInt32(0), fields)])
    await events.take(tracked(EVENTS), notification(content), 0, Mark(BEGIN + 10 * SECOND, 0))
    assert world.sink.counts["event_queue_overflow"] == 1
    assert world.sink.samples == [], "that it overflowed is no event of the machine"
    found = [(hole.nodes, hole.start, hole.end) for hole in books.holes.values()]
    span = BEGIN, BEGIN + 10 * SECOND
    if with_history:
        assert found == [((0,), *span)]
        assert world.sink.gaps == []
    else:
        assert found == []
        assert world.sink.gaps == [("a/b/x", "events: the server's queue overflowed", *span, 1)]
