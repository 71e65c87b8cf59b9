"""A short campaign: every kind of fault once, and every number accounted for.

It is decided by what is recorded, however long anything takes; that losses fall into the time of a fault is for the long
campaign, which has a computer to itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.campaign import run
from tests.faults.schedule import Kind, plan_faults
from tests.faults.sizes import Sizes

pytestmark = pytest.mark.timeout(580)

SECONDS = 7.0
HOLD_SHARE = 0.4
"""Of the time for which a fault of the long campaign lasts."""


@pytest.mark.usefixtures("possible")
async def test_every_kind_of_fault_costs_nothing_that_is_not_recorded_and_permitted(tmp_path: Path) -> None:
    faults = [
        replace(fault, hold_s=HOLD_SHARE * fault.hold_s) for fault in plan_faults(len(Kind), 3, SECONDS)
    ]
    report = await run(tmp_path, faults, 3, Sizes(patience=6.0), SECONDS, print, timed=False)
    assert report.accounts.examples == (), (tmp_path / "faults.json").read_text()
    assert report.clean
    assert set(report.by_kind) == set(Kind)
    assert report.crashed == []
    found = report.accounts
    assert found.stored + found.permitted == found.produced
    assert found.stored > 300
    assert (report.books.amiss, report.books.missing) == ((), 0)
    assert report.books.handed_over >= report.books.stored >= found.stored
