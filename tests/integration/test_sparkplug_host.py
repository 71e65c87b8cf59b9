"""A Sparkplug host against real brokers: what edge nodes hear of it, and what a kill of anybody costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.buffer import Buffer
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.sources.sparkplug import SparkplugSource
from edge_agent.sources.sparkplug.check import check
from edge_agent.sources.sparkplug.values import BAD_NO_COMMUNICATION
from shopfloor.block import Quality, Sample
from shopfloor.messages import Lane, SpanRecord
from tests.contract.source_agent import Agent
from tests.integration.mqtt_brokers import Broker, mosquitto, nats, until
from tests.integration.sparkplug_edge_node import EDGE, GROUP, HOST, EdgeNode, config, edge_node
from tests.ports import free_port

MakeBroker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Broker]]
BEGIN_MS = 1_700_000_000_000
METRICS = {"Shots": "{shot}"}
STATE = f"spBv1.0/STATE/{HOST}"


@pytest.fixture(params=[mosquitto, nats], ids=["mosquitto", "nats"])
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


class Watcher:
    """Somebody who reads the host's STATE: every message, with whether it was retained."""

    def __init__(self, port: int) -> None:
        self.states: list[tuple[bool, int]] = []
        ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"watcher-{free_port()}")
        self._client.on_connect = lambda client, *_arguments: client.subscribe(STATE, 1)
        self._client.on_subscribe = lambda *_arguments: ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(30)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        said = json.loads(message.payload)
        self.states.append((said["online"], said["timestamp"]))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def watching(port: int) -> Iterator[Watcher]:
    watcher = Watcher(port)
    try:
        yield watcher
    finally:
        watcher.close()


def retained(port: int) -> list[tuple[bool, int]]:
    """Return what somebody who comes now is told of the host."""
    with watching(port) as late:
        for _ in range(200):
            if late.states:
                break
            threading.Event().wait(0.01)
        return late.states


def say(node: EdgeNode, numbers: range) -> None:
    for number in numbers:
        node.measure("Shots", BEGIN_MS + number, float(number))


def numbers(agent: Agent) -> list[float]:
    return sorted(row.value for row in agent.numbers)


async def test_the_host_is_online_with_one_time_and_offline_when_it_leaves(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker:
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port))
        with watching(broker.port) as watcher:
            async with agent.alive(source), agent.running(source):
                await until(lambda: len(watcher.states) == 1, "online")
            await until(lambda: len(watcher.states) == 2, "offline")
            (was_online, began), (is_online, ended) = watcher.states
        assert (was_online, is_online) == (True, False)
        assert ended >= began
        # An edge node that comes later is told so too.
        assert await asyncio.to_thread(retained, broker.port) == [(False, ended)]


async def test_it_speaks_mqtt_5_too(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, edge_node(broker.port, "p1", METRICS) as node:
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port, protocol=5))
        with watching(broker.port) as watcher:
            async with agent.alive(source), agent.running(source) as task:
                await asyncio.to_thread(say, node, range(1, 4))
                await agent.until(lambda: numbers(agent) == [1, 2, 3], lambda: "all", task)
            await until(lambda: len(watcher.states) == 2, "offline")
        assert [online for online, _ in watcher.states] == [True, False]
        # Nothing waits in a session that nobody comes back to.
        await asyncio.to_thread(say, node, range(4, 6))
        async with agent.alive(source), agent.running(source) as task:
            await agent.until(lambda: numbers(agent) == [1, 2, 3, 4, 5], lambda: "what waited", task)
        assert [gap.reason for gap in agent.gaps] == [
            "this host was away: what was published meanwhile is lost"
        ]


async def test_a_host_that_takes_over_has_the_last_word(tmp_path: Path, make_broker: MakeBroker) -> None:
    """The first is not even dead: the broker publishes its will while the second is being welcomed."""
    async with make_broker(tmp_path) as broker:
        agents = [Agent(tmp_path / name) for name in ("first", "second")]
        first, second = (SparkplugSource(config(broker.port)) for _ in agents)
        async with agents[0].alive(first), agents[0].running(first) as task:
            with watching(broker.port) as watcher:
                await until(lambda: bool(watcher.states), "the first is online")
                began = watcher.states[-1][1]
                async with agents[1].alive(second), agents[1].running(second):
                    await asyncio.wait([task])
                    await until(
                        lambda: watcher.states[-1][0] and watcher.states[-1][1] > began,
                        "the second is online",
                    )
                    renewed = watcher.states[-1][1]
                    # Whatever the order was: who comes now is told that the host is online.
                    deadline = asyncio.get_running_loop().time() + 30
                    while await asyncio.to_thread(retained, broker.port) != [(True, renewed)]:
                        assert asyncio.get_running_loop().time() < deadline
                    # nats-server leaves the will of a client out that another one drives out.
                    assert make_broker is nats or (False, began) in watcher.states


