"""Which signals the cells of a site have, for what is written about them elsewhere in a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from simulators.physics import tcu_signals
from simulators.protocols import euromap77
from simulators.protocols.mqtt_dialects import METER_SIGNALS
from simulators.protocols.mqtt_dialects.cells import (
    COMPRESSOR,
    GATEWAY_STATUS,
    STATION,
    STATION_TEST,
    STATION_UNIT,
    WORKPLACE,
)
from simulators.protocols.mqtt_dialects.gateway import CYCLE, POLLED
from simulators.scenario.machines import MachineConfig

if TYPE_CHECKING:
    from simulators.scenario.sites import SiteConfig

_METER: Final = tuple(name for _, name, *_ in METER_SIGNALS)
_TCU: Final = (
    tcu_signals.TEMPERATURE,
    tcu_signals.SETPOINT,
    tcu_signals.RETURN_TEMPERATURE,
    tcu_signals.FLOW_RATE,
    tcu_signals.PRESSURE,
    tcu_signals.PROCESS_POWER,
    tcu_signals.STATUS,
)


def cell_signals(site: SiteConfig) -> Mapping[str, tuple[str, ...]]:
    """Return by cell the signals that it says and that can be wrong; of lines, which say nothing themselves, none.

    A meter's dialect may say them under other names. Numbers of messages and what dialects work out of other signals
    are left out.
    """
    signals: dict[str, tuple[str, ...]] = {machine.cell: _of_machine(machine) for machine in site.machines}
    for line in site.lines:
        for station in line.stations:
            tested = STATION_TEST if station is line.stations[-1] else {}
            signals[station.cell] = (*STATION, *STATION_UNIT, *tested)
    for cell in site.garment_cells:
        signals |= {operator.cell: tuple(WORKPLACE) for operator in cell.operators}
    signals |= {tcu.cell: _TCU for tcu in site.tcus}
    signals |= {compressor.cell: tuple(COMPRESSOR) for compressor in site.compressors}
    return signals


def _of_machine(machine: MachineConfig) -> tuple[str, ...]:
    if machine.protocol == "gateway":
        own = tuple(each.signal for each in (*GATEWAY_STATUS, *POLLED, *CYCLE))
    else:
        own = tuple(each.signal for each in euromap77.variables(machine.zones) if each.logged)
    return own if machine.meter == "none" else (*own, *_METER)
