"""What can go wrong with data, when it does, and by chance."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from simulators.data_faults.sense import makes_sense

Kind: TypeAlias = Literal[
    "data.clock_behind",
    "data.counter_wrap",
    "data.counter_reset",
    "data.stuck",
    "data.nan",
    "data.unit_change",
    "data.duplicate",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
BEHIND_MS: Final = 423_137
"""Seven minutes, and a bit: no clock is wrong by a multiple of all reporting periods."""
MAX_BEHIND_MS: Final = 3_600_000
"""What readers of emission logs reckon with: `simulators.emissions.CLOCK_SLACK_NS`."""
MAX_SCHEDULED_MS: Final = 7_200_000
"""No window that `schedule` gives is longer. It gives at most one of a kind in such a time."""
_MEDIAN_MIN: Final = 15.0
_SPREAD: Final = 0.8
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and where.

    Raises:
        ValueError: a parameter makes no sense.
    """

    kind: Kind
    signal: str = ""
    """A signal, or the first segments of several (``cycle``); empty for all of the cell. Of several, only those for which
    the fault makes sense (`makes_sense`) are affected. Clocks and messages are always those of the whole cell."""
    severity: float = 1.0
    """0 to 1, for the label."""
    behind_ms: int = BEHIND_MS
    """For ``data.clock_behind``."""
    modulus: int = 2**16
    """For ``data.counter_wrap``: 2**16 or 2**32."""
    divisor: float = 10.0
    """For ``data.unit_change``."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no data fault {self.kind!r}; there are {', '.join(KINDS)}")
        if not 0.0 <= self.severity <= 1.0:
            raise ValueError(f"{self.kind}: a severity of {self.severity} is not between 0 and 1")
        if not 0 < self.behind_ms <= MAX_BEHIND_MS:
            raise ValueError(f"{self.kind}: {self.behind_ms} ms behind is not within 1 to {MAX_BEHIND_MS}")
        if self.modulus < 2 or self.divisor == 0.0:
            raise ValueError(f"{self.kind}: modulus {self.modulus}, divisor {self.divisor}")
        if self.signal and self.kind in {"data.clock_behind", "data.duplicate"}:
            raise ValueError(f"{self.kind} is a fault of a whole cell, not of {self.signal}")

    def covers(self, signal: str) -> bool:
        """Tell whether a signal is affected; whatever is named in full may get stuck or be lost."""
        if signal == self.signal and self.kind in {"data.stuck", "data.nan"}:
            return True
        within = not self.signal or signal == self.signal or signal.startswith(f"{self.signal}.")
        return within and makes_sense(self.kind, signal)


class Window(NamedTuple):
    """When a fault is on: UTC ms, begin inclusive, end exclusive."""

    fault: Fault
    cell: str
    begin_ms: int
    end_ms: int


def schedule(
    seed: int,
    cell: str,
    begin_ms: int,
    end_ms: int,
    rate_per_day: float,
    faults: Sequence[Fault],
) -> list[Window]:
    """Return random windows that begin within a time, however that time is cut into calls.

    A kind has at most one window in `MAX_SCHEDULED_MS`, and never two at once. Whoever begins in the middle of a life
    asks from `MAX_SCHEDULED_MS` earlier.

    Args:
        seed: of the scenario.
        cell: whose faults they are.
        begin_ms: UTC ms, inclusive.
        end_ms: UTC ms, exclusive.
        rate_per_day: how many windows a day has on average, over all ``faults``.
        faults: what may go wrong, each equally often.

    Raises:
        ValueError: the rate is more than one window in `MAX_SCHEDULED_MS` for each fault.
    """
    if not faults or rate_per_day <= 0.0:
        return []
    chance = rate_per_day * MAX_SCHEDULED_MS / _DAY_MS / len(faults)
    if chance > 1.0:
        most = len(faults) * _DAY_MS // MAX_SCHEDULED_MS
        raise ValueError(f"{rate_per_day:g} data faults a day are too many: {most} with so many kinds")
    found = []
    for slot in range(begin_ms // MAX_SCHEDULED_MS, (end_ms - 1) // MAX_SCHEDULED_MS + 1):
        for number, fault in enumerate(faults):
            rng = random.Random(zlib.crc32(f"{seed}:{cell}:{slot}:{number}:{fault.kind}".encode()))
            if rng.random() >= chance:
                continue
            start_ms = slot * MAX_SCHEDULED_MS + rng.randrange(MAX_SCHEDULED_MS - 1)
            length_ms = max(1_000, round(rng.lognormvariate(math.log(_MEDIAN_MIN), _SPREAD) * 60_000))
            # Within its slot, so that no two of a kind overlap.
            stop_ms = min(start_ms + length_ms, (slot + 1) * MAX_SCHEDULED_MS)
            if begin_ms <= start_ms < end_ms:
                found.append(Window(fault, cell, start_ms, stop_ms))
    return sorted(found, key=lambda window: window.begin_ms)
