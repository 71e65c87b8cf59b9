"""A simulated site that is killed and started again: one past, one truth, counters that never fall, nothing unsent."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from edge_agent.sources.sparkplug.config import SparkplugConfig
from edge_agent.sources.sparkplug.source import SparkplugSource
from shopfloor.signal import SeriesKey
from simulators.emissions import SeriesColumns, read_emissions, read_series, read_untimed
from simulators.plant import emission_folder, truth_folder
from simulators.plant.checkpoint import Checkpoint
from simulators.plant.live_truth import OPEN_PART
from simulators.scenario import load_scenario
from simulators.truth import TABLES, read_truth
from simulators.truth_run import DAY_MS, write_truth
from tests.integration.mqtt_brokers import MemorySink, mosquitto, until
from tests.ports import free_port

pytestmark = pytest.mark.timeout(600)

SCENARIO = """
seed: 5
history_h: 0.2
sites:
  - asset: acme/dg01
    name: Dongguan
    time_zone: Asia/Shanghai
    opcua_port: 4840
    sparkplug: {group: acme}
    data_faults:
      - {kind: data.counter_reset, cell: imm-01, signal: cycle.counter, after_h: 0.1, for_h: 0.1}
      - {kind: data.stuck, cell: imm-02, signal: barrel.zone_1.temperature, after_h: 0.25, for_h: 0.1}
    machines:
      - {cell: imm-01, faults_per_day: 20, stops: {mean_between_min: 20}}
      - {cell: imm-02, protocol: gateway, drive: hydraulic, meter: tasmota}
      - {cell: imm-03, protocol: sparkplug}
    lines:
      - cell: u-line
        products: [{name: A}, {name: B}]
        stations: [{cell: u1, cycle_s: 25}, {cell: u2, cycle_s: 22}]
    compressors: [{cell: air-01}]
