"""A service, an agent and what they talk to, as real processes; what was sent, to compare with what arrived."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from ingest_service.auth import Role, create_token
from ingest_service.plant.engine import connect
from tests.e2e.real_processes import Background, Metrics, Process, Proxy, eventually, http
from tests.integration.mqtt_brokers import Publisher
from tests.integration.opcua_plant import Plant
from tests.plant_database import empty_plant
from tests.ports import free_port

LINE = "acme/hk01/moulding/cell-a"
YEARS_NS = 5 * 366 * 86_400 * 10**9
MAX_SAMPLES = 200
BAD_GATEWAY = b"<html><h1>400 Bad Request</h1>squid</html>"

INGEST = """\
listen: 127.0.0.1:{port}
data: service-data
limits: {{batch_samples: {max_samples}, batch_bytes: 20000}}
sites: [{{asset: acme/hk01, name: Hong Kong}}]
"""
AGENT = """\
agent: {{id: {id}, asset: {site}}}
data: {id}-data
status: {{listen: "127.0.0.1:{status}"}}
uplink: {{url: "http://127.0.0.1:{uplink}", token: "file:{token}.token", linger_ms: 10, heartbeat_s: 0.5}}
sources:
  - mqtt:
      name: meters
      broker: mqtt://127.0.0.1:{broker}
      client_id: {id}-meters
      topics:
        - topic: "meters/{{cell}}"
          asset: "{site}/moulding/cell-a/{{cell}}"
          time: {{path: ts, format: ms}}
          signals: [{{path: n, signal: n}}]
"""
OPCUA = """\
  - opcua:
      name: imm
      endpoint: {endpoint}
      groups: {{live: {{mode: subscribe, publishing_interval_ms: 50}}}}
      retry_s: 0.2
      nodes:
        - {{node: "nsu={uri};s=v0", asset: {line}/imm, signal: v0}}
        - {{node: "nsu={uri};s=v1", asset: {line}/imm, signal: v1}}
        - {{node: "nsu={uri};s=gone", asset: {line}/imm, signal: gone}}
  - opcua:
      name: nobody
      endpoint: opc.tcp://127.0.0.1:1
      nodes: [{{node: "i=2258", asset: {line}/nobody, signal: time}}]
"""


class World:
    """A service, a proxy, an agent, a broker and an OPC UA server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.background = Background()
        self.plant = Plant(("v0", "v1"), history=False)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.proxy = Proxy(port)
        self.agents: list[Process] = []
        config = folder / "ingest.yaml"
        config.write_text(INGEST.format(port=port, max_samples=MAX_SAMPLES))
        self.service = Process(folder / "service.log", "ingest", "serve", config)
        (folder / "service-data").mkdir()
        plant = connect(empty_plant(folder / "service-data" / "plant.sqlite"))
        self.tokens = {
            name: create_token(plant, role, asset, "")
            for name, role, asset in (
                ("hk01", Role.AGENT, "acme/hk01"),
                ("dg01", Role.AGENT, "acme/dg01"),
                ("viewer", Role.VIEWER, "acme"),
            )
        } | {"wrong": "sf_" + secrets.token_urlsafe(32)}
        plant.dispose()
        for name, text in self.tokens.items():
            (folder / f"{name}.token").write_text(text)
        self.viewer = {"Authorization": f"Bearer {self.tokens['viewer']}"}
        self.counted = Metrics(self.url + "/metrics", self.viewer)
        self.sent: dict[str, list[tuple[int, float]]] = {}

    def start_service(self) -> None:
        self.service.start()
        eventually(self._ready, "the service answers")

    def _ready(self) -> bool:
        with suppress(httpx.TransportError):
            return http.get(self.url + "/readyz").status_code == 200
        return False

    def agent(self, name: str, broker: int, *, token: str, uplink: int = 0, more: str = "") -> EdgeAgent:
        config = self.folder / f"{name}.yaml"
        status = free_port()
        site = "acme/hk01"
        fields: dict[str, Any] = {
            "id": name,
            "site": site,
            "status": status,
            "token": token,
            "broker": broker,
        }
        config.write_text(AGENT.format(**fields, uplink=uplink or self.proxy.port) + more)
        agent = EdgeAgent(status, self.folder / f"{name}.log", "edge", "run", config)
        self.agents.append(agent)
        agent.start()
        eventually(lambda: agent.answers, f"agent {name} answers")
        return agent

    def publish(self, publisher: Publisher, cell: str, *values: float, at_ms: int | None = None) -> None:
        """Publish good values of a machine, and remember them."""
        first = time.time_ns() // 10**6 if at_ms is None else at_ms
        sent = self.sent.setdefault(cell, [])
        rows = [(max(first, sent[-1][0] + 1 if sent else 0) + n, value) for n, value in enumerate(values)]
        sent += rows
        publisher.publish(f"meters/{cell}", *(json.dumps({"ts": t, "n": n}) for t, n in rows))

    def get(self, path: str, **parameters: Any) -> Any:
        answer = http.get(self.url + path, params=parameters, headers=self.viewer, timeout=10)
        return answer.raise_for_status().json()

    def stored(self, asset: str, signal: str = "n") -> list[tuple[int, float, int]]:
        day_ms = 86_400_000
        now_ms = time.time_ns() // 10**6
        found = self.get(
            "/v1/samples",
            asset=asset,
            signal=signal,
            **{"from": now_ms - day_ms, "to": now_ms + 4000 * day_ms},
        )["series"]
        return [row for one in found for row in zip(one["t"], one["value"], one["quality"], strict=True)]

    def all_arrived(self, cell: str) -> bool:
        good = {(t, value) for t, value, quality in self.stored(f"{LINE}/{cell}") if quality == 0}
        return good == set(self.sent[cell])

    def close(self) -> None:
        for process in (*self.agents, self.service):
            process.kill()


class EdgeAgent(Process):
    """An agent and its status page."""

    def __init__(self, status: int, log: Path, *words: str | Path) -> None:
        super().__init__(log, *words)
        self._url = f"http://127.0.0.1:{status}"
        self.counted = Metrics(self._url + "/metrics")

    @property
    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            return http.get(self._url + "/health").status_code == 200
        return False

    @property
    def health(self) -> str:
        return http.get(self._url + "/health", timeout=10).text

    def met(self, what: str, source: str = "meters") -> float:
        return self.counted[f'shopfloor_source_events_total{{source="{source}",what="{what}"}}']
