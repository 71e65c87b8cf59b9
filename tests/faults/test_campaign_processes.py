"""A short campaign against two ingestion processes on one InfluxDB and one PostgreSQL, every number accounted for.

What breaks is all that differs from a campaign against one process: the two, the databases, and the ways between them.
Meanwhile the balancer in front of the two gives a part of the batches to both at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.actor import CannotRun
from tests.faults.campaign import run
from tests.faults.databases import Databases, databases
from tests.faults.schedule import SEVERAL_SERVED, plan_faults
from tests.faults.sizes import Sizes

pytestmark = pytest.mark.timeout(580)

FAULTS = 20
SECONDS = 14.0
HOLD_SHARE = 0.4
"""Of the time for which a fault of the long campaign lasts."""


@pytest.fixture
def servers() -> Iterator[Databases]:
    try:
        with databases() as found:
            yield found
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("possible")
async def test_two_processes_store_every_number_once_whatever_breaks_around_them(
    tmp_path: Path, servers: Databases
) -> None:
    faults = [
        replace(fault, hold_s=HOLD_SHARE * fault.hold_s)
        for fault in plan_faults(FAULTS, 3, SECONDS, SEVERAL_SERVED)
    ]
    assert {fault.kind for fault in faults} == set(SEVERAL_SERVED)
    sizes = Sizes(patience=6.0, batch=300)
    report = await run(tmp_path, faults, 3, sizes, SECONDS, print, databases=servers, timed=False)
    assert report.accounts.examples == (), (tmp_path / "faults.json").read_text()
    assert report.clean, report.as_json()
    assert report.crashed == []
    assert report.faults == FAULTS
    found, balanced = report.accounts, report.balanced
    assert found.permitted_by["damage"] == 0
    assert found.stored + found.permitted == found.produced
    assert found.stored > 300
    assert balanced is not None
    assert balanced.answered_twice > 0, (
        "some batches came to both processes at once, and both acknowledged them"
    )
    assert report.books.handed_over == report.books.stored == balanced.handed_over
    assert (balanced.points_missing, balanced.points_strange, balanced.amiss) == (0, 0, ())