"""
COUNTERS = ("cycle.counter", "energy.active_energy", "gateway.cycle", "gateway.poll")


@asynccontextmanager
async def simulated(folder: Path, broker_port: int, *options: str) -> AsyncIterator[Process]:
    (folder / "data" / "ready").unlink(missing_ok=True)  # of one that was killed
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shopfloor", "simulate", "run", str(folder / "scenario.yaml")),
        *("--data", str(folder / "data"), "--broker", f"mqtt://127.0.0.1:{broker_port}"),
        *("--port-base", str(free_port()), *options),
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        _, errors = await process.communicate()
        assert b"Traceback" not in errors, errors.decode()


async def written(path: Path, process: Process) -> Any:
    await until(lambda: path.exists() or process.returncode is not None, f"{path.name} is written", 120)
    assert process.returncode is None, (await process.communicate())[1].decode()
    return json.loads(path.read_text())


def only_site(folder: Path) -> Any:
    (folder / "scenario.yaml").write_text(SCENARIO)
    (site,) = load_scenario(folder / "scenario.yaml").sites
    return site


def sorted_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [table.column(name).cast(pa.int64()) for name in ("begin", "end")]
    others = [table.column(name) for name in table.schema.names if name not in {"begin", "end"}]
    rows = zip(*(column.to_pylist() for column in (*columns, *others)), strict=True)
    return sorted(rows, key=lambda row: tuple(map(str, (row[2], *row))))


def contradictions(
    old: Mapping[SeriesKey, SeriesColumns], new: Mapping[SeriesKey, SeriesColumns]
) -> list[str]:
    """Say which series no longer begin with what they were."""
    return [
        str(key)
        for key, columns in old.items()
        if (count := len(columns.time_ns))
        and not (
            np.array_equal(new[key].time_ns[:count], columns.time_ns)
            and new[key].value[:count].tobytes() == columns.value.tobytes()
            and {row: text for row, text in new[key].text.items() if row < count} == columns.text
        )
    ]


async def test_two_kills_change_neither_past_nor_truth(tmp_path: Path) -> None:
    site = only_site(tmp_path)
    data = tmp_path / "data"
    log, truth = emission_folder(data, site), truth_folder(data) / "acme_dg01"
    nobody = free_port()
    past: dict[SeriesKey, SeriesColumns] = {}
    # Each life begins a little later than the last one ended: 60 times as fast, machines run on while nobody looks.
    for ago_h in ("3", "2.5"):
        async with simulated(tmp_path, nobody, "--speed", "60", "--ago", ago_h) as process:
            await written(data / "ready", process)
            before = len(read_emissions(log))
            await until(lambda before=before: len(read_emissions(log)) > before + 1_500, "it lives")  # type: ignore[misc]
            process.kill()
            await process.wait()
        now = read_series(log)
        assert contradictions(past, now) == []
        past = now
    async with simulated(tmp_path, nobody, "--speed", "60", "--ago", "1.2") as process:
        await written(data / "ready", process)
        assert list(truth.glob(f"*-{OPEN_PART}*")) == []
        before = len(read_emissions(log))
        await until(lambda: len(read_emissions(log)) > before + 1_500, "it lives again")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

    said = read_series(log)
    assert contradictions(past, said) == []
    untimed = read_untimed(log)
    for key, columns in said.items():
        if key not in untimed:
            assert (np.diff(columns.time_ns) > 0).all(), key
        if key.signal in COUNTERS and not (key.signal == "cycle.counter" and "imm-01" in str(key.asset)):
            assert (np.diff(columns.value) >= 0).all(), key

    checkpoint = msgspec.json.decode((data / "checkpoints" / "acme_dg01.json").read_bytes(), type=Checkpoint)
    assert checkpoint.part == 3, "each start completes a part"
    states = sorted_rows(read_truth(truth, "states"))
    ends_ms = max(end_ns for _, end_ns, *_ in states) // 1_000_000
    spans: dict[str, list[tuple[int, int]]] = {}
    for begin_ns, end_ns, asset, *_ in states:
        spans.setdefault(asset, []).append((begin_ns, end_ns))
    for asset, own in spans.items():
        ordered = sorted(own)
        assert all(one[1] == other[0] for one, other in itertools.pairwise(ordered)), asset
    never_killed = tmp_path / "never-killed"
    scenario = load_scenario(tmp_path / "scenario.yaml")
    write_truth(scenario, never_killed, checkpoint.life_ms, (ends_ms - checkpoint.life_ms) / DAY_MS)
    for table in TABLES:
        mine = sorted_rows(read_truth(truth, table))
        if table == "faults":
            labels = [row for row in mine if row[3].startswith("data.")]
            assert sorted(row[3] for row in labels) == ["data.counter_reset", "data.stuck"]
            mine = [row for row in mine if row not in labels]
        expected = sorted_rows(read_truth(never_killed, table))
        assert mine == expected, table
        assert table == "faults" or mine, table


async def test_what_a_killed_edge_node_had_not_delivered_comes_after_its_restart(tmp_path: Path) -> None:
    site = only_site(tmp_path)
    data = tmp_path / "data"
    log = emission_folder(data, site)
    async with simulated(tmp_path, free_port()) as process:
        await written(data / "ready", process)
        before = len(read_emissions(log))
        await until(lambda: len(read_emissions(log)) > before + 300, "it lives without a broker")
        process.kill()
        await process.wait()
    config = SparkplugConfig.model_validate(
        {
            "name": "edge-node",
            "client_id": "host",
            "host_id": "shopfloor",
            "broker": f"mqtt://127.0.0.1:{free_port()}",
            "publishers": [
                {
                    "descriptor": "acme/dg01/imm-03",
                    "asset": "acme/dg01/moulding/cell-a/imm-03",
                    "metrics": "all",
                }
            ],
        }
    )
    async with mosquitto(tmp_path) as broker:
        sink = MemorySink()
        source = SparkplugSource(config.model_copy(update={"broker": f"mqtt://127.0.0.1:{broker.port}"}))
        listening = asyncio.create_task(source.run(sink))
        try:
            await until(lambda: sink.is_running, "the host listens")
            async with simulated(tmp_path, broker.port) as process:
                await written(data / "ready", process)
                await asyncio.sleep(1)
                process.send_signal(signal.SIGUSR2)
                await written(data / "stopped", process)
                expected = {
                    (key, time_ns, columns.text.get(row, value))
                    for key, columns in read_series(log).items()
                    if str(key.asset).endswith("/imm-03")
                    for row, (time_ns, value) in enumerate(
                        zip(columns.time_ns.tolist(), columns.value.tolist(), strict=True)
                    )
                }

                def missing() -> set[tuple[SeriesKey, int, float | str]]:
                    stored = {
                        (row.series, row.source_time, row.value if row.text is None else row.text)
                        for row in list(sink.rows)
                    }
                    return expected - stored

                await until(lambda: not missing(), "all that the log has of the edge node is there", 30)
        finally:
            listening.cancel()
            await asyncio.wait([listening])
    assert len(expected) > 500
