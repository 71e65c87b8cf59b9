"""What a server has in store for a client whose connection broke comes in full, once, and without a history."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edge_agent.sources.opcua import OpcUaSource
from tests.integration.opcua_plant import MemorySink, Plant, config, running
from tests.links import Link


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant(("v0", "v1"), history=False)
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture
async def link(plant: Plant) -> AsyncIterator[Link]:
    link = Link(plant.port)
    await link.start()
    yield link
    await link.stop()


def source(plant: Plant, link: Link) -> OpcUaSource:
    live = {"mode": "subscribe", "publishing_interval_ms": 50, "queue_size": 10_000}
    return OpcUaSource(config(plant, endpoint=f"opc.tcp://127.0.0.1:{link.port}", groups={"live": live}))


async def everything(plant: Plant, sink: MemorySink) -> None:
    """Wait until every change of every variable is there, and see that it is there once."""
    await sink.until(lambda: all(set(plant.written[name]) <= set(sink.series(name)) for name in plant.names))
    for name in plant.names:
        assert [pair for pair in sink.series(name) if pair[1]] == plant.written[name]
    assert sink.moved == 0


@pytest.mark.parametrize(("how", "times"), [("cut", 3), ("blackhole", 1)])
async def test_an_interruption_that_the_server_outlasts_hides_nothing(
    plant: Plant, link: Link, how: str, times: int
) -> None:
    assert plant.server is not None
    sink = MemorySink()
    async with running(source(plant, link), sink, again=True):
        await sink.until(lambda: sink.running)
        for _ in range(times):
            before = len(sink.reports)
            await plant.run_for(0.3, 0.01)
            if how == "cut":
                link.reset()
            else:
                link.swallow()
            await plant.run_for(0.2, 0.01)
            await sink.until(lambda: len(sink.reports) > before)  # noqa: B023  awaited at once
            link.heal()
            await sink.until(lambda: sink.running)
            await everything(plant, sink)
        assert len(plant.server.iserver._external_sessions) == 1
        assert len(plant.server.iserver.subscription_service.subscriptions) == 1
    assert sink.gaps == []
    assert len(plant.server.iserver._external_sessions) == 0
    assert sink.counts["notification_republished"] > 0
