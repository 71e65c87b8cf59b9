"""Parts of a simulated site without sockets: a log that only counts, servers and publishers that write down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey
from simulators.data_faults import DataFaults
from simulators.emissions import EmissionLog, Row
from simulators.plant.opcua_outlet import OpcuaOutlet
from simulators.plant.sparkplug_outlet import SparkplugOutlet
from simulators.protocols.euromap77_events import CycleEvent
from simulators.protocols.opcua import PlantServer, Written
from simulators.protocols.opcua_variable import Variable
from simulators.scenario import BrokerConfig, SparkplugConfig

CELL = "imm-01"
ASSET = parse_asset("acme/dg01/moulding/cell-a/imm-01")
T0 = 1_795_600_800_000
"""UTC ms."""


class FakeLog:
    """Numbers series as the real log does."""

    def __init__(self) -> None:
        self.keys: list[SeriesKey] = []
        self.untimed: set[SeriesKey] = set()

    def series(self, key: SeriesKey, *, untimed: bool = False) -> int:
        if key not in self.keys:
            self.keys.append(key)
        if untimed:
            self.untimed.add(key)
        return self.keys.index(key)

    def named(self, rows: Sequence[Row]) -> list[tuple[str, int, float | str]]:
        """Rows as (signal, UTC ms after T0, value)."""
        return [(self.keys[row.series].signal, row.time_ns // 1_000_000 - T0, row.value) for row in rows]

    @property
    def log(self) -> EmissionLog:
        return cast("EmissionLog", self)


class FakeServer:
    """Writes down what an OPC UA server would do."""

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = [(CELL, variable) for variable in variables]
        self.endpoint = "opc.tcp://127.0.0.1:4840"
        self.done: list[str] = []
        self.written: list[Written] = []
        self.past: list[Written] = []
        self.cycles: list[CycleEvent] = []

    async def start(self) -> None:
        self.done.append("start")

    async def stop(self) -> None:
        self.done.append("stop")

    async def write(self, values: Sequence[Written]) -> None:
        self.written += values

    async def fire(self, cycles: Sequence[CycleEvent]) -> None:
        self.cycles += cycles

    def remember(self, value: Written) -> None:
        self.past.append(value)


def opcua_outlet(log: FakeLog, variables: Sequence[Variable]) -> tuple[OpcuaOutlet, FakeServer]:
    server = FakeServer(variables)
    return OpcuaOutlet(cast("PlantServer", server), {CELL: ASSET}, log.log), server


def sparkplug_outlet(
    folder: Path, log: FakeLog | EmissionLog, variables: Sequence[Variable], faults: DataFaults | None = None
) -> SparkplugOutlet:
    """Return an edge node that is never started."""
    return SparkplugOutlet(
        BrokerConfig(url="mqtt://127.0.0.1:9"),
        SparkplugConfig(group="acme"),
        "dg01",
        folder,
        {CELL: tuple(variables)},
        frozenset({CELL}),
        {CELL: ASSET},
        faults or DataFaults(),
        cast("EmissionLog", log),
        lambda: T0,
    )


def waiting(outlet: SparkplugOutlet) -> list[tuple[str, int, Any]]:
    """Return what an edge node that has no connection holds back, as (metric, UTC ms after T0, value)."""
    store = outlet.node.session._store
    return [(sample.metric_name, sample.time_ms - T0, sample.value) for sample in store.take(10**6)]
