"""What can be said of a configuration without asking anybody else: ``shopfloor edge check``."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from edge_agent.buffer_command import running_agent
from edge_agent.config import Config, SourceConfig
from edge_agent.doctor.certificates import judge_dates, look_at_certificates, look_at_pair, look_at_privacy
from edge_agent.doctor.disk import look_at_data_folder
from edge_agent.sources.opcua.config import OpcUaConfig
from shopfloor.asset import parse_asset
from shopfloor.errors import InvalidName
from shopfloor.findings import Finding, Section, failure, ok, warning
from shopfloor.kernel_clock import look_at_clock


def look_at_this_machine(path: Path, config: Config) -> list[Section]:
    """Return everything that can be found out without a connection, and without writing anything."""
    return [
        Section("configuration", [*_configuration(path, config), *_secrets(path)]),
        Section("certificates", list(_certificates(config))),
        Section("data folder", look_at_data_folder(config)),
        Section("this machine", [*_status_page(config), *look_at_clock()]),
    ]


def _configuration(path: Path, config: Config) -> Iterator[Finding]:
    sources = [entry.settings.name for entry in config.sources]
    yield ok(
        f"{path}: agent {config.agent.id} for {config.agent.asset}, {len(sources)} sources: {', '.join(sources)}",
        agent=config.agent.id,
        sources=sources,
    )
    own = parse_asset(config.agent.asset)
    for entry in config.sources:
        outside = sorted({asset for asset in _assets(entry) if not own.contains(parse_asset(asset))})
        if outside:
            yield warning(
                f"source {entry.settings.name} has assets outside {own}: {', '.join(outside[:5])}",
                "a token for the agent's asset does not reach them, and the service rejects their samples: set "
                "agent.asset to what contains all of them",
                assets=outside,
            )


def _assets(entry: SourceConfig) -> Iterator[str]:
    """Yield the assets that a source's configuration names in full."""
    if entry.opcua is not None:
        named: list[str] = [str(node.asset) for node in entry.opcua.nodes]
    elif entry.mqtt is not None:
        named = [topic.asset for topic in entry.mqtt.topics]
    else:
        assert entry.sparkplug is not None
        named = [publisher.asset for publisher in entry.sparkplug.publishers]
    for asset in dict.fromkeys(named):
        try:
            yield str(parse_asset(asset))
        except InvalidName:
            continue  # a template: only the machines' messages fill it


def _secrets(path: Path) -> Iterator[Finding]:
    """Look at the files that secrets stand in; that they can be read was seen when the configuration was."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError):
        return
    for where, text in _texts(data, ""):
        if text.startswith("file:"):
            file = path.parent / Path(text.removeprefix("file:")).expanduser()
            finding = look_at_privacy(where, file)
            empty = not finding.advice and not file.read_text(encoding="utf-8").strip()
            yield failure(f"{where} {file} is empty", "write the secret into it") if empty else finding


def _texts(data: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _texts(value, f"{where}.{number}")
    elif isinstance(data, str):
        yield where, data


def _certificates(config: Config) -> Iterator[Finding]:
    found = False
    for finding in _named_certificates(config):
        found = True
        yield finding
    if not found:
        yield ok("the configuration needs none of ours")


def _named_certificates(config: Config) -> Iterator[Finding]:
    if config.uplink.ca_file is not None:
        yield look_at_certificates("uplink.ca_file", config.uplink.ca_file)
    if config.uplink.cert is not None and config.uplink.key is not None:
        yield from look_at_pair("uplink", config.uplink.cert, config.uplink.key)
    for entry in config.sources:
        name = entry.settings.name
        if entry.opcua is not None:
            yield from _of_opcua(entry.opcua, config.data / "pki")
            continue
        broker = entry.mqtt or entry.sparkplug
        tls = broker.tls if broker is not None else None
        if tls is None:
            continue
        if tls.ca is not None:
            yield look_at_certificates(f"{name} tls.ca", tls.ca)
        if tls.cert is not None and tls.key is not None:
            yield from look_at_pair(f"{name} tls", tls.cert, tls.key)


def _of_opcua(config: OpcUaConfig, folder: Path) -> Iterator[Finding]:
    if config.user_certificate is not None and config.user_key is not None:
        yield from look_at_pair(f"{config.name} user", config.user_certificate, config.user_key)
    if config.security.policy == "None":
        return
    from edge_agent.sources.opcua.pki import Pki, common_name  # noqa: PLC0415  only what is configured

    pki = Pki(config.security.pki or folder)
    kept, problems = pki.read("own", "trusted", "issuers")
    for problem in problems:
        yield failure(f"{config.name} {problem}", "remove it, or put a certificate there that can be read")
    own = [each for each in kept if each.place == "own"]
    if not own:
        yield ok(
            f"{config.name}: our own certificate will be made in {pki.folder / 'own'} at the first start"
        )
    for each in kept:
        what = (
            "own certificate"
            if each.place == "own"
            else f"{each.place} {common_name(each.certificate.subject)}"
        )
        yield judge_dates(f"{config.name} {what}", [each.certificate], datetime.now(UTC))
    if not any(each.place == "trusted" for each in kept):
        yield warning(
            f"{config.name}: {pki.folder / 'trusted'} is empty: no server is trusted yet",
            "run shopfloor edge doctor, then shopfloor edge trust accept with the thumbprint that it shows",
        )


def _status_page(config: Config) -> Iterator[Finding]:
    if config.status is None:
        yield ok("there is no status page (status: null)")
        return
    host, port = config.status.address
    listen = config.status.listen
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the page itself does: connections of a former one that still linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        pid = running_agent(config.data / "lock")
        if error.errno == errno.EADDRINUSE and pid is not None:
            yield ok(f"the agent runs as process {pid} and has its status page at {listen}", process=pid)
            return
        yield failure(
            f"the status page can't listen at {listen}: {error.strerror or error}",
            "let status.listen name a free port of this machine, or stop who has it",
        )
        return
    pid = running_agent(config.data / "lock")
    if pid is not None:
        yield warning(
            f"the agent runs as process {pid}, but nobody listens at {listen}",
            "it was started with another configuration; restart it",
            process=pid,
        )
        return
    yield ok(f"the status page can listen at {listen}; no agent runs here now (user {os.geteuid()})")
