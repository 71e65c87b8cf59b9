"""Messages a second and CPU a message: QoS 1 JSON from mosquitto to the durable buffer, beside a bare paho loop.

    python -m benchmarks.edge_mqtt [--messages 50000] [--rate 5000] [--seconds 6] [--values 8] [--json]

Ours decodes each message, maps every value to a sample, writes them with synchronous=FULL and acknowledges then; the
peer, paho's own loop, only counts, and acknowledges at once. Both get the same messages from the load generator of
`simulators.load`, each from a fresh broker, by MQTT 3.1.1 and by 5: once a backlog that waits in the session
(``drain``), once as it is published, ``--rate`` a second (``live``). CPU is that of the whole receiving process, all
threads, from before it connects until the last PUBACK is written. With two cores or more the receiver has one to
itself; broker and generator share the others.

The figures at the top of the JSON are those of the version of MQTT that came off worse.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks._edge_mqtt_load import RECEIVERS_CORE, TOPIC, Load, mosquitto, on_cores
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.intake import BufferThread, Intake
from edge_agent.sink import SourceSink
from edge_agent.sources.mqtt import MqttConfig, MqttSource
from shopfloor.messages import SourceState

_LOOK_S: Final = 0.02


class Clocks:
    """Wall and CPU time of this process since it was made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def figures(self, what: str, version: str, load: Load) -> dict[str, Any]:
        """Return what one run measured."""
        messages = int(load.messages)
        took_s, cpu_s = time.perf_counter() - self._began, time.process_time() - self._cpu
        return {
            "what": what,
            "mqtt": version,
            "load": "live" if load.live else "drain",
            "messages": messages,
            # Of a live load its own rate: what came before and after it is the start of a process.
            "messages_per_s": round(load.report["sent_messages_per_s"] if load.live else messages / took_s),
            "cpu_us_per_message": round(cpu_s / messages * 1e6, 1),
            "generator_held": load.report["held"],
        }


def bare_paho(port: int, version: str, load: Load) -> dict[str, Any]:
    """Receive with paho's own loop, which acknowledges each message as soon as the callback returns."""
    received = 0

    def on_message(_client: paho.Client, _data: Any, _message: paho.MQTTMessage) -> None:
        nonlocal received
        received += 1

    def session() -> paho.Client:
        newest = version == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="bare",
            clean_session=None if newest else False,
            protocol=MQTTProtocolVersion.MQTTv5 if newest else MQTTProtocolVersion.MQTTv311,
        )
        client.on_message = on_message
        if newest:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum, properties.SessionExpiryInterval = 2_000, 600
            client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        else:
            client.connect("127.0.0.1", port)
        return client

    ready = threading.Event()
    client = session()
    client.on_connect = lambda client, *_: client.subscribe(f"{TOPIC}/#", 1)
    client.on_subscribe = lambda *_: ready.set()
    while not ready.is_set():
        client.loop(_LOOK_S)
    if not load.live:
        client.disconnect()
        client.loop(_LOOK_S)
        load.publish()
    clocks = Clocks()
    if not load.live:
        client = session()
    publishing = threading.Thread(target=load.publish)
    if load.live:
        publishing.start()
    while received < load.messages:
        client.loop(_LOOK_S)
    figures = clocks.figures("bare paho loop that counts", version, load)
    if load.live:
        publishing.join()
    client.disconnect()
    client.loop(_LOOK_S)
    return figures


def source_config(port: int, version: str, values: int) -> MqttConfig:
    """Return the configuration of ours: every value of a message is a signal."""
    signals = [{"path": f"s{n:03d}", "signal": f"load.signal_{n:03d}"} for n in range(1, values + 1)]
    topic = {
        "topic": f"{TOPIC}/{{cell}}",
        "asset": "acme/hk01/load/line-1/{cell}",
        "time": {"path": "ts", "format": "ms"},
        "signals": signals,
    }
    return MqttConfig.model_validate(
        {
            "name": "meters",
            "broker": f"mqtt://127.0.0.1:{port}",
            "client_id": "source",
            "protocol": version,
            "topics": [topic],
        }
    )


