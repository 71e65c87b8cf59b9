"""Real brokers on free loopback ports, a sink that can be slow or refuse, and a publisher; for the MQTT tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.sources.mqtt import MqttConfig, MqttSource
from shopfloor.block import Sample, SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SourceState
from tests.ports import free_port


class Broker:
    """A broker process with a folder and a port that it keeps over restarts."""

    def __init__(self, command: list[str], port: int, *, welcomes: bool = True) -> None:
        self.port = port
        self._welcomes = welcomes
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await until(self._answers, "the broker listens")

    def _answers(self) -> bool:
        # nats listens before its JetStream is ready; only a CONNACK says that sessions work.
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                if not self._welcomes:
                    return True
                probe.settimeout(2)
                probe.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01p")
                return probe.recv(4)[3:] == b"\x00"
        except OSError:
            return False

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            await self._process.wait()

    def signal(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)


@contextlib.asynccontextmanager
async def mosquitto(
    folder: Path, *lines: str, persistence: bool = True, anonymous: bool = True, tls: bool = False
) -> AsyncIterator[Broker]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        "\n".join(
            [
                f"listener {port} 127.0.0.1",
                *(["allow_anonymous true"] if anonymous else []),
                "max_queued_messages 100000",
                *([f"persistence true\npersistence_location {folder}/"] if persistence else []),
                *(["user root"] if os.geteuid() == 0 else []),
                *lines,
            ]
        )
    )
    async with _running(Broker([program, "-c", str(config)], port, welcomes=anonymous and not tls)) as broker:
        yield broker


@contextlib.asynccontextmanager
async def nats(folder: Path, ack_wait: str = "4s") -> AsyncIterator[Broker]:
    program = Path(sys.executable).with_name("nats-server")
    if not program.exists():
        pytest.skip("nats-server is not installed")
    port = free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'server_name: test\nlisten: "127.0.0.1:{free_port()}"\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
        f'mqtt {{ listen: "127.0.0.1:{port}", ack_wait: "{ack_wait}" }}\n'
    )
    async with _running(Broker([str(program), "-c", str(config)], port)) as broker:
        yield broker


@contextlib.asynccontextmanager
async def _running(broker: Broker) -> AsyncIterator[Broker]:
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop(signal.SIGKILL)


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
    began = time.monotonic()
    deadline = began + timeout_s
    while not await asyncio.to_thread(condition):
        looked = time.monotonic()
        if looked > deadline:
            pytest.fail(f"after {timeout_s} s not yet: {what}")
        # Looking that costs more than a moment leaves the processors to what is waited for.
        await asyncio.sleep(max(0.02, 4 * (looked - began)))
        began = time.monotonic()


class Publisher:
    """Publishes at QoS 1 and waits for every PUBACK."""

    def __init__(self, port: int, ca: str | None = None) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"publisher-{free_port()}")
        if ca:
            self._client.tls_set(ca)
        self._client.max_inflight_messages = 500
        self._client.connect("127.0.0.1", port, keepalive=60)
        self._client.loop_start()

    def publish(self, topic: str, *payloads: str | bytes, retain: bool = False, qos: int = 1) -> None:
        sent = [self._client.publish(topic, payload, qos=qos, retain=retain) for payload in payloads]
        for each in sent:
            each.wait_for_publish(30)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def publish(port: int, topic: str, *payloads: str | bytes, retain: bool = False, qos: int = 1) -> None:
    """Publish all and return once the broker has them."""

    def work() -> None:
        publisher = Publisher(port)
        try:
            publisher.publish(topic, *payloads, retain=retain, qos=qos)
        finally:
            publisher.close()

    await asyncio.to_thread(work)


class MemorySink:
    """A BlockSink that keeps everything in memory; the gate holds `put`, `broken` makes it refuse."""

    def __init__(self) -> None:
        self.rows: list[Sample] = []
        self.blocks: list[SampleBlock] = []
        self.kept: dict[str, bytes] = {}
        self.gaps: list[tuple[str, int, int, str]] = []
        self.reports: list[tuple[SourceState, str]] = []
        self.counts: Counter[str] = Counter()
        self.offered = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.keeps_before_gate = False
        self.on_put: Callable[[], None] = lambda: None

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        if not len(block):
            self._keep(block, state)
            return
        self.offered += len(block)
        if self.keeps_before_gate:
            self._keep(block, state)
            await self.gate.wait()
            return
        await self.gate.wait()
        if self.broken:
            raise StoreUnavailable("the disk is full")
        self._keep(block, state)

    def _keep(self, block: SampleBlock, state: Mapping[str, bytes] | None) -> None:
        if len(block):
            self.blocks.append(block)
            self.rows += block.rows()
        for key, value in (state or {}).items():
            if value:
                self.kept[key] = value
            else:
                self.kept.pop(key, None)
        self.on_put()

    def state(self) -> Mapping[str, bytes]:
        return dict(self.kept)

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None:
        assert count == 0
        self.gaps.append((reason, from_time, to_time, asset))

    def report(self, state: SourceState, message: str = "") -> None:
        self.reports.append((state, message))

    def clock_offset(self, offset_ns: int) -> None:
        raise AssertionError(f"a broker has no clock of its own ({offset_ns})")

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    @property
    def is_running(self) -> bool:
        return bool(self.reports) and self.reports[-1][0] is SourceState.RUNNING

    @property
    def values(self) -> list[float]:
        return [row.value for row in self.rows]

    @property
    def distinct(self) -> list[tuple[object, ...]]:
        """What a buffer that drops repeats of (series, source time, value) would hold, in order."""
        return list(dict.fromkeys((row.series, row.source_time, row.value, row.text) for row in self.rows))


def config(port: int, **changes: Any) -> MqttConfig:
    return MqttConfig.model_validate(
        {
            "name": "meters",
            "broker": f"mqtt://127.0.0.1:{port}",
            "client_id": "gateway-meters",
            "topics": [
                {
                    "topic": "meters/{site}/{cell}",
                    "asset": "acme/{site}/a/l/{cell}",
                    "time": {"path": "ts", "format": "ms"},
                    "signals": [{"path": "n", "signal": "counter"}],
                }
            ],
            **changes,
        }
    )


@contextlib.asynccontextmanager
async def running(
    source: MqttSource, sink: MemorySink, *, subscribed: bool = True
) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a source, by default until it says that it is subscribed; cancelled at the end."""
    sink.reports.clear()
    task: asyncio.Task[Any] = asyncio.create_task(source.run(sink))
    try:
        while subscribed and not sink.is_running and not task.done():
            await asyncio.sleep(0.01)
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
