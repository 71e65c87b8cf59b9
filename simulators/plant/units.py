"""From a scenario's site to the units that stand there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shopfloor.asset import AssetPath
from simulators.physics.machine import InjectionMachine
from simulators.physics.unit import Unit
from simulators.scenario import Scenario, SiteConfig


def make_units(scenario: Scenario, site: SiteConfig, start_ms: int) -> Iterator[Unit]:
    """Yield all units of a site; their lives begin at ``start_ms`` (UTC ms)."""
    for machine in site.machines:
        seed = scenario.machine_seed(site, machine)
        yield InjectionMachine(machine.spec(seed, start_ms), site.calendar, seed, start_ms)


def assets(site: SiteConfig) -> Mapping[str, AssetPath]:
    """Return the asset path of each cell of a site."""
    return {machine.cell: site.machine_asset(machine) for machine in site.machines}
