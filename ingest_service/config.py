"""``ingest.yaml``."""

from __future__ import annotations

import ipaddress
import zoneinfo
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import sqlalchemy as sa
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ingest_service.access.config import AccessConfig, TlsConfig
from ingest_service.alarm_config import AlarmConfig
from ingest_service.line_protocol.config import LineProtocolConfig
from ingest_service.retention_config import RetentionConfig
from ingest_service.store_config import InfluxDBStoreConfig, PlantConfig, VictoriaMetricsStoreConfig
from shopfloor.configfile import Asset, ConfigModel, FilePath

_BUILT_PAGE: Final = Path(__file__).resolve().parent.parent / "dashboards" / "live" / "dist"


def _time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("unknown time zone; an IANA name such as Asia/Hong_Kong stands here") from error
    return name


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080 or [::]:8443")
    return text


class SiteConfig(ConfigModel):
    """One site of the enterprise."""

    asset: Asset
    """Its asset path, such as ``acme/hk01``."""
    name: str = Field(default="", max_length=200)
    """Its name on the pages; default: the last segment of the path."""
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    """IANA time zone, such as ``Asia/Hong_Kong``: the day of ``parts_today`` begins at its midnight."""

    @model_validator(mode="after")
    def _is_site(self) -> Self:
        if self.asset.count("/") != 1:
            raise ValueError("asset of a site has two levels: enterprise/site")
        return self


class LimitsConfig(ConfigModel):
    """What the service accepts at most; beyond it a request is turned away, never the process endangered."""

    batch_bytes: int = Field(default=16 * 2**20, ge=1024, le=256 * 2**20)
    """Bytes of one batch as it travels."""
    batch_samples: int = Field(default=500_000, ge=1)
    """Samples of one batch."""
    waiting_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Bytes of all batches that are being received or wait for their commit, as they lie in memory once they are read."""
    agent_waiting_bytes: int = Field(default=64 * 2**20, ge=2**20)
    """The same for one token, so that one agent can't take the place of all."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds in which the body of a request must arrive."""
    json_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Bytes of a JSON body (heartbeats, spans, declarations)."""
    series: int = Field(default=1_000_000, ge=1)
    """Series in all; samples of further ones are rejected with ``too_many_series``."""
    quarantine_samples: int = Field(default=5_000_000, ge=0)
    """Samples in quarantine; beyond it a rejected sample is only counted, as dropped with its reason."""
    viewers: int = Field(default=1000, ge=1)
    """Open live pages."""
    read_samples: int = Field(default=200_000, ge=1)
    """Samples or buckets in one JSON answer."""
    export_samples: int = Field(default=5_000_000, ge=1)
    """Samples in one binary answer."""
    large_answers: int = Field(default=8, ge=1)
    """Exports, thinned and binary answers that are on their way at once; each holds its rows while they are read."""


class StoreConfig(ConfigModel):
    """The embedded store's share of the machine."""

    kind: Literal["duckdb"] = "duckdb"
    """Which store: ``duckdb``, embedded, where nothing else stands here; ``influxdb`` and ``victoriametrics`` are servers."""
    memory_bytes: int = Field(default=1024 * 2**20, ge=128 * 2**20)
    """Bytes of memory that it may use."""
    threads: int = Field(default=2, ge=1, le=64)
    """Threads of a query."""
    checkpoint_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Bytes of write-ahead log after which a checkpoint runs: more make commits smoother and starts slower."""
    reserve_bytes: int = Field(default=256 * 2**20, ge=0)
    """Free bytes of the disk below which nothing more is acknowledged: what frees space needs some itself."""
    compaction_share: float = Field(default=0.5, gt=0, le=1)
    """Share of one processor core that rewriting samples as files takes while it is not behind."""
    retention: tuple[RetentionConfig, ...] = ()
    """How long samples are kept; what no rule means is kept for ever."""


def _with_kind(store: object) -> object:
    return {"kind": "duckdb", **store} if isinstance(store, dict) else store


Store = Annotated[
    StoreConfig | InfluxDBStoreConfig | VictoriaMetricsStoreConfig,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]


class IngestConfig(ConfigModel):
    """Everything in ``ingest.yaml``."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8080"
    """HOST:PORT. Anything but a loopback address needs ``tls`` or ``behind_proxy``."""
    data: FilePath = Field(default=Path("./data"))
    """Folder of the databases, created where it is missing."""
    plant: PlantConfig | None = None
    """The database of tokens, agents, ledger and facts, where it is PostgreSQL; default: a file of SQLite in ``data``."""
    read_access: Literal["open", "token"] = "token"
    """``token``: readers need one. ``open``: anybody reads; only on a loopback address."""
    behind_proxy: bool = False
    """A proxy in front does TLS; only then may the service listen publicly without ``tls``."""
    tls: TlsConfig | None = None
    """Certificate and key, where the service does TLS itself."""
    access: AccessConfig = AccessConfig()
    """Logins, rates, connections, the audit log."""
    sites: tuple[SiteConfig, ...] = ()
    """The sites' names and time zones; a site that is missing here is shown by its path, in UTC."""
    page: FilePath | None = None
    """Folder of the built live page; default: ``dashboards/live/dist`` of the checkout, if it is built."""
    planned_standstill_reasons: tuple[str, ...] = ()
    """Values of ``status.standstill_reason`` that mean planned downtime; any other is unplanned."""
    limits: LimitsConfig = LimitsConfig()
    """Bounds of everything."""
    alarms: AlarmConfig = AlarmConfig()
    """When something is an alarm."""
    store: Store = StoreConfig()
    """Where samples lie."""
    line_protocol: LineProtocolConfig = LineProtocolConfig()
    """What Telegraf and other clients of InfluxDB may send, and what it becomes."""

    @property
    def host(self) -> str:
        """Address to listen on, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port to listen on; 0 takes any free one."""
        return int(self.listen.rpartition(":")[2])

    @property
    def plant_address(self) -> Path | sa.URL:
        """Where the PlantStore lies."""
        return self.plant.address if self.plant else self.data / "plant.sqlite"

    @property
    def page_folder(self) -> Path | None:
        """Where the built page lies, None if it does not."""
        folder = self.page or _BUILT_PAGE
        return folder if (folder / "index.html").is_file() else None

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if is_loopback(self.host):
            return self
        if self.read_access == "open":
            raise ValueError("read_access open is refused on anything but a loopback address")
        if self.tls is None and not self.behind_proxy:
            raise ValueError("listening on a public address needs tls, or behind_proxy: true")
        return self


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
