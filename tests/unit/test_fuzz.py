"""Each decoder of foreign bytes under a coverage-guided fuzzer, the same few thousand runs each time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 5_000


@pytest.mark.parametrize("target", ["batch", "lines"])
def test_nothing_but_the_promised_errors(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not built for this computer")
    options = [f"-runs={RUNS}", "-seed=7", "-max_len=2000", "-rss_limit_mb=1000", "-timeout=60"]
    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, *options, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=Path(__file__).parents[2],
    )
    assert found.returncode == 0, found.stderr[-3_000:]
    assert f"Done {RUNS} runs" in found.stderr
    assert "no interesting inputs" not in found.stderr, "nothing is instrumented"
