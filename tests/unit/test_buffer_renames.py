"""What a source remembers, and what waits, survive its being renamed, moved about and configured otherwise."""

from pathlib import Path

import pytest

from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.config import Config
from edge_agent.running import make_source
from shopfloor import configfile
from shopfloor.messages import Lane
from tests.contract.buffer_contract import samples, times_of

AGENT = """
agent: {{id: hk01, asset: acme/hk01}}
data: data
uplink: {{url: "http://127.0.0.1:9", token: "file:token"}}
sources:
{sources}
"""
MQTT = """
  - mqtt: {{name: {name}, broker: "mqtt://broker:1883", client_id: x, topics: [{{topic: "{topic}", asset: acme/hk01/a/l/c, signals: all}}]}}
"""
OPCUA = """
  - opcua: {{name: {name}, endpoint: "opc.tcp://press:4840", nodes: [{{node: "ns=2;s=Temp", asset: acme/hk01/a/l/c, signal: "{signal}"}}]}}
"""


def _scopes(folder: Path, sources: str) -> dict[str, str]:
    (folder / "token").write_text("secret")
    (folder / "agent.yaml").write_text(AGENT.format(sources=sources))
    config = configfile.load(folder / "agent.yaml", Config)
    return {make_source(entry, config).name: entry.scope for entry in config.sources}


@pytest.fixture
def before(tmp_path: Path) -> dict[str, str]:
    """Let an agent with two sources save state and samples, and stop."""
    scopes = _scopes(
        tmp_path, MQTT.format(name="meters", topic="m/a") + OPCUA.format(name="press", signal="a.b")
    )
    buffer = SqliteBuffer(tmp_path / "data", BufferLimits(disk_reserve_bytes=0), "hk01")
    for name, scope in scopes.items():
        buffer.append([Parcel(samples([len(name)]), scope, {"place": name.encode()})])
    buffer.close()
    return scopes


def test_a_source_of_another_name_finds_its_state_again(tmp_path: Path, before: dict[str, str]) -> None:
    renamed = _scopes(
        tmp_path, OPCUA.format(name="press-4", signal="c.d") + MQTT.format(name="energy", topic="m/b")
    )
    buffer = SqliteBuffer(tmp_path / "data", BufferLimits(max_bytes=10**6, disk_reserve_bytes=0), "hk01")
    assert before.keys().isdisjoint(renamed)
    assert buffer.state(renamed["press-4"]) == {"place": b"press"}
    assert buffer.state(renamed["energy"]) == {"place": b"meters"}
    assert times_of(buffer, Lane.BACKLOG) == [len("meters"), len("press")], "what waited waits still"
    buffer.close()


def test_two_sources_never_share_their_state(before: dict[str, str]) -> None:
    assert len(set(before.values())) == len(before)
