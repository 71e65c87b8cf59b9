"""What is measured: signal names, series keys, and the names that the flagship machines share."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from shopfloor.asset import AssetPath
from shopfloor.errors import InvalidName

_SIGNAL: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,62}(\.[a-z0-9][a-z0-9_]{0,62}){0,7}")


class SeriesKey(NamedTuple):
    """One series of samples: an asset and a signal of it."""

    asset: AssetPath
    signal: str

    def __str__(self) -> str:
        return f"{self.asset}:{self.signal}"


@lru_cache(maxsize=65_536)
def parse_signal(text: str) -> str:
    """Return a dotted signal name such as ``barrel.zone_1.temperature`` unchanged, if it is one.

    Raises:
        InvalidName: a name outside ``[a-z0-9][a-z0-9_]*`` joined by at most seven dots.
    """
    if not _SIGNAL.fullmatch(text):
        raise InvalidName(
            f"signal {text[:200]!r} must be names of a-z, 0-9 and _ (at most 63 characters each), joined by dots"
        )
    return text


# Signals that the service and the pages know. Numbers of states are those of OPC 40083 (EUROMAP 83).
MACHINE_MODE: Final = "status.mode"
"""OPC 40083 MachineModeEnumeration: 0 other, 1 automatic, 2 semi-automatic, 3 manual, 4 setup, 5 sleep."""
PRODUCTION_STATUS: Final = "status.production"
"""OPC 40083 ProductionStatusEnumeration: 0 other, 1 none, 2 start-up, 3 ready, 4 production, 5 dry run."""
STANDSTILL_REASON: Final = "status.standstill_reason"
"""OPC 40083 StandstillReasonId: text, empty while there is none."""
POWER_ON: Final = "status.power_on"
"""Whether the machine's power unit is on: 1 or 0."""
JOB_NAME: Final = "job.name"
JOB_STATUS: Final = "job.status"
"""OPC 40083 JobStatusEnumeration: 6 is in production."""
MOULD_STATUS: Final = "mould.status"
"""OPC 40083 MouldStatusEnumeration: 2 is being changed."""
EXPECTED_CYCLE_TIME: Final = "job.expected_cycle_time"
"""Seconds."""
CYCLE_TIME: Final = "cycle.time"
"""Seconds that the last cycle took."""
CYCLE_COUNTER: Final = "cycle.counter"
"""Cycles since the counter's last reset."""
PARTS_COUNTER: Final = "job.parts_counter"
GOOD_PARTS_COUNTER: Final = "job.good_parts_counter"
BAD_PARTS_COUNTER: Final = "job.bad_parts_counter"
ACTIVE_POWER: Final = "energy.active_power"
"""Kilowatts."""
ACTIVE_ENERGY: Final = "energy.active_energy"
"""Kilowatt hours, an ever-rising register."""
