"""How demos end, and how they go on where they were ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from simulators.demo.ports import HOST
from simulators.emissions import read_emissions
from simulators.plant import emission_folder
from simulators.scenario import load_scenario
from tests.e2e.demos import demo, eventually, folder, one_site, processes_of, run, wait_until_ready

__all__ = ["folder", "one_site"]

pytestmark = pytest.mark.timeout(600)

PARTS = 4
"""Broker, service, simulators and agent."""


def test_a_demo_goes_on_where_it_was_ended_and_accounts_for_all_its_lives(
    folder: Path, one_site: tuple[str, str]
) -> None:
    with demo(folder, *one_site, "--fresh") as process:
        address = wait_until_ready(process)
        ports = json.loads((folder / "ports.json").read_text())
        assert len(processes_of(folder)) == PARTS
        time.sleep(1)  # something live to account for; how much does not matter
        os.kill(process.pid, signal.SIGINT)
        process.communicate()
    assert (process.returncode, processes_of(folder)) == (0, [])
    assert address.rstrip().endswith(f" http://{HOST}:{ports['page']}")
    (site,) = load_scenario(Path(one_site[1])).sites
    said = len(read_emissions(emission_folder(folder / "simulators", site)))
    last = run(folder, *one_site, "--for", "5s", "--json")
    assert json.loads((folder / "ports.json").read_text())["page"] == ports["page"]
    assert last["emitted"] > said > 0


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_where_it_is_killed_no_process_is_left(folder: Path, one_site: tuple[str, str]) -> None:
    with demo(folder, *one_site, "--fresh") as process:
        wait_until_ready(process)
        assert len(processes_of(folder)) == PARTS
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert eventually(lambda: processes_of(folder) == [], 60)
    assert process.returncode == -signal.SIGKILL
