"""A load server under asyncua's own client: nothing missing, nothing twice, and what a subscriber asked for.

The ticks are the test's, so that no figure depends on how fast this computer is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary

from simulators.load.opcua_server import LoadServer
from simulators.load.opcua_space import NAMESPACE_URI
from simulators.load.plan import LoadPlan, value
from simulators.protocols.opcua_standard import SharingServer
from tests.ports import free_port

EPOCH_MS = 1_764_097_200_000
PLAN = LoadPlan(4, 3, 10.0, EPOCH_MS)
MACHINES = range(1, 3)
NAMES = [f"machine-000{machine + 1}.signal-00{signal + 1}" for machine in MACHINES for signal in range(3)]
NUMBERS = {
    name: PLAN.number(machine, signal)
    for name, (machine, signal) in zip(
        NAMES, [(machine, signal) for machine in MACHINES for signal in range(3)], strict=True
    )
}
OVERFLOW = 0x480


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[LoadServer, Client, int]]:
    server = LoadServer(PLAN, MACHINES, 0, SharingServer())
    port = free_port()
    await server.listen("127.0.0.1", port)
    try:
        client = Client(f"opc.tcp://127.0.0.1:{port}")
        client.session_timeout = 60_000
        async with client:
            yield server, client, await client.get_namespace_index(NAMESPACE_URI)
    finally:
        await server.stop()


class Raw:
    """Requests past asyncua's subscriptions, so that the test decides what is asked when."""

    def __init__(self, client: Client, namespace: int) -> None:
        self._protocol: Any = cast("Any", client.uaclient).protocol
        self._namespace = namespace
        self.subscription = 0

    async def ask(self, request: Any, answer: type) -> Any:
        return struct_from_binary(answer, await self._protocol.send_request(request, 10))

    async def subscribe(self, *, interval_ms: float = 20.0, keep_alive: int = 100, most: int = 0) -> Any:
        request: Any = ua.CreateSubscriptionRequest()
        request.Parameters.RequestedPublishingInterval = interval_ms
        request.Parameters.RequestedMaxKeepAliveCount = keep_alive
        request.Parameters.RequestedLifetimeCount = 1_000
        request.Parameters.MaxNotificationsPerPublish = most
        request.Parameters.PublishingEnabled = True
        created = (await self.ask(request, ua.CreateSubscriptionResponse)).Parameters
        self.subscription = created.SubscriptionId
        return created

    async def monitor(self, names: list[str], first_handle: int = 1, **wanted: Any) -> list[Any]:
        request: Any = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = self.subscription
        request.Parameters.TimestampsToReturn = wanted.pop("timestamps", ua.TimestampsToReturn.Both)
        mode = wanted.pop("mode", ua.MonitoringMode.Reporting)
        parameters = {"SamplingInterval": 0.0, "QueueSize": 10, "DiscardOldest": True, **wanted}
        request.Parameters.ItemsToCreate = [
            cast("Any", ua.MonitoredItemCreateRequest)(
                ItemToMonitor=ua.ReadValueId(
                    NodeId=cast("Any", ua.NodeId)(name, self._namespace), AttributeId=AttributeIds.Value
                ),
                MonitoringMode=mode,
                RequestedParameters=cast("Any", ua.MonitoringParameters)(ClientHandle=handle, **parameters),
            )
            for handle, name in enumerate(names, first_handle)
        ]
        return list((await self.ask(request, ua.CreateMonitoredItemsResponse)).Results)

    async def publish(self, *acknowledge: int) -> Any:
        request: Any = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            cast("Any", ua.SubscriptionAcknowledgement)(self.subscription, number) for number in acknowledge
        ]
        return (await self.ask(request, ua.PublishResponse)).Parameters

    async def republish(self, number: int) -> Any:
        request: Any = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self.subscription
        request.Parameters.RetransmitSequenceNumber = number
        return (await self.ask(request, ua.RepublishResponse)).NotificationMessage


def items(message: Any) -> list[Any]:
    return [item for part in message.NotificationData for item in part.MonitoredItems]


def ticks(message: Any) -> list[tuple[int, int]]:
    return [(item.ClientHandle, int(item.Value.Value.Value) - 1_000_000) for item in items(message)]


class Collector:
    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = defaultdict(list)

    def datachange_notification(self, node: Any, _value: Any, data: Any) -> None:
        self.got[str(node.nodeid.Identifier)].append(data.monitored_item.Value)


