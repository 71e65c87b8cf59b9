"""``shopfloor token``, ``shopfloor user`` and ``shopfloor ingest audit``, and the first start."""

from __future__ import annotations

import io
import json
import stat
import sys
import time
from pathlib import Path

import argon2
import pytest

from ingest_service.access import passwords
from ingest_service.access.first_token import FILE, ensure_administrator
from ingest_service.access.users import password_hash
from ingest_service.auth import Role, create_token, digest, list_tokens, look_up, revoke_token
from ingest_service.plant.engine import connect
from shopfloor.__main__ import main
from tests.integration.ingest_server import running

PASSWORD = "seven words are long enough"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        passwords, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    )


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "ingest.yaml"
    file.write_text("data: data\n")
    return str(file)


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_tokens_expire_and_are_bound(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["token", "create", "--config", config, "--role", "agent", "--asset"]
    assert main([*words, "acme/hk01", "--expires", "90d", "--certificate", "gateway", "--name", "g"]) == 0
    text = capsys.readouterr().out.strip()
    engine = connect(Path(config).parent / "data" / "plant.sqlite")
    identity = look_up(engine, digest(text))
    assert identity is not None
    assert identity.certificate == "gateway"
    assert identity.expires_at == pytest.approx(time.time_ns() + 90 * 86_400e9, abs=600e9)
    assert main(["token", "list", "--config", config]) == 0
    shown = capsys.readouterr().out
    assert text not in shown
    columns = shown.rstrip("\n").split("\t")
    assert columns[:4] == ["1", "agent", "acme/hk01", "valid"]
    assert columns[6:] == ["gateway", "g"]
    assert main(["token", "revoke", "--config", config, "1"]) == 0
    assert look_up(engine, digest(text)) is None
    assert main(["token", "revoke", "--config", config, "1"]) == 1
    assert main([*words, "Not A Path"]) == 1
    assert "Not A Path" in capsys.readouterr().err
    assert main(["ingest", "audit", "--config", config, "--json"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["action"], one["subject"], one["outcome"]) for one in entries] == [
        ("token.revoke", "token 1", "done"),
        ("token.create", "token 1", "done"),
    ]
    assert entries[0]["actor"].startswith("system")
    assert text not in str(entries)
    engine.dispose()


@pytest.mark.parametrize("expires", ["soon", "2001-01-01", "999999w", "-1d"])
def test_an_expiry_that_is_none_is_refused(
    config: str, expires: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["token", "create", "--config", config, "--role", "agent", "--asset", "acme"]
    with pytest.raises(SystemExit) as refused:
        main([*words, f"--expires={expires}"])
    assert refused.value.code == 2
    assert "--expires" in capsys.readouterr().err


def test_users_by_command(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ["user", "add", "--config", config, "--role", "viewer", "--asset", "acme", "anna"]
    for text, status in [
        ("", 1),
        ("short\n", 1),
        ("anna is my own name\n", 1),
        (f"{PASSWORD}\n", 0),
        (PASSWORD, 1),
    ]:
        say(monkeypatch, text)
        assert main(add) == status, text
    assert "there is a user anna already" in capsys.readouterr().err
    engine = connect(Path(config).parent / "data" / "plant.sqlite")
    assert passwords.verify(PASSWORD, password_hash(engine, "anna"))
    say(monkeypatch, "another long password\n")
    assert main(["user", "password", "--config", config, "anna"]) == 0
    assert not passwords.verify(PASSWORD, password_hash(engine, "anna"))
    assert main(["user", "disable", "--config", config, "anna"]) == 0
    assert password_hash(engine, "anna") is None
    assert main(["user", "list", "--config", config]) == 0
    assert capsys.readouterr().out.split("\t")[:4] == ["anna", "viewer", "acme", "disabled"]
    assert main(["user", "enable", "--config", config, "anna"]) == 0
    assert password_hash(engine, "anna") is not None
    for command in ("disable", "enable", "password"):
        assert main(["user", command, "--config", config, "nobody"]) == 1
    assert main(["ingest", "audit", "--config", config]) == 0
    shown = capsys.readouterr().out
    assert [line.split("\t")[5] for line in shown.splitlines()] == [
        "user.change",
        "user.change",
        "user.password",
        "user.create",
    ]
    assert "argon2" not in shown
    assert "password" not in shown.replace("user.password", "")
    engine.dispose()


async def test_the_first_start_leaves_an_administrators_token_and_no_later_one_does(tmp_path: Path) -> None:
    file = tmp_path / "data" / FILE
    async with running(tmp_path) as plant:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        admin = {"Authorization": f"Bearer {file.read_text().strip()}"}
        answer = await plant.client.post("/v1/tokens", json={"role": "admin", "asset": ""}, headers=admin)
        assert answer.status_code == 201
        file.unlink()
    async with running(tmp_path):
        assert not file.exists()


async def test_who_opened_reading_gets_no_first_token(tmp_path: Path) -> None:
    async with running(tmp_path, read_access="open") as plant:
        assert not (tmp_path / "data" / FILE).exists()
        assert len(list_tokens(plant.service.plant.engine)) == 2  # those of the test itself


def test_a_plant_whose_tokens_are_all_revoked_gets_no_new_first_one(tmp_path: Path) -> None:
    engine = connect(tmp_path / "plant.sqlite")
    create_token(engine, Role.AGENT, "acme", "")
    assert revoke_token(engine, 1)
    assert ensure_administrator(engine, tmp_path) is None
    engine.dispose()
