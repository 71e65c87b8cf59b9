"""Servers that take fewer nodes in a request than they say, and what a user wrote instead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.internal_session import InternalSession
from asyncua.ua.uaerrors import BadEncodingLimitsExceeded, BadTooManyOperations

from edge_agent.sources.opcua import OpcUaSource
from tests.integration.opcua_plant import URI, MemorySink, Plant, config, running

NAMES = [f"v{number}" for number in range(30)]
MOST = 8
ASSET = "acme/hk01/moulding/cell-a/imm-01"
Sizes = dict[str, list[int]]
_SERVICES: dict[str, tuple[str, Callable[[Any], int]]] = {
    "read": ("read", lambda parameters: len(parameters.NodesToRead)),
    "browse": ("browse", lambda parameters: len(parameters.NodesToBrowse)),
    "translate": ("translate_browsepaths_to_nodeids", len),
    "monitor": ("create_monitored_items", lambda parameters: len(parameters.ItemsToCreate)),
    "history": ("history_read", lambda parameters: len(parameters.NodesToRead)),
}


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Sizes:
    """Have servers refuse what is larger than MOST; return the sizes of the requests that came, by service."""
    sizes: Sizes = defaultdict(list)

    def lie(service: str, name: str, size_of: Callable[[Any], int]) -> None:
        honest = getattr(InternalSession, name)

        async def refuse(self: InternalSession, parameters: Any) -> Any:
            if not self.external:
                return await honest(self, parameters)
            size = size_of(parameters)
            sizes[service].append(size)
            if size > MOST:
                raise BadTooManyOperations if service != "read" else BadEncodingLimitsExceeded
            return await honest(self, parameters)

        monkeypatch.setattr(InternalSession, name, refuse)

    for service, (name, size_of) in _SERVICES.items():
        lie(service, name, size_of)
    return sizes


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant(NAMES, history=False)
    await plant.start()
    yield plant
    await plant.stop()


def nodes(pattern: str) -> list[dict[str, str]]:
    return [{"node": pattern.format(name), "asset": ASSET, "signal": name} for name in NAMES]


def arrived(sink: MemorySink) -> set[str]:
    return {sample.series.signal for sample in sink.samples}


async def test_monitored_items_are_halved_when_the_server_lies(liar: Sizes, plant: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink):
        await sink.until(lambda: arrived(sink) == set(NAMES))
    assert liar["monitor"][0] == len(NAMES)
    assert sum(size for size in liar["monitor"] if size <= MOST) == len(NAMES)


async def test_reads_are_halved_when_the_server_lies(liar: Sizes, plant: Plant) -> None:
    sink = MemorySink()
    groups = {"live": {"mode": "poll", "interval_s": 0.05}}
    async with running(OpcUaSource(config(plant, groups=groups)), sink):
        await sink.until(lambda: arrived(sink) == set(NAMES))
        after = len(liar["read"])
        await plant.tick()
        await sink.until(lambda: all(len(sink.series(name)) >= 2 for name in NAMES))
    assert max(liar["read"]) == len(NAMES)
    assert max(liar["read"][after:]) <= MOST


async def test_translations_are_halved_when_the_server_lies(liar: Sizes, plant: Plant) -> None:
    sink = MemorySink()
    settings = config(plant, nodes=nodes(f"/nsu={URI};IMM_1/nsu={URI};{{}}"))
    async with running(OpcUaSource(settings), sink):
        await sink.until(lambda: arrived(sink) == set(NAMES))
    assert liar["translate"][:3] == [30, 15, 7]
    assert max(liar["translate"][3:]) == 7


async def test_browsing_is_halved_when_the_server_lies(liar: Sizes, plant: Plant) -> None:
    for name in NAMES:
        cell = await plant.folder.add_object(plant.index, f"cell_{name}")
        await cell.add_variable(ua.NodeId(ua.String(f"in_{name}"), ua.Int16(plant.index)), "value", 1.0)
    sink = MemorySink()
    async with running(OpcUaSource(config(plant, nodes=nodes("/IMM_1/cell_{}/value"))), sink):
        await sink.until(lambda: arrived(sink) == set(NAMES))
    assert max(liar["browse"]) == len(NAMES)


async def test_history_is_read_for_fewer_nodes_when_the_server_lies(liar: Sizes) -> None:
    plant = Plant(NAMES)
    await plant.start()
    try:
        for _ in range(3):
            await plant.tick()
        sink = MemorySink()
        async with running(OpcUaSource(config(plant)), sink):
            await sink.until(lambda: all(len(sink.series(name)) >= 3 for name in NAMES))
    finally:
        await plant.stop()
    assert max(liar["history"]) == len(NAMES)
    assert min(liar["history"]) <= MOST
    assert sink.gaps == []


async def test_what_a_user_wrote_counts_from_the_first_request_on(liar: Sizes, plant: Plant) -> None:
    sink = MemorySink()
    limits = {"read": 3, "monitor": 4, "translate": 5, "browse": 6, "history": 7}
    settings = config(plant, limits=limits, nodes=nodes(f"/nsu={URI};IMM_1/nsu={URI};{{}}"))
    async with running(OpcUaSource(settings), sink):
        await sink.until(lambda: arrived(sink) == set(NAMES))
    assert {service: max(sizes) for service, sizes in liar.items()}.items() <= limits.items()
