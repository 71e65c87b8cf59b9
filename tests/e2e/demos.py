"""Demos as processes of their own, and what the tests of all of them need."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulators.demo.ports import assign_ports

ONE_SITE = """
history_h: 0.02
sites:
  - asset: acme/dg01
    name: Dongguan
    time_zone: Asia/Shanghai
    opcua_port: 4840
    sparkplug: {group: acme, primary_host: shopfloor}
    machines:
      - {cell: imm-01, clamp_kn: 800, meter: plain}
      - {cell: imm-02, protocol: gateway, drive: hydraulic, meter: shelly}
      - {cell: imm-03, protocol: sparkplug}
"""


def eventually(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.1)
    return False


def processes_of(folder: Path) -> list[psutil.Process]:
    """Find the parts: what runs with a path inside ``folder`` on its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(f"{folder}/" in word for word in words):
            found.append(process)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    for process in processes_of(tmp_path / "data"):
        process.kill()


@pytest.fixture
def one_site(tmp_path: Path) -> tuple[str, str]:
    """The options for a plant that is quickly started, of every protocol."""
    path = tmp_path / "one_site.yaml"
    path.write_text(ONE_SITE)
    return "--scenario", str(path)


def demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    port = assign_ports(folder.parent, ["page"], {})["page"]
    return subprocess.Popen(
        [sys.executable, "-m", "shopfloor", "demo", "--data", str(folder), "--port", str(port), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *words: str) -> dict[str, Any]:
    with demo(folder, *words) as process:
        out, err = process.communicate()
    # How much a busy computer lets machines say in a few seconds is for the command to judge, not for a test.
    assert process.returncode == int("prove too little" in err), err
    assert out.count("\n") == 1
    assert processes_of(folder) == []
    report: dict[str, Any] = json.loads(out)
    assert {name: report[name] for name in ("missing", "duplicated", "wrong")} == {
        "missing": 0,
        "duplicated": 0,
        "wrong": 0,
    }, err
    assert report["stored"] == report["emitted"] > report["live_emitted"]
    assert report["drained"]
    return report


def wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = next((line for line in iter(process.stdout.readline, "") if line.startswith("ready after")), "")
    assert line, process.stderr and process.stderr.read()
    return line
