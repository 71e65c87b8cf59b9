"""The ordinary ``shopfloor ingest serve`` for benchmarks: started with tokens, measured from outside, stopped."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ingest_service.auth import Role, create_token
from ingest_service.plant.engine import connect


class Running(NamedTuple):
    """A service that answers."""

    port: int
    pid: int
    tokens: list[str]
    """In the order in which they were asked for."""

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_rss_mb(self) -> int:
        """Return its largest resident size so far."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmHWM:\s+(\d+)", status)
        return int(found[1]) // 1024 if found else 0


@contextmanager
def serving(folder: Path, tokens: Sequence[tuple[Role, str]], more: str = "") -> Iterator[Running]:
    """Run a service in ``folder`` with one token for each (role, asset path); ``more`` is added to its configuration."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    engine = connect(data / "plant.sqlite")
    made = [create_token(engine, role, asset, "benchmark") for role, asset in tokens]
    engine.dispose()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "ingest.yaml").write_text(f"listen: 127.0.0.1:{port}\ndata: {data}\n{more}", encoding="utf-8")
    command = [sys.executable, "-m", "shopfloor", "ingest", "serve", str(folder / "ingest.yaml")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            _wait(port, process)
            yield Running(port, process.pid, made)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if connection.recv(65536).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service does not answer")
