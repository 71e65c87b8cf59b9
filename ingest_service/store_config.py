"""The parts of ``ingest.yaml`` about databases that are servers."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

import sqlalchemy as sa
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.exc import ArgumentError

from shopfloor.configfile import ConfigModel, Secret
from shopfloor.reports import REPORT_EVERY_S

_DRIVER: Final = "postgresql+psycopg"


def _postgresql(text: str) -> str:
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"no URL such as {_DRIVER}://user@host:5432/database") from error
    if url.drivername not in {_DRIVER, "postgresql"} or not url.host or not url.database:
        raise ValueError(f"a URL such as {_DRIVER}://user@host:5432/database stands here")
    if url.password is not None:
        # Of this kind, so that the message does not show what stands there.
        raise PydanticCustomError("secret", "the password stands in `password`, as a secret")
    return text


def _http(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address such as http://127.0.0.1:8086 stands here")
    if parts.username or parts.password:
        raise PydanticCustomError("secret", "user and password have keys of their own")
    return text.rstrip("/")


HttpAddress = Annotated[str, AfterValidator(_http)]


class PlantConfig(ConfigModel):
    """The database of everything but samples, where it is PostgreSQL; without this section a file of SQLite."""

    url: Annotated[str, AfterValidator(_postgresql)]
    """Such as ``postgresql+psycopg://shopfloor@db.example.com:5432/shopfloor?sslmode=verify-full``."""
    password: Secret | None = None
    """The user's password."""

    @property
    def address(self) -> sa.URL:
        """The URL with its password."""
        url = sa.make_url(self.url).set(drivername=_DRIVER)
        return url.set(password=self.password.get_secret_value()) if self.password else url


class InfluxDBStoreConfig(ConfigModel):
    """Samples in InfluxDB 1.x, 2.x or 3.x."""

    kind: Literal["influxdb"]
    """Which store."""
    url: HttpAddress
    """Address of the server, such as ``http://127.0.0.1:8086``."""
    version: Literal[1, 2, 3]
    """Major version of the server."""
    database: str = Field(default="shopfloor", min_length=1, max_length=200)
    """Database (1.x, 3.x; created where it is missing) or bucket (2.x, which has to be there)."""
    organisation: str = ""
    """Organisation of the bucket (2.x)."""
    user: str = ""
    """User (1.x)."""
    password: Secret | None = None
    """The user's password (1.x)."""
    token: Secret | None = None
    """Token (2.x, 3.x) that may read and write the bucket or database."""
    timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Seconds after which a request has failed; what it wrote is written again then, and is there once."""
    lines: int = Field(default=20_000, ge=100, le=1_000_000)
    """Points in one request."""
    report_every_s: float = Field(default=REPORT_EVERY_S, ge=1, le=300)
    """Seconds between two reports on machines, sites and agents that the service writes for dashboards and alerts."""
    rollups: bool = True
    """Whether the service reads each hour's samples once it is over and writes their aggregates beside them, from which
    it answers for days and months."""

    @model_validator(mode="after")
    def _fits_version(self) -> Self:
        if self.version == 2 and not self.organisation:
            raise ValueError("version 2 needs the organisation of the bucket")
        if self.version > 1 and (self.user or self.password):
            raise ValueError("user and password are for version 1; later ones take a token")
        return self


class VictoriaMetricsStoreConfig(ConfigModel):
    """Samples in VictoriaMetrics, a single node or a cluster."""

    kind: Literal["victoriametrics"]
    """Which store."""
    url: HttpAddress
    """Where to read, and to write unless ``insert_url`` says otherwise: ``http://127.0.0.1:8428``, or of a cluster
    ``http://vmselect:8481/select/0/prometheus`` with its tenant."""
    insert_url: HttpAddress | None = None
    """Where to write to a cluster: ``http://vminsert:8480/insert/0`` with its tenant; ``/influx`` and ``/prometheus``
    follow below."""
    storage_urls: tuple[HttpAddress, ...] = ()
    """The vmstorage nodes of a cluster, such as ``http://vmstorage-1:8482``: asked for a snapshot before
    an agent may forget what it sent. A single node is asked itself."""
    user: str = ""
    """User for basic authentication, as vmauth takes it."""
    password: Secret | None = None
    """The user's password."""
    token: Secret | None = None
    """Bearer token, as vmauth takes it."""
    timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Seconds after which a request has failed."""
    lines: int = Field(default=50_000, ge=100, le=1_000_000)
    """Points in one request."""
    report_every_s: float = Field(default=REPORT_EVERY_S, ge=1, le=300)
    """Seconds between two reports on machines, sites and agents that the service writes for dashboards and alerts."""
    retention_days: int = Field(default=30, ge=2, le=100_000)
    """Days that the server keeps (its ``-retentionPeriod``): it drops older samples unseen, so they stay in the
    PlantStore."""
