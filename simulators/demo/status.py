"""What a person sees while a demo runs: messages, and one line that says how things stand."""

from __future__ import annotations

import time
from typing import Final, TextIO

from simulators.demo.session import Session

_EVERY_S: Final = 2.0
_EVERY_WITHOUT_TERMINAL_S: Final = 60.0


class StatusLine:
    """Writes to one stream; on a terminal the status replaces itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._shown = ""
        self._next_s = 0.0
        self._taken: tuple[float, int] | None = None

    def say(self, message: str) -> None:
        """Write a message on a line of its own."""
        self._clear()
        print(message, file=self._stream, flush=True)

    def show(self, session: Session) -> None:
        """Write how things stand, if it is time for it."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + (_EVERY_S if self._terminal else _EVERY_WITHOUT_TERMINAL_S)
        line = self._line(session, now_s)
        self._clear()
        self._shown = line if self._terminal else ""
        print(line, end="" if self._terminal else "\n", file=self._stream, flush=True)

    def _line(self, session: Session, now_s: float) -> str:
        progress = session.agents.progress()
        machines = sum(site.machines for site in session.plan.sites)
        parts = [f"{session.service.machines_in_contact()}/{machines} machines in contact"]
        before, self._taken = self._taken, (now_s, progress.taken)
        if before is not None and progress.taken >= before[1]:
            parts.append(f"{(progress.taken - before[1]) / (now_s - before[0]):.0f} values/s")
        parts.append(f"{progress.pending} waiting at the edge")
        if session.supervisor.kills:
            parts.append(f"{session.supervisor.kills} kills")
        return f"{session.plan.url}  {', '.join(parts)}"

    def _clear(self) -> None:
        if self._shown:
            print(f"\r{' ' * len(self._shown)}\r", end="", file=self._stream)
            self._shown = ""
