"""``shopfloor edge run``: how it ends."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, cast

import pytest

from edge_agent import run_command


class Stopped:
    """An agent that has just been told to stop."""

    def __init__(self, stubborn: tuple[str, ...] = ()) -> None:
        self.stubborn = stubborn

    def reload(self) -> None: ...

    async def run(self) -> None:
        raise asyncio.CancelledError


def end(agent: Stopped, folder: Path) -> int:
    return asyncio.run(run_command._only_one_at_a_time(cast("Any", agent), folder))


def test_an_agent_that_was_told_to_stop_ends_well(tmp_path: Path) -> None:
    assert end(Stopped(), tmp_path) == 0


def test_a_source_that_does_not_end_does_not_keep_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    end(Stopped(("meters",)), tmp_path)
    assert exits == [1]
    assert "left behind: meters" in caplog.text
