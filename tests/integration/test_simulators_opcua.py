"""A simulated plant behind its OPC UA server: subscribers see, and HistoryRead returns, exactly what the log says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.object_ids import ObjectIds

from shopfloor import configfile
from shopfloor.signal import SeriesKey
from simulators.emissions import EmissionLog, read_series
from simulators.plant import Plant, emission_folder
from simulators.protocols.opcua import NodeMapping, node_mappings
from simulators.scenario import Scenario
from tests.integration.mqtt_brokers import until
from tests.ports import free_port

SECOND = 1_000_000_000
START = 1_750_000_000_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Said = list[tuple[int, float | str]]


def scenario(port: int) -> Scenario:
    text = f"""
history_h: 0.25
broker: {{url: "mqtt://127.0.0.1:{free_port()}"}}
sites:
  - asset: acme/hk01
    name: Hong Kong
    time_zone: Asia/Hong_Kong
    opcua_port: {port}
    tcus: [{{cell: tcu-01}}]
    machines:
      - {{cell: imm-01, zones: 3}}
      - {{cell: imm-02, zones: 4, drive: electric}}
"""
    return configfile.parse(text, Scenario, Path("scenario.yaml"))


@asynccontextmanager
async def running(config: Scenario, data: Path, now_ns: int) -> AsyncIterator[Plant]:
    site = config.sites[0]
    plant = Plant(config, site, data, EmissionLog(emission_folder(data, site)), now_ns)
    try:
        await plant.start()
        yield plant
    finally:
        await plant.stop()


@asynccontextmanager
async def connected(plant: Plant) -> AsyncIterator[tuple[Client, dict[Node, NodeMapping]]]:
    async with Client(plant.endpoint) as client:
        index = await client.get_namespace_index(plant.site.namespace_uri)
        nodes = {
            client.get_node(f"ns={index};s={mapping.node.partition(';s=')[2]}"): mapping
            for mapping in node_mappings(plant.site)
        }
        yield client, nodes


def sample(mapping: NodeMapping, value: ua.DataValue) -> tuple[int, float | str]:
    raw: Any = value.Value.Value if value.Value else None
    raw = raw.Text if isinstance(raw, ua.LocalizedText) else raw
    time: Any = value.SourceTimestamp
    time_ns = (time - EPOCH) // timedelta(microseconds=1) * 1000
    return time_ns, raw if isinstance(raw, str) else float(raw) * mapping.scale + mapping.offset


def logged(plant: Plant) -> dict[SeriesKey, Said]:
    said = {}
    for key, columns in read_series(plant.log.folder).items():
        values: list[float | str] = columns.value.tolist()
        for row, text in columns.text.items():
            values[row] = text
        said[key] = list(zip(columns.time_ns.tolist(), values, strict=True))
    return said


async def whole_history(client: Client, nodes: dict[Node, NodeMapping], page: int) -> dict[SeriesKey, Said]:
    """Read everything of all nodes, ``page`` values a node and call."""
    said: dict[SeriesKey, Said] = defaultdict(list)
    points: dict[Node, bytes | None] = dict.fromkeys(nodes)
    details = ua.ReadRawModifiedDetails(False, EPOCH, EPOCH + timedelta(days=40_000), page, False)
    while points:
        asked = list(points)[:50]
        reads = [ua.HistoryReadValueId(NodeId=node.nodeid, ContinuationPoint=points[node]) for node in asked]
        params = ua.HistoryReadParameters(details, ua.TimestampsToReturn.Source, False, reads)
        for node, result in zip(asked, await client.uaclient.history_read(params), strict=True):
            result.StatusCode.check()
            mapping = nodes[node]
            key = SeriesKey(mapping.asset, mapping.signal)
            assert len(result.HistoryData.DataValues) <= page or not page
            said[key] += [sample(mapping, value) for value in result.HistoryData.DataValues]
            points[node] = result.ContinuationPoint
            if not result.ContinuationPoint:
                del points[node]
    return said


@pytest.mark.parametrize("page", [0, 7])
async def test_history_is_exactly_the_log_past_and_present(tmp_path: Path, page: int) -> None:
    async with running(scenario(free_port()), tmp_path, START) as plant:
        for second in range(1, 20):
            await plant.advance(START + second * SECOND)
        async with connected(plant) as (client, nodes):
            read = await whole_history(client, nodes, page)
        log = logged(plant)
    for key, said in read.items():
        assert said == log[key], key
    meters = {key for key in log if key.signal.startswith("energy.")}
    assert set(read) == set(log) - meters
    assert len(meters) == 10
    assert sum(map(len, read.values())) > 2_000


async def test_a_subscriber_gets_every_change_that_the_log_holds(tmp_path: Path) -> None:
    seen: dict[SeriesKey, Said] = defaultdict(list)

    class Handler:
        def datachange_notification(self, node: Node, _value: Any, data: Any) -> None:
            mapping = nodes[node]
            seen[SeriesKey(mapping.asset, mapping.signal)].append(sample(mapping, data.monitored_item.Value))

    async with running(scenario(free_port()), tmp_path, START) as plant:
        initial = {key: said[-1] for key, said in logged(plant).items()}
        async with connected(plant) as (client, nodes):
            subscription = await client.create_subscription(50, Handler())
            await subscription.subscribe_data_change(list(nodes), queuesize=1000)
            for tick in range(1, 400):
                await plant.advance(START + tick * SECOND // 4)
                if tick % 40 == 0:
                    await asyncio.sleep(0.06)
            log = logged(plant)
            expected = {
                key: [(time_ns, value) for time_ns, value in said if time_ns >= initial[key][0]]
                for key, said in log.items()
                if key in initial
            }
            await until(
                lambda: sum(map(len, seen.values())) >= sum(map(len, expected.values())), "all notified"
            )
            await subscription.delete()
    assert {key: sorted(said) for key, said in seen.items()} == expected
    changes = [said for key, said in expected.items() if key.signal == "barrel.zone_1.temperature"]
    assert all(len(said) > 40 for said in changes)


async def test_a_restart_contradicts_nothing_that_was_said(tmp_path: Path) -> None:
    config = scenario(free_port())
    async with running(config, tmp_path, START) as plant:
        for second in range(1, 30):
            await plant.advance(START + second * SECOND)
        before = logged(plant)
        asked = plant.site.namespace_uri
    later = START + 600 * SECOND
    async with running(config, tmp_path, later) as plant:
        assert plant.site.namespace_uri == asked
        for second in range(1, 30):
            await plant.advance(later + second * SECOND)
        after = logged(plant)
        async with connected(plant) as (client, nodes):
            read = await whole_history(client, nodes, 0)
    for key, said in after.items():
        assert said[: len(before[key])] == before[key], key
        times = [time_ns for time_ns, _ in said]
        assert times == sorted(set(times)), key
        assert all(time_ns % 1_000_000 == 0 for time_ns in times)
        if not key.signal.startswith("energy."):
            assert read[key] == said, key
            assert all(said[row][1] != said[row + 1][1] for row in range(len(said) - 1)), key
    filled = [
        time_ns
        for time_ns, _ in after[SeriesKey(plant.site.machine_asset(plant.site.machines[0]), "cycle.counter")]
        if START + 60 * SECOND < time_ns < later
    ]
    assert filled, "nothing happened while it was off"
    for key, said in after.items():
        if key.signal in {"cycle.counter", "energy.active_energy"}:
            values = [float(value) for _, value in said]
            assert values == sorted(values)


async def test_after_a_long_sleep_only_the_present_is_said(tmp_path: Path) -> None:
    async with running(scenario(free_port()), tmp_path, START) as plant:
        await plant.advance(START + 5 * SECOND)
        before = logged(plant)
        woken = START + 10 * 3600 * SECOND
        await plant.advance(woken)
        rows = {key: said[len(before[key]) :] for key, said in logged(plant).items()}
        assert all(len(said) <= 1 for said in rows.values())
        assert sum(map(len, rows.values())) > 20
        await plant.advance(woken + 3 * SECOND)
        after = logged(plant)
    energy = [
        [value for _, value in said] for key, said in after.items() if key.signal == "energy.active_energy"
    ]
    assert all(values == sorted(values) and len(values) in {7, 8} for values in energy)
    power = [said[-1][1] for key, said in after.items() if key.signal == "energy.active_power"]
    assert all(0 < float(kw) < 100 for kw in power), "the sleep's energy counted as one second's"


async def test_two_servers_of_a_process_share_nothing_that_changes(tmp_path: Path) -> None:
    first, second = scenario(free_port()), scenario(free_port())
    async with (
        running(first, tmp_path / "1", START) as one,
        running(second, tmp_path / "2", START) as two,
        connected(one) as (client_one, _),
        connected(two) as (client_two, _),
    ):
        await one.advance(START + 10 * SECOND)
        infos = [
            await client.get_node(
                ua.NodeId(ObjectIds.Server_ServerStatus_StartTime)  # type: ignore[arg-type]
            ).read_value()
            for client in (client_one, client_two)
        ]
        assert infos[0] != infos[1]
        folders = [len(await client.nodes.objects.get_children()) for client in (client_one, client_two)]
        assert folders[0] == folders[1]
        # Each has its own machines only: what one emitted, the other does not know.
        assert one.log.rows_total > two.log.rows_total
