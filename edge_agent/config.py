"""The agent's configuration file."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Self, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edge_agent.buffer import WhenFull
from edge_agent.processing.config import Rules
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.sparkplug.config import SparkplugConfig
from shopfloor.configfile import Asset, ConfigModel, FilePath, Secret

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KiB|MB|MiB|GB|GiB|TB)?")
_FACTORS: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip


def _bytes(size: object) -> object:
    if not isinstance(size, str):
        return size
    match = _SIZE.fullmatch(size.strip())
    if not match:
        raise ValueError("a size is a number with B, kB, MB, GB, TB, KiB, MiB or GiB")
    return int(float(match[1]) * _FACTORS[match[2] or "B"])


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an address such as https://dms.example.com or http://127.0.0.1:8080")
    if "@" in parts.netloc:
        raise ValueError("no user name or password here, where logs and pages show it: give a token")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
"""A size: a number of bytes, or text such as ``2GB`` or ``512MiB``."""


class AgentConfig(ConfigModel):
    """Who this agent is."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")
    """Name of this agent, unique in the enterprise; it stands in the ledger for ever, so don't reuse one."""
    asset: Asset
    """The asset path that this agent serves, usually its site; its token has to reach that far."""


class UplinkConfig(ConfigModel):
    """The ingestion service."""

    url: Annotated[str, AfterValidator(_http_url)]
    """Address of the ingestion service."""
    token: Secret
    """Token of role ``agent``: ``file:PATH`` or ``${ENVIRONMENT_VARIABLE}``."""
    ca_file: FilePath | None = None
    """Certificate authority of the service, PEM; the system's own where omitted."""
    cert: FilePath | None = None
    """Certificate of this agent, PEM, where the service asks for one; read when the agent starts."""
    key: FilePath | None = None
    """Private key of ``cert``, PEM."""
    allow_insecure_token: bool = False
    """Send the token over plain http to another machine all the same."""
    timeout_s: float = Field(default=15.0, gt=0, le=300)
    """How long a request may take, in seconds."""
    batch_samples: int = Field(default=10_000, ge=1, le=200_000)
    """Samples in one request, at most."""
    linger_ms: int = Field(default=100, ge=0, le=60_000)
    """Pause between requests that are not full, in milliseconds: fewer requests for a little latency."""
    backlog_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the link that old data may use while it drains beside live data, 0 to 1."""
    heartbeat_s: float = Field(default=2.0, ge=0.5, le=5)
    """Interval of heartbeats, in seconds; the service reports "no contact" after 10 s without one."""

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or neither")
        return self

    @model_validator(mode="after")
    def _token_stays_secret(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.allow_insecure_token:
            raise ValueError("would send the token unencrypted: use https, or set allow_insecure_token: true")
        return self


class BufferConfig(ConfigModel):
    """The buffer on disk."""

    max_bytes: Bytes = 2 * 2**30
    """Size of the buffer, at most."""
    disk_reserve: Bytes = 256 * 2**20
    """Space on the buffer's disk that is left free."""
    when_full: WhenFull = WhenFull.DROP_OLDEST
    """``drop_oldest``, ``drop_newest`` or ``block`` (sources wait, unacknowledged)."""
    min_commit_interval_ms: int = Field(default=0, ge=0, le=10_000)
    """Least time between two transactions, in milliseconds; spares flash, and acknowledgements wait for it too."""
    repeat_window_samples: int = Field(default=200_000, ge=1_000, le=10_000_000)
    """How many of the last samples are remembered to recognise readings that arrive twice."""


class StatusConfig(ConfigModel):
    """The agent's own small web server: a page, ``/health``, ``/status.json`` and ``/metrics``."""

    listen: str = Field(default="127.0.0.1:9101", pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):\d{1,5}$")
    """Address and port; port 0 takes any free one."""
    allow_public: bool = False
    """Listen on more than loopback; there is no authentication on this page."""
    names: tuple[str, ...] = Field(default=(), max_length=100)
    """What the page may be called in a URL beside ``localhost`` and IP addresses, such as ``gateway-7.example.com``; any
    other name is refused, since a foreign web page can let its own name point here."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _stays_private(self) -> Self:
        if not is_loopback(self.address[0]) and not self.allow_public:
            raise ValueError("would be readable by everybody: listen on loopback, or set allow_public: true")
        return self


class SourceConfig(ConfigModel):
    """One source: exactly one of its protocols."""

    opcua: OpcUaConfig | None = None
    """An OPC UA server."""
    mqtt: MqttConfig | None = None
    """An MQTT broker."""
    sparkplug: SparkplugConfig | None = None
    """An MQTT broker with Sparkplug B edge nodes."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len([each for each in self._given if each is not None]) != 1:
            raise ValueError("a source is exactly one of opcua, mqtt, sparkplug")
        return self

    @property
    def settings(self) -> OpcUaConfig | MqttConfig | SparkplugConfig:
        """The one that is given."""
        return next(each for each in self._given if each is not None)

    @property
    def scope(self) -> str:
        """Protocol and peer, to which the source's durable state belongs: a source may be renamed."""
        if self.opcua is not None:
            return f"opcua {self.opcua.endpoint}"
        if self.mqtt is not None:
            return f"mqtt {self.mqtt.broker} {self.mqtt.client_id}"
        assert self.sparkplug is not None
        return f"sparkplug {self.sparkplug.broker} {self.sparkplug.host_id}"

    @property
    def _given(self) -> tuple[OpcUaConfig | None, MqttConfig | None, SparkplugConfig | None]:
        return self.opcua, self.mqtt, self.sparkplug


class Config(ConfigModel):
    """An edge agent."""

    agent: AgentConfig
    """Who this agent is."""
    # As text, as a file would have it: only that is taken relative to the file.
    data: FilePath = Field(default=cast("Path", "data"), validate_default=True)
    """Folder of the buffer; it survives restarts and upgrades. Relative to this file."""
    uplink: UplinkConfig
    """Where the data goes."""
    buffer: BufferConfig = BufferConfig()
    """How data is kept until it is delivered."""
    status: StatusConfig | None = StatusConfig()
    """The status page; ``status: null`` for none."""
    sources: list[SourceConfig] = Field(min_length=1)
    """What is read."""
    processing: Rules = ()
    """What is done to readings before they are stored, the first rule that takes a series counts; none by default."""

    @model_validator(mode="after")
    def _sources_are_distinct(self) -> Self:
        names = [source.settings.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources have one name: {', '.join(twice)}")
        # What one had read would count as read for the other.
        scopes = [source.scope for source in self.sources]
        twice = sorted({scope for scope in scopes if scopes.count(scope) > 1})
        if twice:
            raise ValueError(f"two sources read from one peer, make them one: {', '.join(twice)}")
        return self
