"""A process of a campaign, which is killed and started again, and whose clock is stepped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from shopfloor.errors import Permanent
from simulators.demo.process import Part, Process, tail


class CannotRun(Permanent):
    """Something that the campaign needs is not installed here."""


def libfaketime() -> str:
    """Return the library's path; raises CannotRun where it is not installed."""
    found = sorted(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")))
    if not found:
        raise CannotRun("libfaketime is not installed: apt install faketime (make system-deps)")
    return found[0]


class Actor:
    """One process that is killed and started again."""

    def __init__(
        self, name: str, folder: Path, command: Callable[[], list[str]], clock: Path | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._log = folder / "logs" / f"{name}.log"
        self._clock = clock
        self._process: Process | None = None
        self.is_away = False
        """Whether it was ended on purpose."""
        self.started_ns = 0

    def start(self) -> None:
        """Start; returns at once."""
        self.is_away = False
        self.started_ns = time.time_ns()
        environment = {} if self._clock is None else clock_environment(self._clock)
        self._process = Process(
            Part(self.name, self.name, self._command(), self._log, lambda: True, environment=environment)
        )

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it was started, and ended by itself."""
        return self._process is not None and not self.is_away and self._process.exit_code() is not None

    @property
    def last_words(self) -> list[str]:
        """The last lines of its log; why a database does not answer takes several."""
        return tail(self._log, 6).splitlines()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.is_away = True
        if self._process is not None:
            self._process.kill()

    def end(self, timeout_s: float = 30.0) -> bool:
        """SIGTERM; return whether it ended in time (else it is killed)."""
        self.is_away = True
        if self._process is None:
            return True
        self._process.terminate()
        ended = self._process.wait(timeout_s)
        self._process.kill()
        return ended


def clock_environment(clock: Path) -> Mapping[str, str]:
    """Return what makes a process take its wall clock's offset from a file, within a second; monotonic time is true."""
    return {
        "LD_PRELOAD": libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
