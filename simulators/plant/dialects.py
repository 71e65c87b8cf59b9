"""How the MQTT devices of a site speak: made from the scenario, for the plant itself and for those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from simulators.protocols.mqtt_dialects import (
    CellDialect,
    Gateway,
    MeterDialect,
    PackML,
    PlainMeter,
    Shelly,
    Tasmota,
    Topic,
    Umh,
    distinct_topics,
)
from simulators.protocols.mqtt_dialects.cells import (
    COMPRESSOR,
    GATEWAY_STATUS,
    STATION,
    STATION_TEST,
    STATION_UNIT,
    WORKPLACE,
)
from simulators.protocols.mqtt_dialects.gateway import POLLED
from simulators.scenario import MachineConfig, SiteConfig

METER_INTERVAL_MS: Final[Mapping[str, int]] = {"plain": 1_000, "tasmota": 10_000, "shelly": 5_000}
"""Time between two readings of a meter, by its dialect."""
_POLL_MS: Final = 2_000
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
                asset,
                f"gateway/{site.key}/{machine.cell}",
                now_ms,
                _POLL_MS,
                (*GATEWAY_STATUS, *POLLED),
                numbered=True,
            )
        if machine.protocol != "sparkplug" and machine.meter != "none":
            meters[machine.cell] = _meter(site, machine, now_ns)
    paths = site.cells
    for line in site.lines:
        for station in line.stations:
            tested = {**STATION_UNIT, **STATION_TEST} if station is line.stations[-1] else STATION_UNIT
            cells[station.cell] = PackML(paths[station.cell], site.time_zone, STATION, tested)
    for cell in site.garment_cells:
        for operator in cell.operators:
            cells[operator.cell] = Umh(paths[operator.cell], WORKPLACE)
    for compressor in site.compressors:
        cells[compressor.cell] = Umh(paths[compressor.cell], COMPRESSOR)
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
