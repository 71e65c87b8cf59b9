"""Logs are kept within bounds: by logrotate where there is no journal, and by journald where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_logrotate_copies_and_the_process_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    logs = tmp_path / "log"
    logs.mkdir(mode=0o755)
    text = (DEPLOY / "logs" / "logrotate.conf").read_text()
    assert "/var/log/shopfloor/*.log {" in text
    file = tmp_path / "logrotate.conf"
    file.write_text(text.replace("/var/log/shopfloor/", f"{logs}/"))
    file.chmod(0o644)
    words = [logrotate, "--force", "--state", str(tmp_path / "state"), str(file)]
    with (logs / "ingest.log").open("a") as written:
        for number in range(3):
            written.write(f"line {number}\n")
            written.flush()
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        written.write("line 3\n")
    assert (logs / "ingest.log").read_text() == "line 3\n"
    assert (logs / "ingest.log.1").read_text() == "line 2\n"
    assert sorted(each.name for each in logs.iterdir()) == [
        "ingest.log",
        "ingest.log.1",
        "ingest.log.2.gz",
        "ingest.log.3.gz",
    ]


def test_the_journal_is_bounded() -> None:
    text = (DEPLOY / "logs" / "journald.conf").read_text()
    options = dict(re.findall(r"(?m)^(\w+)=(\S+)$", text))
    assert {"SystemMaxUse", "SystemKeepFree", "MaxRetentionSec", "RateLimitBurst"} <= options.keys()
    assert "[Journal]\n" in text
