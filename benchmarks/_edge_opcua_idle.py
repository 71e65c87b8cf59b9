"""What an agent with many quiet signals costs: a real ``shopfloor edge run`` at a load server, and a service that takes all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from benchmarks._load import free_ports
from shopfloor.messages import HeartbeatReply, Receipt
from shopfloor.wire import decode_batch
from simulators.load.channel import OpcuaJob
from simulators.load.fleet import Fleet
from simulators.load.opcua_space import NAMESPACE_URI
from simulators.load.plan import LoadPlan, machine_name, signal_name

_MACHINES: Final = 100
_SIGNALS: Final = 100
_LIVELY: Final = 100
"""Signals that change every second; the server's other ones are looked at once an hour."""
_START_TIMEOUT_S: Final = 120.0
_SETTLE_S: Final = 5.0


class _Service:
    """Answers an agent as the ingestion service does, and counts what it gets."""

    def __init__(self) -> None:
        self.samples_total = 0
        self.first = asyncio.Event()
        self.all = asyncio.Event()

    async def batches(self, request: web.Request) -> web.Response:
        batch = decode_batch(await request.read())
        self.samples_total += len(batch.block)
        self.first.set()
        if self.samples_total >= _MACHINES * _SIGNALS:
            self.all.set()
        last = batch.first_seq + len(batch.block) - 1
        return _json(Receipt(last, last))

    async def heartbeats(self, _request: web.Request) -> web.Response:
        return _json(HeartbeatReply(time.time_ns()))

    async def nothing(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)


def _json(message: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(message), content_type="application/json")


@contextlib.asynccontextmanager
async def _serving(service: _Service, port: int) -> AsyncIterator[None]:
    application = web.Application(client_max_size=2**26)
    application.add_routes(
        [
            web.post("/v1/batches", service.batches),
            web.post("/v1/heartbeats", service.heartbeats),
            web.post("/v1/spans", service.nothing),
            web.put("/v1/declarations", service.nothing),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


def _configuration(folder: Path, server: int, service: int) -> Path:
    nodes = [
        {
            "node": f"nsu={NAMESPACE_URI};s={machine_name(machine)}.{signal_name(signal)}",
            "asset": f"acme/hk01/load/line-1/{machine_name(machine)}",
            "signal": signal_name(signal).replace("-", "_"),
            "group": "lively" if machine * _SIGNALS + signal < _LIVELY else "quiet",
        }
        for machine in range(_MACHINES)
        for signal in range(_SIGNALS)
    ]
    (folder / "token").write_text("benchmark")
    text = msgspec.yaml.encode(
        {
            "agent": {"id": "benchmark", "asset": "acme/hk01"},
            "uplink": {"url": f"http://127.0.0.1:{service}", "token": f"file:{folder / 'token'}"},
            "data": str(folder / "data"),
            "status": {"listen": "127.0.0.1:0"},
            "sources": [
                {
                    "opcua": {
                        "name": "load",
                        "endpoint": f"opc.tcp://127.0.0.1:{server}",
                        "groups": {
                            "lively": {"mode": "subscribe", "sampling_interval_ms": 1_000},
                            "quiet": {"mode": "subscribe", "sampling_interval_ms": 3_600_000},
                        },
                        "nodes": nodes,
                    }
                }
            ],
        }
    )
    path = folder / "agent.yaml"
    path.write_bytes(text)
    return path


async def measure_idle(folder: Path, seconds: float) -> dict[str, Any]:
    """Run an agent that has subscribed 10,000 signals, of which 100 change every second, for so many seconds.

    ``start_s`` is the time from starting the process to its first samples at the service, ``start_all_s`` to one of every
    signal, ``start_server_cpu_s`` what the OPC UA server worked meanwhile; CPU and memory are the agent's own.
    """
    plan = LoadPlan(_MACHINES, _SIGNALS, 1.0, int(time.time()) * 1000)
    server_port, service_port = free_ports(2)
    service = _Service()
    job = OpcuaJob(plan, 0, 0, _MACHINES, "127.0.0.1", server_port)
    async with _serving(service, service_port), Fleet(plan, [job]) as fleet:
        await fleet.start()
        configuration = _configuration(folder, server_port, service_port)
        server_cpu_s, began_s = _cpu_s(fleet.pids[0]), time.monotonic()
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shopfloor", "edge", "run", str(configuration)),
            stderr=asyncio.subprocess.PIPE,
        )
        said = asyncio.create_task(agent.communicate())
        try:
            await _until(service.first, said)
            start_s = time.monotonic() - began_s
            await _until(service.all, said)
            start_all_s = time.monotonic() - began_s
            server_cpu_s = _cpu_s(fleet.pids[0]) - server_cpu_s
            start_cpu_s = _cpu_s(agent.pid)
            await asyncio.sleep(_SETTLE_S)
            cpu_s, samples, began_s = _cpu_s(agent.pid), service.samples_total, time.monotonic()
            await asyncio.sleep(seconds)
            took_s = time.monotonic() - began_s
            cpu_s, samples = _cpu_s(agent.pid) - cpu_s, service.samples_total - samples
            rss_mb = _rss_mb(agent.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                agent.terminate()
            await said
    return {
        "idle_signals": _MACHINES * _SIGNALS,
        "idle_values_per_s": round(samples / took_s, 1),
        "idle_cpu_percent": round(100 * cpu_s / took_s, 2),
        "rss_mb": rss_mb,
        "start_s": round(start_s, 2),
        "start_all_s": round(start_all_s, 2),
        "start_cpu_s": round(start_cpu_s, 2),
        "start_server_cpu_s": round(server_cpu_s, 2),
    }


async def _until(event: asyncio.Event, ended: asyncio.Task[tuple[bytes, bytes]]) -> None:
    """Wait for an event at the service; raises RuntimeError where the agent ends before, or takes too long."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting, ended], timeout=_START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if ended.done():
        raise RuntimeError(f"the agent ended: {ended.result()[1].decode(errors='replace')[-2_000:]}")
    if not event.is_set():
        raise RuntimeError(f"no samples from the agent within {_START_TIMEOUT_S:.0f} s")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / 1024, 1)
