"""``shopfloor simulate`` as a process: ready, frozen, stopped, killed and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulators.command import chosen_scenario
from simulators.emissions import read_emissions, read_series
from simulators.plant import emission_folder
from simulators.scenario import SCENARIOS, load_scenario
from simulators.truth import TABLES
from tests.in_process import Command, command
from tests.integration.mqtt_brokers import mosquitto, until
from tests.ports import free_port

__all__ = ["command"]

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
        *(sys.executable, "-m", "shopfloor", "simulate", "run", str(path)),
        *("--data", str(folder / "data"), *options),
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
                assert len(log) == site["values_total"] == site["logged_total"]
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
    (data / "ready").unlink()
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


def shopfloor(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``shopfloor simulate`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "shopfloor", "simulate", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("action", ["run", "check"])
def test_a_taken_port_is_named_with_its_line_and_site_before_anything_starts(
    tmp_path: Path, action: str
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        path = tmp_path / "scenario.yaml"
        path.write_text(SCENARIO.replace("opcua_port: 4841", f"opcua_port: {port}"))
        done = shopfloor(action, str(path), folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"{path}:5:83: sites.1.opcua_port: port {port} of 127.0.0.1 is in use [acme/vn01]"
        ]
        if action == "run":
            done = shopfloor("run", str(path), "--port-base", str(port), folder=tmp_path)
            assert done.returncode == 2
            assert done.stderr.startswith(f"--port-base: port {port} of 127.0.0.1 is in use [acme/hk01]")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("action", ["run", "check", "truth"])
def test_a_wrong_scenario_is_refused_by_every_action(tmp_path: Path, command: Command, action: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace("opcua_port: 4841", "opcua_port: 4840"))
    done = command("simulate", action, path)
    assert done.returncode == 2
    assert done.stderr == f"{path}:5:83: sites.1.opcua_port: two sites on the port 4840\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere"], "nowhere: No such file or directory"),
        (["check", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["run", "--speed", "61"], "argument --speed: must be between 1 and 60"),
        (["run", "--speed", "0.5"], "argument --speed: must be between 1 and 60"),
        (["run", "--ago", "-1"], "argument --ago: must be between 0 and 8784"),
        (["truth", "--days", "0"], "argument --days: must be above 0 and at most 3660"),
        (["truth", "--start", "tomorrow"], "'tomorrow' is not an ISO 8601 time"),
        (["run", "microfactory", "--site", "acme/dg01"], "--site acme/dg01: the scenario has acme/hk01"),
        (["run", "microfactory", "--seed", "-1"], "--seed -1: must not be negative"),
        (["run", "microfactory", "--broker", "http://x"], "--broker: a broker is written mqtt://HOST[:PORT]"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("simulate", *words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_check_says_what_a_scenario_holds(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "scenario.yaml"
    text = (SCENARIOS / "three_plants.yaml").read_text()
    base = port_base()
    for number, port in enumerate((4840, 4841, 4842)):
        text = text.replace(f"opcua_port: {port}", f"opcua_port: {base + number % 2 + number // 2 * 2}")
    path.write_text(text)
    done = command("simulate", "check", path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "acme/hk01",
        "acme/dg01",
        "acme/vn01",
    ]
    assert any("GEAR-24T pom" in line and "tasmota" in line for line in lines)
    for word in ("line of u1-mould", "garment cell of sew-1", "temperature control unit", "compressor"):
        assert any(word in line for line in lines)
    assert sum("sparkplug" in line for line in lines) == 6


def test_the_same_truth_is_the_same_bytes(tmp_path: Path) -> None:
    """In processes of their own: hashes of texts differ between processes."""

    def truth(out: str, *options: str) -> dict[str, bytes]:
        words = ("truth", "microfactory", "--days", "0.5", "--out", out, "--json", *options)
        done = shopfloor(*words, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        report = json.loads(done.stdout)
        assert (report["folder"], report["units"], report["unit_days"]) == (out, 5, 2.5)
        assert report["rows"] > 1_000
        return {file.name: file.read_bytes() for file in (tmp_path / out).iterdir()}

    first = truth("first")
    assert set(first) == {f"{table}.parquet" for table in TABLES}
    assert truth("second") == first
    other = truth("other", "--seed", "8")
    assert other["cycles.parquet"] != first["cycles.parquet"]
