"""Data faults: what stands between a unit and the way in which it speaks, and makes it say what is not so.

Each fault is on in a window of true time and labelled in the truth. The emission log holds what was really said, so that
collectors are judged by that.

- ``data.clock_behind``: times are put back. Within the window they are shifted by ``behind_ms``; a time that the signal
  has said before moves on by a millisecond until it is free, so that (series, source time) stays unique.
- ``data.counter_wrap``: a counter goes on modulo ``modulus``; ``data.counter_reset``: it begins again at 0.
- ``data.stuck``: a signal repeats what it said last.
- ``data.nan``: numbers become NaN. Dialects write null, NaN or ``"NaN"``.
- ``data.unit_change``: pressures are divided by ``divisor`` (bar to MPa) without notice.
- ``data.duplicate``: messages are published twice (`DataFaults.copies`), as with QoS 1 after a lost acknowledgement.

Where no signal is named, or several are, a fault acts on those for which it makes sense (`makes_sense`): counters jump,
pressures change their unit, measured numbers get stuck or lost.

Several faults at once work in the order reset, wrap, unit, stuck, NaN; the clock goes with all of them.
"""

from simulators.data_faults.filter import DataFaults
from simulators.data_faults.sense import is_counter, is_measured, is_pressure, makes_sense
from simulators.data_faults.windows import (
    BEHIND_MS,
    KINDS,
    MAX_BEHIND_MS,
    MAX_SCHEDULED_MS,
    Fault,
    Kind,
    Window,
    schedule,
)

__all__ = [
    "BEHIND_MS",
    "KINDS",
    "MAX_BEHIND_MS",
    "MAX_SCHEDULED_MS",
    "DataFaults",
    "Fault",
    "Kind",
    "Window",
    "is_counter",
    "is_measured",
    "is_pressure",
    "makes_sense",
    "schedule",
]
