"""``shopfloor simulate`` as a process: ready, frozen, stopped, killed and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from simulators.command import chosen_scenario
from simulators.emissions import read_emissions, read_series
from simulators.plant import emission_folder
from simulators.scenario import load_scenario
from tests.integration.mqtt_brokers import free_port, mosquitto, until

SCENARIO = """
history_h: 0.1
sites:
  - {asset: acme/hk01, name: Hong Kong, time_zone: Asia/Hong_Kong, opcua_port: 4840, machines: [{cell: imm-01}]}
  - {asset: acme/vn01, name: Binh Duong, time_zone: Asia/Ho_Chi_Minh, opcua_port: 4841, machines: [{cell: imm-01}]}
"""


def port_base() -> int:
    """Return a port with a free one after it."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@asynccontextmanager
async def simulate(folder: Path, *options: str) -> AsyncIterator[Process]:
    path = folder / "scenario.yaml"
    if not path.exists():
        path.write_text(SCENARIO)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shopfloor", "simulate", str(path), "--data", str(folder / "data"), *options),
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(path: Path, process: Process) -> Any:
    await until(lambda: path.exists() or process.returncode is not None, f"{path.name} is written")
    assert process.returncode is None, (await process.communicate())[1].decode()
    return json.loads(path.read_text())


async def test_freezing_flushes_everything_and_counts_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with mosquitto(tmp_path) as broker:
        options = ("--port-base", str(port_base()), "--broker", f"mqtt://127.0.0.1:{broker.port}")
        async with simulate(tmp_path, *options) as process:
            ready = await said(data / "ready", process)
            assert ready["pid"] == process.pid
            assert list(ready["endpoints"]) == ["acme/hk01", "acme/vn01"]
            scenario = load_scenario(tmp_path / "scenario.yaml")
            folders = {site.asset: emission_folder(data, site) for site in scenario.sites}
            await until(
                lambda: all(
                    any(key.signal == "energy.active_power" for key in read_series(folder))
                    for folder in folders.values()
                ),
                "a meter has spoken at each site",
            )
            process.send_signal(signal.SIGUSR2)
            stopped = await said(data / "stopped", process)
            assert stopped["unacknowledged"] == 0
            logs = {asset: read_emissions(folder) for asset, folder in folders.items()}
            for asset, log in logs.items():
                site = stopped["sites"][asset]
                assert len(log) == site["opcua_total"] + site["mqtt_total"] == site["logged_total"]
                assert int(log.source_time.max()) == site["last_time_ns"]
            await asyncio.sleep(0.6)
            for asset, folder in folders.items():
                assert len(read_emissions(folder)) == len(logs[asset]), "something happened while frozen"
            # Frozen machines still answer.
            for endpoint in ready["endpoints"].values():
                host, port = endpoint.removeprefix("opc.tcp://").split(":")
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                await writer.wait_closed()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            assert not (data / "ready").exists()


async def test_a_kill_and_a_new_start_continue_the_same_past(tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = (
        "--port-base",
        str(port_base()),
        "--site",
        "acme/vn01",
        "--broker",
        f"mqtt://127.0.0.1:{free_port()}",
    )
    folder = emission_folder(data, load_and_choose(tmp_path).sites[0])
    async with simulate(tmp_path, *options) as process:
        await said(data / "ready", process)
        before = len(read_emissions(folder))
        await until(lambda: len(read_emissions(folder)) > before + 20, "it lives")
        process.kill()
        await process.wait()
    old = read_series(folder)
    async with simulate(tmp_path, *options) as process:
        await until(
            lambda: len(read_emissions(folder)) > sum(map(len, (row.value for row in old.values()))) + 20,
            "on",
        )
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    for key, columns in read_series(folder).items():
        assert (np.diff(columns.time_ns) > 0).all(), key
        if key in old:
            n = len(old[key].value)
            assert columns.value[:n].tobytes() == old[key].value.tobytes(), key
        if key.signal == "cycle.counter":
            assert (np.diff(columns.value) > 0).all()


def load_and_choose(folder: Path) -> Any:
    (folder / "scenario.yaml").write_text(SCENARIO)
    return chosen_scenario(load_scenario(folder / "scenario.yaml"), sites=["acme/vn01"])


async def test_a_taken_port_and_a_wrong_file_are_one_line_each(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        async with simulate(tmp_path, "--site", "acme/hk01", "--port-base", str(port)) as process:
            _, errors = await process.communicate()
            assert process.returncode == 1
            assert errors.decode().splitlines() == [
                f"shopfloor simulate: can't listen on opc.tcp://127.0.0.1:{port}: Address already in use"
            ]
    (tmp_path / "scenario.yaml").write_text(SCENARIO.replace("opcua_port: 4841", "opcua_port: 4840"))
    async with simulate(tmp_path) as process:
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert errors.decode().splitlines() == [
            f"{tmp_path}/scenario.yaml:2:1: (the whole file): two sites on the port 4840"
        ]
