"""How the MQTT devices of a site speak: made from the scenario, for the plant itself and for those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shopfloor import signal
from simulators.protocols.mqtt_dialects import (
    CellDialect,
    Gateway,
    MeterDialect,
    PlainMeter,
    Shelly,
    Tasmota,
    Topic,
    distinct_topics,
)
from simulators.protocols.mqtt_dialects.gateway import POLLED, Field
from simulators.scenario import MachineConfig, SiteConfig

METER_INTERVAL_MS: Final[Mapping[str, int]] = {"plain": 1_000, "tasmota": 10_000, "shelly": 10_000}
"""Time between two readings of a meter, by its dialect."""
_POLL_MS: Final = 5_000
_STATUS: Final = (
    Field("modus", signal.MACHINE_MODE, 0),
    Field("prod", signal.PRODUCTION_STATUS, 0),
    Field("ein", signal.POWER_ON, 0),
)
"""What the gateway's maker worked out of the machine's lamps, in the numbers of EUROMAP 83."""
_REGISTER_AGE_NS: Final = 400 * 86_400 * 1_000_000_000


class Dialects(NamedTuple):
    """Who of a site speaks MQTT, by cell."""

    cells: Mapping[str, CellDialect]
    meters: Mapping[str, MeterDialect]

    def topics(self) -> list[Topic]:
        """Return what an edge agent's configuration says of them all."""
        return distinct_topics([*self.cells.values(), *self.meters.values()])


def make_dialects(site: SiteConfig, now_ns: int) -> Dialects:
    """Return the dialects of a site's gateways and meters, as they begin at ``now_ns``."""
    now_ms = now_ns // 1_000_000
    cells: dict[str, CellDialect] = {}
    meters: dict[str, MeterDialect] = {}
    for machine in site.machines:
        asset = site.machine_asset(machine)
        if machine.protocol == "gateway":
            cells[machine.cell] = Gateway(
                asset, f"gateway/{site.key}/{machine.cell}", now_ms, _POLL_MS, (*_STATUS, *POLLED)
            )
        if machine.protocol != "sparkplug" and machine.meter != "none":
            meters[machine.cell] = _meter(site, machine, now_ns)
    return Dialects(cells, meters)


def _meter(site: SiteConfig, machine: MachineConfig, now_ns: int) -> MeterDialect:
    asset = site.machine_asset(machine)
    match machine.meter:
        case "tasmota":
            since_ns = (now_ns - _REGISTER_AGE_NS) // 1_000_000_000 * 1_000_000_000
            return Tasmota(asset, f"{site.key}-{machine.cell}", site.time_zone, since_ns)
        case "shelly":
            return Shelly(asset, f"shellypro3em-{site.key}-{machine.cell}")
        case _:
            return PlainMeter(asset)
