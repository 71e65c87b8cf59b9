"""One site at work: units and meters on a clock, what they say logged first and exposed after that."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shopfloor.asset import AssetPath
from simulators.emissions import EmissionLog, Row, read_series
from simulators.physics.machine import COARSE, LIVE, InjectionMachine
from simulators.physics.meter import EnergyMeter
from simulators.physics.unit import MS, Change, Facts, Moment, Unit
from simulators.plant.checkpoint import Checkpoint, CheckpointFile
from simulators.plant.dialects import METER_INTERVAL_MS
from simulators.plant.live_truth import LiveTruth
from simulators.plant.opcua_outlet import OpcuaOutlet
from simulators.plant.outlet import Outlet
from simulators.plant.outlets import make_outlets
from simulators.plant.troubles import Outages, data_faults
from simulators.plant.units import make_units
from simulators.playback import Playback
from simulators.scenario import Scenario, SiteConfig

_H_NS: Final = 3_600_000_000_000
_HISTORY_NS: Final = 2 * _H_NS
_CATCH_UP_NS: Final = 60_000_000_000
"""A computer that slept longer than this says only where its machines are now: nobody was there to look."""
_CHECKPOINT_NS: Final = _H_NS


def emission_folder(data: Path, site: SiteConfig) -> Path:
    """Return where a site's emission log lies within a simulator's data folder."""
    return data / "emissions" / site.asset.replace("/", "_")


def truth_folder(data: Path) -> Path:
    """Return where the truth about all sites lies within a simulator's data folder."""
    return data / "truth"


@dataclass(slots=True)
class _Metered:
    """A cell's energy meter."""

    cell: str
    playback: Playback
    meter: EnergyMeter
    base_kwh: float
    """What its register stood at when the unit's life began."""
    outlet: Outlet

    def energy_kwh(self, at_ns: int) -> float:
        return self.base_kwh + self.playback.energy_kwh(self.cell, at_ns)


