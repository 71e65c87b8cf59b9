"""Messages a second and CPU a message: the MQTT source into memory, beside a bare paho loop that only counts.

    python -m benchmarks.edge_mqtt [--messages 50000] [--json]

Needs mosquitto. All run on this computer and share its cores; the messages wait in the broker before each run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.sources.mqtt import MqttConfig, MqttSource
from shopfloor.block import SampleBlock
from shopfloor.messages import SourceState

_METERS: Final = 40


class CountingSink:
    """Takes everything and counts it."""

    def __init__(self, expected: int) -> None:
        self.samples = 0
        self.blocks = 0
        self.running = asyncio.Event()
        self.complete = asyncio.Event()
        self._expected = expected

    async def put(self, block: SampleBlock, _state: Mapping[str, bytes] | None = None) -> None:
        """Count."""
        self.samples += len(block)
        self.blocks += bool(len(block))
        if self.samples >= self._expected:
            self.complete.set()

    def state(self) -> Mapping[str, bytes]:
        """Know nothing."""
        return {}

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None:
        """Expect none."""
        raise AssertionError(reason, from_time, to_time, asset, count)

    def report(self, state: SourceState, _message: str = "") -> None:
        """Note that it runs."""
        if state is SourceState.RUNNING:
            self.running.set()

    def clock_offset(self, _offset_ns: int) -> None:
        """Ignore."""

    def count(self, _what: str, _number: int = 1) -> None:
        """Ignore."""


def _properties(version: str) -> Properties | None:
    if version != "5":
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = 2_000
    properties.SessionExpiryInterval = 600
    return properties


def _client(client_id: str, version: str) -> paho.Client:
    newest = version == "5"
    return paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if newest else False,
        protocol=MQTTProtocolVersion.MQTTv5 if newest else MQTTProtocolVersion.MQTTv311,
    )


def _publish(port: int, messages: int) -> None:
    client = _client("publisher", "3.1.1")
    client.max_inflight_messages = 1_000
    client.connect("127.0.0.1", port)
    client.loop_start()
    start_ms = time.time_ns() // 1_000_000
    # In slices: the time that paho takes to publish grows with what is under way.
    for first in range(0, messages, 2_000):
        sent = [
            client.publish(
                f"meters/hk01/moulding/cell-a/m-{number % _METERS}",
                json.dumps(
                    {
                        "ts": start_ms + number,
                        "power_w": 11_250 + number % 100,
                        "energy_kwh": 48_211.7,
                        "pad": "x" * 120,
                    }
                ),
                qos=1,
            )
            for number in range(first, min(first + 2_000, messages))
        ]
        for each in sent:
            each.wait_for_publish(120)
    client.disconnect()
    client.loop_stop()


def _bare_paho(port: int, version: str, messages: int) -> dict[str, Any]:
    def session() -> paho.Client:
        client = _client("bare", version)
        if version == "5":
            client.connect("127.0.0.1", port, clean_start=False, properties=_properties(version))
        else:
            client.connect("127.0.0.1", port)
        return client

    ready = threading.Event()
    client = session()
    client.on_connect = lambda client, *_: client.subscribe("meters/#", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.loop_start()
    ready.wait(10)
    client.disconnect()
    client.loop_stop()
    _publish(port, messages)
    received = 0

    def on_message(client: paho.Client, _data: Any, _message: paho.MQTTMessage) -> None:
        nonlocal received
        received += 1
        if received == messages:
            client.disconnect()

    started, cpu = time.perf_counter(), time.process_time()
    client = session()
    client.on_message = on_message
    client.loop_forever()
    return _figures("bare paho, counting only", version, messages, time.perf_counter() - started, cpu)


async def _source(port: int, version: str, messages: int) -> dict[str, Any]:
    config = MqttConfig.model_validate(
        {
            "name": "meters",
            "broker": f"mqtt://127.0.0.1:{port}",
            "client_id": "source",
            "protocol": version,
            "topics": [
                {
                    "topic": "meters/{site}/{area}/{line}/{cell}",
                    "asset": "acme/{site}/{area}/{line}/{cell}",
                    "time": {"path": "ts", "format": "ms"},
                    "signals": [
                        {"path": "power_w", "signal": "energy.active_power", "scale": 0.001},
                        {"path": "energy_kwh", "signal": "energy.active_energy"},
                    ],
                }
            ],
        }
    )

    async def run(sink: CountingSink, until: asyncio.Event) -> None:
        task = asyncio.create_task(MqttSource(config).run(sink))
        enough = asyncio.create_task(until.wait())
        await asyncio.wait([task, enough], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        task.cancel()
        await asyncio.wait([task])

    begin = CountingSink(1)
    await run(begin, begin.running)
    await asyncio.to_thread(_publish, port, messages)
    sink = CountingSink(2 * messages)
    started, cpu = time.perf_counter(), time.process_time()
    await run(sink, sink.complete)
    figures = _figures(
        "MQTT source, two samples a message", version, messages, time.perf_counter() - started, cpu
    )
    return figures | {"messages_per_block": round(messages / sink.blocks, 1)}


def _figures(what: str, version: str, messages: int, took_s: float, cpu_before_s: float) -> dict[str, Any]:
    return {
        "what": what,
        "mqtt": version,
        "messages_per_s": round(messages / took_s),
        "cpu_us_per_message": round((time.process_time() - cpu_before_s) / messages * 1e6, 1),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run all four and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--window", type=int, default=2_000, help="max_inflight_messages of the broker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        parser.exit(1, "mosquitto is not installed\n")
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "mosquitto.conf")
        settings.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            f"max_inflight_messages {options.window}\n"
        )
        with subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL) as broker:
            try:
                time.sleep(0.5)
                results = []
                for version in ("3.1.1", "5"):
                    results.append(_bare_paho(port, version, options.messages))
                    results.append(asyncio.run(_source(port, version, options.messages)))
            finally:
                broker.terminate()
    if options.json:
        print(json.dumps({"benchmark": "edge_mqtt", "window": options.window, "results": results}))
        return
    for each in results:
        print(each)


if __name__ == "__main__":
    main()
