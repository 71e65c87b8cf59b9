"""Which signals a data fault makes sense for, by their names.

The names of the signals are the project's own, and say what is measured: see `shopfloor.signal`.
"""

from __future__ import annotations

from typing import Final

_QUANTITIES: Final = (
    "active_energy",
    "active_power",
    "current",
    "cushion",
    "flow",
    "flow_rate",
    "force",
    "heater_output",
    "hours",
    "position",
    "power_factor",
    "pressure",
    "process_power",
    "speed",
    "temperature",
    "time",
    "voltage",
    "volume",
)
_NOT_MEASURED: Final = frozenset({"job.expected_cycle_time"})


def is_counter(signal: str) -> bool:
    """Tell whether a signal counts pieces or cycles."""
    return signal.endswith("counter")


def is_pressure(signal: str) -> bool:
    """Tell whether a signal is a pressure, which all units give in bar."""
    return signal.endswith("pressure")


def is_measured(signal: str) -> bool:
    """Tell whether a signal is a measured number: no state, text, counter or set point."""
    return signal.endswith(_QUANTITIES) and signal not in _NOT_MEASURED


def makes_sense(kind: str, signal: str) -> bool:
    """Tell whether a fault of a signal can be; faults of whole cells are of no signal.

    Counters jump, pressures change from bar to MPa, and what is measured gets stuck or lost.
    """
    match kind:
        case "data.unit_change":
            return is_pressure(signal)
        case "data.stuck" | "data.nan":
            return is_measured(signal)
        case "data.counter_reset" | "data.counter_wrap":
            return is_counter(signal)
        case _:
            return False
