"""Runs a scenario without protocols, as fast as it can, and writes what was true."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from simulators.physics.unit import Unit
from simulators.plant.units import make_units
from simulators.scenario import Scenario, SiteConfig
from simulators.truth import TruthWriter
from simulators.truth_so_far import so_far

DAY_MS: Final = 86_400_000


class Written(msgspec.Struct):
    """What a run wrote."""

    folder: str
    units: int
    unit_days: float
    rows: int
    run_s: float
    unit_days_per_min: float


def write_truth(scenario: Scenario, folder: Path, start_ms: int, days: float) -> Written:
    """Let every unit of a scenario live for some days and write its truth; raises StoreUnavailable.

    The same scenario, start and days give the same files. Rows stand unit by unit, in order of time.
    """
    began = time.monotonic()
    end_ms = start_ms + round(days * DAY_MS)
    writer = TruthWriter(folder)
    units = 0
    for site in scenario.sites:
        asset_of = _namer(site)
        for unit in make_units(scenario, site, start_ms):
            _live(unit, end_ms, writer, asset_of)
            units += 1
    writer.close()
    took_s = time.monotonic() - began
    lived = units * days
    return Written(
        str(folder),
        units,
        lived,
        writer.rows_total,
        round(took_s, 3),
        round(lived / took_s * 60.0, 1),
    )


def _namer(site: SiteConfig) -> Callable[[str], str]:
    paths = {cell: str(asset) for cell, asset in site.cells.items()}
    return lambda cell: paths[cell]


def _live(unit: Unit, end_ms: int, writer: TruthWriter, asset_of: Callable[[str], str]) -> None:
    first = unit.cells[0]
    while True:
        stretch = unit.plan()
        over = stretch.end_ms >= end_ms
        for facts in so_far(stretch.facts, end_ms) if over else stretch.facts:
            writer.add(lambda cell: asset_of(cell or first), facts)
        if over:
            return
