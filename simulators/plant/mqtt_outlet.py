"""What a site says as JSON over MQTT, as an outlet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shopfloor.asset import AssetPath
from shopfloor.signal import SeriesKey
from simulators.data_faults import DataFaults
from simulators.emissions import EmissionLog, Row, SeriesColumns
from simulators.physics.meter import MeterReading
from simulators.physics.unit import Moment
from simulators.protocols.mqtt import MqttPublisher
from simulators.protocols.mqtt_dialects import CellDialect, MeterDialect, Said, log_rows, repeated


class MqttOutlet:
    """Everything of a site that speaks JSON over MQTT: gateways, lines, meters.

    Args:
        cells: how each cell speaks that does.
        meters: how each cell's meter speaks that does.
        faults: of the meters' readings; which messages are published twice.
    """

    def __init__(
        self,
        publisher: MqttPublisher,
        cells: Mapping[str, CellDialect],
        meters: Mapping[str, MeterDialect],
        faults: DataFaults,
        log: EmissionLog,
    ) -> None:
        self.publisher = publisher
        self.cells = tuple(cells)
        self.metered = tuple(meters)
        self._cells = cells
        self._meters = meters
        self.has_past = False
        self._faults = faults
        self._numbers: dict[AssetPath, dict[str, int]] = {}
        for dialect in (*cells.values(), *meters.values()):
            for name in dialect.signals:
                number = log.series(SeriesKey(dialect.asset, name), untimed=name in dialect.untimed)
                self._numbers.setdefault(dialect.asset, {})[name] = number
        self.series_total = sum(map(len, self._numbers.values()))
        self._said: list[Said] = []

    @property
    def unacknowledged(self) -> int:
        """See `Outlet`."""
        return self.publisher.unacknowledged

    def remember(self, past: Mapping[SeriesKey, SeriesColumns]) -> None:
        """See `Outlet`; what was published is gone."""

    def snapshots(self) -> dict[str, bytes]:
        """See `Outlet`; a meter's stands under its cell's name with ``/meter``."""
        return {cell: dialect.snapshot() for cell, dialect in self._cells.items()} | {
            f"{cell}/meter": dialect.snapshot() for cell, dialect in self._meters.items()
        }

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """See `Outlet`."""
        for cell, dialect in self._cells.items():
            if cell in snapshots:
                dialect.restore(snapshots[cell])
        for cell, meter in self._meters.items():
            if f"{cell}/meter" in snapshots:
                meter.restore(snapshots[f"{cell}/meter"])

    def pass_over(self, cell: str, moments: Sequence[Moment], until_ms: int) -> None:
        """See `Outlet`."""
        self._cells[cell].moments(moments, until_ms)

    def take(self, cell: str, moments: Sequence[Moment], until_ms: int) -> list[Row]:
        """See `Outlet`."""
        dialect = self._cells[cell]
        return self._log(
            cell, dialect.asset, dialect.moments(moments, until_ms), numbered=bool(dialect.untimed)
        )

    def begin(self, now_ms: int) -> list[Row]:
        """See `Outlet`; what has no value is not said."""
        del now_ms
        return []

    def take_reading(self, cell: str, reading: MeterReading) -> list[Row]:
        """See `Outlet`."""
        dialect = self._meters[cell]
        reading = self._faults.reading(cell, reading)
        return self._log(cell, dialect.asset, dialect.reading(reading), numbered=False)

    def _log(self, cell: str, asset: AssetPath, said: Sequence[Said], *, numbered: bool) -> list[Row]:
        doubled = [
            again
            for each in said
            for again in repeated([each], self._faults.copies(cell, each.time_ns), numbered=numbered)
        ]
        self._said += doubled
        return log_rows(doubled, self._numbers[asset])

    async def expose(self, *, past: bool) -> int:
        """See `Outlet`."""
        said, self._said = self._said, []
        if past:
            return 0
        said.sort(key=lambda each: each.time_ns)
        for each in said:
            self.publisher.say(each)
        return sum(len(each.rows) for each in said)

    async def start(self) -> None:
        """See `Outlet`."""
        self.publisher.start()

    def feed(self) -> None:
        """See `Outlet`."""
        self.publisher.feed()

    async def stop(self) -> None:
        """See `Outlet`."""
        self.publisher.stop()
