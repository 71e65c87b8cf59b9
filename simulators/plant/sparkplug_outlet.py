"""A site's Sparkplug edge node as an outlet: metrics by exception, a past as historical."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np

from shopfloor.asset import AssetPath
from shopfloor.signal import SeriesKey
from shopfloor.sparkplug import DataType
from simulators.data_faults import DataFaults
from simulators.emissions import EmissionLog, Row, SeriesColumns, Value
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS, CycleEnd, Moment
from simulators.plant.checkpoint import TimeMark
from simulators.plant.typed import fitting
from simulators.protocols.mqtt_dialects import METER_SIGNALS
from simulators.protocols.opcua_variable import Kind, Raw, Variable
from simulators.protocols.sparkplug import SparkplugNode
from simulators.protocols.sparkplug_metrics import DeviceSample, MetricSpec
from simulators.protocols.sparkplug_session import SessionLimits
from simulators.scenario import BrokerConfig, SparkplugConfig


def metric_name(name: str) -> str:
    """Return a signal's name as a Sparkplug metric: ``barrel.zone_1.temperature`` is ``Barrel/Zone 1/Temperature``."""
    return "/".join(part.replace("_", " ").capitalize() for part in name.split("."))


_DATATYPES: Final[Mapping[str, DataType]] = {
    "Boolean": DataType.Boolean,
    "Int32": DataType.Int32,
    "UInt64": DataType.UInt64,
    "UInt16": DataType.UInt16,
    "UInt32": DataType.UInt32,
    "Double": DataType.Double,
    "String": DataType.String,
    "LocalizedText": DataType.String,
}


_MARK_EVERY_S: Final = 10.0
_SURE_S: Final = 120.0
"""What the socket took so long ago has arrived, or its loss was noticed: more than a session's settling and a
broker's keepalive."""


@dataclass(slots=True)
class _Metric:
    name: str
    kind: Kind
    series: int
    last_ms: int = -1
    last: Value | None = None


