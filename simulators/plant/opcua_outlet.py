"""A site's OPC UA server as an outlet: variables that change, cycles as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shopfloor import signal
from shopfloor.asset import AssetPath
from shopfloor.signal import SeriesKey
from simulators.emissions import EmissionLog, Row, SeriesColumns, Value
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS, CycleEnd, Moment
from simulators.plant.typed import raw_of
from simulators.protocols.euromap77_events import CycleEvent, InjectionUnitCycle
from simulators.protocols.opcua import PlantServer, Written
from simulators.protocols.opcua_variable import TEXTS, Raw, Variable


@dataclass(slots=True)
class _Shown:
    """One OPC UA variable: where it goes, and what it showed last."""

    number: int
    variable: Variable
    log_series: int
    last_ms: int = -1
    last_raw: Raw | None = None


class OpcuaOutlet:
    """The machines and temperature control units on the site's OPC UA server.

    Args:
        assets: by cell.
    """

    def __init__(self, server: PlantServer, assets: Mapping[str, AssetPath], log: EmissionLog) -> None:
        self.server = server
        self._assets = assets
        self.cells = tuple(assets)
        self.metered: tuple[str, ...] = ()
        self._shown: dict[str, dict[str, list[_Shown]]] = {cell: {} for cell in assets}
        self.series_total = 0
        for number, (cell, variable) in enumerate(server.variables):
            series = -1
            if variable.logged:
                series = log.series(SeriesKey(assets[cell], variable.signal))
                self.series_total += 1
            self._shown[cell].setdefault(variable.signal, []).append(_Shown(number, variable, series))
        self._logged = [variable.logged for _, variable in server.variables]
        self._is_down = False
        self._written: list[Written] = []
        self._cycles: list[CycleEvent] = []
        self.unacknowledged = 0
        self.has_past = True

    @property
    def endpoint(self) -> str:
        """The URL that clients connect to."""
        return self.server.endpoint

    def remember(self, past: Mapping[SeriesKey, SeriesColumns]) -> None:
        """See `Outlet`."""
        for cell, by_signal in self._shown.items():
            for name, all_shown in by_signal.items():
                columns = past.get(SeriesKey(self._assets[cell], name))
                if columns is None:
                    continue
                values: list[Value] = columns.value.tolist()
                for row, text in columns.text.items():
                    values[row] = text
                for shown in all_shown:
                    for time_ns, value in zip(columns.time_ns.tolist(), values, strict=True):
                        raw = raw_of(shown.variable, value)
                        if raw is not None:
                            shown.last_ms, shown.last_raw = time_ns // MS, raw
                            self.server.remember(Written(shown.number, shown.last_ms, raw))

    def snapshots(self) -> dict[str, bytes]:
        """See `Outlet`."""
        return {}

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """See `Outlet`."""

    def pass_over(self, cell: str, moments: Sequence[Moment], until_ms: int) -> None:
        """See `Outlet`."""

    def take(self, cell: str, moments: Sequence[Moment], until_ms: int) -> list[Row]:
        """See `Outlet`."""
        del until_ms  # variables say nothing on their own
        rows: list[Row] = []
        by_signal = self._shown[cell]
        for moment in moments:
            if isinstance(moment, CycleEnd):
                self._cycles.append(_cycle_event(moment))
                continue
            for shown in by_signal.get(moment.signal, ()):
                raw = raw_of(shown.variable, moment.value)
                if raw is None or raw == shown.last_raw:
                    continue
                # Whole milliseconds, rising strictly: what OPC UA clients and stores of that resolution can keep.
                time_ms = max(moment.time_ns // MS, shown.last_ms + 1)
                shown.last_ms, shown.last_raw = time_ms, raw
                self._written.append(Written(shown.number, time_ms, raw))
                if shown.log_series >= 0:
                    rows.append(Row(shown.log_series, time_ms * MS, shown.variable.sample(raw)))
        return rows

    def begin(self, now_ms: int) -> list[Row]:
        """See `Outlet`; a variable whose signal has no value yet shows 0, or no text."""
        rows: list[Row] = []
        for shown in [
            each for by_signal in self._shown.values() for own in by_signal.values() for each in own
        ]:
            if shown.last_raw is None:
                kind = shown.variable.kind
                raw: Raw = (
                    "" if kind in TEXTS else False if kind == "Boolean" else 0.0 if kind == "Double" else 0
                )
                shown.last_ms, shown.last_raw = max(now_ms, shown.last_ms + 1), raw
                self._written.append(Written(shown.number, shown.last_ms, raw))
                if shown.log_series >= 0:
                    rows.append(Row(shown.log_series, shown.last_ms * MS, shown.variable.sample(raw)))
        return rows

    def take_reading(self, cell: str, reading: MeterReading) -> list[Row]:
        """See `Outlet`; there is no meter on OPC UA."""
        raise NotImplementedError(f"{cell}: no meter on OPC UA at {reading.time_ns}")

    async def expose(self, *, past: bool) -> int:
        """See `Outlet`."""
        written, cycles = self._written, self._cycles
        self._written, self._cycles = [], []
        written.sort(key=lambda value: value.time_ms)
        if past or self._is_down:
            for value in written:
                self.server.remember(value)
        else:
            await self.server.write(written)
            await self.server.fire(cycles)
        return sum(self._logged[value.number] for value in written)

    async def start(self) -> None:
        """See `Outlet`."""
        await self.server.start()

    @property
    def is_down(self) -> bool:
        """Whether `go_down` was the last word."""
        return self._is_down

    async def go_down(self) -> None:
        """Close the server; what happens meanwhile is its history when it comes back."""
        self._is_down = True
        await self.server.stop()

    async def come_up(self) -> None:
        """Listen again."""
        await self.server.start()
        self._is_down = False

    def feed(self) -> None:
        """See `Outlet`."""

    async def stop(self) -> None:
        """See `Outlet`."""
        if not self._is_down:
            await self.server.stop()


def _cycle_event(moment: CycleEnd) -> CycleEvent:
    values = moment.values

    def number(name: str) -> float:
        value = values.get(name, 0.0)
        return value if isinstance(value, float) else 0.0

    def text(name: str) -> str:
        return str(values.get(name, ""))

    cavities, bad, bad_cavity = (
        int(number(name)) for name in (signals.JOB_CAVITIES, "cycle.bad_parts", "cycle.bad_cavity")
    )
    good_one, bad_one = 1, 2
    cavity_quality = tuple(
        bad_one if bad >= cavities or cavity == bad_cavity else good_one for cavity in range(1, cavities + 1)
    )
    return CycleEvent(
        cell=moment.cell,
        time_ms=moment.time_ns // MS,
        job_name=text(signal.JOB_NAME),
        job_status=int(number(signal.JOB_STATUS)),
        lot=text(signals.JOB_LOT),
        cycle_time_s=number(signal.CYCLE_TIME),
        quality=int(number(signals.CYCLE_QUALITY)),
        job_cycle_counter=int(number(signals.JOB_CYCLE_COUNTER)),
        job_parts_counter=int(number(signal.PARTS_COUNTER)),
        job_good_parts_counter=int(number(signal.GOOD_PARTS_COUNTER)),
        job_bad_parts_counter=int(number(signal.BAD_PARTS_COUNTER)),
        job_test_samples_counter=int(number(signals.TEST_SAMPLES_COUNTER)),
        injection=InjectionUnitCycle(
            injection_time_s=number(signals.INJECTION_TIME),
            dosing_time_s=number(signals.DOSING_TIME),
            cushion_volume_cm3=number(signals.CUSHION_VOLUME),
            plastification_volume_cm3=number(signals.PLASTIFICATION_VOLUME),
            specific_pressure_maximum_bar=number(signals.PEAK_PRESSURE),
            cushion_stroke_mm=number(signals.CUSHION),
            cavity_pressure_maximum_bar=number(signals.CAVITY_PRESSURE),
            hold_pressure_average_bar=number(signals.HOLD_PRESSURE),
            back_pressure_bar=number(signals.BACK_PRESSURE),
        ),
        machine_cycle_counter=int(number(signal.CYCLE_COUNTER)),
        cavity_quality=cavity_quality,
    )
