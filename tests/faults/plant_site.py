"""The plant under fire: real processes, the links between them, and their configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from simulators.demo.broker import nats_command
from simulators.demo.parts import shopfloor
from simulators.demo.ports import assign_ports, listens
from tests.faults.actor import Actor, CannotRun, libfaketime
from tests.faults.number_log import GO
from tests.faults.plant_config import SITE, agent_config
from tests.faults.serving import Serving
from tests.faults.sizes import Sizes
from tests.links import Link


class Plant:
    """All processes and links of a campaign, in one folder."""

    def __init__(self, folder: Path, sizes: Sizes, serving: Serving) -> None:
        self.folder = folder
        self.sizes = sizes
        self.serving = serving
        (folder / "clocks").mkdir(parents=True, exist_ok=True)
        linked = ["broker", "history", "plain"]
        names = [*serving.ports, "nats", "status", *linked, *(f"{name}-link" for name in linked)]
        self.ports = assign_ports(folder, names, {})
        self.uplink = serving.uplink
        self.links: dict[str, Link] = {
            "uplink": serving.uplink,
            **serving.links,
            **{name: Link(self.ports[name], self.ports[f"{name}-link"]) for name in linked},
        }
        self.shift = {"history": 0, "plain": 0}
        self.removed: dict[str, set[int]] = {"history": set(), "plain": set()}
        self.status_url = f"http://127.0.0.1:{self.ports['status']}"
        self.buffer = folder / "agent-data"
        for name in ("agent", "history", "plain"):
            self.set_clock(name, 0.0)
        self.actors = {
            "broker": Actor("broker", folder, self._broker),
            **serving.actors,
            "history": Actor("history", folder, lambda: self._server("history"), self._clock("history")),
            "plain": Actor("plain", folder, lambda: self._server("plain"), self._clock("plain")),
            "mqtt": Actor("mqtt", folder, self._publisher),
            "agent": Actor(
                "agent", folder, lambda: shopfloor("edge", "run", folder / "agent.yaml"), self._clock("agent")
            ),
        }

    async def start(self) -> None:
        """Start all links and processes but the publisher, whose messages nobody would keep yet."""
        self._write("agent.yaml", agent_config(self.ports, self.buffer, self._token(), self.sizes))
        for link in self.links.values():
            await link.start()
        for name in ("broker", *self.serving.actors, "history", "plain", "agent"):
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
            self.serving.config,
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
