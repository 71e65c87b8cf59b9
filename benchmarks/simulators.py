"""How fast and how cheap the simulators are: ``python -m benchmarks.simulators [--json] [--quick]``.

- ``cycle_machine_days_per_min``: machines of all drive classes live cycle by cycle, truth written, in one process whose
  CPU time is counted (the machine may be shared).
- ``opcua_values_per_s``, ``mqtt_messages_per_s``: what the load generator delivers, counted and verified at receivers,
  beside asyncua's own server and a paho publisher in the same run.
- ``realtime_cpu_cores``: three_plants.yaml at 1x behind its protocols, an agent's worth of subscriptions not counted.
- ``euromap77_start_s``: eight machines with six zones each, from the start of the process until the server listens.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._load import free_ports, measure_mqtt, measure_opcua
from simulators.demo.broker import nats_command
from simulators.demo.ports import HOST
from simulators.scenario import THREE_PLANTS, Scenario
from simulators.truth_run import write_truth

_START_MS: Final = 1_767_571_200_000
"""2026-01-05, a Monday."""
_DRIVES: Final = ("electric", "servo_hydraulic", "hydraulic")
_SETTLE_S: Final = 10.0
_EIGHT: Final = """
import asyncio, pathlib, sys, tempfile, time
from simulators.protocols.opcua import PlantServer
from simulators.scenario import MachineConfig, SiteConfig
site = SiteConfig(asset="bench/site", name="Bench", time_zone="UTC", opcua_port=int(sys.argv[1]),
                  machines=tuple(MachineConfig(cell=f"imm-{n}", zones=6) for n in range(8)))
async def start():
    server = PlantServer(site, "127.0.0.1")
    await server.start()
    print("up", flush=True)
    await server.stop()
asyncio.run(start())
"""


def cycles(days: float) -> dict[str, float]:
    """Let one machine of each drive class live for some days, truth written."""
    scenario = Scenario.model_validate(
        {
            "sites": [
                {
                    "asset": "bench/site",
                    "name": "Bench",
                    "time_zone": "Asia/Hong_Kong",
                    "opcua_port": 4840,
                    "machines": [{"cell": f"imm-{drive}", "drive": drive} for drive in _DRIVES],
                }
            ]
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        written = write_truth(scenario, Path(folder), _START_MS, days)
        cpu_s = time.process_time() - began
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {
        "cycle_machine_days_per_min": round(written.unit_days / cpu_s * 60.0, 1),
        "cycle_machine_days": written.unit_days,
        "truth_rows": written.rows,
        "truth_bytes_per_machine_day": round(size / written.unit_days),
    }


def euromap77_start_s() -> float:
    """Return the time from the start of a process until its server with eight machines listens."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _EIGHT, str(free_ports(1)[0])], check=True, capture_output=True, text=True
    )
    assert done.stdout == "up\n", done.stderr
    return round(time.monotonic() - began, 2)


def realtime(seconds: float) -> dict[str, float]:
    """Run the three plants at 1x with a broker, and count the CPU time of the simulators' process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mqtt, monitor, base = free_ports(3)
        command = nats_command(folder / "broker", mqtt, monitor)
        broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        simulators = subprocess.Popen(
            [
                *(sys.executable, "-m", "shopfloor", "simulate", "run", str(THREE_PLANTS)),
                *("--data", str(folder / "data"), "--port-base", str(base)),
                *("--broker", f"mqtt://{HOST}:{mqtt}"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = folder / "data" / "ready"
            while not ready.exists():
                if simulators.poll() is not None:
                    raise RuntimeError("the simulators ended")
                time.sleep(0.1)
            startup_s = json.loads(ready.read_text())["startup_s"]
            process = psutil.Process(simulators.pid)
            time.sleep(_SETTLE_S)
            before, began = sum(process.cpu_times()[:2]), time.monotonic()
            time.sleep(seconds)
            cores = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
            rss_mb = process.memory_info().rss / 1e6
        finally:
            simulators.send_signal(signal.SIGTERM)
            simulators.wait(30)
            broker.terminate()
            broker.wait(10)
    return {
        "realtime_cpu_cores": round(cores, 3),
        "realtime_rss_mb": round(rss_mb, 1),
        "three_plants_startup_s": startup_s,
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {"benchmark": "simulators", "cpus": os.cpu_count()}
    found |= cycles(10.0 if quick else 60.0)
    found["euromap77_start_s"] = euromap77_start_s()
    found |= realtime(10.0 if quick else 60.0)
    found |= measure_opcua(5.0 if quick else 20.0)
    found |= measure_mqtt(5.0 if quick else 20.0)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--quick", action="store_true", help="about a minute")
    arguments = parser.parse_args()
    found = measure(quick=arguments.quick)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:34} {value}")


if __name__ == "__main__":
    main()
