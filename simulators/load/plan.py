"""What a load consists of: names, the times of ticks, and the value that every signal has at every tick.

A receiver needs nothing else to check that nothing is missing, repeated or mixed up: `value` says what to expect, and
`split_value` says of a value which tick and which signal it came from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

MAX_MACHINES: Final = 9_999
MAX_SIGNALS: Final = 999
MAX_VALUES_PER_TICK: Final = 1_000_000
MIN_HZ: Final = 0.01
MAX_HZ: Final = 100.0
TICK_CYCLE: Final = 1_000_000
"""Values repeat after so many ticks; their source times don't."""
SIGNAL_CYCLE: Final = 10_000
"""Signals that are so many apart, counted over all machines, have the same values."""

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class LoadPlan(msgspec.Struct, frozen=True):
    """The whole load; `share` divides it among processes."""

    machines: int
    signals: int
    """Of one machine."""
    hz: float
    """Ticks a second: every signal of every machine has a new value at each."""
    epoch_ms: int
    """The time of tick 0, UTC."""

    def tick_ms(self, tick: int) -> int:
        """Return the source time of a tick, UTC ms; ticks are at least 10 ms apart."""
        return self.epoch_ms + round(tick * 1000 / self.hz)

    def newest_tick(self, now_ms: float) -> int:
        """Return the last tick whose time has come; -1 before the first."""
        tick = math.floor((now_ms - self.epoch_ms) * self.hz / 1000) + 1
        while tick >= 0 and self.tick_ms(tick) > now_ms:
            tick -= 1
        return max(tick, -1)

    def number(self, machine: int, signal: int) -> int:
        """Return what stands behind the decimal point of a signal's values, in ten-thousandths; both count from 0."""
        return (machine * self.signals + signal) % SIGNAL_CYCLE

    def numbers(self, machines: range) -> Int64:
        """Return `number` of every signal of some machines, machine by machine."""
        first, last = machines.start * self.signals, machines.stop * self.signals
        return np.arange(first, last, dtype=np.int64) % SIGNAL_CYCLE


def machine_name(machine: int) -> str:
    """Return ``machine-0001`` for 0."""
    return f"machine-{machine + 1:04d}"


def signal_name(signal: int) -> str:
    """Return ``signal-001`` for 0."""
    return f"signal-{signal + 1:03d}"


def value(tick: int, number: int) -> float:
    """Return the value of a signal at a tick: a Double of seven digits, the point, and four more."""
    return ((TICK_CYCLE + tick % TICK_CYCLE) * SIGNAL_CYCLE + number) / SIGNAL_CYCLE


def values(tick: int, numbers: Int64) -> Float64:
    """Return `value` of many signals."""
    scaled: Any = (TICK_CYCLE + tick % TICK_CYCLE) * SIGNAL_CYCLE + numbers
    result: Float64 = scaled / float(SIGNAL_CYCLE)
    return result


def split_value(found: Float64) -> tuple[Int64, Int64]:
    """Return tick (modulo `TICK_CYCLE`) and `number` of values; what is none of ours comes out as nonsense, not as an error."""
    scaled = np.rint(found * SIGNAL_CYCLE).astype(np.int64)
    return scaled // SIGNAL_CYCLE - TICK_CYCLE, scaled % SIGNAL_CYCLE


def share(total: int, parts: int) -> Sequence[range]:
    """Divide ``total`` machines into runs of nearly equal length, none empty; ``parts`` must not exceed ``total``."""
    return [range(total * part // parts, total * (part + 1) // parts) for part in range(parts)]
