"""What a garment cell is: people who each make whole garments, in small batches of many styles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.physics.calendar import Calendar


@dataclass(frozen=True, slots=True)
class StyleSpec:
    """A garment, with the standard minute value (SMV) of each operation in their order; the last is inspection."""

    name: str
    operations: tuple[tuple[str, float], ...]

    @property
    def smv(self) -> float:
        """Standard minutes of the whole garment."""
        return sum(minutes for _, minutes in self.operations)


@dataclass(frozen=True, slots=True)
class OperatorSpec:
    """A workplace and the person at it."""

    name: str
    """The workplace's cell."""
    pace: float = 1.0
    """Time for a garment relative to its SMV, when practised and fresh."""
    pace_sd: float = 0.15
    """Standard deviation of the time from garment to garment, relative to it (lognormal), 0.1 to 0.25."""
    learning: float = 0.3
    """Share of time that the first garment of a style takes longer."""
    learns_over: float = 10.0
    """Garments after which a third of that is left."""
    fatigue: float = 0.08
    """Share of time that a garment takes longer after eight hours' work; a break takes a third of it away."""
    absence: float = 0.02
    """Probability that nobody is there for a whole shift."""


@dataclass(frozen=True, slots=True)
class GarmentSpec:
    """The cell. Every operator takes a batch from the list, makes its garments one by one and inspects each."""

    name: str
    """Of the cell; batches are named for it."""
    operators: tuple[OperatorSpec, ...]
    styles: tuple[StyleSpec, ...]
    calendar: Calendar
    batch_size: tuple[int, int] = (8, 60)
    changeover_s: float = 300.0
    """Median time for thread, needle and attachments of another style (lognormal, 2 to 10 min)."""
    defects: float = 0.05
    """Share of garments that fail their first inspection."""
    rework_share: float = 0.75
    """Of these, the share that is mended at once."""
    rework_work: float = 0.3
    """Work of mending, as a share of the SMV."""
    parts_missing: float = 0.15
    """Probability that the cut parts of a batch are not there in time."""
    between_thread_breaks_s: float = 2_700.0
    """Mean working time between two thread breaks of 20 to 90 s (exponential)."""
    between_faults_s: float = 72_000.0
    """Mean working time between two faults of the sewing machine (exponential)."""
    repair_s: float = 600.0
    """Median time to repair it (lognormal)."""
    kw: Mapping[str, float] = field(
        default_factory=lambda: {
            "RUNNING": 0.28,
            "IDLE": 0.06,
            "SETUP": 0.08,
            "DOWN_UNPLANNED": 0.03,
            "DOWN_PLANNED": 0.01,
        }
    )
    """Power of a workplace by state of the truth."""
    power_factor: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what no cell can be.

        Raises:
            ValueError: which names the cell, operator or style.
        """
        names = [operator.name for operator in self.operators]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"garment cell {self.name}: needs workplaces, each with a name of its own: {names}"
            )
        if not self.styles:
            raise ValueError(f"garment cell {self.name}: needs a style")
        for style in self.styles:
            if not style.operations or min(minutes for _, minutes in style.operations) <= 0.0:
                raise ValueError(
                    f"garment cell {self.name}, style {style.name}: every operation needs minutes above 0"
                )
        if not 1 <= self.batch_size[0] <= self.batch_size[1]:
            raise ValueError(
                f"garment cell {self.name}: batch sizes {self.batch_size} must be ascending, from 1"
            )
