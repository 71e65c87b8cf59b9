"""The Sparkplug source against the contract of sources, with real brokers.

What keeps for an absent host what machines say is the edge node, not the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest

from edge_agent.sources.sparkplug import SparkplugSource
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey
from shopfloor.sparkplug import Metric
from tests.contract.source_contract import SourceContract
from tests.contract.source_peer import Said
from tests.integration import sparkplug_edge_node as edge
from tests.integration.mqtt_brokers import Broker, mosquitto, nats

_BEGIN_MS = 1_700_000_000_000
_DEVICE = "press-1"
_ASSET = parse_asset("acme/vn01/moulding/cell-a/press-1")
_METRICS = {"Counters/Shots": "{shot}", "Barrel/Zone 1/Temperature": "Cel"}
_SERIES = {
    "Counters/Shots": SeriesKey(_ASSET, "counters.shots"),
    "Barrel/Zone 1/Temperature": SeriesKey(_ASSET, "barrel.zone_1.temperature"),
}


class SparkplugPeer:
    """A broker, and an edge node with one device."""

    units: Mapping[SeriesKey, str] = {_SERIES[name]: unit for name, unit in _METRICS.items()}

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.port = broker.port
        self.node = edge.EdgeNode(broker.port, _DEVICE, _METRICS)

    def source(self, port: int | None = None, *, patient: bool = True) -> SparkplugSource:  # noqa: ARG002
        publisher = {
            "descriptor": f"{edge.GROUP}/{edge.EDGE}/{_DEVICE}",
            "asset": _ASSET,
            "metrics": [
                {"metric": name, "signal": key.signal, "unit": _METRICS[name]}
                for name, key in _SERIES.items()
            ],
        }
        return SparkplugSource(
            edge.config(
                port or self.port, publishers=[publisher], store_and_forward=True, connect_timeout_s=1
            )
        )

    async def start(self) -> None:
        await self._broker.start()
        await asyncio.to_thread(self.node.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.node.stop, kill=True)
        await self._broker.stop()

    async def say(self, numbers: Iterable[int]) -> list[Said]:
        names = list(_SERIES)
        said = []
        for number in numbers:
            name, ms = names[number % 2], _BEGIN_MS + number
            await asyncio.to_thread(self.node.measure, name, ms, float(number))
            said.append(Said(_SERIES[name], ms * 1_000_000, float(number)))
        return said

    async def say_nonsense(self) -> None:
        voice = edge.Voice(edge="line-b")
        data = f"spBv1.0/{edge.GROUP}/DDATA/{edge.EDGE}/{_DEVICE}"
        for payload in (b"", b"\xff\xff\xff", b"[1, 2]", b"\x12\x05\x10"):
            self.node.publish_raw(edge.Said(data, payload))
        self.node.publish_raw(voice.say("DDATA", "unheard-of", _BEGIN_MS, Metric(None, 77, value=1.0)))
        self.node.publish_raw(edge.Said(f"spBv1.0/{edge.GROUP}/NODATA/{edge.EDGE}", b"7"))


class TestSparkplugSourceWithMosquitto(SourceContract):
    """mosquitto."""

    @pytest.fixture
    async def peer(self, tmp_path: Path) -> AsyncIterator[SparkplugPeer]:
        async with mosquitto(tmp_path, persistence=False) as broker:
            peer = SparkplugPeer(broker)
            await asyncio.to_thread(peer.node.start)
            try:
                yield peer
            finally:
                await asyncio.to_thread(peer.node.stop)


class TestSparkplugSourceWithNats(SourceContract):
    """nats-server."""

    @pytest.fixture
    async def peer(self, tmp_path: Path) -> AsyncIterator[SparkplugPeer]:
        async with nats(tmp_path) as broker:
            peer = SparkplugPeer(broker)
            await asyncio.to_thread(peer.node.start)
            try:
                yield peer
            finally:
                await asyncio.to_thread(peer.node.stop)
