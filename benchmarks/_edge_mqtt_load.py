"""What the MQTT benchmark receives: a broker of its own, the load generator, and cores that neither shares with it."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from simulators.load.plan import MAX_HZ

TOPIC: Final = "load"
_DRAIN_PER_S: Final = 10_000
"""How fast a backlog is published while nobody receives it."""
CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
RECEIVERS_CORE: Final = set(CORES[-1:]) if len(CORES) > 1 else set()
OTHER_CORES: Final = set(CORES[:-1])


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Keep this thread, and what it starts, to some cores; where that is not possible do nothing."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def generate(port: int, rate: int, seconds: float, values: int) -> dict[str, Any]:
    """Publish ``rate`` messages a second and return what the generator reports.

    Raises:
        SystemExit: it did not hold the rate, or the broker did not take over every message.
    """
    machines = math.ceil(rate / MAX_HZ)
    command = [sys.executable, "-m", "simulators.load", "--protocol", "mqtt", "--json", "--processes", "1"]
    command += ["--broker", f"mqtt://127.0.0.1:{port}", "--topic", TOPIC, "--for", f"{seconds:.3f}s"]
    command += ["--machines", str(machines), "--signals", str(values), "--hz", f"{rate / machines:g}"]
    with on_cores(OTHER_CORES):
        ended = subprocess.run(command, capture_output=True, check=False, text=True)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    report: dict[str, Any] = json.loads(ended.stdout)
    totals = report["totals"]
    if totals["sent_messages"] != totals["acknowledged_messages"]:
        raise SystemExit(f"the broker did not take over every message: {totals}")
    return report


class Load:
    """One run's messages: all published before anybody receives them, or while somebody does."""

    def __init__(self, port: int, *, live: bool, options: argparse.Namespace) -> None:
        self.live = live
        self.messages = math.inf
        """How many there are; known when the generator has ended."""
        self._port, self._options = port, options
        self.report: dict[str, Any] = {}

    def publish(self) -> None:
        """Publish everything; `messages` is known when this returns."""
        options = self._options
        rate = options.rate if self.live else _DRAIN_PER_S
        seconds = options.seconds if self.live else options.messages / rate
        self.report = generate(self._port, rate, seconds, options.values)
        self.messages = self.report["totals"]["acknowledged_messages"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def mosquitto(program: str, window: int) -> Iterator[tuple[int, Path]]:
    """Run a broker of its own for one run; yields its port and a folder to write into."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "mosquitto.conf")
        settings.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            f"max_inflight_messages {window}\n"
        )
        with on_cores(OTHER_CORES):
            broker = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
        with broker:
            try:
                time.sleep(0.5)
                yield port, Path(folder)
            finally:
                broker.terminate()
