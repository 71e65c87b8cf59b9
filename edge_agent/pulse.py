"""Whether the agent itself still answers: its event loop, and the thread that owns the buffer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Never

from edge_agent.buffer import Buffer
from edge_agent.intake import BufferThread

_INTERVAL_S: Final = 1.0
STUCK_AFTER_S: Final = 60.0
"""A repair or a slow card may take long; beyond this the agent counts as failing."""


class Pulse:
    """Remembers when each part last answered; asked from any thread."""

    def __init__(self, buffer: BufferThread, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._buffer, self._now_s = buffer, now_s
        self._loop_seen_s = self._buffer_seen_s = now_s()

    async def run(self) -> Never:
        """Feel the pulse for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._ask())
        raise AssertionError("both run for ever")

    def stuck(self, after_s: float = STUCK_AFTER_S) -> tuple[str, ...]:
        """Name the parts that have not answered for ``after_s`` seconds."""
        now_s = self._now_s()
        return tuple(
            f"{what} has not answered for {now_s - seen_s:.0f} s"
            for what, seen_s in (
                ("the event loop", self._loop_seen_s),
                ("the buffer's thread", self._buffer_seen_s),
            )
            if now_s - seen_s > after_s
        )

    def is_well(self, within_s: float) -> bool:
        """Tell whether everything answered within the last ``within_s`` seconds."""
        return not self.stuck(within_s)

    async def _tick(self) -> Never:
        while True:
            self._loop_seen_s = self._now_s()
            await asyncio.sleep(_INTERVAL_S)

    async def _ask(self) -> Never:
        while True:
            await self._buffer.call(_answer)
            self._buffer_seen_s = self._now_s()
            await asyncio.sleep(_INTERVAL_S)


def _answer(_buffer: Buffer) -> None:
    """Do nothing, on the buffer's thread."""