async def test_a_false_death_is_contradicted(tmp_path: Path, make_broker: MakeBroker) -> None:
    async with make_broker(tmp_path) as broker:
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port))
        with watching(broker.port) as watcher:
            async with agent.alive(source), agent.running(source):
                await until(lambda: bool(watcher.states), "online")
                online = watcher.states[-1]
                liar = paho.Client(CallbackAPIVersion.VERSION2, client_id="liar")
                liar.connect("127.0.0.1", broker.port)
                liar.loop_start()
                false = json.dumps({"online": False, "timestamp": online[1]})
                liar.publish(STATE, false, qos=1, retain=True).wait_for_publish(30)
                liar.disconnect()
                liar.loop_stop()
                await until(lambda: watcher.states[1:] == [(False, online[1]), online], "contradicted")


async def test_a_message_that_never_comes_is_a_gap_and_the_births_come_again(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker, edge_node(broker.port, "p1", METRICS) as node:
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port, reorder_timeout_s=0.2))
        async with agent.alive(source), agent.running(source) as task:
            await until(lambda: node.births == 1, "born")
            await asyncio.to_thread(say, node, range(1, 4))
            await agent.until(lambda: numbers(agent) == [1, 2, 3], lambda: "the first", task)
            node.skip()
            await asyncio.to_thread(say, node, range(4, 6))
            await agent.until(lambda: bool(agent.gaps), lambda: "a gap", task)
            await until(lambda: node.rebirths_asked == 1, "asked")
            await asyncio.to_thread(say, node, range(6, 9))
            await agent.until(lambda: numbers(agent) == list(range(1, 9)), lambda: "all", task)
        assert [(gap.reason, gap.count, gap.asset) for gap in agent.gaps] == [
            (f"messages of {GROUP}/{EDGE} are missing", 1, "acme/vn01/moulding/cell-a")
        ]
        assert node.births == 2
        assert agent.counts["rebirth_requested"] == 1


async def test_a_lost_edge_node_is_bad_until_it_is_born_again(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker, edge_node(broker.port, "p1", METRICS) as node:
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port, store_and_forward=True))

        def newest() -> Sample:
            return max(
                (row for row in agent.delivered if row.series.signal == "shots"),
                key=lambda row: row.source_time,
            )

        async with agent.alive(source), agent.running(source) as task:
            await asyncio.to_thread(say, node, range(1, 4))
            await agent.until(lambda: numbers(agent) == [1, 2, 3], lambda: "the first", task)
            await asyncio.to_thread(node.stop, kill=True)
            await agent.until(lambda: newest().quality == Quality.BAD, lambda: "bad", task)
            assert newest().status == BAD_NO_COMMUNICATION
            await agent.until(
                lambda: agent.counts["node_death"] == 1, lambda: f"the death counts: {agent.counts}", task
            )
            await asyncio.to_thread(node.start)
            await until(lambda: node.births == 2, "born again")
            await asyncio.to_thread(say, node, range(4, 6))
            await agent.until(lambda: numbers(agent) == [1, 2, 3, 4, 5], lambda: "the rest", task)
        assert agent.gaps == []


