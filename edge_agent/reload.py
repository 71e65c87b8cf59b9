"""A changed configuration file: noticed, read, judged; who takes it over is `edge_agent.agent`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.config import Config
from shopfloor import configfile, memory
from shopfloor.configfile import Location
from shopfloor.errors import ConfigError

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 5
_LOGGED_PROBLEMS: Final = 20
_FIXED: Final[tuple[tuple[Location, Callable[[Config], object]], ...]] = (
    (("agent", "id"), lambda config: config.agent.id),
    (("data",), lambda config: config.data.absolute()),
    (("buffer", "repeat_window_samples"), lambda config: config.buffer.repeat_window_samples),
)
"""What can't change while the agent runs: its streams and its files belong to it."""


class Loaded(NamedTuple):
    """A valid configuration and the hash of its text."""

    config: Config
    hash: str


def hash_of(text: bytes) -> str:
    """Return the hash of a configuration's text, as heartbeats carry it."""
    return hashlib.sha256(text).hexdigest()[:16]


def read(path: Path, known_hash: str | None = None) -> Loaded | None:
    """Read and check a configuration file; blocking. None where its hash is ``known_hash``.

    Raises:
        ConfigError: it can't be read, or is wrong; every mistake is in it.
    """
    for _ in range(_ATTEMPTS):
        before = _bytes(path)
        if hash_of(before) == known_hash:
            return None
        config = configfile.load(path, Config)
        memory.give_back()
        if _bytes(path) == before:
            return Loaded(config, hash_of(before))
    raise ConfigError([f"{path}: changes while it is read"])


def fixed_problems(running: Config, wanted: Config, path: Path) -> list[str]:
    """Name, located, what ``wanted`` changes although it can't change while the agent runs."""
    found = []
    for location, value in _FIXED:
        if value(running) != value(wanted):
            line, column = configfile.locate(path, location)
            name = ".".join(map(str, location))
            found.append(
                f"{path}:{line}:{column}: {name}: can't change while the agent runs, a restart is needed "
                f"(running: {value(running)})"
            )
    return found


class FileWatch:
    """Notices that a file has changed and rests again: editors write in several steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._seen = self._look()

    def has_changed(self) -> bool:
        """Tell, when called every few seconds, whether the file is another than when this was last true."""
        before, self._seen = self._seen, self._look()
        if self._seen != before or self._seen == self._known:
            return False
        self._known = self._seen
        return True

    def note(self) -> None:
        """Know the file as it is now: somebody looks at it anyway."""
        self._known = self._seen = self._look()

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self._path)  # noqa: PTH116  follows links: a mounted configuration is one
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


async def wait_for_change(watch: FileWatch, asked: asyncio.Event, every_s: float) -> bool:
    """Return once the file has changed (False), or somebody asked for it to be read again (True)."""
    while True:
        try:
            async with asyncio.timeout(every_s):
                await asked.wait()
        except TimeoutError:
            if watch.has_changed():
                return False
        else:
            asked.clear()
            watch.note()
            return True


def log_refusal(problems: tuple[str, ...]) -> None:
    """Log why a configuration was refused."""
    for problem in problems[:_LOGGED_PROBLEMS]:
        log.error("configuration refused, the earlier one runs on: %s", problem)
    if len(problems) > _LOGGED_PROBLEMS:
        log.error("configuration refused: and %d mistakes more", len(problems) - _LOGGED_PROBLEMS)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from error
