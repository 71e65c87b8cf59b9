"""``edge buffer`` beside a running agent process: it says so, and the agent notices nothing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from edge_agent.buffer_command import running_agent

ROOT = Path(__file__).parents[2]
# Nobody listens at these addresses: the agent keeps trying, which is all that is wanted of it here.
AGENT = """
agent: {id: hk01, asset: acme/hk01}
data: data
uplink: {url: "http://127.0.0.1:9", token: "file:token"}
status: null
sources:
  - mqtt:
      {name: m, broker: "mqtt://127.0.0.1:9", client_id: x, topics: [{topic: a/b, asset: acme/hk01/a/l/c, signals: all}]}
"""


def _edge(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "shopfloor", "edge", *map(str, words)]


def test_the_buffer_of_a_running_agent_can_be_looked_into(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    config = tmp_path / "agent.yaml"
    config.write_text(AGENT)
    agent = subprocess.Popen(_edge("run", config), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        path = tmp_path / "data" / "buffer.sqlite3-wal"
        while not (path.exists() and running_agent(tmp_path / "data" / "lock")):
            assert agent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        shown = subprocess.run(
            _edge("buffer", config, "--json"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        report = json.loads(shown.stdout)
        assert (report["running"], report["process"], report["pending_samples"]) == (True, agent.pid, 0)
        assert report["hours_left"] is None
        out = tmp_path / "x.jsonl"
        subprocess.run(_edge("buffer", "export", config, "--out", out), cwd=ROOT, check=True, timeout=60)
        assert out.read_text() == ""
        assert agent.poll() is None
    finally:
        agent.send_signal(signal.SIGTERM)
        _, log = agent.communicate(timeout=60)
    assert agent.returncode == 0, log
    assert "Traceback" not in log
    stopped = subprocess.run(
        _edge("buffer", config), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert "not running" in stopped.stdout
    assert not path.exists(), "looking leaves no log behind"