class Plant:
    """A site with everything that stands there.

    Args:
        data: the simulator's data folder.
        log: of the site's emissions; what it holds already is the site's past and is never contradicted.
        now_ns: UTC ns; the past is made up to here: ``history_h`` hours of it at the very first start, later what
            is missing since the log's end, but at most two hours.
        nodeset_dir: NodeSet2 files to serve the standard's OPC UA types from.
    """

    def __init__(
        self,
        scenario: Scenario,
        site: SiteConfig,
        data: Path,
        log: EmissionLog,
        now_ns: int,
        nodeset_dir: Path | None = None,
    ) -> None:
        self.site = site
        self.log = log
        self.values_total = 0
        """Values emitted since the start, the past included."""
        self.frozen = False
        self._data = data
        self._now_ns = now_ns - now_ns % MS
        self._served_ns = now_ns
        self._assets: Mapping[str, AssetPath] = site.cells
        name = site.asset.replace("/", "_")
        self._truth = LiveTruth(truth_folder(data) / name, self._asset_of)
        self._checkpoints = CheckpointFile(data / "checkpoints" / f"{name}.json")
        self._checkpoint_ns = self._now_ns + _CHECKPOINT_NS
        found = self._checkpoints.load() if log.last_time_ns is not None else None
        self._part = found.part if found else 0
        self._life_ms = found.life_ms if found else self._first_ns(scenario) // MS
        self._faults = data_faults(scenario, site, self._life_ms)
        self._outages = Outages(site, self._life_ms, self._now_ns // MS)
        self._told_ms = self._life_ms
        self.outlets: list[Outlet] = make_outlets(
            scenario, site, data, log, self._faults, self._now_ns, nodeset_dir
        )
        self._outlet_of: dict[str, Outlet] = {
            cell: outlet for outlet in self.outlets for cell in outlet.cells
        }
        self._playbacks = [
            Playback(unit, self._told)
            for unit in self._restored(make_units(scenario, site, self._life_ms), found)
        ]
        if found is not None:
            for outlet, snapshots in zip(self.outlets, found.outlets, strict=False):
                outlet.restore(snapshots)
        self._opening: dict[str, list[Moment]] = {}
        self._make_past()
        self._metered = list(self._fit_meters(scenario))
        self._save()

    def _asset_of(self, cell: str) -> str:
        return str(self._assets.get(cell, self.site.asset))

    def _told(self, unit: Unit, facts: Sequence[Facts]) -> None:
        self._truth.tell(unit.cells[0], facts)

    @property
    def endpoint(self) -> str:
        """The URL of its OPC UA server; empty where it has none."""
        return next((outlet.endpoint for outlet in self.outlets if isinstance(outlet, OpcuaOutlet)), "")

    @property
    def series_total(self) -> int:
        """How many series the site has."""
        return sum(outlet.series_total for outlet in self.outlets)

    @property
    def unacknowledged(self) -> int:
        """What was said and is not known to have arrived, in all protocols."""
        return sum(outlet.unacknowledged for outlet in self.outlets)

    async def start(self) -> None:
        """Tell the past, listen, and begin to connect; raises StoreUnavailable where a port is taken."""
        for outlet in self.outlets:
            self.values_total += await outlet.expose(past=True)
            await outlet.start()

    async def advance(self, now_ns: int) -> None:
        """Let the time pass to ``now_ns``: log what is emitted, then show and publish it.

        Raises:
            StoreUnavailable: the log did not take it; nothing of it was exposed.
        """
        self._served_ns = max(now_ns, self._now_ns)
        if now_ns > self._now_ns and not self.frozen:
            rows = self._collect(now_ns)
            if rows:
                self.log.append(rows)
            await self._outages.advance(self.outlets, now_ns // MS)
            for outlet in self.outlets:
                self.values_total += await outlet.expose(past=False)
            if now_ns >= self._checkpoint_ns:
                self._checkpoint_ns = now_ns + _CHECKPOINT_NS
                self._part += 1
                self._tell_faults(now_ns // MS)
                self._truth.write_part(self._part)
                self._save()
        self.feed()

    def _tell_faults(self, now_ms: int) -> None:
        for cell in self._assets:
            self._truth.tell(cell, self._faults.facts(cell, self._told_ms, now_ms))
        self._truth.tell("", self._outages.take_facts())
        self._told_ms = now_ms

    def feed(self) -> None:
        """Go on with what is under way."""
        for outlet in self.outlets:
            outlet.feed()

    async def stop(self) -> None:
        """Close all protocols and the log, and write down what was true."""
        for outlet in self.outlets:
            await outlet.stop()
        self.log.close()
        self._note_served()
        self._tell_faults(self._now_ns // MS)
        self._truth.write_open(
            [
                (playback.unit.cells[0], fact)
                for playback in self._playbacks
                for fact in playback.unfinished(self._now_ns)
            ]
        )

    def _collect(self, now_ns: int) -> list[Row]:
        """Let everything advance and return the rows of what will be said."""
        rows: list[Row] = []
        slept = now_ns - self._now_ns > _CATCH_UP_NS
        until_ms = now_ns // MS
        for playback in self._playbacks:
            moments: list[Moment] = []
            if slept:
                moments += _at_least(playback.skip(now_ns), self._now_ns + MS)
            else:
                for metered in self._metered:
                    if metered.playback is not playback:
                        continue
                    while metered.meter.next_ns <= now_ns:
                        at_ns = metered.meter.next_ns
                        moments += playback.advance(at_ns)
                        factor = playback.power_factor(metered.cell)
                        reading = metered.meter.read(metered.energy_kwh(at_ns), factor)
                        rows += metered.outlet.take_reading(metered.cell, reading)
                moments += playback.advance(now_ns)
            rows += self._take(playback.unit, moments, until_ms)
        if slept:
            for metered in self._metered:
                metered.meter.skip(now_ns, metered.energy_kwh(now_ns))
        self._now_ns = now_ns
        rows.sort(key=lambda row: row.time_ns)
        return rows

    def _take(self, unit: Unit, moments: Iterable[Moment], until_ms: int) -> Iterator[Row]:
        by_cell: dict[str, list[Moment]] = {cell: self._opening.pop(cell, []) for cell in unit.cells}
        for moment in moments:
            by_cell[moment.cell].append(moment)
        for cell, seen in by_cell.items():
            if cell in self._outlet_of:
                said = list(self._faults.moments(seen))
                yield from self._outlet_of[cell].take(cell, said, until_ms)

    def _first_ns(self, scenario: Scenario) -> int:
        """Return when lives begin that have no checkpoint."""
        if self.log.last_time_ns is not None:
            return max(self.log.last_time_ns + MS, self._now_ns - _HISTORY_NS) // MS * MS
        return (self._now_ns - round(scenario.history_h * _H_NS)) // MS * MS

    @staticmethod
    def _restored(units: Iterator[Unit], found: Checkpoint | None) -> Iterator[Unit]:
        snapshots = found.units if found else []
        for unit, snapshot in itertools.zip_longest(units, snapshots):
            if unit is None:
                return
            if snapshot:
                unit.restore(snapshot)
            yield unit

    def _make_past(self) -> None:
        """Let the units live up to now: unseen where an earlier life told of it, else as their past."""
        last_ns = self.log.last_time_ns
        quiet_ns = 0
        if last_ns is not None:
            past = read_series(self.log.folder, last_ns - _HISTORY_NS)
            for outlet in self.outlets:
                outlet.remember(past)
            # Frozen machines were still looked at: their silence is past as well, and must stay silent.
            quiet_ns = max(last_ns, min(self._served_until(), self._now_ns), self._now_ns - _HISTORY_NS)
        self._now_ns = max(self._now_ns, quiet_ns)
        rows: list[Row] = []
        for playback in self._playbacks:
            _look(playback.unit, live=False)
            newest = playback.skip(quiet_ns) if quiet_ns else []
            opening = _at_least(newest, quiet_ns + MS)
            later = playback.advance(self._now_ns)
            _look(playback.unit, live=True)
            for cell in playback.unit.cells:
                if cell not in self._outlet_of:
                    continue
                outlet = self._outlet_of[cell]
                mine = [moment for moment in (*opening, *later) if moment.cell == cell]
                mine = list(self._faults.moments(mine)) if outlet.has_past else mine
                if outlet.has_past:
                    rows += outlet.take(cell, mine, self._now_ns // MS)
                else:
                    outlet.pass_over(cell, mine, self._now_ns // MS)
                    self._opening[cell] = list(_newest(mine, self._now_ns + MS))
        rows.sort(key=lambda row: row.time_ns)
        if rows:
            self.log.append(rows)

    def _fit_meters(self, scenario: Scenario) -> Iterator[_Metered]:
        rows: list[Row] = []
        playbacks = {cell: playback for playback in self._playbacks for cell in playback.unit.cells}
        for position, machine in enumerate(self.site.machines):
            if machine.meter == "none":
                continue
            cell, now_ns = machine.cell, self._now_ns
            interval_ms = METER_INTERVAL_MS[machine.meter]
            # Spread over the second, so that the meters do not all speak at once.
            first_ns = now_ns - now_ns % MS + (1 + position * 71 % 1000) * MS
            seed = scenario.machine_seed(self.site, machine) + 1
            outlet = next(each for each in self.outlets if cell in each.metered)
            base_kwh = float(seed % 90_000) + 1_000.0
            register = base_kwh + playbacks[cell].energy_kwh(cell, now_ns)
            if outlet.has_past:
                # Who tells a past has a value from the beginning.
                before = EnergyMeter(seed, now_ns - interval_ms * MS, register, now_ns, interval_ms)
                first = before.read(register, playbacks[cell].power_factor(cell))
                rows += outlet.take_reading(cell, first)
            meter = EnergyMeter(seed, now_ns, register, first_ns, interval_ms)
            yield _Metered(cell, playbacks[cell], meter, base_kwh, outlet)
        if rows:
            self.log.append(rows)

    def _save(self) -> None:
        self._checkpoints.save(
            Checkpoint(
                self._life_ms,
                self._part,
                [playback.snapshot for playback in self._playbacks],
                [outlet.snapshots() for outlet in self.outlets],
            )
        )

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


def _look(unit: Unit, *, live: bool) -> None:
    if isinstance(unit, InjectionMachine):
        unit.sampling = LIVE if live else COARSE


def _at_least(changes: Sequence[Change], time_ns: int) -> list[Change]:
    """Return changes none of which is before a time."""
    return [change if change.time_ns >= time_ns else change._replace(time_ns=time_ns) for change in changes]


def _newest(moments: Iterable[Moment], time_ns: int) -> Iterator[Moment]:
    """Yield the newest change of each signal, as if it came at that time."""
    newest: dict[str, Change] = {}
    for moment in moments:
        if isinstance(moment, Change):
            newest[moment.signal] = moment
    for change in newest.values():
        yield change._replace(time_ns=time_ns)
