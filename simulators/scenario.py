"""Scenarios: plants as YAML files. Every mistake is reported at file:line:column."""

from __future__ import annotations

import zlib
import zoneinfo
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.asset import AssetPath, parse_asset
from shopfloor.configfile import Asset, ConfigModel, Secret, load
from simulators.physics.drives import DRIVES
from simulators.physics.machine import MachineSpec
from simulators.physics.materials import MATERIALS
from simulators.physics.stops import StopRates

THREE_PLANTS: Final = Path(__file__).parent / "scenarios" / "three_plants.yaml"
"""The scenario that comes with the package."""

_SITE_DEPTH: Final = 2
Segment = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise PydanticCustomError("time_zone", "no IANA time zone of that name") from error
    return name


def _broker_url(url: str) -> str:
    parts = urlsplit(url)
    try:
        port_fits = parts.port != 0
    except ValueError:
        port_fits = False
    if parts.scheme != "mqtt" or not parts.hostname or not port_fits or parts.path not in {"", "/"}:
        raise PydanticCustomError("broker_url", "a broker is written mqtt://HOST[:PORT]")
    if parts.username or parts.password:
        # Of this kind, so that the message does not show what was given.
        raise PydanticCustomError("secret", "user and password stand in keys of their own, not in the url")
    return url


class StopsConfig(ConfigModel):
    """How often machines stand, and how long."""

    mean_between_min: float = Field(default=90.0, ge=1.0, le=100_000.0)
    """Mean production time between two stops, in minutes."""
    median_repair_min: float = Field(default=7.0, ge=0.5, le=120.0)
    """Median time to repair, in minutes."""
    median_changeover_min: float = Field(default=25.0, ge=4.0, le=120.0)
    """Median time of a mould change, in minutes."""


class MachineConfig(ConfigModel):
    """One injection moulding machine."""

    cell: Segment
    """Its name, unique within the site."""
    area: Segment = "moulding"
    """ISA-95 area of its asset path."""
    line: Segment = "cell-a"
    """ISA-95 line of its asset path."""
    drive: Literal["electric", "servo_hydraulic", "hydraulic"] = "servo_hydraulic"
    """What it draws from the mains, and when."""
    material: Literal["abs", "hips", "pa66", "pc", "pom", "pp"] = "abs"
    """What it moulds: decides temperatures and pressures."""
    clamp_kn: float = Field(default=1600.0, ge=50.0, le=50_000.0)
    """Clamping force, in kN."""
    cavities: int = Field(default=4, ge=1, le=256)
    """Parts of a shot."""
    cycle_s: float = Field(default=24.0, ge=3.0, le=300.0)
    """Standard cycle time, in seconds."""
    zones: int = Field(default=5, ge=3, le=12)
    """Heated zones of the barrel."""
    melt_temperature_c: float | None = Field(default=None, ge=20.0, le=450.0)
    """Instead of the material's own, in degrees Celsius."""
    mould_temperature_c: float | None = Field(default=None, ge=5.0, le=250.0)
    """Instead of the material's own, in degrees Celsius."""
    scrap_rate: float = Field(default=0.012, ge=0.0, le=1.0)
    """Share of the shots with a bad part."""
    products: tuple[Annotated[str, Field(min_length=1, max_length=60)], ...] = Field(
        default=("HOUSING", "COVER", "LENS", "GEAR"), min_length=1
    )
    """What its jobs are named after."""
    stops: StopsConfig = StopsConfig()
    """How often it stands, and how long."""
    seed: int | None = Field(default=None, ge=0)
    """Of everything random in it; by default it follows from the scenario's seed and the machine's asset path."""
    meter: bool = True
    """Whether it has an energy meter."""

    def spec(self) -> MachineSpec:
        """Return the machine's physics."""
        material = MATERIALS[self.material]
        if self.melt_temperature_c is not None:
            material = replace(material, melt_temperature_c=self.melt_temperature_c)
        if self.mould_temperature_c is not None:
            material = replace(material, mould_temperature_c=self.mould_temperature_c)
        return MachineSpec(
            drive=DRIVES[self.drive],
            material=material,
            clamp_kn=self.clamp_kn,
            cavities=self.cavities,
            cycle_s=self.cycle_s,
            zones=self.zones,
            stops=StopRates(
                between_s=self.stops.mean_between_min * 60.0,
                repair_s=self.stops.median_repair_min * 60.0,
                changeover_s=self.stops.median_changeover_min * 60.0,
            ),
            scrap_rate=self.scrap_rate,
            products=self.products,
        )


