"""Looks at the agent's own status page twice a second, and remembers when which source ran."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Never

import aiohttp

from tests.faults.evidence import Window

_LOOK_EVERY_S: Final = 0.4
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """What the agent said of itself; nothing runs where it did not answer."""

    at_ns: int
    running: frozenset[str] = frozenset()
    pending: int | None = None


class Watch:
    """The looks of a campaign."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.looks: list[Look] = []

    async def run(self) -> Never:
        """Look for ever."""
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                began_ns = time.time_ns()
                self.looks.append(await self._look(session, began_ns))
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self, session: aiohttp.ClientSession, at_ns: int) -> Look:
        with suppress(aiohttp.ClientError, TimeoutError, ValueError, OSError):
            async with session.get(f"{self._url}/health") as answer:
                said: Any = await answer.json(content_type=None)
            running = frozenset(each["name"] for each in said["sources"] if each["state"] == "running")
            return Look(at_ns, running, int(said["buffer"]["pending_samples"]))
        return Look(at_ns)

    @property
    def last(self) -> Look:
        """The newest look."""
        return self.looks[-1] if self.looks else Look(0)


def steady_again(looks: Sequence[Look], source: str, after_ns: int, steady_ns: int) -> int:
    """Return from when on, after a moment (UTC ns), a source ran for so long without a break; the last look if never."""
    began = None
    for look in looks:
        if look.at_ns < after_ns:
            continue
        if source not in look.running:
            began = None
        elif began is None:
            began = look.at_ns
        elif look.at_ns - began >= steady_ns:
            return began
    return looks[-1].at_ns if looks else after_ns


def loss_window(
    looks: Sequence[Look], source: str, fault: Window, before_s: float, after_s: float, steady_s: float = 5.0
) -> Window:
    """Return from when to when a fault may cost something: some seconds before it, until the source ran steadily again.

    A source that has not noticed yet that its connection is gone still says that it runs: hence "steadily".
    """
    again = steady_again(looks, source, fault.end, round(steady_s * _NS))
    return Window(fault.begin - round(before_s * _NS), again + round(after_s * _NS))
