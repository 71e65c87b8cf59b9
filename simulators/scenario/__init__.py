"""Scenarios: plants as YAML files. Every mistake is reported at file:line:column."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import Field, model_validator

from shopfloor.asset import AssetPath
from shopfloor.configfile import ConfigModel, load
from shopfloor.errors import ConfigError
from simulators.scenario.machines import MachineConfig
from simulators.scenario.refusal import names_in, refuse, refuse_twice
from simulators.scenario.sites import BrokerConfig, SiteConfig, SparkplugConfig

__all__ = [
    "SCENARIOS",
    "THREE_PLANTS",
    "BrokerConfig",
    "MachineConfig",
    "Scenario",
    "SiteConfig",
    "SparkplugConfig",
    "load_scenario",
]

SCENARIOS: Final = Path(__file__).parents[1] / "scenarios"
"""Where the scenarios lie that come with the package."""
THREE_PLANTS: Final = SCENARIOS / "three_plants.yaml"
_WHERE: Final = re.compile(
    r": sites\.(\d+)\.(machines|lines|garment_cells|tcus|compressors|data_faults)\.(\d+)\b"
)


class Scenario(ConfigModel):
    """What `shopfloor simulate` runs."""

    seed: int = Field(default=1, ge=0)
    """Of all machines that have none of their own."""
    history_h: float = Field(default=1.0, ge=0.0, le=2.0)
    """Hours of past that the machines have behind them at their very first start."""
    keep_h: float | None = Field(default=72.0, ge=3.0)
    """Hours of emissions that the log keeps at least; null keeps all of them."""
    listen: str = Field(default="127.0.0.1", min_length=1)
    """The address that the OPC UA servers listen on."""
    broker: BrokerConfig = BrokerConfig()
    """Where everything publishes that speaks MQTT."""
    sites: tuple[SiteConfig, ...]
    """1 to 20 plants."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not 1 <= len(self.sites) <= 20:
            refuse(("sites",), "a scenario has 1 to 20 sites")
        sites = self.sites
        refuse_twice(
            "two sites with the asset", names_in("sites", (str(site.asset) for site in sites), "asset")
        )
        refuse_twice(
            "two sites whose topics begin meters/", names_in("sites", (site.key for site in sites), "asset")
        )
        refuse_twice(
            "two sites on the port", names_in("sites", (str(site.opcua_port) for site in sites), "opcua_port")
        )
        return self

    def seed_of(self, asset: AssetPath | str) -> int:
        """Return the seed that follows for an asset from the scenario's."""
        return zlib.crc32(f"{self.seed}:{asset}".encode())

    def machine_seed(self, site: SiteConfig, machine: MachineConfig) -> int:
        """Return the seed of a machine: its own, or one that follows from the scenario's and its asset path."""
        return self.seed_of(site.machine_asset(machine)) if machine.seed is None else machine.seed


def load_scenario(path: Path | str) -> Scenario:
    """Read a scenario; raises ConfigError with every mistake in it, each with the machine that it is about."""
    try:
        return load(path, Scenario)
    except ConfigError as error:
        raise ConfigError([_with_name(problem, Path(path)) for problem in error.problems]) from None


def _with_name(problem: str, path: Path) -> str:
    """Add to a problem the name of the machine that it is about, where it has one."""
    found = _WHERE.search(problem)
    if found is None:
        return problem
    site, kind, number = int(found[1]), found[2], int(found[3])
    try:
        entry: Any = yaml.safe_load(path.read_text(encoding="utf-8"))["sites"][site]
        name = entry[kind][number].get("cell")
        asset = entry.get("asset")
    except (yaml.YAMLError, OSError, LookupError, TypeError, AttributeError):
        return problem
    return f"{problem} [{name} of {asset}]" if isinstance(name, str) and isinstance(asset, str) else problem