class SiteConfig(ConfigModel):
    """One plant: an OPC UA server for its machines, and energy meters that publish to the broker."""

    asset: Asset
    """``enterprise/site``."""
    name: str = Field(min_length=1, max_length=100)
    """As people call it."""
    time_zone: Annotated[str, AfterValidator(_time_zone)]
    """IANA name, such as Asia/Hong_Kong."""
    opcua_port: int = Field(ge=1, le=65_535)
    """TCP port of its OPC UA server."""
    machines: tuple[MachineConfig, ...]
    """1 to 100 machines."""

    @field_validator("asset")
    @classmethod
    def _is_site(cls, asset: str) -> str:
        if len(parse_asset(asset).segments) != _SITE_DEPTH:
            raise PydanticCustomError("site_asset", "a site is ENTERPRISE/SITE")
        return asset

    @field_validator("machines")
    @classmethod
    def _distinct(cls, machines: tuple[MachineConfig, ...]) -> tuple[MachineConfig, ...]:
        if not 1 <= len(machines) <= 100:
            raise PydanticCustomError("machines", "a site has 1 to 100 machines")
        _refuse_twice("two machines named", (machine.cell for machine in machines))
        return machines

    @property
    def key(self) -> str:
        """The site's own segment of its asset path."""
        return parse_asset(self.asset).name

    @property
    def namespace_uri(self) -> str:
        """The namespace of all its OPC UA node ids: the same after every restart."""
        return f"urn:shopfloor:simulator:{self.asset.replace('/', ':')}"

    def machine_asset(self, machine: MachineConfig) -> AssetPath:
        """Return the asset path of one of its machines."""
        return parse_asset(f"{self.asset}/{machine.area}/{machine.line}/{machine.cell}")

    def meter_topic(self, machine: MachineConfig) -> str:
        """Return the MQTT topic of the machine's meter."""
        return f"meters/{self.key}/{machine.area}/{machine.line}/{machine.cell}"


class BrokerConfig(ConfigModel):
    """The MQTT broker that the meters publish to."""

    url: Annotated[str, AfterValidator(_broker_url)] = "mqtt://127.0.0.1:1883"
    """``mqtt://HOST[:PORT]``."""
    username: str | None = None
    """Without it the meters connect anonymously."""
    password: Secret | None = None
    """``${ENVIRONMENT_VARIABLE}`` or ``file:PATH``."""


class Scenario(ConfigModel):
    """What `shopfloor simulate` runs."""

    seed: int = Field(default=1, ge=0)
    """Of all machines that have none of their own."""
    history_h: float = Field(default=1.0, ge=0.0, le=2.0)
    """Hours of past that the machines have behind them at their very first start."""
    keep_h: float | None = Field(default=None, ge=3.0)
    """Hours of emissions that the log keeps at least; without it, all of them."""
    listen: str = Field(default="127.0.0.1", min_length=1)
    """The address that the OPC UA servers listen on."""
    broker: BrokerConfig = BrokerConfig()
    """Where the energy meters publish."""
    sites: tuple[SiteConfig, ...]
    """1 to 20 plants."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not 1 <= len(self.sites) <= 20:
            raise PydanticCustomError("sites", "a scenario has 1 to 20 sites")
        _refuse_twice("two sites with the asset", (site.asset for site in self.sites))
        _refuse_twice("two sites whose topics begin meters/", (site.key for site in self.sites))
        _refuse_twice("two sites on the port", (str(site.opcua_port) for site in self.sites))
        return self

    def machine_seed(self, site: SiteConfig, machine: MachineConfig) -> int:
        """Return the seed of a machine: its own, or one that follows from the scenario's and its asset path."""
        if machine.seed is not None:
            return machine.seed
        return zlib.crc32(f"{self.seed}:{site.machine_asset(machine)}".encode())


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PydanticCustomError("twice", "{what} {name}", {"what": what, "name": name})
        seen.add(name)


def load_scenario(path: Path | str) -> Scenario:
    """Read a scenario; raises ConfigError with every mistake in it."""
    return load(path, Scenario)
