"""What a temperature control unit is."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.physics.calendar import Calendar


@dataclass(frozen=True, slots=True)
class TcuSpec:
    """What a unit is. It is off when nobody works, but not in breaks."""

    cell: str
    calendar: Calendar
    heat_kw: float
    """Mean heat that its machine's mould gives to the water."""
    setpoints_c: tuple[float, ...] = (50.0,)
    """Of the products that take turns."""
    between_products_s: float = 100_000.0
    """Mean time between two changes of the setpoint (exponential)."""
    tau_s: float = 180.0
    """Time constant with which the temperature follows the setpoint, 120 to 300."""
    dead_s: float = 20.0
    """Time that the water takes to the sensor."""
    capacity_kj_k: float = 110.0
    """Of the water and the steel that it holds at temperature."""
    loss_kw_k: float = 0.02
    """To the hall."""
    heater_kw: float = 9.0
    cooler_kw: float = 25.0
    pump_kw: float = 0.75
    flow_l_min: float = 14.0
    """Of a clean circuit."""
    pressure_bar: float = 3.2
    ambient_c: float = 27.0
    clogs_per_week: float = 0.04
    """Share of the flow that scale takes away in a week of work."""
    clean_below: float = 0.72
    """Share of the clean flow below which somebody cleans the circuit when it is off next."""
    power_factor: float = 0.92

    def __post_init__(self) -> None:
        """Refuse what no unit can be.

        Raises:
            ValueError: which names the unit.
        """
        if not self.setpoints_c or min(self.setpoints_c) <= 0.0 or self.heat_kw < 0.0:
            raise ValueError(
                f"temperature control unit {self.cell}: needs setpoints above 0 °C and heat of 0 kW up"
            )
        if min(self.tau_s, self.capacity_kj_k, self.flow_l_min, self.heater_kw, self.cooler_kw) <= 0.0:
            raise ValueError(
                f"temperature control unit {self.cell}: time constant, sizes and powers must be above 0"
            )
        if self.dead_s > 0.5 * self.tau_s:
            raise ValueError(
                f"temperature control unit {self.cell}: with a dead time of {self.dead_s} s, no control is stable "
                f"that is as fast as {self.tau_s} s; at most half of it is"
            )
        if 1.3 * self.heat_kw > self.cooler_kw:
            raise ValueError(
                f"temperature control unit {self.cell}: a cooler of {self.cooler_kw} kW cannot take away "
                f"{self.heat_kw} kW on average, which is more while the machine produces"
            )
