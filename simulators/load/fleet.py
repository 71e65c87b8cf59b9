"""The parent's side: starts the processes of a load, keeps them together, adds up what they count."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Final, Self

import msgspec

from shopfloor.errors import Permanent
from simulators.load.channel import Command, Counters, Failed, Job, Ready, Start, Stop, Told
from simulators.load.plan import LoadPlan

_READY_S: Final = 120.0
_STOP_S: Final = 15.0
_AHEAD_MS: Final = 100


class LoadFailed(Permanent):
    """A process of the load could not begin, or ended before it was told to."""


class Fleet:
    """All processes of a load, within ``async with``: leaving it ends them whatever happened."""

    def __init__(self, plan: LoadPlan, jobs: Sequence[Job]) -> None:
        self._plan = plan
        self._members = [_Member(job) for job in jobs]
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self.startup_s = 0.0
        """How long the slowest took to be ready."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(member.end() for member in self._members))

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [member.pid for member in self._members]

    @property
    def elapsed_s(self) -> float:
        """How long it has been running, or ran."""
        if self._began_s is None:
            return 0.0
        return (self._ended_s or time.monotonic()) - self._began_s

    @property
    def counters(self) -> Counters:
        """What all of them have counted, at most half a second ago."""
        return sum((member.counters for member in self._members), Counters())

    async def start(self) -> None:
        """Start all, and let them begin with the same tick when the last is ready; raises LoadFailed."""
        began_s = time.monotonic()
        await asyncio.gather(*(member.start() for member in self._members))
        try:
            async with asyncio.timeout(_READY_S):
                await asyncio.gather(*(member.ready() for member in self._members))
        except TimeoutError as error:
            raise LoadFailed(f"not ready after {_READY_S:.0f} s") from error
        self.startup_s = time.monotonic() - began_s
        first = self._plan.newest_tick(time.time() * 1000 + _AHEAD_MS) + 1
        for member in self._members:
            member.tell(Start(first))
        delay_s = max(0.0, self._plan.tick_ms(first) / 1000 - time.time())
        self._began_s = time.monotonic() + delay_s

    async def watch(self, until: asyncio.Event, timeout_s: float) -> None:
        """Wait for ``until`` or a time-out; raises LoadFailed when a process ends meanwhile."""
        waiting = asyncio.create_task(until.wait())
        ends = [member.ended for member in self._members]
        try:
            await asyncio.wait([waiting, *ends], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for member in self._members:
            member.check()

    async def stop(self) -> Counters:
        """Let all finish what is under way; returns the final count. Raises LoadFailed where one did not tell it."""
        self._ended_s = time.monotonic()
        for member in self._members:
            member.tell(Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(asyncio.shield(member.ended) for member in self._members))
        for member in self._members:
            member.check(stopping=True)
        return self.counters


class _Member:
    """One process. It notices our death by its stdin: only ours is open, no other process inherits it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: Process | None = None
        self._ready = asyncio.Event()
        self._failed: str | None = None
        self.counters = Counters()
        self.ended: asyncio.Task[int]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulators.load.worker",
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(self._job) + b"\n")
        self.ended = asyncio.create_task(self._listen(self._process))

    async def ready(self) -> None:
        waiting = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait([waiting, self.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self.check()

    def tell(self, command: Command) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")

    def check(self, *, stopping: bool = False) -> None:
        """Raise LoadFailed unless the process is as it should be."""
        if self._failed is not None:
            raise LoadFailed(self._failed)
        if not self.ended.done():
            if stopping:
                raise LoadFailed(f"process {self.pid} did not end in {_STOP_S:.0f} s")
            return
        code = self.ended.result()
        if not stopping or code:
            raise LoadFailed(f"process {self.pid} ended by itself, with status {code}")

    async def end(self) -> None:
        if self._process is None:
            return
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await self.ended

    async def _listen(self, process: Process) -> int:
        assert process.stdout is not None
        decoder = msgspec.json.Decoder(Told)
        async for line in process.stdout:
            told = decoder.decode(line)
            if isinstance(told, Counters):
                self.counters = told
            elif isinstance(told, Failed):
                self._failed = told.reason
            elif isinstance(told, Ready):
                self._ready.set()
        return await process.wait()
