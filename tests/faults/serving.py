"""The service's side of a campaign: one process with the embedded store, or two behind a balancer with two servers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from simulators.demo.parts import shopfloor
from simulators.demo.ports import assign_ports
from tests.faults.actor import Actor
from tests.faults.balancer import Balancer
from tests.faults.databases import STORE_DATABASE, Databases
from tests.faults.holdings import EmbeddedHoldings, Holdings
from tests.faults.plant_config import ingest_config, on_servers
from tests.faults.schedule import DATABASES, INGEST
from tests.faults.server_holdings import ServerHoldings
from tests.faults.sizes import Sizes
from tests.links import HttpLink, Link
from tests.store_servers import PASSWORD

_TWICE: Final = 0.5
"""Of the batches: the share that goes to both processes at once."""
_BESIDE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves, and how it is reached and looked into."""

    uplink: HttpLink
    """Where the agent sends to."""
    ports: Mapping[str, int]
    """All that are taken."""
    links: Mapping[str, Link]
    """All others."""
    actors: Mapping[str, Actor]
    url: str | None
    """Of the process that alone can read its store, past all links; None where `holdings` can be read at any time."""
    config: Path
    """A configuration for whoever looks at the databases, past all links."""
    holdings: Holdings
    databases: Databases | None = None

    @property
    def balancer(self) -> Balancer | None:
        """The uplink, where it is one of several processes."""
        return self.uplink if isinstance(self.uplink, Balancer) else None


def one_process(folder: Path) -> Serving:
    """A process with the embedded store."""
    ports = assign_ports(folder, ["ingest", "ingest-link"], {})
    config, data = folder / "ingest.yaml", folder / "service-data"
    _write(config, ingest_config(ports["ingest"], data))
    return Serving(
        HttpLink(ports["ingest"], ports["ingest-link"]),
        ports,
        {},
        {"ingest": Actor("ingest", folder, _serve(config))},
        f"http://127.0.0.1:{ports['ingest']}",
        config,
        EmbeddedHoldings(data),
    )


def two_processes(folder: Path, databases: Databases, sizes: Sizes, seed: int) -> Serving:
    """Two processes that share nothing but the databases, each way between two of them a link of its own."""
    names = [*INGEST, *(f"{name}-link" for name in (*INGEST, *DATABASES)), "ingest-link", "beside"]
    ports = assign_ports(folder, names, {})
    there = {"influxdb": databases.influxdb.port, "postgresql": databases.postgresql.port}
    there |= {name: ports[name] for name in INGEST}
    (folder / "password").write_text(PASSWORD)
    actors: dict[str, Actor] = {}
    for name in INGEST:
        config = folder / f"{name}.yaml"
        address = databases.address.set(port=ports["postgresql-link"])
        # Four times this is what a frozen process may hold a stream: less than the longest freeze.
        servers = on_servers(ports["influxdb-link"], address, sizes.patience)
        _write(config, ingest_config(ports[name], folder / f"{name}-data") | servers)
        actors[name] = Actor(name, folder, _serve(config))
    beside = folder / "beside.yaml"
    servers = on_servers(databases.influxdb.port, databases.address, _BESIDE_TIMEOUT_S)
    _write(beside, ingest_config(ports["beside"], folder / "beside-data") | servers)
    targets = [ports[f"{name}-link"] for name in INGEST]
    return Serving(
        Balancer(targets, ports["ingest-link"], random.Random(f"{seed}/twice"), _TWICE),
        ports,
        {name: Link(port, ports[f"{name}-link"]) for name, port in there.items()},
        actors,
        None,
        beside,
        ServerHoldings(databases.address, databases.influxdb.url, STORE_DATABASE),
        databases,
    )


def _serve(config: Path) -> Callable[[], list[str]]:
    return lambda: shopfloor("ingest", "serve", config)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False))
