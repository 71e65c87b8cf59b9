"""Each decoder of foreign bytes under a coverage-guided fuzzer, the same few thousand runs each time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = {"batch": 5_000, "lines": 2_000}
"""What `tests/unit/test_line_protocol_*` hold together by many examples needs fewer here, where each reads three times."""


@pytest.mark.parametrize(("target", "runs"), RUNS.items(), ids=RUNS)
def test_nothing_but_the_promised_errors(target: str, runs: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not built for this computer")
    options = [f"-runs={runs}", "-seed=7", "-max_len=2000", "-rss_limit_mb=1000", "-timeout=60"]
    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, *options, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=Path(__file__).parents[2],
    )
    assert found.returncode == 0, found.stderr[-3_000:]
    assert f"Done {runs} runs" in found.stderr
    assert "no interesting inputs" not in found.stderr, "nothing is instrumented"
