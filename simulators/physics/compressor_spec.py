"""What an air compressor is, and what takes its air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from simulators.physics.calendar import Calendar


class AirLeak(NamedTuple):
    """A leak that opens and is mended; UTC ms."""

    begin_ms: int
    end_ms: int
    severity: float
    """At 1, the base load is a fifth more."""


@dataclass(frozen=True, slots=True)
class CompressorSpec:
    """A screw compressor with a receiver, and the net behind it."""

    cell: str
    calendar: Calendar
    """Of those who use the air; it is under pressure day and night."""
    rated_flow: float = 4.0
    """Nm³/min."""
    variable_speed: bool = False
    """Follows the demand by its speed; otherwise it loads and unloads."""
    lower_bar: float = 6.6
    upper_bar: float = 7.4
    receiver_per_flow: float = 0.75
    """Size of the receiver, in m³ for each Nm³/min of the rated flow."""
    leak_share: float = 0.12
    """Leaks as a share of the rated flow, day and night."""
    demand_share: float = 0.5
    """Mean use at work as a share of the rated flow, without leaks."""
    break_share: float = 0.3
    """Of that use, what goes on in breaks."""
    specific_kwh_nm3: float = 0.11
    """At full flow."""
    unloaded_share: float = 0.28
    """Power without load as a share of the power at full flow."""
    least_speed: float = 0.3
    """Least flow of variable speed as a share of the rated one."""
    run_on_s: float = 180.0
    """For how long it runs without load before it stops."""
    ambient_c: float = 28.0
    power_factor: float = 0.86
    leaks: tuple[AirLeak, ...] = ()
    """Faults, one after another."""

    @property
    def receiver_m3(self) -> float:
        """Size of the receiver."""
        return self.receiver_per_flow * self.rated_flow

    def __post_init__(self) -> None:
        """Refuse what no compressor can be.

        Raises:
            ValueError: which names the compressor.
        """
        name = f"compressor {self.cell}"
        if not 0.0 < self.lower_bar < self.upper_bar:
            raise ValueError(
                f"{name}: lower_bar {self.lower_bar} must be above 0, below upper_bar {self.upper_bar}"
            )
        if min(self.rated_flow, self.receiver_per_flow, self.specific_kwh_nm3) <= 0.0:
            raise ValueError(f"{name}: rated_flow, receiver_per_flow and specific_kwh_nm3 must be above 0")
        if not 0.0 <= self.leak_share + self.demand_share <= 0.9:
            raise ValueError(f"{name}: leaks and demand together must leave a tenth of the rated flow")
        at = None
        for leak in self.leaks:
            if leak.end_ms <= leak.begin_ms or (at is not None and leak.begin_ms < at):
                raise ValueError(
                    f"{name}: leaks must follow one another, each ending after it begins: {leak}"
                )
            if not 0.0 <= leak.severity <= 1.0:
                raise ValueError(f"{name}: the severity of a leak is 0 to 1, not {leak.severity}")
            at = leak.end_ms
