"""What cannot start says why, at the right place, in a line a mistake and without a traceback; status 2 or 1."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.real_processes import Process, eventually, shopfloor
from tests.in_process import Command, command

__all__ = ["command"]

AGENT = """\
agent: {{id: gateway, asset: acme/hk01}}
data: {data}
status: {{listen: "127.0.0.1:{port}"}}
uplink: {{url: "{url}", token: "file:agent.token"{more}}}
sources:
  - mqtt:
      name: meters
      broker: mqtt://127.0.0.1:1
      client_id: gateway
      topics: [{{topic: "m/{{cell}}", asset: "acme/hk01/a/l/{{cell}}", signals: [{{path: n, signal: n}}]}}]
"""
SECRET = "sf_THE-SECRET-ITSELF"


def agent_yaml(
    folder: Path, *, data: str = "data", port: int = 0, url: str = "http://127.0.0.1:1", more: str = ""
) -> Path:
    (folder / "agent.token").write_text(SECRET)
    path = folder / "agent.yaml"
    path.write_text(AGENT.format(data=data, port=port, url=url, more=more))
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


AGENT_MISTAKES = {
    "unknown key and wrong type": (
        {"client_id: gateway": "client_idd: gateway", "data: data": "data: [data]"},
        [":9:7: sources.0.mqtt.client_idd: unknown key, did you mean client_id?", ":2:7: data: "],
    ),
    "duplicate key": (
        {"data: data": "data: data\ndata: other"},
        [":3:1: data: duplicate key, first at line 2"],
    ),
    "secret in the file": (
        {"file:agent.token": SECRET},
        [":4:44: uplink.token: a secret stands here only as"],
    ),
    "missing secret file": (
        {"agent.token": "no.token"},
        [":4:44: uplink.token: can't read the secret's file"],
    ),
}


@pytest.mark.parametrize("mistake", AGENT_MISTAKES)
def test_an_agent_names_file_line_and_key(tmp_path: Path, command: Command, mistake: str) -> None:
    changes, said = AGENT_MISTAKES[mistake]
    path = agent_yaml(tmp_path)
    text = path.read_text()
    for right, wrong in changes.items():
        text = text.replace(right, wrong, 1)
    path.write_text(text)
    ended = command("edge", "run", path)
    assert ended.returncode == 2
    for line in said:
        assert f"{path}{line}" in ended.stderr
    assert SECRET not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_file_is_named(tmp_path: Path, command: Command) -> None:
    for words in (
        ("edge", "check", "--offline"),
        ("edge", "doctor"),
        ("ingest", "serve"),
        ("token", "list", "--config"),
    ):
        ended = command(*words, tmp_path / "none.yaml")
        assert (ended.returncode, ended.stderr) == (
            2,
            f"{tmp_path / 'none.yaml'}: No such file or directory\n",
        )


def test_a_service_names_file_line_and_key(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "ingest.yaml"
    path.write_text("listen: 127.0.0.1:0\nlimits: {batch_sample: 3, series: many}\nlisten: x\n")
    ended = shopfloor("ingest", "serve", path)
    assert ended.returncode == 2
    assert ended.stderr == f"{path}:3:1: listen: duplicate key, first at line 1\n"
    path.write_text("listen: 127.0.0.1:0\nlimits: {batch_sample: 3, series: many}\n")
    said = command("ingest", "serve", path)
    assert said.returncode == 2
    assert f"{path}:2:10: limits.batch_sample: unknown key, did you mean batch_samples?" in said.stderr
    assert f"{path}:2:35: limits.series: " in said.stderr


def test_an_agent_that_cannot_start_says_which_part_of_the_world_is_in_the_way(
    tmp_path: Path,
    taken_port: int,
    command: Command,
) -> None:
    path = agent_yaml(tmp_path, port=taken_port)
    in_the_way = tmp_path / "a-file"
    in_the_way.write_text("not a folder")
    ended = shopfloor("edge", "run", path)
    assert (ended.returncode, f"127.0.0.1:{taken_port}" in ended.stderr) == (1, True), ended.stderr
    ended = shopfloor("edge", "run", agent_yaml(tmp_path, data="a-file"))
    assert (ended.returncode, str(in_the_way) in ended.stderr) == (1, True), ended.stderr
    secure = agent_yaml(tmp_path, url="https://127.0.0.1:1", more=", ca_file: no-ca.pem")
    for said in (
        shopfloor("edge", "run", secure),
        command("edge", "check", secure),
        command("edge", "doctor", secure),
    ):
        assert (said.returncode, str(tmp_path / "no-ca.pem") in said.stderr + said.stdout) == (1, True)
        assert "Traceback" not in said.stderr


def test_a_second_agent_on_one_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = agent_yaml(tmp_path)
    first = Process(tmp_path / "first.log", "edge", "run", path)
    first.start()
    try:
        eventually(lambda: "source meters: unavailable: 127.0.0.1:1" in first.log, "the broker is missed")
        ended = shopfloor("edge", "run", path)
        assert ended.returncode == 1
        assert "another agent (process " in ended.stderr
        assert str(tmp_path / "data") in ended.stderr
        # Nothing to send, nobody to send it to: that, too, is said, and the end comes at once.
        eventually(lambda: "http://127.0.0.1:1: " in first.log, "the service is missed")
        assert first.lives
        status, took_s = first.terminate()
        assert (status, took_s < 5) == (0, True)
        assert "Traceback" not in first.log
    finally:
        first.kill()


def test_a_service_that_cannot_start_says_which_part_of_the_world_is_in_the_way(
    tmp_path: Path, taken_port: int
) -> None:
    path = tmp_path / "ingest.yaml"
    (tmp_path / "a-file").write_text("not a folder")
    path.write_text("listen: 127.0.0.1:0\ndata: a-file\n")
    for words in (("ingest", "serve", path), ("token", "list", "--config", path)):
        ended = shopfloor(*words)
        assert (ended.returncode, str(tmp_path / "a-file") in ended.stderr) == (1, True), ended.stderr
        assert "Traceback" not in ended.stderr
    path.write_text(f"listen: 127.0.0.1:{taken_port}\ndata: data\n")
    ended = shopfloor("ingest", "serve", path)
    assert ended.returncode == 1
    assert f"127.0.0.1:{taken_port}" in ended.stderr.splitlines()[-1]
    path.write_text("listen: 127.0.0.1:0\ndata: data\ntls: {certificate: no.pem, key: no.key}\n")
    ended = shopfloor("ingest", "serve", path)
    assert (ended.returncode, str(tmp_path / "no.pem") in ended.stderr) == (1, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_words_that_the_command_does_not_know(tmp_path: Path, command: Command) -> None:
    assert shopfloor("edge", "walk").returncode == 2
    ended = command("edge", "browse", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr == "endpoint: must look like opc.tcp://host:4840\n"
    ended = command("edge", "browse", "opc.tcp://127.0.0.1:1")
    assert (ended.returncode, "127.0.0.1:1" in ended.stderr) == (1, True)
    path = tmp_path / "ingest.yaml"
    path.write_text("data: data\n")
    ended = command("token", "create", "--config", path, "--role", "agent", "--asset", "Acme")
    assert (ended.returncode, "asset path 'Acme'" in ended.stderr) == (1, True)
