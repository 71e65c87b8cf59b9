"""The state of a machine, from the newest values of its signals (EUROMAP 77 / OPC 40083 names and numbers)."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

_AUTOMATIC: Final = frozenset({1, 2})
_MODE_SETUP: Final = 4
_STATUS_PRODUCTION: Final = 4
_SETUP_STATUS: Final = frozenset({2, 3})
_SETUP_JOB: Final = frozenset({2, 3, 5, 9, 10})
_MOULD_CHANGE: Final = 2
_SHORTEST_WAIT_S: Final = 30.0
_STANDSTILL_S: Final = 300.0


class MachineState(StrEnum):
    """Canonical states; UNKNOWN never counts as down."""

    RUNNING = "running"
    IDLE = "idle"
    SETUP = "setup"
    DOWN_UNPLANNED = "down_unplanned"
    DOWN_PLANNED = "down_planned"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MachineSignals:
    """The newest values; None where the machine has no such signal, or its value is null."""

    mode: float | None = None
    mode_good: bool = True
    """Whether the machine's mode can be trusted: with bad quality nothing is known."""
    power_on: float | None = None
    production_status: float | None = None
    standstill_reason: str | None = None
    job_status: float | None = None
    mould_status: float | None = None
    expected_cycle_s: float | None = None
    last_cycle_s: float | None = None
    """How long the last cycle took."""
    since_cycle_s: float | None = None
    """Seconds since a cycle ended; None where the machine reports no cycles."""


class StateReason(NamedTuple):
    """A state, and in words why, where there is more to say."""

    state: MachineState
    reason: str = ""


def machine_state(
    signals: MachineSignals, *, contact: bool, planned_reasons: Container[str] = ()
) -> StateReason:
    """Return the canonical state; the first rule that matches decides.

    1. no contact, or mode missing or of bad quality: UNKNOWN
    2. power off: OFF
    3. a standstill reason: DOWN_PLANNED if it is one of ``planned_reasons``, else DOWN_UNPLANNED
    4. mode setup, a job being set up or torn down, a mould change, start-up: SETUP
    5. automatic and in production: RUNNING while cycles come within twice the expected time (at least 30 s); later
       a micro-stop, which is IDLE; from 300 s on DOWN_UNPLANNED
    6. IDLE
    """
    if not contact:
        return StateReason(MachineState.UNKNOWN, "no contact")
    if signals.mode is None or not signals.mode_good:
        return StateReason(MachineState.UNKNOWN, "the machine's mode has no good value")
    if signals.power_on is not None and signals.power_on == 0:
        return StateReason(MachineState.OFF)
    if signals.standstill_reason:
        planned = signals.standstill_reason in planned_reasons
        state = MachineState.DOWN_PLANNED if planned else MachineState.DOWN_UNPLANNED
        return StateReason(state, signals.standstill_reason)
    if (
        signals.mode == _MODE_SETUP
        or signals.job_status in _SETUP_JOB
        or signals.mould_status == _MOULD_CHANGE
        or signals.production_status in _SETUP_STATUS
    ):
        return StateReason(MachineState.SETUP)
    if signals.mode in _AUTOMATIC and signals.production_status in {None, _STATUS_PRODUCTION}:
        return _by_cycles(signals)
    return StateReason(MachineState.IDLE)


def allowed_cycle_s(signals: MachineSignals) -> float:
    """Return the longest time between two cycles that still is production."""
    standard = signals.expected_cycle_s or signals.last_cycle_s or 0.0
    return max(2 * standard, _SHORTEST_WAIT_S)


def _by_cycles(signals: MachineSignals) -> StateReason:
    since = signals.since_cycle_s
    if since is None:
        # A machine that reports no cycles is believed when it says that it produces, and not without that.
        produces = signals.production_status == _STATUS_PRODUCTION
        return StateReason(MachineState.RUNNING if produces else MachineState.IDLE)
    allowed = allowed_cycle_s(signals)
    if since <= allowed:
        return StateReason(MachineState.RUNNING)
    if since >= max(_STANDSTILL_S, allowed):
        return StateReason(MachineState.DOWN_UNPLANNED, "no cycle for more than five minutes")
    return StateReason(MachineState.IDLE, "micro-stop")
