"""Sessions that end: closed, cut off, swallowed by the network; the server shall not have to remember them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge_agent.sources.opcua import OpcUaSource
from edge_agent.sources.opcua.connect import Applicant, open_session
from shopfloor.errors import SourceUnavailable
from tests.integration.opcua_plant import MemorySink, Plant, config, running
from tests.links import Link


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant(("v0",), history=False)
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture
async def link(plant: Plant) -> AsyncIterator[Link]:
    link = Link(plant.port)
    await link.start()
    yield link
    await link.stop()


def sessions(plant: Plant) -> int:
    assert plant.server is not None
    return len(plant.server.iserver._external_sessions)


async def test_a_network_that_keeps_breaking_leaves_one_session(plant: Plant, link: Link) -> None:
    """This server keeps a session that has subscriptions until its timeout, a minute here."""
    sink = MemorySink()
    source = OpcUaSource(config(plant, endpoint=f"opc.tcp://127.0.0.1:{link.port}"))
    async with running(source, sink, again=True):
        for count in range(7):
            await plant.write("v0", float(count + 1))
            await sink.until(lambda: any(value == count + 1 for _, value in sink.series("v0")))  # noqa: B023
            assert sessions(plant) == 1
            before = len(sink.reports)
            link.reset()
            await sink.until(lambda: len(sink.reports) > before and not sink.running)  # noqa: B023
        await sink.until(lambda: sink.running)
        assert sessions(plant) == 1
    assert sessions(plant) == 0


async def test_a_swallowing_network_is_noticed_by_asking(plant: Plant, link: Link) -> None:
    """Nothing is subscribed and the next poll is far away: only the watchdog asks."""
    settings = config(
        plant,
        endpoint=f"opc.tcp://127.0.0.1:{link.port}",
        groups={"live": {"mode": "poll", "interval_s": 3600}},
        watchdog_s=0.2,
        request_timeout_s=1,
    )
    sink = MemorySink()
    async with running(OpcUaSource(settings), sink) as task:
        await sink.until(lambda: bool(sink.samples))
        link.swallow()
        with pytest.raises(SourceUnavailable, match=r"no answer to \w+ within 1 s"):
            await asyncio.wait_for(asyncio.shield(task), 60)


async def test_a_swallowing_network_is_noticed_by_silence(plant: Plant, link: Link) -> None:
    settings = config(
        plant,
        endpoint=f"opc.tcp://127.0.0.1:{link.port}",
        keepalive_s=0.2,
        watchdog_s=300,
        # Longer than the silence may last: whatever is being asked just then is not given up before.
        request_timeout_s=10,
    )
    sink = MemorySink()
    async with running(OpcUaSource(settings), sink) as task:
        await sink.until(lambda: bool(sink.samples))
        link.swallow()
        with pytest.raises(SourceUnavailable, match="a subscription has fallen silent"):
            await asyncio.wait_for(asyncio.shield(task), 60)


async def test_a_session_is_kept_alive_within_what_the_server_grants(plant: Plant) -> None:
    asked = 0
    async with open_session(
        config(plant, session_timeout_s=5, watchdog_s=300), applicant=Applicant()
    ) as session:
        assert session.timeout_s == 5

        def count(_offset_ns: int) -> None:
            nonlocal asked
            asked += 1

        task = asyncio.create_task(session.keep_alive(count))
        try:
            async with asyncio.timeout(60):
                while asked < 2:
                    await asyncio.sleep(0.05)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert sessions(plant) == 1
    assert sessions(plant) == 0
