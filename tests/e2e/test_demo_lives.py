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
from tests.e2e.demos import demo, eventually, folder, one_site, processes_of, run, wait_until_ready

__all__ = ["folder", "one_site"]

pytestmark = pytest.mark.timeout(300)


def test_a_demo_goes_on_where_it_was_ended_and_accounts_for_all_its_lives(
    folder: Path, one_site: tuple[str, str]
) -> None:
    first = run(folder, *one_site, "--fresh", "--for", "5s", "--json")
    ports = json.loads((folder / "ports.json").read_text())
    with demo(folder, *one_site) as process:
        address = wait_until_ready(process)
        time.sleep(3)  # something live to account for; how much does not matter
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert address.rstrip().endswith(f":{ports['page']}")
    last = run(folder, *one_site, "--for", "5s", "--json")
    assert last["emitted"] > first["emitted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_process_is_left(
    folder: Path, one_site: tuple[str, str], number: signal.Signals
) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("PR_SET_PDEATHSIG is Linux's")
    with demo(folder, *one_site, "--fresh") as process:
        assert f"http://{HOST}:" in wait_until_ready(process)
        assert len(processes_of(folder)) == 4  # broker, service, simulators and agent
        os.kill(process.pid, number)
        process.communicate(timeout=60)
    assert eventually(lambda: processes_of(folder) == [], 20)
    assert process.returncode == (-number if number == signal.SIGKILL else 0)