class AgentProcess:
    """A real agent whose service can't be reached, so that everything stays in its buffer."""

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir()
        self.data = folder / "data"
        self._config = folder / "agent.yaml"
        (folder / "token").write_text("secret")
        self._config.write_text(
            f"""
agent: {{id: vn01, asset: acme/vn01}}
data: data
uplink: {{url: "http://127.0.0.1:{free_port()}", token: "file:token"}}
buffer: {{disk_reserve: 0}}
status: null
sources:
  - sparkplug:
      name: vn01
      broker: mqtt://127.0.0.1:{port}
      client_id: vn01-gateway
      host_id: {HOST}
      keepalive_s: 2
      store_and_forward: true
      publishers:
        - {{descriptor: "{GROUP}/{EDGE}/{{device}}", asset: "acme/vn01/moulding/cell-a/{{device}}", metrics: all}}
"""
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "shopfloor",
            "edge",
            "run",
            str(self._config),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            await self._process.wait()


@contextlib.asynccontextmanager
async def agent_process(folder: Path, port: int) -> AsyncIterator[AgentProcess]:
    agent = AgentProcess(folder, port)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop(signal.SIGKILL)


def drained(data: Path) -> tuple[list[Sample], list[SpanRecord]]:
    """Return everything that lies in a buffer."""
    buffer: Buffer = SqliteBuffer(data, BufferLimits(disk_reserve_bytes=0), "vn01")
    rows: list[Sample] = []
    try:
        for lane in Lane:
            while (batch := buffer.peek(10_000, lane)) is not None:
                rows += batch.block.rows()
                buffer.commit(batch.stream_id, batch.last_seq)
        return rows, buffer.spans(100)
    finally:
        buffer.close()


async def test_agents_and_brokers_are_killed_and_every_value_is_stored_once(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    """The edge node sends again all that it measured whenever its host is back; the buffer knows what it has."""
    async with (
        make_broker(tmp_path) as broker,
        edge_node(broker.port, "p1", METRICS) as node,
        agent_process(tmp_path / "agent", broker.port) as agent,
    ):
        await until(lambda: node.births >= 1, "the host is online")
        for life in range(3):
            at = 300 * life
            await asyncio.to_thread(say, node, range(at + 1, at + 101))
            await agent.stop(signal.SIGKILL)
            await asyncio.to_thread(say, node, range(at + 101, at + 151))
            births = node.births
            await agent.start()
            await asyncio.to_thread(say, node, range(at + 151, at + 201))
            await until(lambda: node.births > births, "the host is back")  # noqa: B023  used at once
            await asyncio.to_thread(say, node, range(at + 201, at + 251))
            if life == 1:
                await broker.stop(signal.SIGKILL)
                await asyncio.to_thread(node.stop, kill=True)
                await broker.start()
                births = node.births
                await asyncio.to_thread(node.start)
                await until(lambda: node.births > births, "both are back")  # noqa: B023  used at once
            await asyncio.to_thread(say, node, range(at + 251, at + 301))
        await agent.stop(signal.SIGTERM)
        rows: list[Sample] = []
        gaps: list[SpanRecord] = []
        for patience_s in range(1, 11):
            births = node.births
            await agent.start()
            await until(lambda: node.births > births, "the host is back")  # noqa: B023  used at once
            await asyncio.sleep(patience_s)
            await agent.stop(signal.SIGTERM)
            found, more = await asyncio.to_thread(drained, agent.data)
            rows += found
            gaps += more
            if len({row.value for row in rows if row.quality == Quality.GOOD and row.value > 0}) == 900:
                break
    good = [row for row in rows if row.quality == Quality.GOOD and row.value > 0]
    assert Counter((row.source_time // 1_000_000 - BEGIN_MS, row.value) for row in good) == Counter(
        (number, float(number)) for number in range(1, 901)
    )
    assert gaps == []


async def test_a_check_shows_what_is_born_and_changes_nothing(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker, edge_node(broker.port, "p1", METRICS) as node:
        found = await check(config(broker.port), listen_s=0.3)
        assert [str(each) for each in found] == [
            f"connected to mqtt://127.0.0.1:{broker.port}, MQTT 3.1.1",
            f"no host application {HOST} was ever online there",
            "no message of the configured edge nodes in 0.3 s",
        ]
        assert node.births == 0
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port))
        async with agent.alive(source), agent.running(source) as task:
            await asyncio.to_thread(say, node, range(1, 2))
            await agent.until(lambda: numbers(agent) == [1], lambda: "both births and a value", task)
            checking = asyncio.create_task(check(config(broker.port), listen_s=2.0))
            while not checking.done():
                await asyncio.to_thread(say, node, range(1, 2))
                await asyncio.sleep(0.05)
            assert not task.done()
        texts = [str(each) for each in checking.result()]
        assert texts[1] == f"host application {HOST} is online there"
        assert texts[2] == f"1 spoke whose births came before: {GROUP}/{EDGE}/p1"
        assert all(each.sound for each in checking.result())
        assert node.births == 1


async def test_a_check_shows_signals_and_what_is_wrong(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, edge_node(broker.port, "p1", {"A/B": "kN"}) as node:
        checking = asyncio.create_task(check(config(broker.port, client_id="other"), listen_s=2.0))
        await asyncio.sleep(0.3)
        agent = Agent(tmp_path / "agent")
        source = SparkplugSource(config(broker.port))
        async with agent.alive(source), agent.running(source):
            await until(lambda: node.births == 1, "born")
            await asyncio.to_thread(node.measure, "A/B", BEGIN_MS, 12.5)
            texts = [str(each) for each in await checking]
        assert f"2 births: {GROUP}/{EDGE}, {GROUP}/{EDGE}/p1" in texts
        assert "1 signals: acme/vn01/moulding/cell-a/p1:a.b = 12.5" in texts
    nobody = await check(config(free_port()), listen_s=0.1)
    assert [each.sound for each in nobody] == [False]