async def test_a_stock_client_gets_every_tick_of_every_variable_once_and_in_order() -> None:
    async with serving() as (server, client, namespace):
        collector = Collector()
        subscription = await client.create_subscription(20, collector)
        nodes = [client.get_node(cast("Any", ua.NodeId)(name, namespace)) for name in NAMES]
        await subscription.subscribe_data_change(nodes, queuesize=100)
        for tick in range(1, 51):
            server.tick(tick, EPOCH_MS + tick)
            await asyncio.sleep(0.002 * (tick % 10 == 0))
        async with asyncio.timeout(20):
            while any(len(collector.got[name]) < 51 for name in NAMES):
                await asyncio.sleep(0.02)
        await subscription.delete()
        assert collector.got.keys() == set(NAMES)
        for name, found in collector.got.items():
            assert [each.Value.Value for each in found] == [value(tick, NUMBERS[name]) for tick in range(51)]
            assert [each.SourceTimestamp for each in found] == [
                datetime.fromtimestamp((EPOCH_MS + 100 * tick) / 1000, UTC) for tick in range(51)
            ]
            assert {each.StatusCode.value for each in found} == {0}
        assert server.subscriptions.sent_values_total == 51 * len(NAMES)


async def test_the_address_space_is_browsed_and_read_like_any_other() -> None:
    async with serving() as (server, client, namespace):
        root = await client.nodes.objects.get_child(f"{namespace}:Load")
        machines = await root.get_children()
        assert [node.nodeid.Identifier for node in machines] == ["machine-0002", "machine-0003"]
        nodes = [node for machine in machines for node in await machine.get_children()]
        assert [node.nodeid.Identifier for node in nodes] == NAMES
        assert (await nodes[0].read_browse_name()).Name == "signal-001"
        assert await nodes[0].read_data_type() == ua.NodeId(ua.Int32(11))
        parent = await nodes[0].get_parent()
        assert parent is not None
        assert parent.nodeid == machines[0].nodeid
        for tick in (3, 4):
            server.tick(tick, EPOCH_MS + 5)
            expected = [value(tick, NUMBERS[name]) for name in NAMES]
            assert await client.read_values(nodes) == expected
            assert [await node.read_value() for node in nodes] == expected
        found = await nodes[1].read_data_value()
        assert found.SourceTimestamp == datetime.fromtimestamp((EPOCH_MS + 400) / 1000, UTC)
        state = client.get_node(cast("Any", ua.NodeId)(2259))
        assert (await client.read_values([state, *nodes]))[1:] == expected
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await nodes[0].write_value(1.0)
        assert server.served_values_total == 2 * len(NAMES)


async def test_a_full_queue_loses_from_the_end_asked_for_and_says_so() -> None:
    async with serving() as (server, client, namespace):
        raw = Raw(client, namespace)
        await raw.subscribe()
        await raw.monitor(NAMES[:1], 1, QueueSize=3)
        await raw.monitor(NAMES[1:2], 2, QueueSize=3, DiscardOldest=False)
        await raw.monitor(NAMES[2:3], 3, QueueSize=1)
        await raw.monitor(NAMES[3:4], 4, QueueSize=100)
        for tick in range(1, 6):
            server.tick(tick, EPOCH_MS)
        found = defaultdict(list)
        for item in items((await raw.publish()).NotificationMessage):
            status = item.Value.StatusCode.value
            found[item.ClientHandle].append((int(item.Value.Value.Value) - 1_000_000, status))
        assert found == {
            1: [(3, OVERFLOW), (4, 0), (5, 0)],
            2: [(0, 0), (1, 0), (5, OVERFLOW)],
            3: [(5, 0)],
            4: [(tick, 0) for tick in range(6)],
        }
        assert server.subscriptions.discarded_total == 3 + 3 + 5


async def test_messages_are_as_large_as_wanted_and_kept_until_acknowledged() -> None:
    async with serving() as (server, client, namespace):
        raw = Raw(client, namespace)
        await raw.subscribe(most=4)
        await raw.monitor(NAMES)
        first, second = await raw.publish(), await raw.publish()
        assert [len(ticks(each.NotificationMessage)) for each in (first, second)] == [4, 2]
        assert [each.MoreNotifications for each in (first, second)] == [True, False]
        numbers = [each.NotificationMessage.SequenceNumber for each in (first, second)]
        assert numbers == [1, 2]
        assert second.AvailableSequenceNumbers == [1, 2]
        for _ in range(2):
            again = await raw.republish(1)
            assert ticks(again) == ticks(first.NotificationMessage)
        server.tick(1, EPOCH_MS)
        third = await raw.publish(1, 7)
        assert [result.value for result in third.Results] == [
            0,
            StatusCodes.BadSequenceNumberUnknown,
        ]
        assert third.AvailableSequenceNumbers == [2, 3]
        with pytest.raises(ua.uaerrors.BadMessageNotAvailable):
            await raw.republish(1)
        assert server.subscriptions.acknowledged_total == 1


async def test_silence_is_a_keep_alive_without_a_number_of_its_own() -> None:
    async with serving() as (_, client, namespace):
        raw = Raw(client, namespace)
        created = await raw.subscribe(interval_ms=1.0, keep_alive=3)
        assert created.RevisedPublishingInterval == 10.0
        assert created.RevisedLifetimeCount >= 3 * created.RevisedMaxKeepAliveCount
        await raw.monitor(NAMES[:1])
        message = (await raw.publish()).NotificationMessage
        assert len(items(message)) == 1
        for _ in range(2):
            silence = (await raw.publish()).NotificationMessage
            assert not silence.NotificationData
            assert silence.SequenceNumber == message.SequenceNumber + 1


