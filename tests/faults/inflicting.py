"""Makes the faults of a schedule happen, and keeps the log of what happened when."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Never

import psutil

from shopfloor.signal import SeriesKey
from tests.faults.actor import Actor
from tests.faults.buffer_damage import damage
from tests.faults.evidence import Damaged
from tests.faults.permitting import Happened
from tests.faults.plant_site import Plant
from tests.faults.schedule import DATABASES, INGEST, Fault, Kind

_MAX_DELAY_S: Final = 1.2
_RESTART_S: Final = 0.5
_NEVER_NS: Final = 2**63


@dataclass(slots=True)
class Inflictor:
    """Hits one plant."""

    plant: Plant
    dice: random.Random
    position: Callable[[SeriesKey], int]
    log: list[Happened] = field(default_factory=list)
    clock_steps: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """Of each process with a clock of its own: from when on (true UTC ns) it was how many ns ahead."""
    crashed: list[str] = field(default_factory=list)
    """Names of processes that ended by themselves, for no good reason."""
    _without_room: set[int] = field(default_factory=set)
    """Process ids of agents whose disk was full at some time: those may end by themselves."""
    _databases_hit: int = 0
    _databases_fail_until_ns: int = 0
    _held: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def inflict(self, fault: Fault) -> None:
        """Let a fault happen, and end; one at a time for a process or a link."""
        async with self._held[self._where(fault)]:
            begin = time.time_ns()
            if fault.target in DATABASES:
                self._databases_hit += 1
                self._databases_fail_until_ns = _NEVER_NS
            note, damaged = await self._hit(fault)
            if fault.target in DATABASES:
                self._databases_hit -= 1
                if not self._databases_hit:
                    self._databases_fail_until_ns = time.time_ns()
            self.log.append(Happened(fault, begin, time.time_ns(), note, damaged))

    def _where(self, fault: Fault) -> str:
        if fault.kind in {Kind.CUT, Kind.SWALLOW, Kind.DELAY, Kind.UNAVAILABLE, Kind.LOST_ANSWER}:
            return f"link to {fault.target}"
        if fault.kind in {Kind.REMOVE, Kind.CLOCK}:
            return f"{fault.kind} of {fault.target}"
        return fault.target

    async def _hit(self, fault: Fault) -> tuple[str, Damaged | None]:
        match fault.kind:
            case Kind.KILL | Kind.SHIFT:
                return await self._restart(fault), None
            case Kind.FREEZE:
                actor = self.plant.actors[fault.target]
                actor.send(signal.SIGSTOP)
                await asyncio.sleep(fault.hold_s)
                actor.send(signal.SIGCONT)
            case Kind.CUT | Kind.SWALLOW | Kind.DELAY | Kind.UNAVAILABLE | Kind.LOST_ANSWER:
                return await self._spoil_link(fault), None
            case Kind.DISK_FULL:
                return await self._fill_disk(fault), None
            case Kind.DAMAGE:
                return await self._damage(fault)
            case Kind.CLOCK:
                self.step_clock(fault.target, fault.clock_offset_s)
                return f"{fault.clock_offset_s:+.1f} s", None
            case Kind.REMOVE:
                return await self._remove(fault), None
        return "", None

    async def _restart(self, fault: Fault) -> str:
        plant = self.plant
        if fault.target in DATABASES:
            return await self._restart_database(fault)
        actor = plant.actors[fault.target]
        actor.kill()
        note = ""
        if fault.kind is Kind.SHIFT:
            plant.shift[fault.target] = (plant.shift[fault.target] + 1 + fault.namespaces) % 5
            note = f"{plant.shift[fault.target]} foreign namespaces"
        await asyncio.sleep(fault.hold_s)
        actor.start()
        return note

    async def _restart_database(self, fault: Fault) -> str:
        databases = self.plant.serving.databases
        assert databases is not None
        await asyncio.to_thread(databases.kill, fault.target)
        await asyncio.sleep(fault.hold_s)
        await asyncio.to_thread(databases.start, fault.target)
        return ""

    async def _spoil_link(self, fault: Fault) -> str:
        link, note = self.plant.links[fault.target], ""
        match fault.kind:
            case Kind.CUT:
                link.cut()
            case Kind.SWALLOW:
                link.swallow()
            case Kind.DELAY:
                seconds = fault.amount * _MAX_DELAY_S
                link.delay(seconds)
                note = f"{seconds:.2f} s"
            case Kind.UNAVAILABLE:
                self.plant.uplink.unavailable = True
            case _:
                self.plant.uplink.loses_answers = True
        await asyncio.sleep(fault.hold_s)
        link.heal()
        return note

    async def _fill_disk(self, fault: Fault) -> str:
        """Bound the agent's files: nothing can be written beyond so many bytes of any of them (EFBIG)."""
        limit = 0 if fault.amount < 0.5 else int(fault.amount * 2**20)
        # An agent that can't open its buffer ends, and is started again: also that one has no room.
        end_s = time.monotonic() + fault.hold_s
        while time.monotonic() < end_s:
            self._limit_files(limit)
            await asyncio.sleep(0.05)
        self._limit_files(psutil.RLIM_INFINITY)
        return f"at {limit} bytes"

    def _limit_files(self, limit: int) -> None:
        with suppress(psutil.NoSuchProcess):
            agent = psutil.Process(self.plant.actors["agent"].pid)
            self._without_room.add(agent.pid)
            agent.rlimit(psutil.RLIMIT_FSIZE, (limit, psutil.RLIM_INFINITY))

    async def keep_running(self) -> Never:
        """Start again what ended by itself, as systemd would.

        Only an agent without room on its disk may do that, and a service that said at its start that a database does not
        answer, when one did not.
        """
        while True:
            for name, actor in self.plant.actors.items():
                if actor.ended:
                    if actor.pid not in self._without_room and not self._without_database(name, actor):
                        self.crashed.append(name)
                    actor.start()
            await asyncio.sleep(_RESTART_S)

    def _without_database(self, name: str, actor: Actor) -> bool:
        said = any(line.startswith(f"{self.plant.folder / name}.yaml: ") for line in actor.last_words)
        return said and name in INGEST and actor.started_ns <= self._databases_fail_until_ns

    async def _damage(self, fault: Fault) -> tuple[str, Damaged]:
        async with self._held["link to uplink"]:
            # With the link cut, something waits in the buffer.
            self.plant.uplink.cut()
            await asyncio.sleep(fault.hold_s)
            agent = self.plant.actors["agent"]
            agent.kill()
            damaged, note = damage(self.plant.buffer, self.dice, self.position)
            agent.start()
            self.plant.uplink.heal()
        return note, damaged

    def step_clock(self, name: str, offset_s: float) -> None:
        """Set a process' clock so far ahead of the true time."""
        self.plant.set_clock(name, offset_s)
        self.clock_steps[name].append((time.time_ns(), round(offset_s * 1e9)))

    async def _remove(self, fault: Fault) -> str:
        plant, target = self.plant, fault.target
        count = plant.sizes.history if target == "history" else plant.sizes.plain
        node = int(fault.amount * count)
        plant.removed[target].add(node)
        plant.write_removed(target)
        await asyncio.sleep(fault.hold_s)
        plant.removed[target].discard(node)
        plant.write_removed(target)
        return f"v{node}"

    def heal(self) -> None:
        """Undo whatever lasts: only clocks do."""
        for name in list(self.clock_steps):
            self.step_clock(name, 0.0)
