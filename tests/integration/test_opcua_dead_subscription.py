"""A server that is connected and answers, but whose subscription says nothing any more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edge_agent.sources.opcua import OpcUaSource
from shopfloor.messages import SourceState
from tests.integration.opcua_plant import MemorySink, Plant, config, running


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


async def test_a_dead_subscription_of_a_server_that_answers_is_noticed_and_costs_nothing(
    plant: Plant,
) -> None:
    sink = MemorySink()
    impatient = config(plant, keepalive_s=0.2, request_timeout_s=2, watchdog_s=0.1)
    async with running(OpcUaSource(impatient), sink, again=True):
        await sink.until(lambda: sink.running)
        await plant.tick()
        assert plant.server is not None
        ours = plant.server.iserver.isession.session_id
        dead = [
            subscription
            for subscription in plant.server.iserver.subscription_service.subscriptions.values()
            if subscription.session_id != ours  # the server's own, which keeps its history
        ]
        assert dead
        for subscription in dead:
            await subscription.stop()
        await plant.tick()
        await sink.until(lambda: any(state is SourceState.UNAVAILABLE for state, _ in sink.reports), 60)
        said = next(message for state, message in sink.reports if state is SourceState.UNAVAILABLE)
        assert "silent" in said
        await plant.tick()
        await sink.until(
            lambda: all(set(plant.written[name]) <= set(sink.series(name)) for name in plant.names), 60
        )
    for name in plant.names:
        assert [pair for pair in sink.series(name) if pair[1] != 0.0] == sorted(plant.written[name])
    assert sink.gaps == []
