"""One site at work: machines and meters on a clock, their emissions logged first and exposed after that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shopfloor.signal import SeriesKey
from simulators.emissions import EmissionLog, Row, Value, read_series
from simulators.physics.machine import COARSE, LIVE, Change, InjectionMachine
from simulators.physics.meter import EnergyMeter, MeterReading
from simulators.protocols.euromap77 import Raw, Variable, variables
from simulators.protocols.mqtt import METER_SIGNALS, MeterPublisher, meter_payload
from simulators.protocols.opcua import PlantServer, Written
from simulators.scenario import MachineConfig, Scenario, SiteConfig

_MS: Final = 1_000_000
_H_NS: Final = 3_600_000_000_000
_HISTORY_NS: Final = 2 * _H_NS
_CATCH_UP_NS: Final = 60_000_000_000
"""A computer that slept longer than this says only where its machines are now: nobody was there to look."""


def emission_folder(data: Path, site: SiteConfig) -> Path:
    """Return where a site's emission log lies within a simulator's data folder."""
    return data / "emissions" / site.asset.replace("/", "_")


@dataclass(slots=True)
class _Shown:
    """One OPC UA variable: where it goes, and what it showed last."""

    number: int
    variable: Variable
    log_series: int
    last_ms: int = -1
    last_raw: Raw | None = None


class _Cell:
    """A machine, its meter, and what the outside calls them."""

    def __init__(self, config: MachineConfig, shown: dict[str, _Shown], meter_series: list[int]) -> None:
        self.config = config
        self.shown = shown
        self.meter_series = meter_series
        self.machine: InjectionMachine
        self.meter: EnergyMeter | None = None

    def advance(self, to_ns: int) -> tuple[list[Change], list[MeterReading]]:
        changes: list[Change] = []
        readings: list[MeterReading] = []
        meter = self.meter
        while meter is not None and meter.next_ns <= to_ns:
            changes += self.machine.advance(meter.next_ns)
            readings.append(meter.read(self.machine.energy_kwh(meter.next_ns), self.machine.power_factor))
        changes += self.machine.advance(to_ns)
        return changes, readings

    def skip(self, from_ns: int, to_ns: int) -> list[Change]:
        """Let a long time pass; return only the newest change of each signal."""
        newest: dict[str, Change] = {}
        self.machine.sample(COARSE)
        for hour_ns in (*range(from_ns, to_ns, _H_NS), to_ns):
            newest.update((change.signal, change) for change in self.machine.advance(hour_ns))
        self.machine.sample(LIVE)
        if self.meter is not None:
            self.meter.skip(to_ns, self.machine.energy_kwh(to_ns))
        return sorted(newest.values(), key=lambda change: change.time_ns)


class Plant:
    """A site with its OPC UA server and its meters' publisher.

    Args:
        log: of the site's emissions; what it holds already is the site's past and is never contradicted.
        now_ns: UTC ns; the past is made up to here: ``history_h`` hours of it at the very first start, later what
            is missing since the log's end, but at most two hours.
    """

    def __init__(self, scenario: Scenario, site: SiteConfig, log: EmissionLog, now_ns: int) -> None:
        self.site = site
        self.log = log
        self.server = PlantServer(site, scenario.listen)
        self.publisher = MeterPublisher(scenario.broker, f"shopfloor-meters-{site.asset.replace('/', '-')}")
        self.opcua_total = 0
        """OPC UA values emitted since the start, the past included."""
        self.mqtt_total = 0
        """Values that meters emitted since the start; a message holds several."""
        self.history_total = 0
        """Values of the past that HistoryRead serves at the start."""
        self.frozen = False
        self._now_ns = now_ns
        self._served_ns = now_ns
        self._cells = list(self._make_cells())
        self._make_past(scenario, now_ns)

    @property
    def series_total(self) -> int:
        """How many series the site has."""
        return sum(len(cell.shown) + len(cell.meter_series) for cell in self._cells)

    async def start(self) -> None:
        """Listen, and begin to connect to the broker; raises StoreUnavailable where the port is taken."""
        await self.server.start()
        self.publisher.start()

    async def advance(self, now_ns: int) -> None:
        """Let the time pass to ``now_ns``: log what is emitted, then show and publish it.

        Raises:
            StoreUnavailable: the log did not take it; nothing of it was exposed.
        """
        self._served_ns = max(now_ns, self._now_ns)
        if now_ns <= self._now_ns or self.frozen:
            self.publisher.feed()
            return
        written, messages, rows = self._collect(now_ns, past=False)
        if rows:
            self.log.append(rows)
        await self.server.write(written)
        for topic, payload in messages:
            self.publisher.publish(topic, payload)
        self.publisher.feed()

    async def stop(self) -> None:
        """Close the server, the publisher and the log."""
        await self.server.stop()
        self.publisher.stop()
        self.log.close()
        self._note_served()

    def _note_served(self) -> None:
        """Write down until when the past was served: whoever read it knows that nothing else happened till then."""
        with contextlib.suppress(OSError):
            self._served_file.write_text(str(self._served_ns), encoding="ascii")

    def _served_until(self) -> int:
        """Return until when an earlier life served (UTC ns), 0 where that is not known."""
        try:
            return int(self._served_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    @property
    def _served_file(self) -> Path:
        return self.log.folder.with_name(f"{self.log.folder.name}.served_until")

    def _make_cells(self) -> Iterator[_Cell]:
        number = 0
        for config in self.site.machines:
            asset = self.site.machine_asset(config)
            shown = {}
            for variable in variables(config.zones):
                series = self.log.series(SeriesKey(asset, variable.signal))
                shown[variable.signal] = _Shown(number, variable, series)
                number += 1
            names = [name for _, name, *_ in METER_SIGNALS] if config.meter else []
            yield _Cell(config, shown, [self.log.series(SeriesKey(asset, name)) for name in names])

    def _make_past(self, scenario: Scenario, now_ns: int) -> None:
        last_ns = self.log.last_time_ns
        start_ns = now_ns - round(scenario.history_h * _H_NS)
        if last_ns is not None:
            self._remember(last_ns)
            # Frozen machines were still looked at: their silence is past as well, and must stay silent.
            start_ns = max(last_ns + _MS, min(self._served_until(), now_ns), now_ns - _HISTORY_NS)
        start_ns -= start_ns % _MS
        latest = self.log.latest()
        for cell in self._cells:
            asset = self.site.machine_asset(cell.config)
            restored = {key.signal: value for key, (_, value) in latest.items() if key.asset == asset}
            cell.machine = InjectionMachine(
                cell.config.spec(), scenario.machine_seed(self.site, cell.config), start_ns, restored, COARSE
            )
        self._now_ns = max(now_ns, start_ns)
        written, _, rows = self._collect(self._now_ns, past=True)
        if rows:
            self.log.append(rows)
        for value in written:
            self.server.remember(value)
        self.history_total = self.server.history_rows
        for cell in self._cells:
            cell.machine.sample(LIVE)
        self._fit_meters(scenario)

    def _fit_meters(self, scenario: Scenario) -> None:
        for position, cell in enumerate(self._cells):
            if cell.config.meter:
                now_ns = self._now_ns
                # Spread over the second, so that the meters do not all speak at once.
                first_ns = now_ns - now_ns % _MS + (1 + position * 71 % 1000) * _MS
                seed = scenario.machine_seed(self.site, cell.config) + 1
                cell.meter = EnergyMeter(seed, now_ns, cell.machine.energy_kwh(now_ns), first_ns)

    def _remember(self, last_ns: int) -> None:
        """Give the server the past that the log holds, for each variable at least its newest value."""
        past = read_series(self.log.folder, last_ns - _HISTORY_NS)
        latest = self.log.latest()
        for cell in self._cells:
            asset = self.site.machine_asset(cell.config)
            for name, shown in cell.shown.items():
                key = SeriesKey(asset, name)
                known: list[tuple[int, Value]] = []
                if key in past:
                    columns = past[key]
                    values: list[Value] = columns.value.tolist()
                    for row, text in columns.text.items():
                        values[row] = text
                    known = list(zip(columns.time_ns.tolist(), values, strict=True))
                elif key in latest:
                    known = [latest[key]]
                for time_ns, value in known:
                    shown.last_ms, shown.last_raw = time_ns // _MS, shown.variable.raw(value)
                    self.server.remember(Written(shown.number, shown.last_ms, shown.last_raw))

    def _collect(
        self, now_ns: int, *, past: bool
    ) -> tuple[list[Written], list[tuple[str, bytes]], list[Row]]:
        """Advance every cell; return the variables' changes, the meters' messages, and the rows of both."""
        written: list[Written] = []
        messages: list[tuple[str, bytes]] = []
        rows: list[Row] = []
        for cell in self._cells:
            if not past and now_ns - self._now_ns > _CATCH_UP_NS:
                changes, readings = cell.skip(self._now_ns, now_ns), list[MeterReading]()
            else:
                changes, readings = cell.advance(now_ns)
            for name, time_ns, value in changes:
                shown = cell.shown[name]
                raw = shown.variable.raw(value)
                if raw == shown.last_raw:
                    continue
                # Whole milliseconds, rising strictly: what OPC UA clients and stores of that resolution can keep.
                time_ms = max(time_ns // _MS, shown.last_ms + 1)
                shown.last_ms, shown.last_raw = time_ms, raw
                written.append(Written(shown.number, time_ms, raw))
                rows.append(Row(shown.log_series, time_ms * _MS, shown.variable.sample(raw)))
            topic = self.site.meter_topic(cell.config)
            for reading in readings:
                messages.append((topic, meter_payload(reading)))
                rows.extend(
                    Row(series, reading.time_ns, value)
                    for series, value in zip(cell.meter_series, reading[1:], strict=True)
                )
        self.opcua_total += len(written)
        self.mqtt_total += len(messages) * len(METER_SIGNALS)
        self._now_ns = now_ns
        written.sort(key=lambda value: value.time_ms)
        messages.sort(key=lambda message: message[0])
        rows.sort(key=lambda row: row.time_ns)
        return written, messages, rows
