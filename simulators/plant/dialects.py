"""How the MQTT devices of a site speak: made from the scenario, for the plant itself and for those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shopfloor import signal
from simulators.physics import compressor_signals, line_signals, signals
from simulators.physics.line_spec import TestSpec
from simulators.protocols.mqtt_dialects import (
    CellDialect,
    Gateway,
    MeterDialect,
    PackML,
    PlainMeter,
    Shelly,
    Shown,
    Tasmota,
    Topic,
    Umh,
    distinct_topics,
)
from simulators.protocols.mqtt_dialects.gateway import POLLED, Field
from simulators.scenario import MachineConfig, SiteConfig

METER_INTERVAL_MS: Final[Mapping[str, int]] = {"plain": 1_000, "tasmota": 10_000, "shelly": 5_000}
"""Time between two readings of a meter, by its dialect."""
_POLL_MS: Final = 2_000
_STATUS: Final = (
    Field("modus", signal.MACHINE_MODE, 0),
    Field("prod", signal.PRODUCTION_STATUS, 0),
    Field("ein", signal.POWER_ON, 0),
)
"""What the gateway's maker worked out of the machine's lamps, in the numbers of EUROMAP 83."""
_STATION: Final[Mapping[str, Shown]] = {
    line_signals.PACKML_STATE: Shown("StateCurrent"),
    line_signals.PACKML_MODE: Shown("UnitModeCurrent"),
    line_signals.PACKML_SPEED: Shown("CurMachSpeed", "/min"),
    line_signals.PACKML_STOP_REASON: Shown("StopReason"),
    signal.STANDSTILL_REASON: Shown("StopReasonText"),
    signal.JOB_NAME: Shown("Batch"),
    signals.JOB_PRODUCT: Shown("Product"),
    signal.EXPECTED_CYCLE_TIME: Shown("IdealCycle", "s"),
    signal.ACTIVE_POWER: Shown("Power", "kW"),
}
"""A station's status message."""
_UNIT: Final[Mapping[str, Shown]] = {
    signal.CYCLE_COUNTER: Shown("Count", "1"),
    line_signals.STATION_CYCLE_TIME: Shown("CycleTime", "s"),
    line_signals.UNIT_SERIAL: Shown("Serial", "1"),
    line_signals.UNIT_RESULT: Shown("Result"),
    signal.GOOD_PARTS_COUNTER: Shown("Good", "1"),
    signal.BAD_PARTS_COUNTER: Shown("Bad", "1"),
}
"""A station's message about a finished unit."""
_TESTED: Final[Mapping[str, Shown]] = {
    TestSpec().signal: Shown("Value", "N"),
    line_signals.TEST_LOWER_LIMIT: Shown("Lower", "N"),
    line_signals.TEST_UPPER_LIMIT: Shown("Upper", "N"),
}
"""What the last station adds to it."""
_WORKPLACE: Final[Mapping[str, Shown]] = {
    line_signals.WORKPLACE_STATUS: Shown("status"),
    line_signals.OPERATION_NAME: Shown("operation"),
    signal.STANDSTILL_REASON: Shown("reason"),
    signal.JOB_NAME: Shown("batch"),
    signals.JOB_PRODUCT: Shown("style"),
    signal.EXPECTED_CYCLE_TIME: Shown("standard", "s"),
    signal.CYCLE_COUNTER: Shown("pieces", "1"),
    signal.CYCLE_TIME: Shown("piece_time", "s"),
    signal.PARTS_COUNTER: Shown("batch_pieces", "1"),
    signal.GOOD_PARTS_COUNTER: Shown("batch_good", "1"),
    signal.BAD_PARTS_COUNTER: Shown("batch_bad", "1"),
    signal.ACTIVE_POWER: Shown("power", "kW"),
}
_COMPRESSOR: Final[Mapping[str, Shown]] = {
    compressor_signals.PRESSURE: Shown("pressure", "bar"),
    compressor_signals.STATE: Shown("state"),
    compressor_signals.FLOW: Shown("flow", "m3/min"),
    compressor_signals.RUNNING_HOURS: Shown("running_hours", "h"),
    compressor_signals.LOADED_HOURS: Shown("loaded_hours", "h"),
    compressor_signals.OIL_TEMPERATURE: Shown("oil_temperature", "Cel"),
    signal.ACTIVE_POWER: Shown("power", "kW"),
}
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
                (*_STATUS, *POLLED),
                numbered=True,
            )
        if machine.protocol != "sparkplug" and machine.meter != "none":
            meters[machine.cell] = _meter(site, machine, now_ns)
    paths = site.cells
    for line in site.lines:
        for station in line.stations:
            tested = {**_UNIT, **_TESTED} if station is line.stations[-1] else _UNIT
            cells[station.cell] = PackML(paths[station.cell], site.time_zone, _STATION, tested)
    for cell in site.garment_cells:
        for operator in cell.operators:
            cells[operator.cell] = Umh(paths[operator.cell], _WORKPLACE)
    for compressor in site.compressors:
        cells[compressor.cell] = Umh(paths[compressor.cell], _COMPRESSOR)
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
