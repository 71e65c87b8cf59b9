"""What the doctor makes of an OPC UA server that grants less than was asked for; the server is a few answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.doctor.opcua_nodes import _finding, _Look, _shortfall
from edge_agent.doctor.opcua_trial import GrantedItem, GrantedSubscription, try_subscription
from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.session import ServiceFault, Session

GOOD = ua.StatusCode(ua.UInt32(0))
ASSET = "acme/hk01/a/l/c"


class FewAnswers:
    """A session with a server that decides about each item, and remembers what it still holds."""

    def __init__(self, decide: Callable[[ua.MonitoredItemCreateRequest], int]) -> None:
        self.limits = Limits()
        self.subscriptions: set[int] = set()
        self.items: set[int] = set()
        self.most_items = 0
        self._decide = decide

    async def ask(self, request: Any, kind: type[Any]) -> Any:
        if kind is ua.CreateSubscriptionResponse:
            assert not request.Parameters.PublishingEnabled
            self.subscriptions.add(7)
            answer = ua.CreateSubscriptionResponse()
            answer.Parameters.SubscriptionId = ua.UInt32(7)
            answer.Parameters.RevisedPublishingInterval = ua.Double(1000)
            return answer
        results = []
        for item in request.Parameters.ItemsToCreate:
            code = self._decide(item)
            result = ua.MonitoredItemCreateResult()
            result.StatusCode = ua.StatusCode(ua.UInt32(code))
            result.RevisedQueueSize, result.RevisedSamplingInterval = ua.UInt32(1), ua.Double(100)
            if not code:
                result.MonitoredItemId = ua.UInt32(len(self.items) + 1)
                self.items.add(int(result.MonitoredItemId))
            results.append(result)
        self.most_items = max(self.most_items, len(self.items))
        items = ua.CreateMonitoredItemsResponse()
        items.Results = results
        return items

    async def call(self, request: Any) -> bytes:
        if isinstance(request, ua.DeleteSubscriptionsRequest):
            self.subscriptions -= set(map(int, request.Parameters.SubscriptionIds))
            raise ServiceFault("DeleteSubscriptions", StatusCodes.BadNothingToDo)
        self.items -= set(map(int, request.Parameters.MonitoredItemIds))
        return b""


def wanted(number: int, **changes: Any) -> tuple[NodeConfig, ua.NodeId]:
    given = {"node": f"ns=2;i={number}", "asset": ASSET, "signal": f"s{number}", **changes}
    return NodeConfig.model_validate(given), ua.NodeId(ua.Int32(number), ua.Int16(2))


async def look(
    server: FewAnswers, nodes: list[tuple[NodeConfig, ua.NodeId]], **group: Any
) -> tuple[GrantedSubscription, list[GrantedItem]]:
    settings = SubscribeGroup.model_validate(group)
    config = OpcUaConfig.model_validate(
        {"name": "x", "endpoint": "opc.tcp://127.0.0.1:1", "nodes": [node for node, _ in nodes]}
    )
    return await try_subscription(cast("Session", server), config, settings, nodes)


async def test_a_deadband_that_is_refused_is_left_out_as_the_agent_does() -> None:
    def decide(item: ua.MonitoredItemCreateRequest) -> int:
        if item.ItemToMonitor.NodeId.Identifier == 3:
            return StatusCodes.BadNodeIdUnknown
        with_filter = isinstance(item.RequestedParameters.Filter, ua.DataChangeFilter)
        return StatusCodes.BadFilterNotAllowed if with_filter else 0

    server = FewAnswers(decide)
    nodes = [wanted(1), wanted(2, deadband={"absolute": 1}), wanted(3, deadband={"absolute": 1})]
    _, items = await look(server, nodes)
    assert [(item.refused, item.deadband_refused) for item in items] == [
        ("", ""),
        ("", "BadFilterNotAllowed"),
        ("BadNodeIdUnknown", ""),
    ]
    assert (server.subscriptions, server.items) == (set(), set())


async def test_few_items_exist_at_a_time_and_the_subscription_goes_also_after_a_fault() -> None:
    server = FewAnswers(lambda _item: 0)
    granted, items = await look(server, [wanted(number) for number in range(250)])
    assert (len(items), server.most_items, granted.publishing_interval_ms) == (250, 100, 1000)
    assert (server.subscriptions, server.items) == (set(), set())

    def fail(_item: ua.MonitoredItemCreateRequest) -> int:
        raise ServiceFault("CreateMonitoredItems", StatusCodes.BadTooManyMonitoredItems)

    server = FewAnswers(fail)
    _, items = await look(server, [wanted(1), wanted(2)])
    assert {item.refused for item in items} == {"CreateMonitoredItems: BadTooManyMonitoredItems"}
    assert server.subscriptions == set()


@pytest.mark.parametrize(
    ("group", "item", "said"),
    [
        ({}, GrantedItem(0, 100), ""),
        ({}, GrantedItem(0, 1), "keeps 1 changes of it, asked for 100"),
        ({}, GrantedItem(250, 1), ""),
        ({"queue_size": 1}, GrantedItem(0, 1), ""),
        ({"sampling_interval_ms": 50}, GrantedItem(60, 100), ""),
        ({"sampling_interval_ms": 50}, GrantedItem(500, 100), "sampled every 500 ms, asked for 50"),
        ({}, GrantedItem(refused="BadNotReadable"), "can't be watched: BadNotReadable"),
        ({}, GrantedItem(0, 100, deadband_refused="BadFilterNotAllowed"), "without its deadband"),
    ],
)
def test_what_is_less_than_was_asked_for(group: dict[str, Any], item: GrantedItem, said: str) -> None:
    granted = GrantedSubscription(250.0, 10, 100)
    found = "; ".join(_shortfall(SubscribeGroup.model_validate(group), granted, item))
    assert (said in found, bool(found)) == (True, bool(said))


@pytest.mark.parametrize(
    ("options", "value", "unit", "said"),
    [
        ({}, 2500.0, "ms", {}),
        ({"unit": "s"}, 2500.0, "s", {}),
        ({"scale": 0.001, "unit": "s"}, 2.5, "s", {"server_value": 2500.0, "server_unit": "ms"}),
        ({"scale": 0.001}, 2.5, "", {"server_value": 2500.0, "server_unit": "ms"}),
        ({"offset": -500.0}, 2000.0, "", {"server_value": 2500.0, "server_unit": "ms"}),
    ],
)
def test_value_and_unit_are_those_that_are_stored(
    options: dict[str, Any], value: float, unit: str, said: dict[str, Any]
) -> None:
    node = NodeConfig.model_validate({"node": "i=1", "asset": "acme/hk", "signal": "cycle.time", **options})
    found = _finding(_Look(node, value=ua.DataValue(ua.Variant(2500.0)), unit="ms"))
    figures = found.figures
    assert (figures["value"], figures["unit"]) == (value, unit)
    assert {key: figures[key] for key in figures if key.startswith("server_")} == said
    assert found.cells[3:5] == (str(value), unit or "-")


def test_a_text_is_not_scaled() -> None:
    node = NodeConfig.model_validate({"node": "i=1", "asset": "acme/hk", "signal": "name", "scale": 2.0})
    found = _finding(_Look(node, value=ua.DataValue(ua.Variant("A")), unit="ms"))
    assert (found.figures["value"], found.figures["unit"]) == ("A", "")
