"""Lets a store on a server make its rollups, in the one process that leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from shopfloor.errors import StoreUnavailable

_LOOK_S: Final = 60.0
_LEAD_S: Final = 1.0
_SHARE: Final = 0.25
"""Of the time, while there is something to do: readers and writers ask the same server."""
_log = logging.getLogger(__name__)


class Rolling:
    """Belongs to the event loop.

    Args:
        step: does one piece of work at a time (UTC ns) and tells whether there is more; raises StoreUnavailable.
        leads: whether this process is the one that does it.
        clock_ns: UTC.
    """

    def __init__(
        self,
        step: Callable[[int], Awaitable[bool]],
        *,
        leads: Callable[[], bool],
        clock_ns: Callable[[], int],
        look_s: float = _LOOK_S,
    ) -> None:
        self._step = step
        self._leads = leads
        self._clock_ns = clock_ns
        self._look_s = look_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Work from now on."""
        self._task = asyncio.create_task(self._run(), name="ingest-rollups")

    async def stop(self) -> None:
        """Work no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        failing = False
        while True:
            pause = self._look_s
            if not self._leads():
                pause = min(pause, _LEAD_S)
            else:
                try:
                    started = time.monotonic()
                    if await self._step(self._clock_ns()):
                        pause = (time.monotonic() - started) * (1 - _SHARE) / _SHARE
                    failing = False
                except StoreUnavailable as error:
                    # The samples' own writer says so as well, and raises the alarm.
                    if not failing:
                        _log.warning("rollups by hour are not made, and are tried again: %s", error)
                    failing = True
                except Exception:  # noqa: BLE001 - what can't be rolled up is read from samples, as before
                    if not failing:
                        _log.exception("rollups by hour are not made, and are tried again")
                    failing = True
            await asyncio.sleep(pause)
