"""Debian's InfluxDB and VictoriaMetrics, as they are installed, for `benchmarks.line_protocol`."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

_PATIENCE_S = 60.0


class Server(NamedTuple):
    """A peer that runs."""

    port: int
    path: str
    """Where line protocol is posted to."""
    rows: Callable[[], int]
    """Counts what it says it holds."""
    pid: int


Peer = Callable[[Path], AbstractContextManager[Server | None]]


@contextmanager
def influxdb(folder: Path) -> Iterator[Server | None]:
    """Run Debian's influxd (1.x) with its defaults in a folder; None where it is not installed."""
    program = shutil.which("influxd")
    if program is None:
        yield None
        return
    folder.mkdir()
    port, inner = _free_port(), _free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{inner}"\n'
        f'[meta]\n  dir = "{folder}/meta"\n'
        f'[data]\n  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n  query-log-enabled = false\n'
        "[monitor]\n  store-enabled = false\n"
        f'[http]\n  bind-address = "127.0.0.1:{port}"\n  log-enabled = false\n',
        encoding="utf-8",
    )
    base = f"http://127.0.0.1:{port}"

    def query(text: str) -> str:
        data = urllib.parse.urlencode({"db": "bench", "q": text}).encode()
        with urllib.request.urlopen(f"{base}/query", data, timeout=_PATIENCE_S) as answer:  # noqa: S310
            body: bytes = answer.read()
        return body.decode()

    def rows() -> int:
        series = json.loads(query('SELECT count(*) FROM "imm"'))["results"][0].get("series", [])
        return sum(sum(one["values"][0][1:]) for one in series)

    with _running([program, "-config", str(config)], f"{base}/ping") as pid:
        query('CREATE DATABASE "bench"')
        yield Server(port, "/write?db=bench", rows, pid)


@contextmanager
def victoriametrics(folder: Path, *options: str) -> Iterator[Server | None]:
    """Run Debian's VictoriaMetrics with its defaults in a folder; None where it is not installed."""
    program = shutil.which("victoria-metrics")
    if program is None:
        yield None
        return
    port = _free_port()
    base = f"http://127.0.0.1:{port}"

    def rows() -> int:
        with urllib.request.urlopen(f"{base}/metrics", timeout=_PATIENCE_S) as answer:  # noqa: S310
            text = answer.read().decode()
        return round(
            sum(
                float(one)
                for one in re.findall(r'^vm_rows_inserted_total\{type="influx"\} (\S+)', text, re.MULTILINE)
            )
        )

    command = [
        program,
        f"-storageDataPath={folder}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        *options,
    ]
    with _running(command, f"{base}/health") as pid:
        yield Server(port, "/write?db=bench", rows, pid)


@contextmanager
def _running(command: list[str], ready: str) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not answer")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
