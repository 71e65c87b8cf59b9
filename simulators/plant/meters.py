"""Energy meters at the cells of a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulators.emissions import Row
from simulators.physics.meter import EnergyMeter
from simulators.physics.unit import MS
from simulators.plant.dialects import METER_INTERVAL_MS
from simulators.plant.outlet import Outlet
from simulators.playback import Playback
from simulators.scenario import Scenario, SiteConfig


@dataclass(slots=True)
class Metered:
    """A cell's energy meter."""

    cell: str
    playback: Playback
    meter: EnergyMeter
    base_kwh: float
    """What its register stood at when the unit's life began."""
    outlet: Outlet

    @property
    def next_ns(self) -> int:
        """When it is read next, UTC ns."""
        return self.meter.next_ns

    def read(self) -> list[Row]:
        """Read it at `next_ns`, which its playback has reached; return the log's rows."""
        energy_kwh = self._energy_kwh(self.next_ns)
        reading = self.meter.read(energy_kwh, self.playback.power_factor(self.cell))
        return self.outlet.take_reading(self.cell, reading)

    def skip(self, now_ns: int) -> None:
        """Read nothing until ``now_ns``."""
        self.meter.skip(now_ns, self._energy_kwh(now_ns))

    def _energy_kwh(self, at_ns: int) -> float:
        return self.base_kwh + self.playback.energy_kwh(self.cell, at_ns)


def fit_meters(
    scenario: Scenario,
    site: SiteConfig,
    playbacks: Mapping[str, Playback],
    outlets: Sequence[Outlet],
    now_ns: int,
) -> tuple[list[Metered], list[Row]]:
    """Return a site's meters, and the log's rows of what those say at ``now_ns`` that tell a past.

    Args:
        scenario: the site's.
        site: whose.
        playbacks: by cell; all of them stand at ``now_ns``.
        outlets: of the site.
        now_ns: UTC ns, whole milliseconds.
    """
    meters: list[Metered] = []
    rows: list[Row] = []
    for position, machine in enumerate(site.machines):
        if machine.meter == "none":
            continue
        cell, playback = machine.cell, playbacks[machine.cell]
        interval_ms = METER_INTERVAL_MS[machine.meter]
        # Spread over the second, so that the meters do not all speak at once.
        first_ns = now_ns + (1 + position * 71 % 1000) * MS
        seed = scenario.machine_seed(site, machine) + 1
        outlet = next(each for each in outlets if cell in each.metered)
        base_kwh = float(seed % 90_000) + 1_000.0
        register_kwh = base_kwh + playback.energy_kwh(cell, now_ns)
        if outlet.has_past:
            # Who tells a past has a value from the beginning.
            before = EnergyMeter(seed, now_ns - interval_ms * MS, register_kwh, now_ns, interval_ms)
            rows += outlet.take_reading(cell, before.read(register_kwh, playback.power_factor(cell)))
        meter = EnergyMeter(seed, now_ns, register_kwh, first_ns, interval_ms)
        meters.append(Metered(cell, playback, meter, base_kwh, outlet))
    return meters, rows
