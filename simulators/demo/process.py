"""One part of the demo as a process: started so that it can't outlive us, logged, watched, ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

LOG_LIMIT_BYTES: Final = 8 * 2**20
_LOOK_EVERY_S: Final = 2.0
"""Finding a process's children reads the entries of all processes of the computer."""
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Part:
    """What is started, and how one sees that it is ready."""

    name: str
    kind: str
    """``broker``, ``ingest``, ``agent`` or ``simulators``."""
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    """Asked again and again until it says yes; it returns quickly and raises nothing."""
    grace_s: float = 8.0
    """How long after SIGTERM it may take before SIGKILL."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Usage:
    """What a part took of the computer, over all its processes one after the other."""

    cpu_s: float = 0.0
    peak_rss_bytes: int = 0


class Process:
    """One started part: a process group of its own, so that Ctrl-C reaches only the demo, which ends them in order.

    On Linux the kernel kills it when the demo dies without ending it (PR_SET_PDEATHSIG); elsewhere a demo that
    was killed with SIGKILL leaves its parts running.
    """

    def __init__(self, part: Part) -> None:
        part.log.parent.mkdir(parents=True, exist_ok=True)
        bound_log(part.log)
        with part.log.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                list(part.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **part.environment},
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()) if _libc else None,  # noqa: PLW1509 - calls prctl and nothing else
            )
        self.part = part
        self._process = psutil.Process(self._popen.pid)
        self._children: list[psutil.Process] = []
        self._looked_s = -_LOOK_EVERY_S

    @property
    def pid(self) -> int:
        """The process id, also that of its group."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """Return how it ended (minus the signal's number), None while it runs."""
        return self._popen.poll()

    def usage(self) -> Usage | None:
        """Return CPU seconds so far and resident bytes now, children included; None once it is gone."""
        try:
            if time.monotonic() > self._looked_s + _LOOK_EVERY_S:
                self._children = self._process.children(recursive=True)
                self._looked_s = time.monotonic()
            usage = Usage()
            for member in [self._process, *self._children]:
                with member.oneshot():
                    times = member.cpu_times()
                    usage.cpu_s += times.user + times.system
                    usage.peak_rss_bytes += member.memory_info().rss
        except psutil.Error:
            self._looked_s = -_LOOK_EVERY_S
            return None
        return usage

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, not to its children; nothing happens where it is gone."""
        self._popen.send_signal(number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self._popen.terminate()

    def kill(self) -> None:
        """End the process and all its children at once, without asking, and collect it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def wait(self, timeout_s: float) -> bool:
        """Return whether it ended within the time."""
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def tail(log: Path, lines: int = 15, limit_bytes: int = 16_384) -> str:
    """Return the last lines of a log, for a message about its part's end."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - limit_bytes))
            text = file.read(limit_bytes).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def bound_log(log: Path) -> None:
    """Once a log exceeds `LOG_LIMIT_BYTES`, keep its content as one older log and go on with an empty one.

    The part goes on writing into the same file, so a line written at this very moment may be lost.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(log, log.with_suffix(".1.log"))
            os.truncate(log, 0)


def _die_with(parent: int) -> Callable[[], None]:
    """Return what the child does between fork and exec: ask the kernel to be killed when ``parent`` dies."""
    libc = _libc
    assert libc is not None

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
