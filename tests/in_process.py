"""The command in the test's own process: to start one takes a hundred times as long as to read its words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import pytest

from shopfloor import logs
from shopfloor.__main__ import main


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Command:
    """Runs ``shopfloor`` to its end as a process would, but for its log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        # Log lines would go on coming to the tests that follow.
        monkeypatch.setattr(logs, "set_up", lambda *_args, **_options: None)
        monkeypatch.setattr(logging.getLogger("asyncua"), "setLevel", lambda _: None)

    def __call__(self, *words: str | Path) -> Ended:
        self._capsys.readouterr()
        try:
            status: object = main([*map(str, words)])
        except SystemExit as ended:
            status = ended.code
        assert isinstance(status, int)
        return Ended(status, *self._capsys.readouterr())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)
