"""The moulding machines that come with the package lie where the published figures do (domain facts, section 6)."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Final

import pytest

from simulators.scenario import THREE_PLANTS, load_scenario
from tests.contract.unit_contract import START_MS
from tests.unit.test_simulators_calibration import Month, lived

DAYS: Final = 6
"""A month takes half a minute. So few days may be better or worse than a month by a twentieth."""
KWH_PER_KG: Final = {"electric": (0.9, 1.1), "servo_hydraulic": (1.0, 1.2), "hydraulic": (1.4, 1.6)}


@lru_cache(maxsize=1)
def plants() -> dict[str, tuple[str, Month]]:
    """Drive and life of each machine."""
    scenario = load_scenario(THREE_PLANTS)
    return {
        f"{site.key}/{machine.cell}": (
            machine.drive,
            lived(
                machine.spec(scenario.machine_seed(site, machine), START_MS),
                site.calendar,
                scenario.machine_seed(site, machine),
                DAYS,
            ),
        )
        for site in scenario.sites
        for machine in site.machines
    }


def test_the_oee_of_each_machine_is_that_of_real_plants() -> None:
    assert len(plants()) == 16
    oee = {name: life.oee() for name, (_, life) in plants().items()}
    assert {name: share for name, share in oee.items() if not 0.50 <= share <= 0.80} == {}
    assert 0.55 <= sum(oee.values()) / len(oee) <= 0.75


def test_energy_for_a_kilogram_is_that_of_the_drive() -> None:
    off = {}
    by_drive: dict[str, list[Month]] = defaultdict(list)
    for name, (drive, life) in plants().items():
        low, high = KWH_PER_KG[drive]
        by_drive[drive].append(life)
        if not 0.97 * low <= life.kwh / life.kilograms <= 1.03 * high:
            off[name] = life.kwh / life.kilograms
    assert off == {}
    assert by_drive.keys() == KWH_PER_KG.keys()
    for drive, lives in by_drive.items():
        low, high = KWH_PER_KG[drive]
        mean = sum(life.kwh for life in lives) / sum(life.kilograms for life in lives)
        assert mean == pytest.approx((low + high) / 2, abs=(high - low) / 2), drive
