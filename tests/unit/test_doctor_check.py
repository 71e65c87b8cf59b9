"""``edge check``: what it finds in a configuration and on this machine without connecting to anything."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shopfloor.__main__ import main

AGENT = """\
agent: {id: gateway, asset: acme/hk01}
uplink: {url: "http://127.0.0.1:9", token: "file:token"}
status: {listen: "127.0.0.1:PORT"}
sources:
  - mqtt:
      name: meters
      broker: mqtts://127.0.0.1:1
      client_id: gateway
      tls: {ca: ca.pem, cert: own.pem, key: own.key}
      topics: [{topic: "m/{cell}", asset: "acme/hk01/a/l/{cell}", signals: all}]
  - opcua:
      name: imm-01
      endpoint: opc.tcp://127.0.0.1:1
      nodes: [{node: "i=2258", asset: acme/hk01/a/l/imm-01, signal: time}]
"""


def write_pair(folder: Path, name: str, *, days: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1000))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    file = folder / f"{name}.key"
    file.touch(0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def agent_yaml(tmp_path: Path) -> Path:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("the-secret-itself")
    write_pair(tmp_path, "ca", days=400)
    write_pair(tmp_path, "own", days=400)
    (tmp_path / "agent.yaml").write_text(AGENT.replace("PORT", "0"))
    return tmp_path / "agent.yaml"


def check(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    status = main(["edge", "check", "--json", *words, str(path)])
    return status, json.loads(capsys.readouterr().out)


def texts(told: dict[str, Any], verdict: str) -> list[str]:
    return [
        finding["text"]
        for section in told["sections"]
        for finding in section["findings"]
        if finding["verdict"] == verdict and "clock" not in finding["text"]
    ]


def test_a_sound_configuration(agent_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = check(capsys, agent_yaml, "--offline")
    assert (status, texts(told, "failure"), texts(told, "warning")) == (0, [], [])
    assert [section["name"] for section in told["sections"]] == [
        "configuration", "certificates", "data folder", "this machine",
    ]  # fmt: skip
    assert main(["edge", "check", str(agent_yaml)]) == 0
    assert "0 failures" in capsys.readouterr().out
    # Nothing was made by looking.
    assert {file.name for file in agent_yaml.parent.iterdir()} == {
        "agent.yaml", "ca.key", "ca.pem", "own.key", "own.pem", "token",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "verdict", "said"),
    [
        (lambda folder: (folder / "token").chmod(0o644), "warning", "everybody on this machine can read it"),
        (lambda folder: (folder / "token").write_text(" \n"), "failure", "token is empty"),
        (lambda folder: write_pair(folder, "ca", days=-2), "failure", "ended on"),
        (lambda folder: write_pair(folder, "ca", days=20), "warning", "ends on"),
        (lambda folder: (folder / "ca.pem").unlink(), "failure", "No such file"),
        (lambda folder: (folder / "ca.pem").write_text("nothing"), "failure", "ca.pem"),
        (lambda folder: (folder / "own.key").write_bytes((folder / "ca.key").read_bytes()), "failure", "is not the key of"),
        (lambda folder: (folder / "own.key").write_text("-----BEGIN "), "failure", "own.key"),
        (lambda folder: (folder / "own.key").chmod(0o604), "warning", "everybody"),
        (lambda folder: (folder / "data").write_text(""), "failure", "is no folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    agent_yaml: Path, capsys: pytest.CaptureFixture[str], change: Any, verdict: str, said: str
) -> None:
    change(agent_yaml.parent)
    status, told = check(capsys, agent_yaml)
    (found,) = texts(told, verdict)
    assert said in found
    assert status == (1 if verdict == "failure" else 0)
    assert "the-secret-itself" not in json.dumps(told)


def test_assets_that_the_token_can_not_reach(agent_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent_yaml.write_text(agent_yaml.read_text().replace("acme/hk01/a/l/imm-01", "acme/dg01/a/l/imm-01"))
    status, told = check(capsys, agent_yaml)
    assert (status, texts(told, "warning")) == (
        0,
        ["source imm-01 has assets outside acme/hk01: acme/dg01/a/l/imm-01"],
    )


def test_a_port_that_is_taken_by_a_stranger_and_by_the_agent_itself(
    agent_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        agent_yaml.write_text(AGENT.replace("PORT", str(port)))
        status, told = check(capsys, agent_yaml)
        (found,) = texts(told, "failure")
        assert (status, f"127.0.0.1:{port}" in found) == (1, True)
        data = agent_yaml.parent / "data"
        data.mkdir()
        with (data / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(str(os.getpid()))
            lock.flush()
            status, told = check(capsys, agent_yaml)
    assert (status, texts(told, "failure")) == (0, [])
    assert any(f"the agent runs as process {os.getpid()}" in text for text in texts(told, "ok"))


def test_a_file_that_is_wrong_is_status_2(agent_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent_yaml.write_text(AGENT.replace("PORT", "0").replace("client_id", "client_idd"))
    for command in ("check", "doctor"):
        assert main(["edge", command, "--json", str(agent_yaml)]) == 2
        said = capsys.readouterr()
        assert (said.out, "did you mean client_id?" in said.err) == ("", True)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["edge", "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("shopfloor ")