async def to_buffer(folder: Path, port: int, version: str, load: Load, values: int) -> dict[str, Any]:
    """Receive with the agent's source, sink, intake and buffer."""
    events: Counter[tuple[str, str]] = Counter()
    with ThreadPoolExecutor(1, thread_name_prefix="buffer") as executor:
        loop = asyncio.get_running_loop()
        limits = BufferLimits(max_bytes=2**30, disk_reserve_bytes=0)
        buffer = await loop.run_in_executor(executor, SqliteBuffer, folder, limits, "benchmark")
        intake = Intake(BufferThread(buffer, executor))
        try:
            saved: dict[str, bytes] = {}

            @contextlib.asynccontextmanager
            async def running() -> Any:
                source = MqttSource(source_config(port, version, values))
                sink = SourceSink(source, intake, "mqtt.benchmark", saved, events)
                tasks = [asyncio.create_task(each) for each in (intake.run(), source.run(sink))]
                try:
                    yield sink, tasks
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)

            async def until(condition: Any, tasks: list[asyncio.Task[Any]]) -> None:
                while not condition():
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(_LOOK_S)

            async with running() as (sink, tasks):
                await until(lambda: sink.now_report.state is SourceState.RUNNING, tasks)
                if load.live:
                    clocks = Clocks()
                    publishing = asyncio.create_task(asyncio.to_thread(load.publish))
                    await until(lambda: events["meters", "message"] >= load.messages, tasks)
                    figures = clocks.figures("to the durable buffer", version, load)
                    await publishing
            if not load.live:
                await asyncio.to_thread(load.publish)
                clocks = Clocks()
                async with running() as (_, tasks):
                    await until(lambda: events["meters", "message"] >= load.messages, tasks)
                    figures = clocks.figures("to the durable buffer", version, load)
            stats = await loop.run_in_executor(executor, buffer.stats)
        finally:
            await loop.run_in_executor(executor, buffer.close)
    expected = figures["messages"] * values
    if stats.appended_samples_total != expected:
        raise SystemExit(f"{stats.appended_samples_total} samples in the buffer, not {expected}: {events}")
    return figures | {"messages_per_commit": round(figures["messages"] / intake.commits_total, 1)}


def compare(program: str, version: str, options: argparse.Namespace, *, live: bool) -> dict[str, Any]:
    """Run both once and return ours with the peer's CPU beside it."""
    with mosquitto(program, options.window) as (port, _):
        peer = bare_paho(port, version, Load(port, live=live, options=options))
    with mosquitto(program, options.window) as (port, folder):
        load = Load(port, live=live, options=options)
        ours = asyncio.run(to_buffer(folder / "buffer", port, version, load, options.values))
    return ours | {
        "paho_messages_per_s": peer["messages_per_s"],
        "paho_cpu_us_per_message": peer["cpu_us_per_message"],
        "cpu_ratio": round(ours["cpu_us_per_message"] / peer["cpu_us_per_message"], 2),
    }


def main() -> None:
    """Run all and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000, help="of the drained backlog")
    parser.add_argument("--rate", type=int, default=5_000, help="messages a second of the live load")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long the live load lasts")
    parser.add_argument("--values", type=int, default=8, help="samples of one message; each adds 20 bytes")
    parser.add_argument("--window", type=int, default=2_000, help="max_inflight_messages of the broker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        parser.exit(1, "mosquitto is not installed\n")
    with on_cores(RECEIVERS_CORE):
        results = [
            compare(program, version, options, live=live)
            for version in ("3.1.1", "5")
            for live in (False, True)
        ]
    if not options.json:
        for each in results:
            print(each)
        return
    drained, live = (
        max((each for each in results if each["load"] == load), key=lambda each: float(each["cpu_ratio"]))
        for load in ("drain", "live")
    )
    names = ("messages_per_s", "cpu_us_per_message", "paho_cpu_us_per_message", "cpu_ratio")
    line = {"benchmark": "edge_mqtt", "messages": drained["messages"], "samples_per_message": options.values}
    line |= {name: drained[name] for name in names} | {f"live_{name}": live[name] for name in names}
    print(json.dumps(line | {"window": options.window, "results": results}))


if __name__ == "__main__":
    main()
