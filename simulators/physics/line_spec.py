"""What a line of stations is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from simulators.physics.calendar import Calendar
from simulators.physics.line_signals import FAULTS


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a station stops."""

    text: str
    weight: float
    """Relative frequency."""
    length: float = 1.0
    """Repair time relative to the station's usual one."""
    hard: bool = False
    """It aborts instead of holding, and is repaired in maintenance mode."""


STATION_FAULTS: Final = tuple(
    Fault(text, weight, length, hard)
    for text, weight, length, hard in zip(
        FAULTS,
        (5, 4, 4, 4, 2, 2, 1, 1),
        (0.7, 1.0, 0.8, 0.6, 1.6, 0.4, 2.0, 0.8),
        (False, False, False, False, False, True, True, True),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class StationSpec:
    """One station."""

    name: str
    """Its cell: the last segment of its asset path."""
    ideal_cycle_s: float
    """Mean time for a unit of a product of ordinary work content."""
    cycle_sd: float = 0.05
    """Standard deviation of the cycle time relative to its mean (lognormal)."""
    hands_share: float = 0.3
    """First share of the cycle during which it needs one of the line's operators, 0 to 0.95."""
    buffer_before: int = 3
    """Places between the station before and this one; at least 1, of no meaning for the first station."""
    changeover_s: float = 210.0
    """Median time to change to another product (lognormal)."""
    between_stops_s: float = 14_400.0
    """Mean working time between two stops (exponential)."""
    repair_s: float = 420.0
    """Median time to repair (lognormal)."""
    between_jams_s: float = 3_600.0
    """Mean working time between two jams of 20 to 90 s (exponential)."""
    kw: Mapping[str, float] = field(
        default_factory=lambda: {
            "RUNNING": 1.4,
            "IDLE": 0.5,
            "SETUP": 0.6,
            "DOWN_UNPLANNED": 0.4,
            "DOWN_PLANNED": 0.08,
            "OFF": 0.0,
        }
    )
    """Power by state of the truth."""
    power_factor: float = 0.88


@dataclass(frozen=True, slots=True)
class TestSpec:
    """What the last station measures; a unit outside the limits has failed."""

    signal: str = "test.pull_off_force"
    lower: float = 40.0
    upper: float = 90.0
    mean: float = 62.0
    sd: float = 5.0
    decimals: int = 1

    __test__ = False


@dataclass(frozen=True, slots=True)
class LineProduct:
    """What the line makes."""

    name: str
    work: float = 1.0
    """Work content: factor on the stations' cycle times."""


@dataclass(frozen=True, slots=True)
class LineSpec:
    """Stations in a row, coupled by small buffers and shared operators."""

    cell: str
    """Of the line itself: jobs and changeovers are its."""
    stations: tuple[StationSpec, ...]
    calendar: Calendar
    products: tuple[LineProduct, ...]
    operators: int = 3
    batch_size: tuple[int, int] = (20, 200)
    test: TestSpec = TestSpec()
    scrap: float = 0.03
    """Share of tests that fail."""
    rework_share: float = 0.5
    """Of the units that fail their first test, the share that goes back to be worked at again."""
    rework_to: int = -2
    """Index of the station to which they go back."""
    faults: tuple[Fault, ...] = STATION_FAULTS

    def __post_init__(self) -> None:
        """Refuse what no line can be.

        Raises:
            ValueError: which names the line or station.
        """
        if len(self.stations) < 2:
            raise ValueError(f"line {self.cell}: needs at least two stations")
        names = [self.cell, *(station.name for station in self.stations)]
        if len(set(names)) < len(names):
            raise ValueError(f"line {self.cell}: line and stations must have names of their own: {names}")
        if self.operators < 1 or not self.products:
            raise ValueError(f"line {self.cell}: needs an operator and a product")
        if not 1 <= self.batch_size[0] <= self.batch_size[1]:
            raise ValueError(f"line {self.cell}: batch sizes {self.batch_size} must be ascending, from 1")
        if not -len(self.stations) <= self.rework_to < -1:
            raise ValueError(
                f"line {self.cell}: rework_to {self.rework_to} must point at a station before the last"
            )
        for station in self.stations:
            if station.buffer_before < 1 or not 0.0 <= station.hands_share <= 0.95:
                raise ValueError(
                    f"line {self.cell}, station {station.name}: buffer_before must be at least 1, "
                    "hands_share 0 to 0.95"
                )


def batch_name(spec: LineSpec, number: int) -> str:
    """Return the name of a batch, unique within the line."""
    return f"{spec.cell}-{number:05d}"
