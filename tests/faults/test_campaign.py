"""A short campaign: every kind of fault once, and every number accounted for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from simulators.demo.broker import BrokerUnavailable, nats_command
from tests.faults.campaign import run
from tests.faults.plant_site import CannotRun, environment_allows
from tests.faults.schedule import Kind, plan_faults
from tests.faults.sizes import Sizes

pytestmark = pytest.mark.timeout(420)

SECONDS = 18.0


@pytest.fixture
def possible(tmp_path: Path) -> None:
    try:
        environment_allows()
        nats_command(tmp_path / "try", 1, 2)
    except (CannotRun, BrokerUnavailable) as error:
        pytest.skip(str(error))
    shutil.rmtree(tmp_path / "try")


@pytest.mark.usefixtures("possible")
async def test_every_kind_of_fault_costs_nothing_that_is_not_recorded_and_permitted(tmp_path: Path) -> None:
    faults = plan_faults(len(Kind), 3, SECONDS)
    report = await run(tmp_path, faults, 3, Sizes(patience=6.0), SECONDS, print)
    assert report.accounts.examples == (), (tmp_path / "faults.json").read_text()
    assert report.clean
    assert set(report.by_kind) == set(Kind)
    assert report.crashed == []
    found = report.accounts
    assert found.stored + found.permitted == found.produced
    assert found.stored > 1_000
