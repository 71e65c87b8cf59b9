"""``shopfloor edge run``: one agent until TERM or Ctrl-C; HUP reads its file again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shopfloor import logs, memory
from shopfloor.loading import loading
from shopfloor.systemd import Notifier

if TYPE_CHECKING:
    from edge_agent.agent import Agent

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", type=Path, help="agent.yaml")
    parser.add_argument(
        "--log-format", choices=logs.FORMATS, help=f"default: {logs.ENVIRONMENT}, else {logs.FORMATS[0]}"
    )


def run(path: Path) -> Coroutine[None, None, int]:
    """Return what runs an agent by its configuration file and returns the exit status.

    Raises:
        OSError: the data folder can't be written, another agent holds it, or the status page's port is taken.
        StoreUnavailable: the buffer can't be opened.
        ConfigError: the file is wrong.
    """
    memory.keep_little()
    with loading():
        from edge_agent import reload  # noqa: PLC0415 - most of what `run` alone needs
        from edge_agent.agent import Agent  # noqa: PLC0415

    loaded = reload.read(path)
    assert loaded is not None, "no hash was known"
    config = loaded.config
    logs.hide_secrets(config)
    notifier = Notifier.from_environment(os.environ, os.getpid())
    agent = Agent(config, loaded.hash, path=path, notifier=notifier)
    return _only_one_at_a_time(agent, config.data)


async def _only_one_at_a_time(agent: Agent, data: Path) -> int:
    with _only_one(data):
        status = await _until_told_to_stop(agent)
        if agent.stubborn:
            # Everything is on disk, and the event loop would wait for them for ever.
            log.critical("left behind: %s", ", ".join(agent.stubborn))
            logging.shutdown()
            os._exit(1)
        return status


async def _until_told_to_stop(agent: Agent) -> int:
    running = asyncio.create_task(agent.run(), name="agent")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    loop.add_signal_handler(signal.SIGHUP, agent.reload)
    try:
        await running
    except asyncio.CancelledError:
        log.info("stopped; what is not delivered waits on disk")
        return 0
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            log.critical("stopped by %s: %s", type(error).__name__, error, exc_info=error)
    return 1


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the data folder's lock: two agents on one buffer would number samples twice.

    Raises:
        OSError: the folder can't be written, or another agent holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise OSError(
                f"another agent (process {file.read().strip() or 'unknown'}) uses {folder}"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