async def test_items_are_watched_as_was_asked_for_or_refused_one_by_one() -> None:
    async with serving() as (server, client, namespace):
        raw = Raw(client, namespace)
        await raw.subscribe()
        deadband = ua.DataChangeFilter(
            ua.DataChangeTrigger.StatusValue, cast("Any", ua.DeadbandType.Absolute), cast("Any", 1.5)
        )
        percent = ua.DataChangeFilter(
            ua.DataChangeTrigger.StatusValue, cast("Any", ua.DeadbandType.Percent), cast("Any", 1.5)
        )
        (rare,) = await raw.monitor(NAMES[:1], 1, SamplingInterval=300.0)
        await raw.monitor(NAMES[1:2], 2, Filter=deadband)
        (sampling,) = await raw.monitor(NAMES[2:3], 3, mode=ua.MonitoringMode.Sampling)
        bare, unknown = await raw.monitor(
            [NAMES[3], "machine-0001.signal-001"], 4, timestamps=ua.TimestampsToReturn.Neither
        )
        (refused,) = await raw.monitor(NAMES[4:5], 6, Filter=percent)
        assert (rare.RevisedSamplingInterval, rare.RevisedQueueSize) == (300.0, 10)
        assert bare.StatusCode.is_good()
        assert unknown.StatusCode.value == StatusCodes.BadNodeIdUnknown
        assert refused.StatusCode.value == StatusCodes.BadMonitoredItemFilterUnsupported
        for tick in range(1, 6):
            server.tick(tick, EPOCH_MS)
        message = (await raw.publish()).NotificationMessage
        found = defaultdict(list)
        for handle, tick in ticks(message):
            found[handle].append(tick)
        assert found == {1: [0, 3], 2: [0, 2, 4], 4: [0, 1, 2, 3, 4, 5]}
        assert {item.Value.SourceTimestamp for item in items(message) if item.ClientHandle == 4} == {None}
        request: Any = ua.SetMonitoringModeRequest()
        request.Parameters.SubscriptionId = raw.subscription
        request.Parameters.MonitoringMode = ua.MonitoringMode.Reporting
        request.Parameters.MonitoredItemIds = [sampling.MonitoredItemId]
        await raw.ask(request, ua.SetMonitoringModeResponse)
        message = (await raw.publish()).NotificationMessage
        assert ticks(message) == [(3, tick) for tick in range(6)]
        remove: Any = ua.DeleteMonitoredItemsRequest()
        remove.Parameters.SubscriptionId = raw.subscription
        remove.Parameters.MonitoredItemIds = [rare.MonitoredItemId, 4_711]
        results = (await raw.ask(remove, ua.DeleteMonitoredItemsResponse)).Results
        assert [each.value for each in results] == [0, StatusCodes.BadMonitoredItemIdInvalid]
        server.tick(6, EPOCH_MS)
        assert sorted(ticks((await raw.publish()).NotificationMessage)) == [(2, 6), (3, 6), (4, 6)]


async def test_a_subscription_may_change_its_interval_and_its_session() -> None:
    async with serving() as (server, client, namespace):
        raw = Raw(client, namespace)
        await raw.subscribe(interval_ms=3_600_000.0)
        await raw.monitor(NAMES)
        assert len(ticks((await raw.publish()).NotificationMessage)) == len(NAMES)
        request: Any = ua.ModifySubscriptionRequest()
        request.Parameters.SubscriptionId = raw.subscription
        request.Parameters.RequestedPublishingInterval = 20.0
        request.Parameters.RequestedMaxKeepAliveCount = 50
        request.Parameters.RequestedLifetimeCount = 500
        request.Parameters.MaxNotificationsPerPublish = 4
        changed = (await raw.ask(request, ua.ModifySubscriptionResponse)).Parameters
        assert (changed.RevisedPublishingInterval, changed.RevisedMaxKeepAliveCount) == (20.0, 50)
        server.tick(1, EPOCH_MS)
        assert len(ticks((await raw.publish(1)).NotificationMessage)) == 4
        other = Client(client.server_url.geturl())
        other.session_timeout = 60_000
        async with other:
            taker = Raw(other, namespace)
            taker.subscription = raw.subscription
            transfer: Any = ua.TransferSubscriptionsRequest()
            transfer.Parameters.SubscriptionIds = [raw.subscription]
            (result,) = (await taker.ask(transfer, ua.TransferSubscriptionsResponse)).Parameters.Results
            assert result.StatusCode.is_good()
            assert result.AvailableSequenceNumbers == [2]
            assert len(ticks((await taker.publish(2)).NotificationMessage)) == 2
            server.tick(2, EPOCH_MS)
            assert [tick for _, tick in ticks((await taker.publish(3)).NotificationMessage)] == [2] * 4
            request.Parameters.SubscriptionId = 4_711
            with pytest.raises(ua.uaerrors.BadSubscriptionIdInvalid):
                await taker.ask(request, ua.ModifySubscriptionResponse)
