"""The archive for gateways without internet: made, installed without a network, upgraded, and removed again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.real_processes import eventually

BUNDLE = Path(__file__).parents[2] / "deploy" / "bundle.py"
NO_NETWORK = {
    **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
    "PIP_NO_INDEX": "1",
    "PIP_NO_COMPILE": "0",  # which pip takes for yes; most of it is never run here
    "PIP_INDEX_URL": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
    "https_proxy": "http://127.0.0.1:1",
}
AGENT = """\
agent: {{id: gateway, asset: acme/hk01}}
data: {prefix}/data
status: {{listen: "127.0.0.1:{port}"}}
uplink: {{url: "https://127.0.0.1:1", token: "file:agent.token"}}
sources:
  - opcua:
      name: imm-01
      endpoint: opc.tcp://127.0.0.1:1
      nodes: [{{node: "i=2258", asset: acme/hk01/a/l/c, signal: time}}]
      profiles: [{{profile: euromap77, asset: "acme/hk01/a/l/{{machine}}"}}]
  - mqtt:
      name: meters
      broker: mqtt://127.0.0.1:1
      client_id: gateway
      topics:
        - {{topic: "m/{{cell}}", asset: "acme/hk01/a/l/{{cell}}", signals: all}}
        - {{preset: tasmota, asset: "acme/hk01/plugs/l/{{device}}", zone: Asia/Hong_Kong}}
  - sparkplug:
      name: lines
      broker: mqtt://127.0.0.1:1
      client_id: host
      host_id: gateway
      publishers: [{{descriptor: "g/e/d", asset: acme/hk01/a/l/d, metrics: all}}]
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    made = subprocess.run(
        [sys.executable, str(BUNDLE), "edge", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode and re.search(r"NewConnectionError|Max retries|name resolution", made.stderr):
        pytest.skip("the wheels can't be downloaded: no package index is reached")
    assert made.returncode == 0, made.stderr
    with tarfile.open(made.stdout.strip()) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("shopfloor-edge-*")
    return folder


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        env=NO_NETWORK,
        cwd="/",
        timeout=200,
        check=False,
    )


@pytest.mark.timeout(400)
def test_installed_without_a_network_upgraded_and_removed(unpacked: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    install = (unpacked / "install.sh", "--prefix", prefix, "--no-systemd", "--python", sys.executable)
    done = run(*install)
    assert done.returncode == 0, done.stderr
    shopfloor = prefix / "current" / "bin" / "shopfloor"
    assert done.stdout.startswith("shopfloor ")
    assert str(prefix / "data") in (prefix / "etc" / "agent.yaml").read_text()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agent_yaml = prefix / "etc" / "agent.yaml"
    agent_yaml.write_text(AGENT.format(prefix=prefix, port=port))
    assert run(shopfloor, "edge", "check", agent_yaml).returncode == 2
    (prefix / "etc" / "agent.token").touch(0o600)
    (prefix / "etc" / "agent.token").write_text("secret")
    checked = run(shopfloor, "edge", "check", "--json", agent_yaml)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    looked = run(shopfloor, "edge", "doctor", "--json", agent_yaml)
    assert looked.returncode == 1, looked.stderr
    assert json.loads(looked.stdout)["failures"] >= 4
    _runs_for_a_moment(shopfloor, agent_yaml, port, tmp_path / "agent.log")

    # What an agent has is what the lock says: nothing of the service, the simulators or their libraries.
    listed = run(
        prefix / "current" / "bin" / "python",
        "-Ic",
        "import json, pkgutil; print(json.dumps([module.name for module in pkgutil.iter_modules()]))",
    )
    there = set(json.loads(listed.stdout))
    assert {"edge_agent", "shopfloor"} <= there
    assert not {"ingest_service", "simulators", "fastapi", "duckdb", "pyarrow", "pip", "setuptools"} & there

    # The upgrade keeps configuration and buffer, and one release to go back to.
    before = (prefix / "current").readlink()
    assert f"-py{sys.version_info.major}{sys.version_info.minor}-" in before.name
    told = (unpacked / "platform").read_text()
    (unpacked / "platform").write_text(re.sub("RELEASE=.*", "RELEASE=9.9-next", told))
    shutil.copytree(prefix / before, prefix / "releases" / "9.9-next", symlinks=True)
    (prefix / "releases" / "0.0-old").mkdir()
    assert run(*install).returncode == 0
    assert (prefix / "current").readlink() == Path("releases/9.9-next")
    assert {file.name for file in (prefix / "releases").iterdir()} == {"9.9-next", before.name}
    assert "id: gateway," in agent_yaml.read_text()

    assert run(*install, "--uninstall").returncode == 0
    assert {file.name for file in prefix.iterdir()} == {"etc", "data"}
    assert (prefix / "data" / "buffer.sqlite3").exists()


def _runs_for_a_moment(shopfloor: Path, agent_yaml: Path, port: int, log: Path) -> None:
    def answers() -> bool:
        assert agent.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
                return bool(json.load(answer)["agent"] == "gateway")
        except OSError:
            return False

    with (
        log.open("wb") as output,
        subprocess.Popen(
            [shopfloor, "edge", "run", agent_yaml], env=NO_NETWORK, cwd="/", stdout=output, stderr=output
        ) as agent,
    ):
        try:
            eventually(answers, "the agent answers", 60)
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(60) == 0
        finally:
            agent.kill()
    assert "Traceback" not in log.read_text()
