"""What an agent loads when it starts: memory on a gateway is scarce, and a second of start-up is a second of no data."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = """
import sys
import edge_agent.command, edge_agent.agent
{}
print(*(name for name in sys.modules if name.split(".")[0] in {{"asyncua", "cryptography", "duckdb", "fastapi", "paho"}}
        or name.startswith(("edge_agent.sources", "edge_agent.doctor."))))
"""


def loaded(uses: str) -> set[str]:
    script = _LOADED.format(uses)
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(ran.stdout.split())


def test_a_command_line_loads_no_protocol() -> None:
    names = loaded("")
    assert not {name.split(".")[0] for name in names} & {
        "asyncua",
        "cryptography",
        "duckdb",
        "fastapi",
        "paho",
    }


@pytest.mark.parametrize(
    ("uses", "source"),
    [
        ("from edge_agent.sources.mqtt import MqttSource", "edge_agent.sources.mqtt.source"),
        ("from edge_agent.sources.sparkplug import SparkplugSource", "edge_agent.sources.sparkplug.source"),
    ],
)
def test_an_agent_of_brokers_loads_neither_opc_ua_nor_certificates(uses: str, source: str) -> None:
    names = loaded(uses)
    assert source in names
    assert "paho" in names
    assert not {name.split(".")[0] for name in names} & {"asyncua", "cryptography", "duckdb", "fastapi"}
    assert {name for name in names if name.endswith(".source")} == {source}
