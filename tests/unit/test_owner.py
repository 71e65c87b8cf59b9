"""What root does to an agent's folder is done as its owner."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent import browse_command
from shopfloor import owner
from shopfloor.__main__ import main
from shopfloor.owner import become_owner, may_read


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    calls: list[tuple[str, Any]] = []
    for name in ("initgroups", "setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *words, name=name: calls.append((name, words[-1])))
    return calls


def belongs(monkeypatch: pytest.MonkeyPatch, user: int, *, me: int = 0) -> None:
    folder = SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=user, st_gid=4321))
    monkeypatch.setattr(os, "geteuid", lambda: me)
    monkeypatch.setattr(owner, "nearest", lambda _folder: folder)
    monkeypatch.setattr(owner, "may_read", lambda *_: True)


def test_root_becomes_the_owner_the_group_first(
    monkeypatch: pytest.MonkeyPatch, became: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    belongs(monkeypatch, 1234)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: SimpleNamespace(pw_name="shopfloor-edge"))
    assert become_owner(Path("data"))
    assert became == [("initgroups", 4321), ("setgid", 4321), ("setuid", 1234)]
    assert "going on as user shopfloor-edge" in capsys.readouterr().err


def test_an_owner_without_a_name_has_no_other_groups(
    monkeypatch: pytest.MonkeyPatch, became: list[tuple[str, Any]]
) -> None:
    belongs(monkeypatch, 10_001)

    def unknown(_uid: int) -> Any:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert become_owner(Path("data"))
    assert became == [("setgroups", []), ("setgid", 4321), ("setuid", 10_001)]


@pytest.mark.parametrize(("user", "me"), [(0, 0), (1234, 1234), (1234, 5)])
def test_nobody_else_changes(
    monkeypatch: pytest.MonkeyPatch, became: list[tuple[str, Any]], user: int, me: int
) -> None:
    belongs(monkeypatch, user, me=me)
    assert not become_owner(Path("data"))
    assert became == []


def test_an_owner_who_cannot_read_this_python_is_not_become(
    monkeypatch: pytest.MonkeyPatch, became: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    belongs(monkeypatch, 1234)
    monkeypatch.setattr(owner, "may_read", lambda *_: False)
    assert not become_owner(Path("data"))
    assert became == []
    assert "going on as root" in capsys.readouterr().err


def test_a_file_is_reached_through_every_folder_above_it(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    file = above / "file"
    file.touch()
    me, mine = tmp_path.stat().st_uid, tmp_path.stat().st_gid
    file.chmod(0o400)
    assert may_read(file, me, mine) == all(parent.stat().st_mode & 0o100 for parent in file.parents)
    assert not may_read(file, me + 1, mine + 1)
    file.chmod(0o044)
    assert not may_read(file, me, mine)
    above.chmod(0o600)
    file.chmod(0o644)
    assert not may_read(file, me, mine)
    above.chmod(0o700)


AGENT = """\
agent: {id: gateway, asset: acme/hk01}
data: data
uplink: {url: "http://127.0.0.1:9", token: "file:token"}
sources:
  - opcua:
      name: imm-01
      endpoint: opc.tcp://127.0.0.1:1
      nodes: [{node: "i=2258", asset: acme/hk01/a/l/imm-01, signal: time}]
"""


def test_browse_goes_on_as_the_owner_of_the_folder_that_it_writes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []

    def become(folder: Path) -> bool:
        asked.append(folder)
        (tmp_path / "token").unlink()  # from now on it can't be read
        return True

    monkeypatch.setattr(browse_command, "become_owner", become)
    (tmp_path / "agent.yaml").write_text(AGENT)
    (tmp_path / "token").write_text("secret")
    assert main(["edge", "browse", "--config", str(tmp_path / "agent.yaml")]) == 2
    assert str(tmp_path / "token") in capsys.readouterr().err
    (tmp_path / "token").write_text("secret")
    assert main(["edge", "browse", "opc.tcp://127.0.0.1:1", "--pki", str(tmp_path / "pki")]) == 1
    assert [folder.name for folder in asked] == ["data", "pki"]
