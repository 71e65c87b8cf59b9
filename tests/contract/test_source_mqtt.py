"""The MQTT source against the contract of sources, with real brokers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest

from edge_agent.sources.mqtt import MqttSource
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey
from tests.contract.source_contract import SourceContract
from tests.contract.source_peer import Said
from tests.integration.mqtt_brokers import Broker, config, mosquitto, nats, publish

_BEGIN_MS = 1_700_000_000_000
_PRESS = SeriesKey(parse_asset("acme/hk01/a/l/press-1"), "shots")
_METER = SeriesKey(parse_asset("acme/hk01/a/l/meter-1"), "energy.active_energy")
_TOPICS = {_PRESS: "plant/press", _METER: "plant/meter"}


class MqttPeer:
    """A broker, and two machines that publish there."""

    units: Mapping[SeriesKey, str] = {_PRESS: "{shot}", _METER: "kW.h"}

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.port = broker.port

    def source(self, port: int | None = None, *, patient: bool = True) -> MqttSource:  # noqa: ARG002
        topics = [
            {
                "topic": topic,
                "asset": key.asset,
                "time": {"path": "ts", "format": "ms"},
                "signals": [{"path": "n", "signal": key.signal, "unit": self.units[key]}],
            }
            for key, topic in _TOPICS.items()
        ]
        return MqttSource(config(port or self.port, topics=topics, keepalive_s=2, connect_timeout_s=1))

    async def start(self) -> None:
        await self._broker.start()

    async def stop(self) -> None:
        await self._broker.stop()

    async def say(self, numbers: Iterable[int]) -> list[Said]:
        said = [
            Said((_PRESS, _METER)[number % 2], (_BEGIN_MS + number) * 1_000_000, float(number))
            for number in numbers
        ]
        for key, topic in _TOPICS.items():
            mine = [each for each in said if each.series == key]
            payloads = [json.dumps({"ts": each.source_time // 1_000_000, "n": each.value}) for each in mine]
            await publish(self.port, topic, *payloads)
        return said

    async def say_nonsense(self) -> None:
        nonsense = [b"\xff\xfe", b"", b"not json", b"[" * 100_000, b'{"ts":"soon"}', b"{}", b"7"]
        unusable = ["null}", "1e999}", "[1,2]}", '"out of order"}', ""]
        nonsense += [
            f'{{"ts":{_BEGIN_MS - number},"n":{value}'.encode() for number, value in enumerate(unusable, 1)
        ]
        await publish(self.port, _TOPICS[_PRESS], *nonsense)


class TestMqttSourceWithNats(SourceContract):
    """nats-server, which repeats what is not acknowledged in time while the connection stands."""

    @pytest.fixture
    async def peer(self, tmp_path: Path) -> AsyncIterator[MqttPeer]:
        async with nats(tmp_path, ack_wait="1s") as broker:
            yield MqttPeer(broker)


class TestMqttSourceWithMosquitto(SourceContract):
    """mosquitto, which repeats when the session is resumed."""

    @pytest.fixture
    async def peer(self, tmp_path: Path) -> AsyncIterator[MqttPeer]:
        async with mosquitto(tmp_path) as broker:
            yield MqttPeer(broker)
