"""The real demo: all parts as processes, every value accounted for, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.demos import folder, one_site, run

__all__ = ["folder", "one_site"]

pytestmark = pytest.mark.timeout(600)


def test_a_run_loses_nothing(folder: Path) -> None:
    report = run(folder, "--fresh", "--for", "15s", "--json")
    assert (report["sites"], report["machines"], report["kills"], report["restarts"]) == (3, 16, 0, 0)
    assert report["latency_unseen"] == 0
    assert report["live_emitted"] >= 15 * 200


@pytest.mark.parametrize("seed", [11])
def test_kills_lose_nothing(folder: Path, one_site: tuple[str, str], seed: int) -> None:
    kills = ("--kill", "agent,ingest,broker", "--seed", str(seed))
    report = run(folder, *one_site, "--fresh", "--for", "24s", "--json", *kills)
    assert report["kills"] == 3
    assert report["seed"] == seed