class SparkplugOutlet:
    """The machines behind the site's Sparkplug edge node, and their meters.

    Args:
        cells: what each device shows besides its meter.
        metered: devices with a meter.
        faults: of the meters' readings.
        clock_ms: the plant's time, UTC ms, which births and payloads carry.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        config: SparkplugConfig,
        edge_node: str,
        folder: Path,
        cells: Mapping[str, Sequence[Variable]],
        metered: frozenset[str],
        assets: Mapping[str, AssetPath],
        faults: DataFaults,
        log: EmissionLog,
        clock_ms: Callable[[], int],
    ) -> None:
        self.cells = tuple(cells)
        self.metered = tuple(metered)
        self._metrics: dict[str, dict[str, _Metric]] = {}
        devices: dict[str, list[MetricSpec]] = {}
        for cell, variables in cells.items():
            kinds: dict[str, tuple[Kind, str]] = {
                each.signal: (each.kind, each.unit) for each in variables if each.logged
            }
            if cell in metered:
                kinds |= {name: ("Double", unit) for _, name, unit, _ in METER_SIGNALS}
            self._metrics[cell] = {
                name: _Metric(metric_name(name), kind, log.series(SeriesKey(assets[cell], name)))
                for name, (kind, _) in kinds.items()
            }
            devices[cell] = [
                MetricSpec(metric_name(name), _DATATYPES[kind], unit) for name, (kind, unit) in kinds.items()
            ]
        self.series_total = sum(map(len, self._metrics.values()))
        self.node = SparkplugNode(
            broker,
            config.group,
            edge_node,
            config.primary_host,
            folder,
            devices,
            SessionLimits(history_s=config.rolling_history_s, store_samples=config.max_stored_samples),
            wall_ms=clock_ms,
        )
        self._samples: list[DeviceSample] = []
        self._newest_ms = 0
        self._sent = TimeMark(folder / f"sent-{quote(config.group, safe='')}-{quote(edge_node, safe='')}")
        self._mark_at = 0.0
        self._written: deque[tuple[float, int, int]] = deque()
        """When all samples up to a time (UTC ms) were written, after how many births."""
        self._assets = assets
        self.has_past = True
        self._faults = faults

    @property
    def unacknowledged(self) -> int:
        """See `Outlet`."""
        return self.node.unacknowledged

    def remember(self, past: Mapping[SeriesKey, SeriesColumns]) -> None:
        """See `Outlet`; what may not have arrived before the process ended is said again, as historical."""
        since_ms = self._sent.load()
        for cell, metrics in self._metrics.items():
            for name, metric in metrics.items():
                columns = past.get(SeriesKey(self._assets[cell], name))
                if columns is None or not len(columns.time_ns):
                    continue
                row = len(columns.time_ns) - 1
                metric.last_ms = int(columns.time_ns[row]) // MS
                metric.last = columns.text.get(row, float(columns.value[row]))
                self._newest_ms = max(self._newest_ms, metric.last_ms)
                first = int(np.searchsorted(columns.time_ns, since_ms * MS, "right"))
                for late in range(first, row + 1):
                    value = columns.text.get(late, float(columns.value[late]))
                    time_ms = int(columns.time_ns[late]) // MS
                    self._samples.append(DeviceSample(cell, metric.name, time_ms, _said(metric.kind, value)))

    def snapshots(self) -> dict[str, bytes]:
        """See `Outlet`."""
        return {}

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """See `Outlet`."""

    def pass_over(self, cell: str, moments: Sequence[Moment], until_ms: int) -> None:
        """See `Outlet`."""

    def take(self, cell: str, moments: Sequence[Moment], until_ms: int) -> list[Row]:
        """See `Outlet`."""
        del until_ms  # metrics are reported by exception
        rows: list[Row] = []
        for moment in moments:
            if not isinstance(moment, CycleEnd):
                rows += self._say(cell, moment.signal, moment.time_ns, moment.value)
        return rows

    def begin(self, now_ms: int) -> list[Row]:
        """See `Outlet`; what has no value is not said."""
        del now_ms
        return []

    def take_reading(self, cell: str, reading: MeterReading) -> list[Row]:
        """See `Outlet`."""
        rows: list[Row] = []
        # An edge node has one clock, which is right.
        reading = self._faults.reading(cell, reading)._replace(time_ns=reading.time_ns)
        for (_, name, *_), value in zip(METER_SIGNALS, reading[1:], strict=True):
            rows += self._say(cell, name, reading.time_ns, value)
        return rows

    def _say(self, cell: str, name: str, time_ns: int, value: Value) -> list[Row]:
        metric = self._metrics[cell].get(name)
        if metric is None:
            return []
        said = _said(metric.kind, value)
        logged = _logged(said)
        if logged == metric.last:
            return []
        time_ms = max(time_ns // MS, metric.last_ms + 1)
        metric.last_ms, metric.last = time_ms, logged
        self._newest_ms = max(self._newest_ms, time_ms)
        self._samples.append(DeviceSample(cell, metric.name, time_ms, said))
        return [Row(metric.series, time_ms * MS, logged)]

    async def expose(self, *, past: bool) -> int:
        """See `Outlet`; a past waits for the host and comes as historical."""
        del past
        samples, self._samples = self._samples, []
        samples.sort(key=lambda sample: sample.time_ms)
        if samples:
            self.node.publish(samples)
        return len(samples)

    async def start(self) -> None:
        """See `Outlet`."""
        self.node.start()

    def feed(self) -> None:
        """See `Outlet`; what has arrived for certain is written down now and then."""
        self.node.feed()
        now, births = time.monotonic(), self.node.session.births_total
        if now < self._mark_at or self._samples or self.node.unacknowledged:
            return
        self._mark_at = now + _MARK_EVERY_S
        # A birth may follow a loss, after which older samples are under way again.
        while self._written and (self._written[0][0] <= now - _SURE_S or self._written[0][2] != births):
            _, newest_ms, then = self._written.popleft()
            if then == births:
                self._sent.save(newest_ms)
        self._written.append((now, self._newest_ms, births))

    async def stop(self) -> None:
        """See `Outlet`."""
        self.node.stop()


def _said(kind: Kind, value: Value) -> Raw | None:
    """Return what is said of a value; null where it is NaN."""
    fitted = fitting(kind, value)
    return None if isinstance(fitted, float) and math.isnan(fitted) else fitted


def _logged(said: Raw | None) -> Value:
    """Return what a correct collector stores of it."""
    return said if isinstance(said, str) else math.nan if said is None else float(said)
