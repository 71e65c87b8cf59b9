"""From a scenario to the configuration files of every part, all in the data folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from simulators.demo.ports import HOST
from simulators.plant.dialects import make_dialects
from simulators.protocols.mqtt_dialects import Topic
from simulators.protocols.opcua import node_mappings
from simulators.scenario import Scenario, SiteConfig, load_scenario

_HEADER: Final = "# Written by `shopfloor demo` at every start; changes made here are lost.\n"
_LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final[type[Any]] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's where PyYAML was built with it: seconds sooner."""
_SCENARIO: Final = "scenario.yaml"
_SIMULATORS: Final = "simulators"
_KEEP_H: Final = 24.0
"""How much of the simulators' log is kept, unless the scenario says it."""
_LEVEL: Final = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class Site:
    """One plant of the demo: its agent and where the agent's files lie."""

    key: str
    """The site's own segment of its asset path; the agent is named after it."""
    asset: str
    machines: int
    """What the page shows as machines: injection moulding machines."""
    folder: Path

    @property
    def agent(self) -> str:
        """Name of the agent's process."""
        return f"agent-{self.key}"

    @property
    def config(self) -> Path:
        """``agent.yaml``."""
        return self.folder / "agent.yaml"

    @property
    def token(self) -> Path:
        """File with the agent's token."""
        return self.folder / "token"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything of a demo lies and listens."""

    folder: Path
    scenario: Scenario
    sites: tuple[Site, ...]
    ports: Mapping[str, int]
    broker_url: str
    first_start: bool
    """Whether the simulators have no log from an earlier start."""
    made_ns: int
    """When this plan was made, UTC ns."""

    @property
    def url(self) -> str:
        """Address of the page and of the service."""
        return f"http://{HOST}:{self.ports['page']}"

    @property
    def ingest_config(self) -> Path:
        """``ingest.yaml``."""
        return self.folder / "ingest.yaml"

    @property
    def scenario_file(self) -> Path:
        """The scenario with this demo's ports and broker."""
        return self.folder / _SCENARIO

    @property
    def simulators(self) -> Path:
        """Folder of what the simulators keep."""
        return self.folder / _SIMULATORS

    @property
    def ready_file(self) -> Path:
        """Appears when all machines can be reached."""
        return self.simulators / "ready"

    @property
    def stopped_file(self) -> Path:
        """Appears when all machines have stopped and handed over what they said."""
        return self.simulators / "stopped"

    def kept_since_ns(self, now_ns: int) -> int:
        """Return since when (UTC ns) the simulators' log holds all that they said; before it, some may be dropped."""
        keep_ns = round((self.scenario.keep_h or _KEEP_H) * 3.6e12)
        return 0 if self.first_start and now_ns - self.made_ns < keep_ns else now_ns - keep_ns

    def log(self, part: str) -> Path:
        """Return the log file of a part."""
        return self.folder / "logs" / f"{part}.log"

    def status_address(self, site: Site) -> str:
        """Return HOST:PORT of an agent's own status page."""
        return f"{HOST}:{self.ports[site.agent]}"


def port_names(scenario: Scenario) -> list[str]:
    """Return what a demo of this scenario needs ports for."""
    keys = [site.key for site in scenario.sites]
    return ["page", "mqtt", "nats", *(f"opcua-{key}" for key in keys), *(f"agent-{key}" for key in keys)]


def make_plan(folder: Path, source: Path, ports: Mapping[str, int], broker_url: str) -> Plan:
    """Write the scenario ``source`` with this demo's ports and broker into ``folder``, and plan around it.

    Raises:
        ConfigError: the scenario is wrong.
    """
    scenario = load_scenario(source)
    document = yaml.load(source.read_text(encoding="utf-8"), _LOADER)  # noqa: S506 - a safe loader
    document["listen"] = HOST
    document["broker"] = {"url": broker_url}
    document.setdefault("keep_h", _KEEP_H)
    for entry, site in zip(document["sites"], scenario.sites, strict=True):
        entry["opcua_port"] = ports[f"opcua-{site.key}"]
    sites = tuple(
        Site(
            site.key,
            str(site.asset),
            len(site.machines),
            folder / "agents" / site.key,
        )
        for site in scenario.sites
    )
    file = folder / _SCENARIO
    _write(file, document)
    scenario = load_scenario(file)
    first_start = not (folder / _SIMULATORS).exists()
    return Plan(folder, scenario, sites, ports, broker_url, first_start, time.time_ns())


