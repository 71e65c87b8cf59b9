"""A process that ends at any step of writing or rewriting its store loses nothing and stores nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = {
    *("commit: rows written", "commit: in transaction", "commit: committed"),
    *("absorb: sorted", "file begun", "file written", "absorb: before commit", "absorb: in commit"),
    *(
        "absorb: committed",
        "merge: before commit",
        "merge: in commit",
        "merge: committed",
        "hot file removed",
    ),
    *("file removed", "retention: before commit", "retention: committed"),
}


@pytest.mark.timeout(400)
def test_the_process_may_end_at_every_step(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.store_kills", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert [life for life in lives if life["problems"]] == []
    assert {life["step"] for life in lives} == KINDS
