"""Every change of a node's value ends in the buffer exactly once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge_agent.sources.opcua import OpcUaSource
from tests.integration.opcua_plant import MemorySink, Plant, config, running
from tests.links import Link


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


def complete(plant: Plant, sink: MemorySink) -> bool:
    return all(set(plant.written[name]) <= set(sink.series(name)) for name in plant.names)


async def expect_everything_once(plant: Plant, sink: MemorySink) -> None:
    try:
        await sink.until(lambda: complete(plant, sink), 60)
    except TimeoutError:
        missing = {name: set(plant.written[name]) - set(sink.series(name)) for name in plant.names}
        pytest.fail(
            f"missing: { {name: len(lost) for name, lost in missing.items()} }, counts {sink.counts}, "
            f"reports {sink.reports[-3:]}"
        )
    for name in plant.names:
        arrived = [pair for pair in sink.series(name) if pair[1] != 0.0]
        assert arrived == sorted(plant.written[name])
    assert sink.moved == 0


async def test_changes_arrive_with_their_times(plant: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink):
        await sink.until(lambda: sink.running)
        await plant.run_for(1.0)
        await expect_everything_once(plant, sink)
    assert sink.gaps == []
    assert sink.offset_ns is not None
    assert abs(sink.offset_ns) < 1e9


async def test_what_was_before_the_first_start_is_read_from_history(plant: Plant) -> None:
    await plant.run_for(0.5)
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink):
        await plant.run_for(0.5)
        await expect_everything_once(plant, sink)


async def test_a_server_restart_loses_nothing(plant: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink, again=True):
        await sink.until(lambda: sink.running)
        await plant.run_for(0.7)
        await plant.stop()
        await asyncio.sleep(0.5)
        await plant.start()
        await plant.run_for(1.0)
        await expect_everything_once(plant, sink)


async def test_a_source_that_was_dead_for_a_while_catches_up(plant: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink):
        await sink.until(lambda: sink.running)
        await plant.run_for(0.5)
    await plant.run_for(3.0)
    async with running(OpcUaSource(config(plant)), sink):
        await plant.run_for(0.5)
        await expect_everything_once(plant, sink)


async def test_a_failed_put_acknowledges_nothing(plant: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink, again=True):
        await sink.until(lambda: sink.running)
        await plant.run_for(0.3)
        sink.fail_next = 1
        await plant.run_for(1.0)
        await expect_everything_once(plant, sink)
    assert any("disk is full" in message for _, message in sink.reports)


@pytest.mark.parametrize("how", ["cut", "blackhole"])
async def test_a_broken_network_loses_nothing(plant: Plant, how: str) -> None:
    link = Link(plant.port)
    await link.start()
    sink = MemorySink()
    source = OpcUaSource(config(plant, endpoint=f"opc.tcp://127.0.0.1:{link.port}"))
    try:
        async with running(source, sink, again=True):
            await sink.until(lambda: sink.running)
            await plant.run_for(0.4)
            if how == "cut":
                link.reset()
                await plant.run_for(0.8)
            else:
                link.swallow()
                await sink.until(lambda: not sink.running)
                await plant.run_for(0.8)
                link.heal()
            await sink.until(lambda: sink.running)
            await plant.run_for(0.4)
            await expect_everything_once(plant, sink)
    finally:
        await link.stop()


async def test_killed_at_any_put_it_loses_nothing(plant: Plant) -> None:
    """Cancelling a source after its n-th put, with only its durable state left, is what a kill does to it."""
    sink = MemorySink()
    writing = asyncio.create_task(plant.run_for(6.0, 0.03))
    for puts in (1, 2, 3, 4, 1, 2, 5, 1, 3, 8):
        async with running(OpcUaSource(config(plant)), sink):
            target = sink.puts + puts
            await sink.until(lambda: sink.puts >= target)  # noqa: B023
    await writing
    async with running(OpcUaSource(config(plant)), sink):
        await expect_everything_once(plant, sink)
