"""Why a moulding machine does not produce now, and what is done when it can again."""

from __future__ import annotations

from typing import Final

import numpy as np

from simulators.physics.calendar import Span
from simulators.physics.jobs import next_job, what_changes
from simulators.physics.machine_state import Equipment, Pending, State
from simulators.physics.stops import changeover_ms, pick_reason, repair_ms, until_stop_ms
from simulators.physics.unit import Facts, Stretch

PLANNED_REASONS: Final = ("break", "no shift", "holiday", "no job", "end of shift")
"""What a machine gives as the reason of a standstill that was planned."""
WARM_BAND_K: Final = 6.0
"""A barrel is warm when no zone is colder than its set point by more."""
_COLD_K: Final = 25.0
_PREHEAT_MS: Final = 40 * 60_000
_WARM_UP_LIMIT_MS: Final = 3 * 3_600_000
_SHORT_OFF_MS: Final = 2 * 3_600_000
"""A shorter time without people does not pay to cool the barrel down."""
_NEXT_JOB_MS: Final = 60_000


def interruption(machine: Equipment, state: State, rng: np.random.Generator) -> Pending | None:
    """Return why there is no production from now on; None where there is."""
    spec, now_ms = machine.spec, state.now_ms
    span = machine.calendar.at(now_ms)
    if span.shift is None and _without_people(machine, span.reason):
        return _unattended(machine, state, span)
    if not machine.warm(state, _COLD_K):
        return Pending("warm_up", "SETUP", "warm-up", now_ms, now_ms + _WARM_UP_LIMIT_MS)
    if state.job.left <= 0:
        return _next_job(machine, state, rng)
    number = state.jobs_total - 1
    start_ms = spec.orders[number].start_ms if number < len(spec.orders) else None
    if start_ms is not None and state.job.cycles == 0 and now_ms < start_ms:
        return Pending("planned", "DOWN_PLANNED", "no job", now_ms, start_ms)
    if state.stop_in_ms <= 0:
        state.stop_in_ms = until_stop_ms(spec.stops, rng)
        reason = pick_reason(rng)
        until_ms = now_ms + repair_ms(spec.stops, reason, rng)
        return Pending("stop", "DOWN_UNPLANNED", reason.text, now_ms, until_ms, reason.hands_on)
    # A cycle that could not end before the people leave is not begun.
    left_ms = span.end_ms - now_ms
    if left_ms < 1000.0 * machine.standards[state.job.mould].cycle_s * 1.5 and ends_work(
        machine, span.end_ms
    ):
        return Pending("planned", "DOWN_PLANNED", "end of shift", now_ms, span.end_ms)
    return None


def work_end_ms(machine: Equipment, begin_ms: int, horizon_ms: int) -> int:
    """Return when the people leave, or the horizon."""
    at_ms = begin_ms
    while at_ms < horizon_ms:
        at_ms = machine.calendar.at(at_ms).end_ms
        if at_ms < horizon_ms and ends_work(machine, at_ms):
            return at_ms
    return horizon_ms


def ends_work(machine: Equipment, end_ms: int) -> bool:
    """Return whether a machine stops where a span of its calendar ends."""
    after = machine.calendar.at(end_ms)
    return after.shift is None and _without_people(machine, after.reason)


def _without_people(machine: Equipment, reason: str) -> bool:
    """Return whether a machine stops while nobody is there: an automatic one runs through breaks."""
    return reason != "break" or machine.spec.semi_automatic


def _unattended(machine: Equipment, state: State, span: Span) -> Pending:
    now_ms, shift_ms = state.now_ms, machine.calendar.next_shift_ms(span.end_ms)
    if span.reason == "break" or shift_ms - now_ms < _SHORT_OFF_MS:
        if not machine.warm(state, _COLD_K):
            return Pending("warm_up", "SETUP", "warm-up", now_ms, shift_ms)
        return Pending("planned", "DOWN_PLANNED", span.reason, now_ms, span.end_ms)
    until_ms = min(span.end_ms, shift_ms - _PREHEAT_MS)
    return Pending("off", "OFF", span.reason, now_ms, until_ms)


def _next_job(machine: Equipment, state: State, rng: np.random.Generator) -> Pending:
    spec, now_ms = machine.spec, state.now_ms
    job = next_job(state.jobs_total, spec.orders, spec.moulds, spec.batch, state.job, now_ms, rng)
    change = what_changes(state.job, job, spec.moulds, rng)
    if change is None:
        until_ms = now_ms + _NEXT_JOB_MS
        return Pending("changeover", "SETUP", "next job", now_ms, until_ms, next_job=job)
    until_ms = now_ms + changeover_ms(spec.stops, change.share, rng)
    cause = f"{change.kind} change"
    return Pending("changeover", "SETUP", cause, now_ms, until_ms, True, change, job)


def resume(
    machine: Equipment, state: State, pending: Pending, stretch: Stretch, rng: np.random.Generator
) -> None:
    """End an interruption with its stretch: what it changed, and the start-up shots after it."""
    state.pending = None
    if pending.kind == "stop":
        state.start_up_shots = 1 + min((stretch.end_ms - pending.begin_ms) // 600_000, 10)
    elif pending.kind == "warm_up":
        state.start_up_shots = int(rng.integers(5, 16))
    elif pending.next_job is not None:
        stretch.facts.append(_finished_job(machine, state, pending))
        change = pending.change
        if change is not None:
            state.start_up_shots = int(rng.integers(5, 26))
            stretch.facts.append(
                Facts(
                    "changeovers",
                    {
                        "begin_ms": pending.begin_ms,
                        "end_ms": stretch.end_ms,
                        "kind": change.kind,
                        "from": change.old,
                        "to": change.new,
                        "purge_shots": change.purge_shots,
                        "start_up_scrap": state.start_up_shots,
                    },
                )
            )
        state.job = pending.next_job
        state.job.begin_ms = stretch.end_ms
        state.jobs_total += 1


def _finished_job(machine: Equipment, state: State, pending: Pending) -> Facts:
    job = state.job
    mould = machine.spec.moulds[job.mould]
    return Facts(
        "jobs",
        {
            "begin_ms": job.begin_ms,
            "end_ms": pending.begin_ms,
            "job": job.name,
            "product": mould.product,
            "mould": mould.name,
            "material": mould.material_name,
            "colour": job.colour,
            "lot": job.lot,
            "ordered": job.ordered,
            "good": job.good,
            "bad": job.bad,
        },
    )
