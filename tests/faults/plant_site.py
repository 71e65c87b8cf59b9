"""The plant under fire: real processes, the links between them, and their configuration."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from shopfloor.errors import Permanent
from simulators.demo.broker import nats_command
from simulators.demo.parts import shopfloor
from simulators.demo.ports import assign_ports, listens
from simulators.demo.process import Part, Process
from tests.faults.number_log import GO
from tests.faults.plant_config import SITE, agent_config, ingest_config
from tests.faults.sizes import Sizes
from tests.links import HttpLink, Link


class CannotRun(Permanent):
    """Something that the campaign needs is not installed here."""


def libfaketime() -> str:
    """Return the library's path; raises CannotRun where it is not installed."""
    found = sorted(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")))
    if not found:
        raise CannotRun("libfaketime is not installed: apt install faketime (make system-deps)")
    return found[0]


class Actor:
    """One process that is killed and started again."""

    def __init__(
        self, name: str, folder: Path, command: Callable[[], list[str]], clock: Path | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._log = folder / "logs" / f"{name}.log"
        self._clock = clock
        self._process: Process | None = None
        self.is_away = False
        """Whether it was ended on purpose."""

    def start(self) -> None:
        """Start; returns at once."""
        self.is_away = False
        environment = {} if self._clock is None else clock_environment(self._clock)
        self._process = Process(
            Part(self.name, self.name, self._command(), self._log, lambda: True, environment=environment)
        )

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it was started, and ended by itself."""
        return self._process is not None and not self.is_away and self._process.exit_code() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.is_away = True
        if self._process is not None:
            self._process.kill()

    def end(self, timeout_s: float = 30.0) -> bool:
        """SIGTERM; return whether it ended in time (else it is killed)."""
        self.is_away = True
        if self._process is None:
            return True
        self._process.terminate()
        ended = self._process.wait(timeout_s)
        self._process.kill()
        return ended


def clock_environment(clock: Path) -> Mapping[str, str]:
    """Return what makes a process take its wall clock's offset from a file, within a second; monotonic time is true."""
    return {
        "LD_PRELOAD": libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class Plant:
    """All processes and links of a campaign, in one folder."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        (folder / "clocks").mkdir(parents=True, exist_ok=True)
        names = ["ingest", "broker", "nats", "history", "plain", "status"]
        self.ports = assign_ports(folder, [*names, *(f"{name}-link" for name in names[:5])], {})
        self.links: dict[str, Link] = {
            "uplink": HttpLink(self.ports["ingest"], self.ports["ingest-link"]),
            **{
                name: Link(self.ports[name], self.ports[f"{name}-link"])
                for name in ("broker", "history", "plain")
            },
        }
        self.shift = {"history": 0, "plain": 0}
        self.removed: dict[str, set[int]] = {"history": set(), "plain": set()}
        self.url = f"http://127.0.0.1:{self.ports['ingest']}"
        self.status_url = f"http://127.0.0.1:{self.ports['status']}"
        self.buffer = folder / "agent-data"
        self.service_data = folder / "service-data"
        for name in ("agent", "history", "plain"):
            self.set_clock(name, 0.0)
        self.actors = {
            "broker": Actor("broker", folder, self._broker),
            "ingest": Actor("ingest", folder, lambda: shopfloor("ingest", "serve", folder / "ingest.yaml")),
            "history": Actor("history", folder, lambda: self._server("history"), self._clock("history")),
            "plain": Actor("plain", folder, lambda: self._server("plain"), self._clock("plain")),
            "mqtt": Actor("mqtt", folder, self._publisher),
            "agent": Actor(
                "agent", folder, lambda: shopfloor("edge", "run", folder / "agent.yaml"), self._clock("agent")
            ),
        }
        self._write("ingest.yaml", ingest_config(self.ports, self.service_data))

    @property
    def uplink(self) -> HttpLink:
        """The link to the service."""
        link = self.links["uplink"]
        assert isinstance(link, HttpLink)
        return link

    async def start(self) -> None:
        """Start all links and processes but the publisher, whose messages nobody would keep yet."""
        self._write("agent.yaml", agent_config(self.ports, self.buffer, self._token(), self.sizes))
        for link in self.links.values():
            await link.start()
        for name in ("broker", "ingest", "history", "plain", "agent"):
            self.actors[name].start()

    def broker_listens(self) -> bool:
        """Whether the broker accepts connections."""
        return listens(self.ports["broker"])

    def speak(self, *, on: bool) -> None:
        """Let the machines speak, or fall silent."""
        if on:
            (self.folder / GO).touch()
        else:
            (self.folder / GO).unlink(missing_ok=True)

    def set_clock(self, name: str, offset_s: float) -> None:
        """Step a process' clock to so many seconds before or after the true time."""
        file = self._clock(name)
        new = file.with_suffix(".new")
        new.write_text(f"{offset_s:+.1f}\n")
        new.replace(file)

    def write_removed(self, name: str) -> None:
        """Tell a server which of its nodes are not there."""
        file = self.folder / f"{name}.removed"
        new = file.with_suffix(".new")
        new.write_text(" ".join(map(str, sorted(self.removed[name]))))
        new.replace(file)

    async def close(self) -> None:
        """End everything."""
        for actor in self.actors.values():
            actor.kill()
        for link in self.links.values():
            await link.stop()

    def _clock(self, name: str) -> Path:
        return self.folder / "clocks" / name

    def _broker(self) -> list[str]:
        return nats_command(self.folder / "broker", self.ports["broker"], self.ports["nats"])

    def _server(self, name: str) -> list[str]:
        variables = self.sizes.history if name == "history" else self.sizes.plain
        words = ["tests.faults.opcua_machine", self.folder, name, self.ports[name], "--variables", variables]
        words += ["--rate", self.sizes.rate_hz, "--shift", self.shift[name]]
        return [sys.executable, "-m", *map(str, words), *(["--history"] if name == "history" else [])]

    def _publisher(self) -> list[str]:
        sizes = self.sizes
        words = ["tests.faults.mqtt_machine", self.folder, "mqtt", self.ports["broker"]]
        words += ["--kept", sizes.kept, "--lossy", sizes.lossy, "--rate", sizes.rate_hz]
        return [sys.executable, "-m", *map(str, words)]

    def _token(self) -> str:
        words = (
            "token",
            "create",
            "--config",
            self.folder / "ingest.yaml",
            "--role",
            "agent",
            "--asset",
            SITE,
        )
        made = subprocess.run(shopfloor(*words), capture_output=True, text=True, timeout=60, check=True)
        file = self.folder / "agent.token"
        file.touch(0o600)
        file.write_text(made.stdout)
        return f"file:{file.name}"

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(dict(document), sort_keys=False))


def environment_allows() -> None:
    """Raise CannotRun, naming what is missing, unless a campaign can run here."""
    if not Path("/proc/self/limits").exists():
        raise CannotRun("the campaign needs Linux: it fills the disk with a limit of the kernel's")
    libfaketime()
