"""How much the load generator delivers: counted and checked by receivers, beside what others deliver in the same run.

`measure_opcua` and `measure_mqtt` are for `benchmarks.simulators`; ``python -m benchmarks._load`` prints both.
All run on this computer and share its cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks._load_clients import MqttCounter, OpcuaCounter
from simulators.load.channel import Job, MqttJob, OpcuaJob
from simulators.load.fleet import Fleet
from simulators.load.mqtt_json import JsonMessages
from simulators.load.plan import LoadPlan, share

_MACHINES: Final = 500
_SIGNALS: Final = 100
_OPCUA_HZ: Final = 10.0
_VALUES_PER_MESSAGE: Final = 10
_MQTT_HZ: Final = 8.0
_STOCK_MACHINES: Final = 100
_STOCK_HZ: Final = 2.0
"""20,000 values a second are more than asyncua's own server gets through; with still more it answers nobody."""
_BASELINE_S: Final = 4.0


def measure_opcua(seconds: float, servers: int = 2) -> dict[str, Any]:
    """Return what subscribers of all variables of ``servers`` servers received a second, for so many seconds.

    ``opcua_values_per_s`` is counted at the subscribers; ``verified`` says that every variable had every tick
    once, in order, with the value and the time foreseen. ``asyncua_values_per_s`` is one server of asyncua's
    alone with the same subscriber.
    """
    return asyncio.run(_opcua(seconds, servers))


def measure_mqtt(seconds: float, publishers: int = 2) -> dict[str, Any]:
    """Return what a QoS 1 subscriber at mosquitto received a second, for so many seconds.

    ``mqtt_messages_per_s`` is counted at the subscriber; ``verified`` says that every message was there once, in
    order, with the bytes foreseen. ``paho_messages_per_s`` is one paho publisher with the same messages and
    subscriber. Raises FileNotFoundError where mosquitto is not installed.
    """
    return asyncio.run(_mqtt(seconds, publishers))


async def _opcua(seconds: float, servers: int) -> dict[str, Any]:
    plan = LoadPlan(_MACHINES, _SIGNALS, _OPCUA_HZ, int(time.time()) * 1000)
    parts = share(_MACHINES, servers)
    ports = free_ports(servers)
    jobs: list[Job] = [
        OpcuaJob(plan, number, part.start, part.stop, "127.0.0.1", port)
        for number, (part, port) in enumerate(zip(parts, ports, strict=True))
    ]
    async with Fleet(plan, jobs) as fleet, contextlib.AsyncExitStack() as stack:
        await fleet.start()
        counters = [
            await stack.enter_async_context(
                _counting(OpcuaCounter(plan, part, f"opc.tcp://127.0.0.1:{port}"))
            )
            for part, port in zip(parts, ports, strict=True)
        ]
        await asyncio.sleep(1.0)
        before, server_cpu_s, cpu_s = fleet.counters, fleet.counters.cpu_s, time.process_time()
        began_s, began = time.perf_counter(), sum(each.values_total for each in counters)
        await asyncio.sleep(seconds)
        took_s = time.perf_counter() - began_s
        received = sum(each.values_total for each in counters) - began
        cpu_s, server_cpu_s = time.process_time() - cpu_s, fleet.counters.cpu_s - server_cpu_s
        after = fleet.counters
        problems = [problem for each in counters for problem in each.verdict()]
    return {
        "opcua_values_per_s": round(received / took_s),
        "offered_values_per_s": round(_MACHINES * _SIGNALS * _OPCUA_HZ),
        "servers": servers,
        "verified": not problems,
        "problems": problems[:5],
        "late_ticks": after.late_ticks - before.late_ticks,
        "discarded_values": after.discarded_values - before.discarded_values,
        "startup_s": round(fleet.startup_s, 2),
        "server_cpu_cores": round(server_cpu_s / took_s, 3),
        "client_cpu_cores": round(cpu_s / took_s, 3),
        "asyncua_values_per_s": await _stock(),
    }


@contextlib.asynccontextmanager
async def _counting(counter: OpcuaCounter) -> AsyncIterator[OpcuaCounter]:
    try:
        await counter.start()
        yield counter
    finally:
        await counter.stop()


