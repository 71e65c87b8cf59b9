"""``grafana.yaml``: which Grafana ``shopfloor dashboards push`` fills, and what its data source is given."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel, FilePath, Secret

INFLUXDB: Final = ("shopfloor-influxdb", "Shopfloor InfluxDB")
"""Uid and name in Grafana, unless others are configured."""
VICTORIAMETRICS: Final = ("shopfloor-victoriametrics", "Shopfloor VictoriaMetrics")

Uid = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,40}$")]


def _http(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address such as https://grafana.example.com stands here")
    if parts.username or parts.password:
        raise PydanticCustomError("secret", "user and password have keys of their own")
    return text.rstrip("/")


HttpAddress = Annotated[str, AfterValidator(_http)]


class ServiceAccountConfig(ConfigModel):
    """An account of Grafana's that later runs use instead of an administrator's."""

    name: str = Field(default="shopfloor-dashboards", min_length=1, max_length=100)
    """Its name in Grafana."""
    role: Literal["Editor", "Admin"] = "Admin"
    """An Editor may push dashboards and alerts; data sources need an Admin."""
    token_file: FilePath
    """Where its new token is written to, readable only by the owner. A file that is there is left as it is."""


class GrafanaConfig(ConfigModel):
    """A Grafana that can be reached by HTTP."""

    url: HttpAddress
    """Its address, with the path below which it is served: ``https://grafana.example.com`` or ``…/grafana``."""
    token: Secret | None = None
    """A service account's token."""
    user: str = ""
    """An administrator, for the first run: with this and ``service_account`` a token is made for the others."""
    password: Secret | None = None
    """The administrator's password."""
    organisation: int | None = Field(default=None, ge=1)
    """Number of the organisation; without it, the one that the account belongs to."""
    ca: FilePath | None = None
    """Certificates of authorities to trust instead of the system's, PEM."""
    timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Seconds after which a request has failed."""
    service_account: ServiceAccountConfig | None = None
    """Make this account, unless it is there."""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.token is None) == (self.password is None):
            raise ValueError("either a token or a user with a password belongs here")
        if bool(self.user) != (self.password is not None):
            raise ValueError("a user needs a password, and a password a user")
        return self


class InfluxDBSource(ConfigModel):
    """InfluxDB 1.8, 2.x or 3.x, as Grafana reaches it; asked in InfluxQL."""

    kind: Literal["influxdb"]
    """Which database."""
    uid: Uid = INFLUXDB[0]
    """Its uid in Grafana, which alert rules name."""
    name: str = Field(default=INFLUXDB[1], min_length=1, max_length=190)
    """Its name in Grafana."""
    url: HttpAddress
    """Address of the server, as Grafana reaches it."""
    version: Literal[1, 2, 3]
    """Major version of the server."""
    database: str = Field(default="shopfloor", min_length=1, max_length=200)
    """Database (1.x, 3.x) or bucket (2.x; one with a mapping for InfluxQL, as every bucket has since 2.4)."""
    user: str = ""
    """User (1.x)."""
    password: Secret | None = None
    """The user's password (1.x)."""
    token: Secret | None = None
    """Token that may read the bucket or database (2.x, 3.x)."""

    @model_validator(mode="after")
    def _fits_version(self) -> Self:
        if self.version > 1 and (self.user or self.password):
            raise ValueError("user and password are for version 1; later ones take a token")
        if self.version == 1 and self.token:
            raise ValueError("version 1 takes a user and a password; a token is for later ones")
        return self


class VictoriaMetricsSource(ConfigModel):
    """VictoriaMetrics, as Grafana reaches it; asked in MetricsQL."""

    kind: Literal["victoriametrics"]
    """Which database."""
    uid: Uid = VICTORIAMETRICS[0]
    """Its uid in Grafana, which alert rules name."""
    name: str = Field(default=VICTORIAMETRICS[1], min_length=1, max_length=190)
    """Its name in Grafana."""
    url: HttpAddress
    """``http://victoriametrics:8428``, or of a cluster ``http://vmselect:8481/select/0/prometheus``."""
    user: str = ""
    """User for basic authentication, as vmauth takes it."""
    password: Secret | None = None
    """The user's password."""
    token: Secret | None = None
    """Bearer token, as vmauth takes it."""


class EmailConfig(ConfigModel):
    """A contact point that is made, unless one of that name is there."""

    addresses: tuple[str, ...] = Field(min_length=1, max_length=100)
    """Who gets mail; Grafana's own configuration says by which server (``[smtp]``)."""


class AlertConfig(ConfigModel):
    """Alert rules, and whom they tell."""

    enabled: bool = True
    """Whether alert rules are pushed at all."""
    contact_point: str = Field(default="", max_length=190)
    """Whom the rules tell. Empty: whoever your own notification policies say, by the labels ``severity``, ``site`` and
    ``shopfloor``; the policies themselves are never touched."""
    email: EmailConfig | None = None
    """Make ``contact_point``, unless it is there."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.email and not self.contact_point:
            raise ValueError("a contact point that is to be made needs a name: contact_point")
        return self


class PushConfig(ConfigModel):
    """What ``shopfloor dashboards push`` does."""

    grafana: GrafanaConfig
    """Where to."""
    datasource: Annotated[InfluxDBSource | VictoriaMetricsSource, Field(discriminator="kind")]
    """What the dashboards and alert rules ask."""
    live_url: HttpAddress = "http://localhost:8080"
    """Where browsers find the live page, for the links to it."""
    alerts: AlertConfig = AlertConfig()
    """Alert rules, and whom they tell."""