def write_ingest_config(plan: Plan) -> None:
    """Write ``ingest.yaml``: loopback only, readable without a token."""
    _write(
        plan.ingest_config,
        {
            "listen": f"{HOST}:{plan.ports['page']}",
            "data": "./ingest",
            "read_access": "open",
            "sites": [
                {"asset": str(site.asset), "name": site.name, "time_zone": site.time_zone}
                for site in plan.scenario.sites
            ],
        },
    )


def write_agent_config(plan: Plan, site: Site) -> None:
    """Write an ``agent.yaml``: the site's OPC UA server, what it says over MQTT, its Sparkplug edge node."""
    config = next(each for each in plan.scenario.sites if each.key == site.key)
    sources: list[dict[str, Any]] = []
    if config.has_opcua:
        sources.append({"opcua": _opcua(plan, config)})
    topics = mqtt_topics(plan, config)
    if topics:
        sources.append({"mqtt": _mqtt(plan, config, topics)})
    if config.devices:
        sources.append({"sparkplug": _sparkplug(plan, config)})
    _write(
        site.config,
        {
            "agent": {"id": f"{site.key}-gateway", "asset": site.asset},
            "data": "./data",
            "uplink": {"url": plan.url, "token": "file:token"},
            "status": {"listen": plan.status_address(site)},
            "sources": sources,
        },
    )


def mqtt_client(config: SiteConfig) -> str:
    """Return the MQTT client id of a site's agent."""
    return f"{config.key}-gateway-mqtt"


def mqtt_topics(plan: Plan, config: SiteConfig) -> list[Topic]:
    """Return the agent's configuration for everything of a site that speaks JSON over MQTT."""
    return make_dialects(config, plan.made_ns).topics()


def mqtt_filters(plan: Plan, config: SiteConfig) -> list[str]:
    """Return the MQTT topic filters of a site's agent."""
    return [_LEVEL.sub("+", topic["topic"]) for topic in mqtt_topics(plan, config)]


def store_token(site: Site, token: str) -> None:
    """Write an agent's token where only its owner can read it."""
    site.folder.mkdir(parents=True, exist_ok=True)
    site.token.unlink(missing_ok=True)
    with open(os.open(site.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - the mode at creation
        file.write(token + "\n")


def _opcua(plan: Plan, config: SiteConfig) -> dict[str, Any]:
    defaults = {"unit": "", "scale": 1.0, "offset": 0.0}
    return {
        "name": "machines",
        "endpoint": f"opc.tcp://{HOST}:{plan.ports[f'opcua-{config.key}']}",
        "history": {"backfill_h": plan.scenario.history_h + 1.0},
        "groups": {"live": {"mode": "subscribe", "publishing_interval_ms": 250}},
        "nodes": [
            {"node": mapping.node, "asset": str(mapping.asset), "signal": mapping.signal, "group": "live"}
            | {name: value for name, usual in defaults.items() if (value := getattr(mapping, name)) != usual}
            for mapping in node_mappings(config.on_opcua())
        ],
    }


def _mqtt(plan: Plan, config: SiteConfig, topics: list[Topic]) -> dict[str, Any]:
    return {
        "name": "mqtt",
        "broker": plan.broker_url,
        "client_id": mqtt_client(config),
        "topics": topics,
    }


def _sparkplug(plan: Plan, config: SiteConfig) -> dict[str, Any]:
    sparkplug = config.sparkplug
    return {
        "name": "edge-node",
        "broker": plan.broker_url,
        "client_id": f"{config.key}-gateway-sparkplug",
        "host_id": sparkplug.primary_host or "shopfloor",
        "store_and_forward": sparkplug.primary_host is not None,
        "publishers": [
            {
                "descriptor": f"{sparkplug.group}/{config.edge_node}/{machine.cell}",
                "asset": str(config.machine_asset(machine)),
                "metrics": "all",
            }
            for machine in config.devices
        ],
    }


def _write(file: Path, document: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(
        document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=200, default_flow_style=None
    )
    file.write_text(_HEADER + text, encoding="utf-8")
