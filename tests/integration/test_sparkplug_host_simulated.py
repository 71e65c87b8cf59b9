"""The Sparkplug host and the simulated edge node, each made to the specification alone, with real brokers and kills."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from shopfloor.block import Quality
from shopfloor.sparkplug import DataType
from simulators.protocols.sparkplug import DeviceSample, MetricSpec, SparkplugNode
from simulators.scenario import BrokerConfig
from tests.integration.mqtt_brokers import until
from tests.integration.sparkplug_edge_node import EDGE, GROUP, HOST
from tests.integration.test_sparkplug_host import MakeBroker, agent_process, drained, make_broker

__all__ = ["make_broker"]

_DEVICES = {
    "press-1": [
        MetricSpec("Shots", DataType.UInt32),
        MetricSpec("Barrel/Zone 1/Temperature", DataType.Double, "Cel"),
    ],
    "press-2": [MetricSpec("Shots", DataType.UInt32), MetricSpec("Recipe", DataType.String)],
}
_SIGNALS = {"Shots": "shots", "Barrel/Zone 1/Temperature": "barrel.zone_1.temperature", "Recipe": "recipe"}


class Machine:
    """Has the edge node publish a sample of every metric every tick, and writes down each of them."""

    def __init__(self, node: SparkplugNode) -> None:
        self._node = node
        self._numbers = itertools.count(1)
        self.said: Counter[tuple[str, str, int, float | str]] = Counter()
        self.is_measuring = True

    async def run(self) -> None:
        last_ms = 0
        while True:
            if self.is_measuring:
                last_ms = max(last_ms + 1, time.time_ns() // 1_000_000)
                self._node.publish(self._measured(last_ms))
            self._node.feed()
            await asyncio.sleep(0.02)

    def _measured(self, at_ms: int) -> list[DeviceSample]:
        number = next(self._numbers)
        samples = []
        for device, specs in _DEVICES.items():
            for spec in specs:
                value = f"mould {number}" if spec.datatype is DataType.String else number
                samples.append(DeviceSample(device, spec.name, at_ms, value))
                kept = value if isinstance(value, str) else float(value)
                self.said[f"acme/vn01/moulding/cell-a/{device}", _SIGNALS[spec.name], at_ms, kept] += 1
        return samples


@contextlib.asynccontextmanager
async def working(node: SparkplugNode) -> AsyncIterator[Machine]:
    machine = Machine(node)
    node.start()
    running = asyncio.create_task(machine.run())
    try:
        yield machine
    finally:
        running.cancel()
        await asyncio.wait([running])
        await asyncio.to_thread(node.stop)


async def test_what_the_simulated_node_said_is_stored_once_whoever_was_killed(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker, agent_process(tmp_path / "agent", broker.port) as agent:
        to = BrokerConfig(url=f"mqtt://127.0.0.1:{broker.port}")
        node = SparkplugNode(to, GROUP, EDGE, HOST, tmp_path / "node", _DEVICES)
        stored: Counter[tuple[str, str, int, float | str]] = Counter()
        async with working(node) as machine:
            await until(lambda: node.session.is_live, "live")
            for victim in ("agent", "broker", "agent"):
                await asyncio.sleep(1)
                if victim == "agent":
                    await agent.stop(signal.SIGKILL)
                    await asyncio.sleep(0.5)
                    await agent.start()
                else:
                    await broker.stop(signal.SIGKILL)
                    await asyncio.sleep(0.5)
                    await broker.start()
                births = node.session.births_total
                await until(lambda: node.session.births_total > births, "born again")  # noqa: B023  used at once
            await asyncio.sleep(1)
            machine.is_measuring = False
            bad: Counter[str] = Counter()
            gaps = 0
            for patience_s in range(1, 11):
                await asyncio.sleep(patience_s)
                await agent.stop(signal.SIGTERM)
                rows, spans = await asyncio.to_thread(drained, agent.data)
                gaps += len(spans)
                for row in rows:
                    if row.quality == Quality.BAD:
                        bad[row.series.signal] += 1
                        continue
                    value = row.value if row.text is None else row.text
                    stored[row.series.asset, row.series.signal, row.source_time // 1_000_000, value] += 1
                if not machine.said - stored:
                    break
                await agent.start()
                await until(lambda: node.session.is_live, "live again")
        assert len(machine.said) > 400
        assert stored == machine.said
        assert (gaps, dict(bad)) == (0, {})