async def _stock() -> int:
    """Return how many values a second one server of asyncua's alone brings to the same subscriber."""
    plan = LoadPlan(_STOCK_MACHINES, _SIGNALS, _STOCK_HZ, int(time.time()) * 1000)
    (port,) = free_ports(1)
    numbers = (port, _STOCK_MACHINES, _SIGNALS, _STOCK_HZ, plan.epoch_ms, 0, _STOCK_MACHINES)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._load_peers", "stock", *map(str, numbers)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        counter = OpcuaCounter(plan, range(_STOCK_MACHINES), f"opc.tcp://127.0.0.1:{port}", check=False)
        async with _counting(counter):
            await asyncio.sleep(1.0)
            began_s, began = time.perf_counter(), counter.values_total
            await asyncio.sleep(_BASELINE_S)
            return round((counter.values_total - began) / (time.perf_counter() - began_s))
    finally:
        process.kill()
        await process.wait()


async def _mqtt(seconds: float, publishers: int) -> dict[str, Any]:
    plan = LoadPlan(_MACHINES, _SIGNALS, _MQTT_HZ, int(time.time()) * 1000)
    messages = JsonMessages(plan, range(_MACHINES), "load", qos=1, values_per_message=_VALUES_PER_MESSAGE)
    with _mosquitto() as (port, broker):
        jobs: list[Job] = [
            MqttJob(
                plan,
                number,
                part.start,
                part.stop,
                "127.0.0.1",
                port,
                "load",
                f"load-{number}",
                1,
                _VALUES_PER_MESSAGE,
                1_000,
            )
            for number, part in enumerate(share(_MACHINES, publishers))
        ]
        counter = MqttCounter(messages, plan, "load", port)
        counter.start()
        try:
            async with Fleet(plan, jobs) as fleet:
                await fleet.start()
                await asyncio.sleep(1.0)
                broker_s, cpu_s, client_s = _cpu_s(broker), fleet.counters.cpu_s, counter.cpu_s
                began_s, began = time.perf_counter(), counter.messages_total
                await asyncio.sleep(seconds)
                took_s, received = time.perf_counter() - began_s, counter.messages_total - began
                broker_s = _cpu_s(broker) - broker_s
                cpu_s, client_s = fleet.counters.cpu_s - cpu_s, counter.cpu_s - client_s
                totals = await fleet.stop()
            for _ in range(100):
                if counter.messages_total >= totals.acknowledged_messages:
                    break
                await asyncio.sleep(0.05)
        finally:
            counter.stop()
        problems = counter.verdict()
        if counter.messages_total != totals.acknowledged_messages:
            problems = [
                *problems,
                f"{counter.messages_total} received, {totals.acknowledged_messages} acknowledged",
            ]
        return {
            "mqtt_messages_per_s": round(received / took_s),
            "offered_messages_per_s": round(len(messages) * _MQTT_HZ),
            "message_bytes": messages.at(0).itemsize,
            "qos": 1,
            "publishers": publishers,
            "verified": not problems,
            "problems": problems[:5],
            "publisher_cpu_cores": round(cpu_s / took_s, 3),
            "client_cpu_cores": round(client_s / took_s, 3),
            "broker_cpu_cores": round(broker_s / took_s, 3),
            "paho_messages_per_s": await _paho(port, plan, messages),
        }


async def _paho(port: int, plan: LoadPlan, messages: JsonMessages) -> int:
    """Return how many of the same messages a second one paho publisher brings to the same subscriber."""
    counter = MqttCounter(messages, plan, "load", port)
    counter.start()
    try:
        numbers = (port, plan.machines, plan.signals, _VALUES_PER_MESSAGE, _BASELINE_S + 2)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks._load_peers", "paho", *map(str, numbers))
        )
        while not counter.messages_total and process.returncode is None:  # noqa: ASYNC110 - a counter in a thread
            await asyncio.sleep(0.05)
        began_s, began = time.perf_counter(), counter.messages_total
        await asyncio.sleep(_BASELINE_S)
        rate = round((counter.messages_total - began) / (time.perf_counter() - began_s))
        await process.wait()
    finally:
        counter.stop()
    return rate


@contextlib.contextmanager
def _mosquitto() -> Iterator[tuple[int, int]]:
    """Run a broker; yields its port and process id."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("mosquitto is not installed")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "mosquitto.conf")
        settings.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 2000\n"
        )
        with subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL) as broker:
            try:
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        socket.create_connection(("127.0.0.1", port), 1).close()
                        break
                    time.sleep(0.05)
                yield port, broker.pid
            finally:
                broker.terminate()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Return TCP ports of this computer that nobody listens on."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


if __name__ == "__main__":
    print(json.dumps({"opcua": measure_opcua(5.0), "mqtt": measure_mqtt(5.0)}))
