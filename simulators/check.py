"""Looks at a scenario before anything starts: what it holds, and whether its ports are free."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from shopfloor.configfile import locate
from shopfloor.errors import ConfigError
from simulators.scenario import Scenario, SiteConfig


def check_ports(scenario: Scenario, path: Path, *, ports_from_file: bool) -> None:
    """Raise ConfigError with every OPC UA port that something else listens on.

    Args:
        scenario: read from ``path``.
        path: of the scenario.
        ports_from_file: whether the ports stand there; else the command line gave them.
    """
    problems = []
    for number, site in enumerate(scenario.sites):
        if not site.has_opcua or _is_free(scenario.listen, site.opcua_port):
            continue
        what = f"port {site.opcua_port} of {scenario.listen} is in use [{site.asset}]"
        if ports_from_file:
            line, column = locate(path, ("sites", number, "opcua_port"))
            problems.append(f"{path}:{line}:{column}: sites.{number}.opcua_port: {what}")
        else:
            problems.append(f"--port-base: {what}")
    if problems:
        raise ConfigError(problems)


def _is_free(host: str, port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def summary(scenario: Scenario) -> Iterator[str]:
    """Yield lines that say what a scenario holds."""
    for site in scenario.sites:
        yield f"{site.asset}  {site.name}  {site.time_zone}"
        yield from map("  {}".format, (*_machines(site), *_facilities(site)))


def _machines(site: SiteConfig) -> Iterator[str]:
    for machine in site.machines:
        standards = [
            f"{mould.name} {mould.material} {cycle:.1f} s" for mould, cycle in machine.standard_cycles()
        ]
        yield (
            f"{machine.cell}  {machine.drive} {machine.clamp_kn:g} kN  {machine.protocol}  "
            f"meter {machine.meter}  {', '.join(standards)}"
        )


def _facilities(site: SiteConfig) -> Iterator[str]:
    for line in site.lines:
        yield f"{line.cell}  line of {', '.join(each.cell for each in line.stations)}"
    for cell in site.garment_cells:
        yield f"{cell.cell}  garment cell of {', '.join(each.cell for each in cell.operators)}"
    for unit in site.tcus:
        yield f"{unit.cell}  temperature control unit"
    for compressor in site.compressors:
        yield f"{compressor.cell}  compressor"
