"""Sites as a user writes them: what stands there, who works there, and how it speaks."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.asset import AssetPath, parse_asset
from shopfloor.configfile import Asset, ConfigModel, Secret
from simulators.physics.calendar import Calendar
from simulators.protocols.opcua_security_config import OpcUaSecurity
from simulators.scenario.facilities import (
    CompressorConfig,
    GarmentCellConfig,
    LineConfig,
    TcuConfig,
)
from simulators.scenario.machines import MachineConfig
from simulators.scenario.mishaps import DataFaultConfig, OutageConfig, refuse_two_clocks
from simulators.scenario.people import Clock, ShiftConfig, TimeZone, calendar, refuse_overlapping_shifts
from simulators.scenario.refusal import Place, names_in, refuse, refuse_twice
from simulators.scenario.without_effect import (
    refuse_data_faults_without_effect,
    refuse_outages_without_effect,
)

_SITE_DEPTH: Final = 2


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


class BrokerConfig(ConfigModel):
    """The MQTT broker that meters, gateways, lines and edge nodes publish to."""

    url: Annotated[str, AfterValidator(_broker_url)] = "mqtt://127.0.0.1:1883"
    """``mqtt://HOST[:PORT]``."""
    username: str | None = None
    """Without it they connect anonymously."""
    password: Secret | None = None
    """``${ENVIRONMENT_VARIABLE}`` or ``file:PATH``."""


class WanCutConfig(ConfigModel):
    """When the site's link is cut, every day."""

    start: Clock
    """Local time."""
    minutes: float = Field(gt=0.0, le=1_440.0)
    """How long."""


class SparkplugConfig(ConfigModel):
    """The site's Sparkplug B edge node; its devices are the machines with ``protocol: sparkplug``."""

    group: str = Field(default="shopfloor", min_length=1, max_length=60, pattern=r"^[^/+#]+$")
    """Sparkplug group id."""
    edge_node: str | None = Field(default=None, min_length=1, max_length=60, pattern=r"^[^/+#]+$")
    """Sparkplug edge node id; by default the site's name in its asset path."""
    primary_host: str | None = Field(default=None, min_length=1, max_length=60, pattern=r"^[^/+#]+$")
    """Host application without which it stores instead of sending; by default there is none."""
    rolling_history_s: float = Field(default=15.0, ge=0.0, le=600.0)
    """What it sent in so many seconds before it noticed a loss it sends again, as historical."""
    max_stored_samples: int = Field(default=2_000_000, ge=1_000)
    """How many samples it stores while host or link are away; older ones are dropped, and counted."""
    wan_cut: WanCutConfig | None = None
    """A daily time without link; what happens meanwhile comes afterwards, as historical."""


