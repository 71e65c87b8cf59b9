"""A stretch in which a moulding machine does not produce."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from simulators.physics import faults as process_faults
from simulators.physics.interruptions import WARM_BAND_K, resume
from simulators.physics.machine_state import Detail, Equipment, Pending, State
from simulators.physics.surroundings import pass_time
from simulators.physics.unit import Energy, Facts, Stretch

_WARM_UP_PIECE_MS: Final = 5 * 60_000
_SOAK_MS: Final = 20 * 60_000
_SLEEP_SHARE: Final = 0.08
"""What is left of a machine's idle power while its power unit is off."""


def stand(
    machine: Equipment, state: State, pending: Pending, horizon_ms: int, rng: np.random.Generator
) -> Stretch:
    """Return the next stretch of an interruption, at most to the horizon; ends it where it is over."""
    spec, begin_ms = machine.spec, state.now_ms
    end_ms = min(pending.until_ms, horizon_ms)
    if pending.kind == "warm_up":
        end_ms = min(end_ms, begin_ms + _WARM_UP_PIECE_MS)
    end_ms = max(end_ms, begin_ms + 1)
    stretch = Stretch(begin_ms, end_ms)
    off = pending.kind == "off"
    faults = machine.at_work(begin_ms)
    effects = process_faults.effects(faults, begin_ms)
    setpoints = None if off else machine.setpoints_c[state.job.mould]
    surroundings = pass_time(
        machine.barrel, state.barrel, state.around_k, begin_ms, end_ms, setpoints, 0.0, faults, effects, rng
    )
    idle_kw = spec.drive.idle_kw(spec.clamp_kn) * (_SLEEP_SHARE if off else 1.0)
    kwh = (surroundings.heaters_kw(machine.barrel) + idle_kw) * (end_ms - begin_ms) / 3.6e6
    stretch.energy = {
        spec.cell: Energy(
            np.array([begin_ms, end_ms]),
            np.array([state.kwh, state.kwh + kwh]),
            spec.drive.power_factor_idle,
        )
    }
    state.kwh += kwh
    span = {"begin_ms": begin_ms, "end_ms": end_ms}
    kind = "planned" if pending.kind in {"off", "warm_up"} else pending.kind
    stretch.facts += [
        Facts("states", {**span, "state": pending.state, "cause": pending.cause, "job": state.job.name}),
        Facts("energy", {**span, "kwh": kwh, "state": pending.state}),
        Facts("downtime", {**span, "kind": kind, "cause": pending.cause}),
    ]
    stretch.detail = Detail(
        state.number,
        begin_ms,
        end_ms,
        msgspec.structs.replace(pending),
        msgspec.structs.replace(state.job),
        state.cycles,
        state.last_cycle,
        None,
        False,
        effects,
        surroundings,
    )
    state.now_ms = end_ms
    soaked = end_ms - pending.begin_ms >= _SOAK_MS
    if pending.kind == "warm_up" and soaked and machine.warm(state, WARM_BAND_K):
        pending.until_ms = end_ms
    if end_ms >= pending.until_ms:
        resume(machine, state, pending, stretch, rng)
    return stretch
