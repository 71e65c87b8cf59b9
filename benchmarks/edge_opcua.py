"""CPU a value of the OPC UA source, beside asyncua's own client in the same run; and what an agent with quiet signals costs.

    python -m benchmarks.edge_opcua [--seconds 4] [--json]

10,000 Doubles are polled from, and subscribed at, a server in another process: the load generator's, which costs so
little that it never is what is waited for, and then asyncua's own. CPU is this process's alone, all of its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client

from benchmarks._edge_opcua_idle import measure_idle
from benchmarks._load import free_ports
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.intake import BufferThread, Intake
from edge_agent.sink import SourceSink
from edge_agent.sources import BlockSink
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.source import OpcUaSource
from shopfloor.block import SampleBlock
from shopfloor.messages import SourceState
from simulators.load.channel import OpcuaJob
from simulators.load.fleet import Fleet
from simulators.load.opcua_space import NAMESPACE_URI
from simulators.load.plan import LoadPlan, machine_name, signal_name

_MACHINES: Final = 100
_SIGNALS: Final = 100
_VALUES: Final = _MACHINES * _SIGNALS
_HZ: Final = 10.0
_STOCK_HZ: Final = 0.5
"""5,000 values a second; asyncua's server gets through little more."""
_PER_REQUEST: Final = 2_000
_ASYNCUA_READS: Final = 3
_BEGIN_TIMEOUT_S: Final = 120.0


class _Counting:
    """A BlockSink that counts what passes; where it ends, it ends."""

    def __init__(self, behind: BlockSink | None = None) -> None:
        self._behind = behind
        self.samples_total = 0
        self.message = ""

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        if self._behind is not None:
            await self._behind.put(block, state)
        self.samples_total += len(block)

    def state(self) -> Mapping[str, bytes]:
        return {}

    async def gap(self, *_arguments: Any, **_options: Any) -> None:
        """Expect none that matters: nothing is recorded here."""

    def report(self, _state: SourceState, message: str = "") -> None:
        self.message = message

    def clock_offset(self, _offset_ns: int) -> None:
        """Ignore."""

    def count(self, _what: str, _number: int = 1) -> None:
        """Ignore."""


def _source(port: int, group: dict[str, Any]) -> OpcUaSource:
    nodes = [
        {
            "node": f"nsu={NAMESPACE_URI};s={machine_name(machine)}.{signal_name(signal)}",
            "asset": f"acme/hk01/load/line-1/{machine_name(machine)}",
            "signal": signal_name(signal).replace("-", "_"),
            "group": "all",
        }
        for machine in range(_MACHINES)
        for signal in range(_SIGNALS)
    ]
    return OpcUaSource(
        OpcUaConfig.model_validate(
            {
                "name": "load",
                "endpoint": f"opc.tcp://127.0.0.1:{port}",
                "request_timeout_s": 60.0,
                "history": {"backfill_h": 0},
                # Asked once a session, and no part of what a value costs.
                "read_metadata": False,
                "groups": {"all": group},
                "nodes": nodes,
            }
        )
    )


async def _measure(source: OpcUaSource, sink: _Counting, seconds: float) -> float:
    """Return the CPU in us that a value costs from the request to the sink, once the source is running."""
    task = asyncio.create_task(source.run(sink))
    try:
        deadline_s = time.monotonic() + _BEGIN_TIMEOUT_S
        while sink.samples_total < 2 * _VALUES:
            if task.done() or time.monotonic() > deadline_s:
                raise RuntimeError(
                    f"the source does not get going: {task.done() and task.exception()} {sink.message}"
                )
            await asyncio.sleep(0.05)
        cpu_s, samples = time.process_time(), sink.samples_total
        await asyncio.sleep(seconds)
        return (time.process_time() - cpu_s) / max(1, sink.samples_total - samples) * 1e6
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def _durable(source: OpcUaSource) -> AsyncIterator[_Counting]:
    """Yield the agent's own way to the disk."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        buffer = await loop.run_in_executor(executor, SqliteBuffer, Path(folder), BufferLimits(), "benchmark")
        intake = Intake(BufferThread(buffer, executor))
        writing = asyncio.create_task(intake.run())
        try:
            yield _Counting(SourceSink(source, intake, "benchmark", {}, Counter()))
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            await loop.run_in_executor(executor, buffer.close)


async def _asyncua_read(port: int) -> float:
    """Return the CPU in us that a value costs with asyncua's `read_values`, as many a request as ours."""
    async with _asyncua(port) as (client, nodes):
        await client.read_values(nodes[:_PER_REQUEST])
        cpu_s = time.process_time()
        for _ in range(_ASYNCUA_READS):
            for first in range(0, len(nodes), _PER_REQUEST):
                await client.read_values(nodes[first : first + _PER_REQUEST])
        return (time.process_time() - cpu_s) / (_ASYNCUA_READS * len(nodes)) * 1e6


