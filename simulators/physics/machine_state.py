"""What a moulding machine is, what its future depends on, and what is needed to show a stretch of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from simulators.physics.calendar import Calendar
from simulators.physics.drives import DriveClass
from simulators.physics.faults import Effects, Fault
from simulators.physics.jobs import Change, Job, JobOrder
from simulators.physics.moulds import Mould, Standard
from simulators.physics.shots import Shots
from simulators.physics.stops import StopRates
from simulators.physics.surroundings import Surroundings
from simulators.physics.thermal import Barrel
from simulators.physics.zones import BarrelState

PendingKind: TypeAlias = Literal["stop", "changeover", "planned", "off", "warm_up"]


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is and what it makes."""

    cell: str
    drive: DriveClass
    clamp_kn: float
    zones: int
    """Barrel zones."""
    moulds: tuple[Mould, ...]
    stops: StopRates = field(default_factory=StopRates)
    scrap_rate: float = 0.0115
    """Share of the parts that are bad, once started up."""
    batch: tuple[int, int] = (1_500, 9_000)
    """Least and most parts of a job that is not ordered."""
    orders: tuple[JobOrder, ...] = ()
    faults: tuple[Fault, ...] = ()
    """In order of their begin."""
    semi_automatic: bool = False
    """Somebody opens and closes the guard; nobody does in breaks."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What of a machine stays as it is."""

    spec: MachineSpec
    calendar: Calendar
    seed: int
    barrel: Barrel
    standards: Sequence[Standard]
    """By mould."""
    setpoints_c: Sequence[Sequence[float]]
    """Of the barrel, by mould, from the nozzle to the hopper."""
    fault_edges_ms: Sequence[int]
    """When a fault begins or ends, rising."""

    def at_work(self, now_ms: int) -> list[Fault]:
        """Return the faults that are at work at a time, UTC ms."""
        return [fault for fault in self.spec.faults if fault.begin_ms <= now_ms < fault.end_ms]

    def warm(self, state: State, band_k: float) -> bool:
        """Return whether no zone is more than ``band_k`` too cold; a broken zone and its neighbours are not waited for."""
        broken = {
            min(fault.place, self.spec.zones)
            for fault in self.at_work(state.now_ms)
            if fault.kind == "heater_band"
        }
        pairs = zip(self.setpoints_c[state.job.mould], state.barrel.temperature_c, strict=True)
        return all(
            point - actual < band_k
            for zone, (point, actual) in enumerate(pairs, 1)
            if not any(abs(zone - each) <= 1 for each in broken)
        )


class Pending(msgspec.Struct):
    """An interruption of production that goes on."""

    kind: PendingKind
    state: str
    cause: str
    begin_ms: int
    until_ms: int
    hands_on: bool = False
    """Somebody works at it."""
    change: Change | None = None
    """What is changed, with ``kind`` changeover."""
    next_job: Job | None = None


class LastCycle(msgspec.Struct):
    """What the machine shows of the newest cycle until the next one is over."""

    time_s: float
    quality: int
    figures: list[float]
    """As `simulators.physics.shots.FIGURES`."""


class State(msgspec.Struct):
    """All that the machine's future depends on."""

    number: int
    """Of stretches so far."""
    now_ms: int
    job: Job
    jobs_total: int
    cycles: int
    """Of the machine's life."""
    stop_in_ms: int
    """Production time until the next stop."""
    start_up_shots: int
    kwh: float
    barrel: BarrelState
    around_k: list[float]
    """See `Surroundings.around_k`."""
    pending: Pending | None = None
    last_cycle: LastCycle | None = None


class Detail(NamedTuple):
    """What is needed to show a stretch."""

    number: int
    begin_ms: int
    end_ms: int
    pending: Pending | None
    job: Job
    """As it was at the begin."""
    cycles: int
    """Of the machine's life, at the begin."""
    last_cycle: LastCycle | None
    """Before the begin."""
    shots: Shots | None
    start_up: bool
    effects: Effects
    surroundings: Surroundings
