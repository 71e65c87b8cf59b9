"""``shopfloor edge check --message``: what a message would become is printed, or why it becomes nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from shopfloor.__main__ import main

AGENT = """\
agent: {id: edge-hk01, asset: acme/hk01}
uplink: {url: "http://127.0.0.1:1", token: "file:token"}
sources:
  - mqtt:
      name: meters
      broker: mqtt://127.0.0.1
      client_id: gateway
      topics:
        - topic: "meters/{cell}"
          asset: "acme/hk01/utilities/meters/{cell}"
          time: {path: ts, format: ms}
          signals:
            - {path: power_w, signal: energy.active_power, unit: kW, scale: 0.001}
            - {path: state, signal: status.text}
        - {topic: "plain/{cell}", asset: "acme/hk01/utilities/meters/{cell}", payload: text, signals: [{signal: v}]}
  - sparkplug:
      name: nodes
      broker: mqtt://127.0.0.2
      host_id: host
      client_id: host
      publishers: [{descriptor: "g/n/{device}", asset: acme/hk01, metrics: all}]
"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret")
    path = tmp_path / "agent.yaml"
    path.write_text(AGENT)
    return path


def check(agent: Path, topic: str, payload: bytes, *more: str) -> int:
    file = agent.with_name("payload")
    file.write_bytes(payload)
    return main(["edge", "check", str(agent), "--message", topic, "--payload", str(file), *more])


def test_the_samples_of_a_message_are_shown(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = b'{"ts": 1763778000123, "power_w": 11250, "state": "run"}\n'
    assert check(agent, "meters/m1", payload) == 0
    assert capsys.readouterr().out.splitlines() == [
        "meters: taken by meters/{cell}",
        "  acme/hk01/utilities/meters/m1:energy.active_power = 11.25 at 2025-11-22T02:20:00.123000000Z",
        "  acme/hk01/utilities/meters/m1:status.text = 'run' at 2025-11-22T02:20:00.123000000Z",
    ]


def test_what_can_not_be_used_is_said(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(agent, "meters/m1", b'{"ts": "soon", "power_w": [1]}') == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "meters: taken by meters/{cell}",
        "  acme/hk01/utilities/meters/m1:energy.active_power = null (BAD) at the time of receipt",
        "  FAIL bad_time: a str that is no time of the configured form",
        "  FAIL not_convertible: energy.active_power is not a value but a list",
        "  FAIL missing_value: nothing for status.text in the payload",
    ]
    assert "said once" not in captured.err


@pytest.mark.parametrize(
    ("topic", "payload", "lines"),
    [
        ("other/m1", b"{}", ["meters:", "  FAIL unmatched_topic: no topic of the configuration matches"]),
        (
            "meters/m1",
            b"{",
            [
                "meters: taken by meters/{cell}",
                "  FAIL not_json: Expecting property name enclosed in double quotes at character 1",
                "  FAIL no sample",
            ],
        ),
        (
            "meters/m1",
            b"\r\n",
            ["meters: taken by meters/{cell}", "  FAIL empty_payload: 1 times", "  FAIL no sample"],
        ),
    ],
)
def test_why_a_message_becomes_nothing_is_said(
    agent: Path, capsys: pytest.CaptureFixture[str], topic: str, payload: bytes, lines: list[str]
) -> None:
    assert check(agent, topic, payload) == 1
    assert capsys.readouterr().out.splitlines() == lines


def test_a_payload_comes_from_the_standard_input(
    agent: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"Offline\n")))
    assert main(["edge", "check", str(agent), "--message", "plain/m1"]) == 0
    assert "m1:v = 'Offline' at the time of receipt" in capsys.readouterr().out


def test_a_payload_that_is_not_there(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(agent.with_name("missing"))
    assert main(["edge", "check", str(agent), "--message", "plain/m1", "--payload", missing]) == 1
    assert f"{missing}: No such file" in capsys.readouterr().err


def test_a_configuration_with_mistakes(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent.write_text(AGENT.replace("format: ms", "format: mms"))
    assert check(agent, "meters/m1", b"{}") == 2
    assert "agent.yaml:11:36: sources.0.mqtt.topics.0.time.format" in capsys.readouterr().err


def test_as_json(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edge_agent import message_command
    from edge_agent.config import Config
    from edge_agent.sources.mqtt.trial import try_message
    from shopfloor.configfile import load

    source = load(agent, Config).sources[0].mqtt
    assert source is not None
    trial = try_message(source, "meters/m1", b'{"ts": 5, "power_w": null, "state": "x"}', 7)
    described = json.loads(json.dumps(message_command._as_json(trial)))
    assert described["topic"] == "meters/{cell}"
    assert [(each["signal"], each["value"], each["text"]) for each in described["samples"]] == [
        ("energy.active_power", None, None),
        ("status.text", None, "x"),
    ]
    assert described["samples"][0]["source_time_ns"] == 5_000_000
    assert described["samples"][0]["has_machine_time"]
    assert described["problems"] == []