class _Handler:
    """asyncua's way of giving values to an application."""

    def __init__(self) -> None:
        self.values_total = 0

    def datachange_notification(self, _node: Any, _value: Any, _data: Any) -> None:
        self.values_total += 1


async def _asyncua_subscription(port: int, seconds: float) -> float:
    """Return the CPU in us that a value costs with a subscription of asyncua's."""
    async with _asyncua(port) as (client, nodes):
        handler = _Handler()
        subscription = await client.create_subscription(100, handler)
        for first in range(0, len(nodes), _PER_REQUEST):
            await subscription.subscribe_data_change(nodes[first : first + _PER_REQUEST], queuesize=100)
        await asyncio.sleep(1.0)
        cpu_s, values = time.process_time(), handler.values_total
        await asyncio.sleep(seconds)
        return (time.process_time() - cpu_s) / max(1, handler.values_total - values) * 1e6


@contextlib.asynccontextmanager
async def _asyncua(port: int) -> AsyncIterator[tuple[Client, list[Any]]]:
    async with Client(f"opc.tcp://127.0.0.1:{port}", timeout=60) as client:
        namespace = await client.get_namespace_index(NAMESPACE_URI)
        yield (
            client,
            [
                client.get_node(
                    ua.NodeId(
                        ua.String(f"{machine_name(machine)}.{signal_name(signal)}"), ua.Int16(namespace)
                    )
                )
                for machine in range(_MACHINES)
                for signal in range(_SIGNALS)
            ],
        )


async def _both(port: int, hz: float, seconds: float) -> tuple[float, float]:
    """Return the CPU in us from request to disk, polled and subscribed, where every value changes so often a second."""
    figures = []
    for group in (
        {"mode": "poll", "interval_s": 1 / hz},
        {"mode": "subscribe", "publishing_interval_ms": min(1_000.0, 1_000 / hz), "queue_size": 100},
    ):
        source = _source(port, group)
        async with _durable(source) as sink:
            figures.append(await _measure(source, sink, seconds))
    return figures[0], figures[1]


async def _at_load_server(seconds: float) -> dict[str, Any]:
    plan = LoadPlan(_MACHINES, _SIGNALS, _HZ, int(time.time()) * 1000)
    (port,) = free_ports(1)
    async with Fleet(plan, [OpcuaJob(plan, 0, 0, _MACHINES, "127.0.0.1", port)]) as fleet:
        await fleet.start()
        theirs = await _asyncua_read(port)
        ours = await _measure(_source(port, {"mode": "poll", "interval_s": 1 / _HZ}), _Counting(), seconds)
        path, subscription = await _both(port, _HZ, seconds)
        theirs_subscribed = await _asyncua_subscription(port, seconds)
    return {
        "values": _VALUES,
        "asyncua_read_cpu_us_per_value": round(theirs, 2),
        "read_cpu_us_per_value": round(ours, 3),
        "decode_ratio": round(theirs / ours, 1),
        "path_cpu_us_per_value": round(path, 3),
        "asyncua_subscription_cpu_us_per_value": round(theirs_subscribed, 2),
        "subscription_cpu_us_per_value": round(subscription, 3),
        "subscription_ratio": round(theirs_subscribed / subscription, 1),
    }


async def _at_asyncua_server(seconds: float) -> dict[str, Any]:
    (port,) = free_ports(1)
    numbers = (port, _MACHINES, _SIGNALS, _STOCK_HZ, int(time.time()) * 1000, 0, _MACHINES)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._load_peers", "stock", *map(str, numbers)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        path, subscription = await _both(port, _STOCK_HZ, seconds)
    finally:
        process.kill()
        await process.wait()
    return {
        "asyncua_server_path_cpu_us_per_value": round(path, 3),
        "asyncua_server_subscription_cpu_us_per_value": round(subscription, 3),
    }


async def measure(seconds: float) -> dict[str, Any]:
    """Run everything; see the module's words for what is measured."""
    results = await _at_load_server(seconds)
    results |= await _at_asyncua_server(2 * seconds)
    with tempfile.TemporaryDirectory() as folder:
        results |= await measure_idle(Path(folder), 2 * seconds)
    return results


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement; default: 4")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {"benchmark": "edge_opcua", **asyncio.run(measure(options.seconds))}
    if options.json:
        print(json.dumps(results))
        return
    for name, figure in results.items():
        print(f"{name:45} {figure}")


if __name__ == "__main__":
    main()
