"""An injection moulding machine: plans its days run by run, in columns, and shows them moment by moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from simulators.physics import surroundings
from simulators.physics.calendar import Calendar
from simulators.physics.interruptions import interruption
from simulators.physics.jobs import Job, next_job
from simulators.physics.machine_state import Detail, Equipment, MachineSpec, State
from simulators.physics.moulds import standard_cycle
from simulators.physics.running import run
from simulators.physics.showing import COARSE, LIVE, Sampling, show, shown_at_end
from simulators.physics.standing import stand
from simulators.physics.stops import until_stop_ms
from simulators.physics.thermal import Barrel
from simulators.physics.unit import MAX_STRETCH_MS, Moment, Stretch, Value

__all__ = ["COARSE", "LIVE", "InjectionMachine", "MachineSpec", "Sampling"]


class _Snapshot(msgspec.Struct):
    state: State
    shown: dict[str, Value]


class _ToShow(NamedTuple):
    detail: Detail
    before: Callable[[], Mapping[str, Value]]
    anew: bool


class InjectionMachine:
    """One machine on an injected clock; a `simulators.physics.unit.Unit`.

    Args:
        spec: what it is.
        calendar: when people work.
        seed: of everything random in it.
        start_ms: UTC ms.
    """

    def __init__(self, spec: MachineSpec, calendar: Calendar, seed: int, start_ms: int) -> None:
        self.spec = spec
        self.sampling = LIVE
        """How often `play` looks at what moves by itself."""
        rng = np.random.default_rng([seed, 0])
        self._equipment = Equipment(
            spec,
            calendar,
            seed,
            Barrel(list(surroundings.zones(spec.zones, spec.clamp_kn, rng))),
            [standard_cycle(mould, spec.clamp_kn) for mould in spec.moulds],
            [surroundings.setpoints(mould.material.melt_c, spec.zones) for mould in spec.moulds],
            sorted({edge for fault in spec.faults for edge in (fault.begin_ms, fault.end_ms)}),
        )
        self._state = self._first(start_ms, rng)
        self._shown: Callable[[], Mapping[str, Value]] = dict
        """Tells what is shown at the begin of the next stretch."""
        self._anew = False

    @property
    def cells(self) -> Sequence[str]:
        """The one cell that it is."""
        return (self.spec.cell,)

    def plan(self) -> Stretch:
        """See `simulators.physics.unit.Unit`."""
        machine, state = self._equipment, self._state
        state.number += 1
        rng = np.random.default_rng([machine.seed, state.number])
        begin_ms = state.now_ms
        horizon_ms = min(
            (edge for edge in machine.fault_edges_ms if edge > begin_ms), default=begin_ms + MAX_STRETCH_MS
        )
        horizon_ms = min(horizon_ms, begin_ms + MAX_STRETCH_MS)
        if state.pending is None:
            state.pending = interruption(machine, state, rng)
        if state.pending is not None:
            stretch = stand(machine, state, state.pending, horizon_ms, rng)
        else:
            stretch = run(machine, state, horizon_ms, rng)
        stretch.facts += [
            fault.within(begin_ms, stretch.end_ms)
            for fault in self.spec.faults
            if fault.begin_ms < stretch.end_ms and begin_ms < fault.end_ms
        ]
        detail = stretch.detail
        assert isinstance(detail, Detail)
        stretch.detail = _ToShow(detail, self._shown, self._anew)
        self._anew = False
        self._shown = partial(shown_at_end, machine, detail)
        return stretch

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """See `simulators.physics.unit.Unit`."""
        to_show = stretch.detail
        if not isinstance(to_show, _ToShow):
            raise TypeError("not a stretch of a moulding machine")
        return show(
            self._equipment, to_show.detail, to_show.before(), lambda: self.sampling, anew=to_show.anew
        )

    def say_anew(self) -> None:
        """Say every signal again in the next stretch: whoever listens from now on knows none."""
        self._anew = True

    def snapshot(self) -> bytes:
        """See `simulators.physics.unit.Unit`."""
        return msgspec.json.encode(_Snapshot(self._state, dict(self._shown())))

    def restore(self, snapshot: bytes) -> None:
        """See `simulators.physics.unit.Unit`.

        Raises:
            msgspec.MsgspecError: the snapshot is none of a moulding machine.
        """
        found = msgspec.json.decode(snapshot, type=_Snapshot)
        self._state = found.state
        self._shown = partial(dict, found.shown)

    def _first(self, start_ms: int, rng: np.random.Generator) -> State:
        """Return the state at the begin of a life."""
        spec, machine = self.spec, self._equipment
        job = next_job(0, spec.orders, spec.moulds, spec.batch, None, start_ms, rng)
        if not spec.orders:
            self._already_begun(job, rng)
        return State(
            0,
            start_ms,
            job,
            1,
            int(rng.integers(20_000, 900_000)),
            until_stop_ms(spec.stops, rng),
            0,
            0.0,
            machine.barrel.settled(machine.setpoints_c[job.mould]),
            [0.0, 0.0, 0.0, 0.0],
        )

    def _already_begun(self, job: Job, rng: np.random.Generator) -> None:
        """Let the first job be one that others began."""
        cavities = self.spec.moulds[job.mould].cavities
        job.cycles = int(job.ordered / cavities * rng.uniform(0.02, 0.9))
        job.bad = round(job.cycles * cavities * self.spec.scrap_rate)
        job.good = job.cycles * cavities - job.bad
