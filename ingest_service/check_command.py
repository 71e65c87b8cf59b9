"""``shopfloor ingest check``: whether this machine has what the service needs, before it runs and beside it.

Nothing is changed; databases are only reached, not logged in to.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ingest_service.certificates import Certificates
from ingest_service.config import IngestConfig, StoreConfig
from ingest_service.premises import open_folder, take_addresses
from ingest_service.store_config import VictoriaMetricsStoreConfig
from shopfloor import findings
from shopfloor.configfile import load
from shopfloor.errors import ConfigError
from shopfloor.findings import Finding, Section, failure, ok, warning
from shopfloor.kernel_clock import look_at_clock
from shopfloor.owner import become_owner, nearest
from shopfloor.tables import size_text

_SOON: Final = timedelta(days=60)
_REACH_S: Final = 5.0
_SCARCE: Final = 4
"""Times the reserve: with less room the disk is full before somebody has looked twice."""


def add_arguments(commands: Any) -> None:
    """Declare the sub-command of ``shopfloor ingest``."""
    check = commands.add_parser(
        "check", help="look at the configuration and this machine: folder, address, certificates, clock"
    )
    check.add_argument("config", type=Path, help="ingest.yaml")
    check.add_argument("--json", action="store_true", help="one object of JSON instead of text")
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    try:
        config = load(arguments.config, IngestConfig)
        if become_owner(config.data):
            # Once more, with the rights of the service: what root can read need not be readable for it.
            config = load(arguments.config, IngestConfig)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    sections = look_at_this_machine(config)
    if arguments.json:
        print(json.dumps(findings.as_json(sections)))
    else:
        print("\n".join(findings.as_lines(sections)))
    return 0 if findings.is_sound(sections) else 1


def look_at_this_machine(config: IngestConfig) -> list[Section]:
    """Return what was found of the folder, the address, certificates, databases and the clock."""
    return [
        Section("data folder", list(_folder(config))),
        Section("address", list(_address(config))),
        Section("databases", list(_databases(config))),
        Section("this machine", look_at_clock()),
    ]


def _folder(config: IngestConfig) -> Iterator[Finding]:
    if config.data.exists():
        try:
            open_folder(config.data)
        except OSError as error:
            yield failure(str(error), "")
            return
        yield ok(f"{config.data} can be written")
    else:
        yield ok(f"{config.data} will be made at the first start")
    free = shutil.disk_usage(nearest(config.data)).free
    reserve = config.store.reserve_bytes if isinstance(config.store, StoreConfig) else 0
    figures = {"free_bytes": free, "reserve_bytes": reserve}
    text = f"{size_text(free)} are free"
    if free < reserve:
        yield failure(
            f"{text}, less than store.reserve_bytes: nothing will be acknowledged", "make room", **figures
        )
    elif free < reserve * _SCARCE:
        yield warning(f"{text}; below {size_text(reserve)} nothing is acknowledged", "make room", **figures)
    else:
        yield ok(text, **figures)


def _address(config: IngestConfig) -> Iterator[Finding]:
    try:
        for each in take_addresses(config.host, config.port):
            each.close()
        yield ok(f"{config.listen} is free")
    except OSError as error:
        if _serves(config):
            yield ok(f"a service answers at {config.listen}")
        else:
            yield failure(str(error), "")
    if config.tls is None:
        yield (
            ok("a proxy in front does TLS")
            if config.behind_proxy
            else ok("without TLS, on this machine only")
        )
        return
    from cryptography import x509  # noqa: PLC0415 - a service that runs has no use for it

    try:
        Certificates(config.tls)
        certificates = x509.load_pem_x509_certificates(config.tls.certificate.read_bytes())
    except (OSError, ValueError) as error:
        yield failure(str(error), "shopfloor certs makes certificates and keys that belong together")
        return
    ends = min(each.not_valid_after_utc for each in certificates)
    text, now = f"{config.tls.certificate}: valid until {ends:%Y-%m-%d}", datetime.now(UTC)
    if ends < now:
        yield failure(f"{text}: nobody trusts it any more", "shopfloor certs renew, or whoever has made it")
    elif ends < now + _SOON:
        yield warning(text, "renew it: a new file is taken while the service runs")
    else:
        yield ok(text)


def _databases(config: IngestConfig) -> Iterator[Finding]:
    """Reach each server; what it thinks of our password it says when the service starts."""
    store = config.store
    if isinstance(store, StoreConfig):
        yield ok("samples lie in the embedded store")
    else:
        more = (
            [store.insert_url, *store.storage_urls] if isinstance(store, VictoriaMetricsStoreConfig) else []
        )
        for url in dict.fromkeys(each for each in (store.url, *more) if each):
            parts = urlsplit(url)
            default = 443 if parts.scheme == "https" else 80
            yield _reached(f"store {url}", parts.hostname or "", parts.port or default)
    if config.plant is not None:
        address = config.plant.address
        yield _reached(f"plant {address.render_as_string()}", address.host or "", address.port or 5432)


def _reached(what: str, host: str, port: int) -> Finding:
    try:
        socket.create_connection((host, port), timeout=_REACH_S).close()
    except OSError as error:
        return failure(
            f"{what}: {error.strerror or error}",
            f"start it, or let nothing stand between here and {host}:{port}",
        )
    return ok(f"{what}: reached")


def _serves(config: IngestConfig) -> bool:
    """Tell whether one of our services answers where this one is to listen."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    if config.tls:
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, config.port, timeout=_REACH_S, context=anyone
        )
    else:
        connection = http.client.HTTPConnection(host, config.port, timeout=_REACH_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            said: object = json.loads(connection.getresponse().read(1000))
        except (OSError, http.client.HTTPException, ValueError):
            return False
    return said == {"status": "ok"}
