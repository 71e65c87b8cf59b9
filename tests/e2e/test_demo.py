"""The real demo: all parts as processes, every value accounted for, nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulators.scenario import THREE_PLANTS, load_scenario
from tests.e2e.demos import folder, one_site, run

__all__ = ["folder", "one_site"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def three_plants(tmp_path: Path) -> tuple[str, str]:
    """The options for the demo's own plants, with minutes of past instead of an hour."""
    path = tmp_path / "three_plants.yaml"
    path.write_text(
        re.sub(r"^history_h: 1\b", "history_h: 0.1", THREE_PLANTS.read_text(), flags=re.MULTILINE)
    )
    assert load_scenario(path) == load_scenario(THREE_PLANTS).model_copy(update={"history_h": 0.1})
    return "--scenario", str(path)


def test_a_run_loses_nothing(folder: Path, three_plants: tuple[str, str]) -> None:
    report = run(folder, *three_plants, "--fresh", "--for", "15s", "--json")
    assert (report["sites"], report["machines"], report["kills"], report["restarts"]) == (3, 16, 0, 0)
    assert report["latency_unseen"] == 0
    assert report["live_emitted"] >= 15 * 200


@pytest.mark.parametrize("seed", [11])
def test_kills_lose_nothing(folder: Path, one_site: tuple[str, str], seed: int) -> None:
    kills = ("--kill", "agent,ingest,broker", "--seed", str(seed))
    report = run(folder, *one_site, "--fresh", "--for", "24s", "--json", *kills)
    assert report["kills"] == 3
    assert report["seed"] == seed
