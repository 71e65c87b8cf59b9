"""What a moulding machine says of itself and its job (EUROMAP 77 / OPC 40083 names and numbers)."""

from __future__ import annotations

import random
from typing import Final

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.machine_state import Detail, Equipment, Pending
from simulators.physics.unit import Value

_AUTOMATIC, _SEMI_AUTOMATIC, _MANUAL, _SETUP, _SLEEP = 1.0, 2.0, 3.0, 4.0, 5.0
_NO_PRODUCTION, _START_UP, _PRODUCTION = 1.0, 2.0, 4.0
_JOB_SET_UP, _JOB_START_UP, _JOB_IN_PRODUCTION, _JOB_INTERRUPTED = 2.0, 5.0, 6.0, 7.0
_MOULD_CHANGE, _MOULD_INSTALLED = 2.0, 3.0
_NOTICED_MS: Final = (5_000, 60_000)


def status(machine: Equipment, detail: Detail, time_ms: int) -> dict[str, Value]:
    """Return what the machine and its job are at a time of a stretch, counters apart."""
    job = detail.job
    mould, standard = machine.spec.moulds[job.mould], machine.standards[job.mould]
    alarm = detail.effects.alarm or ("", "", 0)
    values: dict[str, Value] = {
        signal.JOB_NAME: job.name,
        signals.JOB_LOT: job.lot,
        signals.JOB_PRODUCT: mould.product,
        signals.JOB_MATERIAL: f"{mould.material_name.upper()} {job.colour}",
        signals.MOULD_ID: mould.name,
        signals.JOB_NOMINAL_PARTS: float(job.ordered),
        signals.JOB_CAVITIES: float(mould.cavities),
        signal.EXPECTED_CYCLE_TIME: round(standard.cycle_s, 3),
        signal.MOULD_STATUS: _MOULD_INSTALLED,
        signal.POWER_ON: 1.0,
        signals.ALARM: alarm[0],
        signals.ALARM_TEXT: alarm[1],
        signals.ALARM_CLASSIFICATION: float(alarm[2]),
        signal.STANDSTILL_REASON: "",
    }
    for zone, point in enumerate(machine.setpoints_c[job.mould], 1):
        values[signals.barrel_setpoint(zone)] = point
    for half in (1, 2):
        values[signals.mould_setpoint(half)] = mould.material.mould_c
    if detail.pending is None:
        by_hand = machine.spec.semi_automatic or detail.effects.semi_automatic
        values[signal.MACHINE_MODE] = _SEMI_AUTOMATIC if by_hand else _AUTOMATIC
        values[signal.PRODUCTION_STATUS] = _START_UP if detail.start_up else _PRODUCTION
        values[signal.JOB_STATUS] = _JOB_START_UP if detail.start_up else _JOB_IN_PRODUCTION
    else:
        values.update(_standing(machine, detail.pending, time_ms))
    return values


def noticed_ms(machine: Equipment, pending: Pending) -> int:
    """Return when somebody comes to a machine that stands: after 5 to 60 s, or half of the whole."""
    rng = random.Random(f"{machine.seed}:{pending.begin_ms}")
    return pending.begin_ms + min(rng.randrange(*_NOTICED_MS), (pending.until_ms - pending.begin_ms) // 2)


def _standing(machine: Equipment, pending: Pending, time_ms: int) -> dict[str, Value]:
    values: dict[str, Value] = {
        signal.MACHINE_MODE: _AUTOMATIC,
        signal.PRODUCTION_STATUS: _NO_PRODUCTION,
        signal.JOB_STATUS: _JOB_INTERRUPTED,
    }
    match pending.kind:
        case "changeover":
            # Setting up is no standstill (OPC 40083): the mode and the job's status say it.
            values[signal.MACHINE_MODE] = _SETUP if pending.hands_on else _AUTOMATIC
            values[signal.JOB_STATUS] = _JOB_SET_UP
            if pending.change is not None and pending.change.kind == "mould":
                values[signal.MOULD_STATUS] = _MOULD_CHANGE
            return values
        case "warm_up":
            values[signal.MACHINE_MODE] = _SETUP
            values[signal.PRODUCTION_STATUS] = _START_UP
            values[signal.JOB_STATUS] = _JOB_START_UP
            return values
        case "stop":
            if pending.hands_on and time_ms >= noticed_ms(machine, pending):
                values[signal.MACHINE_MODE] = _MANUAL
        case "off":
            values[signal.MACHINE_MODE] = _SLEEP
            values[signal.POWER_ON] = 0.0
        case "planned":
            pass
    values[signal.STANDSTILL_REASON] = pending.cause
    return values
