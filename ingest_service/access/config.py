"""The parts of ``ingest.yaml`` that say who gets in, and how."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from shopfloor.configfile import ConfigModel, FilePath

_DAY_S = 86_400


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError("must be an address or a network, such as 10.0.0.5 or 10.0.0.0/24") from error
    return text


class TlsConfig(ConfigModel):
    """Certificate of the service; the files are read again when they change, and on HUP."""

    certificate: FilePath
    """PEM file with the certificate and its chain."""
    key: FilePath
    """PEM file with the private key."""
    client_ca: FilePath | None = None
    """PEM file with the authorities that sign certificates of clients; without it clients are not asked for one."""
    client_certificates: Literal["required", "optional"] = "optional"
    """``required``: nobody without one gets as far as a request, browsers included. ``optional``: one that is shown is
    verified, and tokens that are bound to a certificate need it. Both only with ``client_ca``."""

    @model_validator(mode="after")
    def _has_an_authority(self) -> Self:
        if self.client_certificates == "required" and self.client_ca is None:
            raise ValueError("client_certificates: required needs client_ca")
        return self


class AccessConfig(ConfigModel):
    """Logins, rates, connections and the audit log."""

    session_idle_s: float = Field(default=12 * 3600.0, ge=60, le=90 * _DAY_S)
    """Seconds after which a session that nobody uses ends."""
    session_s: float = Field(default=7 * _DAY_S, ge=60, le=365 * _DAY_S)
    """Seconds after which a session ends however much it is used."""
    password_length: int = Field(default=12, ge=8, le=128)
    """Characters that a password has at least."""
    login_failures: int = Field(default=5, ge=1, le=1000)
    """Failed logins of one user from one address in a row; after that one more every ``login_pause_s``. From one address,
    and of one user from anywhere, ten times as many."""
    login_pause_s: float = Field(default=30.0, gt=0, le=_DAY_S)
    """Seconds until one more login may be tried."""
    address_requests_per_s: float = Field(default=2000.0, gt=0)
    """Requests from one address in a second; beyond it 429 with ``Retry-After``. Twice as many may come at once."""
    token_requests_per_s: float = Field(default=1000.0, gt=0)
    """The same for one token or user."""
    connections: int = Field(default=4096, ge=1)
    """Open connections; one more is turned away with 503."""
    address_connections: int = Field(default=2048, ge=1)
    """The same from one address."""
    header_bytes: int = Field(default=32 * 1024, ge=1024, le=2**20)
    """Bytes of a request's line and headers; beyond it 431."""
    header_timeout_s: float = Field(default=15.0, gt=0, le=600)
    """Seconds in which the line and the headers of a request must arrive, the TLS handshake apart."""
    write_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Seconds after which a connection is cut whose peer reads nothing of an answer."""
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ("127.0.0.0/8", "::1/128")
    """Addresses of the proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed, with ``behind_proxy``."""
    audit_entries: int = Field(default=100_000, ge=100, le=10_000_000)
    """Entries of the audit log; the oldest go. Refusals take a quarter at most."""
    audit_days: float = Field(default=400.0, ge=1)
    """Days after which an entry goes."""
