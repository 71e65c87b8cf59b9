"""From a scenario's site to the units that stand there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from simulators.physics.compressor import Compressor
from simulators.physics.garment import GarmentCell
from simulators.physics.line import Line
from simulators.physics.machine import InjectionMachine
from simulators.physics.tcu import TemperatureControlUnit
from simulators.physics.unit import Unit
from simulators.scenario import Scenario, SiteConfig


def fingerprints(scenario: Scenario, site: SiteConfig) -> dict[str, str]:
    """Return what each unit of a site is made of, as a digest, by its first cell."""
    people = (site.time_zone, [each.model_dump_json() for each in site.shifts], list(map(str, site.holidays)))
    made: dict[str, tuple[object, ...]] = {}
    for machine in site.machines:
        own = machine.model_dump_json(exclude={"area", "line", "protocol", "meter"})
        made[machine.cell] = (own, scenario.machine_seed(site, machine))
    others = [
        *((line.cell, line.cell, line) for line in site.lines),
        *((cell.operators[0].cell, cell.cell, cell) for cell in site.garment_cells),
        *((tcu.cell, tcu.cell, tcu) for tcu in site.tcus),
        *((compressor.cell, compressor.cell, compressor) for compressor in site.compressors),
    ]
    for first, name, config in others:
        own = config.model_dump_json(exclude={"area", "line"})
        made[first] = (own, scenario.seed_of(f"{site.asset}/{name}"))
    return {
        first: hashlib.sha256(repr((*parts, *people)).encode()).hexdigest()[:16]
        for first, parts in made.items()
    }


def make_units(scenario: Scenario, site: SiteConfig, start_ms: int) -> Iterator[Unit]:
    """Yield all units of a site; their lives begin at ``start_ms`` (UTC ms)."""
    for machine in site.machines:
        seed = scenario.machine_seed(site, machine)
        yield InjectionMachine(machine.spec(seed, start_ms), site.calendar, seed, start_ms)
    calendar = site.calendar

    def seed_of(cell: str) -> int:
        return scenario.seed_of(f"{site.asset}/{cell}")

    for line in site.lines:
        yield Line(line.spec(calendar), seed_of(line.cell), start_ms)
    for cell in site.garment_cells:
        yield GarmentCell(cell.spec(calendar), seed_of(cell.cell), start_ms)
    for tcu in site.tcus:
        yield TemperatureControlUnit(tcu.spec(calendar), seed_of(tcu.cell), start_ms)
    for compressor in site.compressors:
        yield Compressor(compressor.spec(calendar, start_ms), seed_of(compressor.cell), start_ms)
