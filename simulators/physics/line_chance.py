"""What chance decides at a station of a line: how long a unit takes, what stops it and for how long."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from simulators.physics.line_intervals import Condition
from simulators.physics.line_spec import Fault, StationSpec
from simulators.physics.line_state import JAM, TICK_MS, Station
from simulators.physics.packml import FAULT, HARD_FAULT


def cycle_ms(own: StationSpec, work: float, rng: random.Random) -> int:
    """Return how long a unit of some work content takes: lognormal around the station's ideal time."""
    factor = math.exp(rng.gauss(-0.5 * own.cycle_sd**2, own.cycle_sd))
    return max(round(1000.0 * own.ideal_cycle_s * work * factor), 2 * TICK_MS)


def stop(
    own: StationSpec, faults: Sequence[Fault], station: Station, rng: random.Random
) -> tuple[Condition, float]:
    """Return what stops a station whose time until a stop or jam is up, and for how many ms; draw the next one."""
    if station.stop_in_ms > station.jam_in_ms:
        station.jam_in_ms = round(1000.0 * rng.expovariate(1.0 / own.between_jams_s))
        return JAM, 1000.0 * rng.uniform(20.0, 90.0)
    fault = rng.choices(faults, [each.weight for each in faults])[0]
    length_s = min(max(rng.lognormvariate(math.log(own.repair_s * fault.length), 0.7), 15.0), 7200.0)
    station.stop_in_ms = round(1000.0 * rng.expovariate(1.0 / own.between_stops_s))
    shown = HARD_FAULT if fault.hard else FAULT
    return Condition("DOWN_UNPLANNED", "stop", fault.text, shown), 1000.0 * length_s


def changeover_ms(own: StationSpec, *, same_product: bool, rng: random.Random) -> float:
    """Return how long a station is set up for a batch; for the same product again, much shorter."""
    median_s = own.changeover_s * (0.2 if same_product else 1.0)
    length_s = rng.lognormvariate(math.log(median_s), 0.35)
    return 1000.0 * min(max(length_s, 20.0), 5.0 * median_s + 20.0)