class SiteConfig(ConfigModel):
    """One plant."""

    asset: Asset
    """``enterprise/site``."""
    name: str = Field(min_length=1, max_length=100)
    """As people call it."""
    time_zone: TimeZone
    """IANA name, such as Asia/Hong_Kong."""
    opcua_port: int = Field(ge=1, le=65_535)
    """TCP port of its OPC UA server, which runs where machines need one."""
    opcua: OpcUaSecurity = OpcUaSecurity()
    """Who may connect to that server, and how."""
    sparkplug: SparkplugConfig = SparkplugConfig()
    """Its edge node, where machines need one."""
    shifts: tuple[ShiftConfig, ...] = Field(default=(), max_length=50)
    """When people work; by default around the clock."""
    holidays: tuple[date, ...] = Field(default=(), max_length=1_000)
    """Days without shifts."""
    machines: tuple[MachineConfig, ...] = Field(default=(), max_length=100)
    """Injection moulding machines."""
    lines: tuple[LineConfig, ...] = Field(default=(), max_length=20)
    """Lines of stations."""
    garment_cells: tuple[GarmentCellConfig, ...] = Field(default=(), max_length=20)
    """Cells that sew whole garments."""
    tcus: tuple[TcuConfig, ...] = Field(default=(), max_length=100)
    """Temperature control units."""
    compressors: tuple[CompressorConfig, ...] = Field(default=(), max_length=20)
    """Air compressors."""

    data_faults: tuple[DataFaultConfig, ...] = Field(default=(), max_length=1_000)
    """Data that are to be wrong for a while."""
    data_faults_per_day: float = Field(default=0.0, ge=0.0, le=84.0)
    """Data faults of each cell that happen by chance, a day on average, over all kinds; those that a cell can't have are
    left out. They are drawn for the first 60 days of the site's life: a run that goes on has none after that."""
    outages: tuple[OutageConfig, ...] = Field(default=(), max_length=1_000)
    """Servers and links that are to fail for a while."""

    @field_validator("asset")
    @classmethod
    def _is_site(cls, asset: str) -> str:
        if len(parse_asset(asset).segments) != _SITE_DEPTH:
            raise PydanticCustomError("site_asset", "a site is ENTERPRISE/SITE")
        return asset

    @model_validator(mode="after")
    def _cells(self) -> Self:
        refuse_twice(
            "two machines named", names_in("machines", (each.cell for each in self.machines), "cell")
        )
        if not self.cells:
            refuse((), "a site has at least one machine, line, cell or unit")
        refuse_data_faults_without_effect(self)
        refuse_two_clocks(self.data_faults)
        refuse_outages_without_effect(self)
        refuse_overlapping_shifts(self.shifts)
        return self

    @property
    def cells(self) -> dict[str, AssetPath]:
        """The asset path of each cell, in the order of the scenario; the lines' own last.

        Raises:
            ValidationError: two cells of one name.
        """
        places: list[tuple[Place, str, str, str]] = [
            *((("machines", n, "cell"), *_path(each)) for n, each in enumerate(self.machines)),
            *(
                (("lines", n, "stations", m, "cell"), line.area, line.line, each.cell)
                for n, line in enumerate(self.lines)
                for m, each in enumerate(line.stations)
            ),
            *(
                (("garment_cells", n, "operators", m, "cell"), cell.area, cell.line, each.cell)
                for n, cell in enumerate(self.garment_cells)
                for m, each in enumerate(cell.operators)
            ),
            *((("tcus", n, "cell"), *_path(each)) for n, each in enumerate(self.tcus)),
            *((("compressors", n, "cell"), *_path(each)) for n, each in enumerate(self.compressors)),
            *((("lines", n, "cell"), *_path(each)) for n, each in enumerate(self.lines)),
        ]
        refuse_twice("two cells named", ((place, cell) for place, _, _, cell in places))
        return {cell: parse_asset(f"{self.asset}/{area}/{line}/{cell}") for _, area, line, cell in places}

    @property
    def clocks(self) -> frozenset[str]:
        """The cells with a clock of their own: what gives a time over MQTT, were it only a machine's meter."""
        return frozenset(
            (
                *(
                    each.cell
                    for each in self.machines
                    if each.meter != "none" and each.protocol != "sparkplug"
                ),
                *(each.cell for line in self.lines for each in line.stations),
                *(each.cell for cell in self.garment_cells for each in cell.operators),
                *(each.cell for each in self.compressors),
            )
        )

    @property
    def publishers(self) -> frozenset[str]:
        """The cells that publish JSON over MQTT, were it only their meter."""
        return self.clocks | {each.cell for each in self.machines if each.protocol == "gateway"}

    @property
    def key(self) -> str:
        """The site's own segment of its asset path."""
        return parse_asset(self.asset).name

    @property
    def edge_node(self) -> str:
        """Its Sparkplug edge node id."""
        return self.sparkplug.edge_node or self.key

    @property
    def enterprise(self) -> str:
        """The first segment of its asset path."""
        return parse_asset(self.asset).segments[0]

    @property
    def namespace_uri(self) -> str:
        """The namespace of all its OPC UA node ids: the same after every restart."""
        return f"urn:shopfloor:simulator:{self.asset.replace('/', ':')}"

    @property
    def calendar(self) -> Calendar:
        """When people work."""
        return calendar(self.time_zone, self.shifts, self.holidays)

    @property
    def devices(self) -> tuple[MachineConfig, ...]:
        """The machines behind its Sparkplug edge node."""
        return tuple(each for each in self.machines if each.protocol == "sparkplug")

    @property
    def has_opcua(self) -> bool:
        """Whether anything of it speaks OPC UA."""
        return bool(self.tcus) or any(each.protocol == "opcua" for each in self.machines)

    def on_opcua(self) -> SiteConfig:
        """Return the site with only those machines that its OPC UA server shows."""
        return self.model_copy(
            update={"machines": tuple(each for each in self.machines if each.protocol == "opcua")}
        )

    def machine_asset(self, machine: MachineConfig) -> AssetPath:
        """Return the asset path of one of its machines."""
        return parse_asset(f"{self.asset}/{machine.area}/{machine.line}/{machine.cell}")

    def meter_topic(self, machine: MachineConfig) -> str:
        """Return the MQTT topic of the machine's meter."""
        return f"meters/{self.key}/{machine.area}/{machine.line}/{machine.cell}"


def _path(each: MachineConfig | TcuConfig | CompressorConfig | LineConfig) -> tuple[str, str, str]:
    return each.area, each.line, each.cell
