"""What a campaign needs of the computer that it runs on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from simulators.demo.broker import BrokerUnavailable, nats_command
from tests.faults.actor import CannotRun
from tests.faults.plant_site import environment_allows


@pytest.fixture
def possible(tmp_path: Path) -> None:
    """Skip where no campaign can run, and say why."""
    try:
        environment_allows()
        nats_command(tmp_path / "try", 1, 2)
    except (CannotRun, BrokerUnavailable) as error:
        pytest.skip(str(error))
    shutil.rmtree(tmp_path / "try")
