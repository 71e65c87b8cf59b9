"""Starts the parts in order, keeps them running, and ends them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from shopfloor.errors import ShopfloorError
from simulators.demo.process import Part, Process, Usage, bound_log, tail

_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_STEADY_S: Final = 30.0
"""A part that ran this long begins with the shortest backoff again."""
TICK_S: Final = 0.1


class StartFailed(ShopfloorError):
    """A part ended while starting, or was not ready in time; the demo can't run."""


@dataclass(slots=True)
class _Watched:
    part: Part
    process: Process | None = None
    started_s: float = 0.0
    restart_at_s: float | None = None
    failures: int = 0
    ended_usage: Usage = field(default_factory=Usage)
    last_usage: Usage = field(default_factory=Usage)


class Supervisor:
    """The parts of one demo, in the order in which they were started. Not for several threads."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        start: Callable[[Part], Process] = Process,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._say = say
        self._start = start
        self._clock = clock
        self._sleep = sleep
        self._watched: dict[str, _Watched] = {}
        self.kills = 0
        self.restarts = 0

    def start(self, part: Part) -> None:
        """Start a part without waiting for it; it is watched from now on."""
        watched = self._watched[part.name] = _Watched(part)
        self._launch(watched)

    def wait_ready(self, names: Iterable[str], timeout_s: float) -> None:
        """Return when all these parts are ready.

        Raises:
            StartFailed: one ended, or is not ready in time; the message holds the end of its log.
        """
        waiting = [self._watched[name] for name in names]
        deadline_s = self._clock() + timeout_s
        while waiting:
            for watched in waiting:
                code = watched.process.exit_code() if watched.process else None
                if code is not None:
                    raise StartFailed(f"{_ended(watched.part, code)} while starting{_log_of(watched.part)}")
            waiting = [watched for watched in waiting if not watched.part.ready()]
            if waiting and self._clock() > deadline_s:
                part = waiting[0].part
                raise StartFailed(f"{part.name} is not ready after {timeout_s:g} s{_log_of(part)}")
            if waiting:
                self._sleep(TICK_S)

    def tick(self) -> None:
        """Notice what has ended, start again what is due, and take note of memory and CPU time."""
        now_s = self._clock()
        for watched in self._watched.values():
            process = watched.process
            if process is None:
                if watched.restart_at_s is not None and now_s >= watched.restart_at_s:
                    self._launch(watched)
                continue
            code = process.exit_code()
            if code is None:
                self._note_usage(watched, process)
                bound_log(watched.part.log)
                continue
            process.kill()  # what it may have left behind in its group
            self._settle(watched)
            if now_s - watched.started_s > _STEADY_S:
                watched.failures = 0
            delay_s = _BACKOFF_S[min(watched.failures, len(_BACKOFF_S) - 1)]
            watched.failures += 1
            watched.restart_at_s = now_s + delay_s
            self.restarts += 1
            self._say(
                f"{_ended(watched.part, code)}, starting it again in {delay_s:g} s{_log_of(watched.part)}"
            )

    def kill(self, name: str, down_s: float) -> bool:
        """SIGKILL a part and start it again after ``down_s``; False where it was not running."""
        watched = self._watched[name]
        if watched.process is None or watched.process.exit_code() is not None:
            return False
        self._note_usage(watched, watched.process)
        watched.process.kill()
        self._settle(watched)
        watched.restart_at_s = self._clock() + down_s
        self.kills += 1
        return True

    def process(self, name: str) -> Process | None:
        """Return the part's running process, None while it is down."""
        return self._watched[name].process

    def names(self) -> list[str]:
        """Return the names of all parts, in the order of their start."""
        return list(self._watched)

    def all_running(self) -> bool:
        """Whether no part is down at the moment."""
        return all(watched.process is not None for watched in self._watched.values())

    def usage(self, name: str) -> Usage:
        """Return what a part has taken so far: CPU seconds of all its processes, peak resident bytes of one."""
        watched = self._watched[name]
        if watched.process is not None:
            self._note_usage(watched, watched.process)
        return Usage(
            watched.ended_usage.cpu_s + watched.last_usage.cpu_s,
            max(watched.ended_usage.peak_rss_bytes, watched.last_usage.peak_rss_bytes),
        )

    def stop(self, names: Iterable[str] | None = None) -> None:
        """End parts in the given order (all: the last started first): SIGTERM, grace, SIGKILL.

        Parts of one kind end together. Whatever happens meanwhile, none is left running.
        """
        chosen = list(names) if names is not None else [*reversed(self._watched)]
        try:
            for kind in dict.fromkeys(self._watched[name].part.kind for name in chosen):
                self._stop_together(
                    [self._watched[name] for name in chosen if self._watched[name].part.kind == kind]
                )
        finally:
            for name in chosen:
                process = self._watched[name].process
                if process is not None:
                    process.kill()
                    self._settle(self._watched[name])

    def _stop_together(self, group: list[_Watched]) -> None:
        for watched in group:
            watched.restart_at_s = None
        running = [(watched, watched.process) for watched in group if watched.process is not None]
        for _, process in running:
            process.terminate()
        began_s = self._clock()
        for watched, process in running:
            left_s = watched.part.grace_s - (self._clock() - began_s)
            if not process.wait(max(left_s, 0.0)):
                self._say(f"{watched.part.name} did not end within {watched.part.grace_s:g} s and is killed")
            process.kill()
            self._settle(watched)

    def _launch(self, watched: _Watched) -> None:
        watched.process = self._start(watched.part)
        watched.started_s = self._clock()
        watched.restart_at_s = None

    def _note_usage(self, watched: _Watched, process: Process) -> None:
        usage = process.usage()
        if usage is not None:
            usage.peak_rss_bytes = max(usage.peak_rss_bytes, watched.last_usage.peak_rss_bytes)
            watched.last_usage = usage

    def _settle(self, watched: _Watched) -> None:
        """Add the ended process's usage to the part's."""
        ended, last = watched.ended_usage, watched.last_usage
        watched.ended_usage = Usage(ended.cpu_s + last.cpu_s, max(ended.peak_rss_bytes, last.peak_rss_bytes))
        watched.last_usage = Usage()
        watched.process = None


def _ended(part: Part, code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{part.name} {how}"


def _log_of(part: Part) -> str:
    end = tail(part.log)
    return f"; the end of {part.log}:\n{end}" if end else f" (nothing in {part.log})"
