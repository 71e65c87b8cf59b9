"""Somebody who pushes to the stand-in of Grafana."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboards.grafana import push_command
from dashboards.grafana.alerts import Engine
from tests.grafana_server import Grafana

Json = dict[str, Any]
BOARD: Json = {
    "uid": "shopfloor-machine",
    "title": "Machine",
    "schemaVersion": 42,
    "panels": [{"id": 1, "title": "Cycle time", "type": "timeseries", "fieldConfig": {"unit": "s"}}],
}
CONFIG = """
grafana:
  url: {url}
  token: file:token
datasource:
  kind: influxdb
  version: 2
  url: http://influxdb:8086
  token: file:database
"""


class Desk:
    """Somebody who pushes, with files in a folder."""

    def __init__(self, folder: Path, grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.grafana, self._capsys = folder, grafana, capsys
        self.file = folder / "grafana.yaml"
        self.boards: list[Json] = [BOARD, {**BOARD, "uid": "shopfloor-group", "title": "Group"}]
        self.asked = ("", "")
        self.write("token", "of-admin\n")
        self.write("database", "right\n")
        self.configure()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def configure(self, more: str = "", text: str = CONFIG) -> None:
        self.file.write_text(text.format(url=self.grafana.url) + more)

    def push(self, *options: str) -> tuple[int, str]:
        """Return the exit status and what was said."""
        parser = argparse.ArgumentParser()
        push_command.add_arguments(parser)

        def boards(engine: Engine, live_url: str) -> Sequence[Mapping[str, Any]]:
            self.asked = (engine, live_url)
            return self.boards

        self.grafana.requests.clear()
        status = push_command.run(parser.parse_args([str(self.file), *options]), boards)
        said = self._capsys.readouterr()
        return status, said.out + said.err

    def actions(self, *options: str) -> dict[str, str]:
        """Return what became of each thing."""
        _, said = self.push("--json", *options)
        return {one["name"]: one["action"] for one in map(json.loads, said.splitlines())}
