"""From the sources to the disk: puts that wait together share one transaction (group commit)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Never, TypeVar

from edge_agent.buffer import Buffer, Parcel
from shopfloor.errors import StoreUnavailable

Result = TypeVar("Result")

_MAX_GROUP_SAMPLES: Final = 100_000


class BufferThread:
    """The buffer's one owner thread, for callers on the event loop."""

    def __init__(self, buffer: Buffer, executor: Executor) -> None:
        self._buffer, self._executor = buffer, executor

    async def call(self, work: Callable[[Buffer], Result]) -> Result:
        """Run ``work`` on the buffer's thread; a cancelled caller does not stop what has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, self._buffer)


class Intake:
    """Gathers parcels while a transaction is under way and writes them with the next one."""

    def __init__(self, buffer: BufferThread, *, min_commit_interval_s: float = 0.0) -> None:
        self._buffer = buffer
        self.min_commit_interval_s = min_commit_interval_s
        """Least time between two transactions; may change while it runs."""
        self._waiting: list[tuple[Parcel, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self.arrived = asyncio.Event()
        """Set whenever something became durable; whoever waits for it clears it."""
        self.commit_s = 0.0
        """How long the last transaction took."""
        self.commits_total = 0

    async def put(self, parcel: Parcel) -> None:
        """Return once the parcel is durable.

        Raises:
            StoreUnavailable: the disk did not take it; nothing of it was stored.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((parcel, done))
        self._wake.set()
        await done

    async def run(self) -> Never:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                started = time.monotonic()
                await self._write(self._take())
                self.commit_s = time.monotonic() - started
                self.commits_total += 1
                await asyncio.sleep(max(0.0, self.min_commit_interval_s - self.commit_s))

    def _take(self) -> list[tuple[Parcel, asyncio.Future[None]]]:
        samples = taken = 0
        for parcel, _ in self._waiting:
            if taken and samples + len(parcel.block) > _MAX_GROUP_SAMPLES:
                break
            samples += len(parcel.block)
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _write(self, group: list[tuple[Parcel, asyncio.Future[None]]]) -> None:
        parcels = [parcel for parcel, _ in group]
        while True:
            try:
                await self._buffer.call(lambda buffer: buffer.append(parcels))
            except StoreUnavailable as error:
                if error.retry_after_s is not None:
                    # A full buffer whose policy is to wait: the sources wait with it, unacknowledged.
                    await asyncio.sleep(error.retry_after_s)
                    continue
                for _, done in group:
                    if not done.done():
                        done.set_exception(StoreUnavailable(str(error)))
                return
            break
        self.arrived.set()
        for _, done in group:
            if not done.done():
                done.set_result(None)
