"""The protocols that a site of a scenario needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from simulators.data_faults import DataFaults
from simulators.emissions import EmissionLog
from simulators.physics.interruptions import PLANNED_REASONS
from simulators.physics.stops import REASONS
from simulators.physics.unit import MS
from simulators.plant.dialects import make_dialects
from simulators.plant.mqtt_outlet import MqttOutlet
from simulators.plant.opcua_outlet import OpcuaOutlet
from simulators.plant.outlet import Outlet
from simulators.plant.sparkplug_outlet import SparkplugOutlet
from simulators.protocols import euromap77
from simulators.protocols.mqtt import MqttPublisher
from simulators.protocols.opcua import PlantServer
from simulators.protocols.tcd import Tcu
from simulators.scenario import Scenario, SiteConfig

_REASONS: Final = {text: text for text in (*(reason.text for reason in REASONS), *sorted(PLANNED_REASONS))}
"""What the machines' StandstillReasonId can be; the ids are words already."""


def make_outlets(
    scenario: Scenario,
    site: SiteConfig,
    data: Path,
    log: EmissionLog,
    faults: DataFaults,
    clock_ns: Callable[[], int],
    nodeset_dir: Path | None,
) -> list[Outlet]:
    """Return a site's protocols; their series are declared in the log.

    Args:
        scenario: the site's.
        site: whose.
        data: the simulator's data folder; the edge node keeps its bdSeq there.
        log: of the site.
        faults: of its meters and messages.
        clock_ns: the plant's time, UTC ns.
        nodeset_dir: see `PlantServer`.
    """
    outlets: list[Outlet] = []
    paths = site.cells
    on_opcua = site.on_opcua()
    if on_opcua.has_opcua:
        tcus = [
            Tcu(unit.cell, heating_kw=unit.heater_kw, nominal_flow_l_min=unit.flow_l_min)
            for unit in site.tcus
        ]
        server = PlantServer(
            on_opcua,
            scenario.listen,
            tcus=tcus,
            security=site.opcua,
            nodeset_dir=nodeset_dir,
            standstill_reasons=_REASONS,
        )
        names = [*(machine.cell for machine in on_opcua.machines), *(unit.cell for unit in site.tcus)]
        cells = {name: paths[name] for name in names}
        outlets.append(OpcuaOutlet(server, cells, log))
    dialects = make_dialects(site, clock_ns())
    if dialects.cells or dialects.meters:
        publisher = MqttPublisher(scenario.broker, f"shopfloor-{site.asset.replace('/', '-')}")
        outlets.append(MqttOutlet(publisher, dialects.cells, dialects.meters, faults, log))
    if site.devices:
        outlets.append(
            SparkplugOutlet(
                scenario.broker,
                site.sparkplug,
                site.edge_node,
                data / "sparkplug",
                {machine.cell: tuple(euromap77.variables(machine.zones)) for machine in site.devices},
                frozenset(machine.cell for machine in site.devices if machine.meter != "none"),
                paths,
                faults,
                log,
                lambda: clock_ns() // MS,
            )
        )
    return outlets
