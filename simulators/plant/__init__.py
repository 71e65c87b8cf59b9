"""One site at work: units and meters on a clock, what they say logged first and exposed after that."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from shopfloor.asset import AssetPath
from shopfloor.errors import StoreUnavailable
from simulators.emissions import EmissionLog, Row, alone, read_series
from simulators.physics.unit import MS, Change, Facts, Moment, Unit
from simulators.plant.checkpoint import Checkpoint, CheckpointFile, Life, TimeMark
from simulators.plant.live_truth import LiveTruth
from simulators.plant.meters import fit_meters
from simulators.plant.moments import at_least, fast_forward, look, newest_of
from simulators.plant.opcua_outlet import OpcuaOutlet
from simulators.plant.outlet import Outlet
from simulators.plant.outlets import make_outlets
from simulators.plant.troubles import Outages, data_faults
from simulators.plant.units import fingerprints, make_units
from simulators.playback import Playback
from simulators.scenario import Scenario, SiteConfig

_H_NS: Final = 3_600_000_000_000
_HISTORY_NS: Final = 2 * _H_NS
_CATCH_UP_NS: Final = 60_000_000_000
"""A computer that slept longer than this says only where its machines are now: nobody was there to look."""
_CHECKPOINT_NS: Final = _H_NS
_BACK_NS: Final = 5_000_000_000
_AHEAD_NS: Final = 60_000_000_000
_REPLAY_NS: Final = 600_000_000_000
_log = logging.getLogger(__name__)


def emission_folder(data: Path, site: SiteConfig) -> Path:
    """Return where a site's emission log lies within a simulator's data folder."""
    return data / "emissions" / site.asset.replace("/", "_")


def truth_folder(data: Path) -> Path:
    """Return where the truth about all sites lies within a simulator's data folder."""
    return data / "truth"


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
        self._waits = False
        self._data = data
        self._now_ns = now_ns - now_ns % MS
        self._served_ns = now_ns
        self._assets: Mapping[str, AssetPath] = site.cells
        name = site.asset.replace("/", "_")
        self._truth = LiveTruth(truth_folder(data) / name, self._asset_of)
        self._checkpoints = CheckpointFile(data / "checkpoints" / f"{name}.json")
        self._served = TimeMark(log.folder.with_name(f"{log.folder.name}.served_until"))
        found = self._found()
        self._fingerprints = fingerprints(scenario, site)
        first_ns = self._now_ns - round(scenario.history_h * _H_NS)
        self._life_ms = found.life_ms if found else first_ns // MS
        self._part = found.part if found else 0
        self._told_ns = found.time_ns if found else self._life_ms * MS
        """Until when everything stands in the truth's parts, but for what is not finished."""
        self._faults = data_faults(scenario, site, self._life_ms)
        self.outlets: list[Outlet] = make_outlets(
            scenario, site, data, log, self._faults, lambda: self._now_ns, nodeset_dir
        )
        self._outlet_of: dict[str, Outlet] = {
            cell: outlet for outlet in self.outlets for cell in outlet.cells
        }
        units = list(make_units(scenario, site, self._life_ms))
        if found is not None:
            self._restore(found, units)
        self._playbacks = [Playback(unit, self._told) for unit in units]
        self._opening: dict[str, list[Moment]] = {}
        if found is None:
            # A kill between the first row of the log and the first checkpoint would begin other lives.
            self._save()
        self._outages = self._make_past()
        by_cell = {cell: playback for playback in self._playbacks for cell in playback.unit.cells}
        self._metered, rows = fit_meters(scenario, site, by_cell, self.outlets, self._now_ns)
        rows += [row for outlet in self.outlets for row in outlet.begin(self._now_ns // MS)]
        if rows:
            self.log.append(rows)
        # What an earlier life left unfinished is told anew from its last checkpoint on.
        self._truth.drop_open()
        self._complete_part()

    def _found(self) -> Checkpoint | None:
        """Return what an earlier life left; None at the very first start.

        Raises:
            StoreUnavailable: of log, truth and checkpoint some are missing.
        """
        found = self._checkpoints.load()
        if self.log.last_time_ns is None:
            # A life that was killed before its first row left a checkpoint and nothing else.
            if self._truth.has_parts():
                raise StoreUnavailable(
                    f"{self._data}: there is truth about {self.site.asset}, but {self.log.folder} has no emissions; "
                    "begin with another data folder, or delete this one"
                )
            return None
        if found is None:
            raise StoreUnavailable(
                f"{self._data}: there are emissions of {self.site.asset}, but no checkpoint; begin with another data "
                "folder, or delete this one"
            )
        return found

    def _restore(self, found: Checkpoint, units: Sequence[Unit]) -> None:
        for unit in units:
            first = unit.cells[0]
            life = found.units.get(first)
            if life is not None and life.config == self._fingerprints[first]:
                unit.restore(life.snapshot)
            else:
                _log.warning(
                    "%s of %s is not what it was: it has another life from now on", first, self.site.asset
                )
        for outlet in self.outlets:
            outlet.restore(found.outlets.get(type(outlet).__name__, {}))
        if found.faults:
            self._faults.restore(found.faults)

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
        if now_ns < self._now_ns - _BACK_NS and not self._waits:
            _log.warning(
                "the clock was put back by %.0f s; %s waits for it",
                (self._now_ns - now_ns) / 1e9,
                self.site.asset,
            )
        self._waits = now_ns < self._now_ns - _BACK_NS
        if self.frozen:
            await self._outages.end_all(self.outlets, self._now_ns // MS)
        elif now_ns > self._now_ns:
            rows = self._collect(now_ns)
            if rows:
                self.log.append(rows)
            await self._outages.advance(self.outlets, now_ns // MS)
            for outlet in self.outlets:
                self.values_total += await outlet.expose(past=False)
            if now_ns >= self._checkpoint_ns:
                self._complete_part()
        self.feed()

    def _complete_part(self) -> None:
        """Write what is true since the last part, and from where to go on after a kill."""
        self._checkpoint_ns = self._now_ns + _CHECKPOINT_NS
        self._part += 1
        self._tell_faults()
        self._truth.write_part(self._part)
        self._told_ns = self._now_ns
        self._save()

    def _tell_faults(self) -> None:
        for cell in self._assets:
            self._truth.tell(cell, self._faults.facts(cell, self._told_ns // MS, self._now_ns // MS))
        self._truth.tell("", self._outages.take_facts())

    def feed(self) -> None:
        """Go on with what is under way."""
        for outlet in self.outlets:
            outlet.feed()

    async def stop(self) -> None:
        """Close all protocols and the log, and write down what was true."""
        for outlet in self.outlets:
            await outlet.stop()
        self.log.close()
        # Whoever read the past knows that nothing else happened till then.
        self._served.save(self._served_ns)
        self._tell_faults()
        now_ms = self._now_ns // MS
        unfinished = [
            (playback.unit.cells[0], fact)
            for playback in self._playbacks
            for fact in playback.unfinished(self._now_ns)
        ]
        unfinished += [
            (cell, fact) for cell in self._assets for fact in self._faults.unfinished(cell, now_ms)
        ]
        unfinished += [("", fact) for fact in self._outages.unfinished(now_ms)]
        self._truth.write_open(unfinished)

    def _collect(self, now_ns: int) -> list[Row]:
        """Let everything advance and return the rows of what will be said."""
        rows: list[Row] = []
        slept = now_ns - self._now_ns > _CATCH_UP_NS
        until_ms = now_ns // MS
        for playback in self._playbacks:
            moments: list[Moment] = []
            if slept:
                look(playback.unit, live=False)
                moments += at_least(playback.skip(now_ns), self._now_ns + MS)
                look(playback.unit, live=True)
                for cell in playback.unit.cells:
                    if cell in self._outlet_of:
                        # What it would have said on its own meanwhile, such as answers to polls.
                        self._outlet_of[cell].pass_over(cell, [], until_ms)
            else:
                for metered in self._metered:
                    if metered.playback is not playback:
                        continue
                    while metered.next_ns <= now_ns:
                        moments += playback.advance(metered.next_ns)
                        rows += metered.read()
                moments += playback.advance(now_ns)
            rows += self._take(playback.unit, moments, until_ms)
        if slept:
            for metered in self._metered:
                metered.skip(now_ns)
        self._now_ns = now_ns
        rows.sort(key=lambda row: row.time_ns)
        return rows

    def _take(self, unit: Unit, moments: Iterable[Moment], until_ms: int) -> Iterator[Row]:
        by_cell: dict[str, list[Moment]] = {cell: self._opening.pop(cell, []) for cell in unit.cells}
        for moment in moments:
            by_cell[moment.cell].append(moment)
        for cell, seen in by_cell.items():
            outlet = self._outlet_of.get(cell)
            if outlet is not None:
                yield from outlet.take(cell, self._said(outlet, seen), until_ms)

    def _said(self, outlet: Outlet, seen: Sequence[Moment]) -> list[Moment]:
        """Return what is said in place of what is to be seen of a cell."""
        said = list(self._faults.moments(seen))
        if outlet.has_past:
            # Servers and edge nodes have one clock for all of the site, which is right.
            return [one._replace(time_ns=true.time_ns) for one, true in zip(said, seen, strict=True)]
        return said

    def _make_past(self) -> Outages:
        """Let the units live up to now: unseen where an earlier life told of it, else as their past."""
        last_ns = self.log.last_time_ns
        seen_ns = quiet_ns = 0
        if last_ns is not None:
            # What has not changed for longer than history reaches back still holds.
            held = {key: alone(time_ns, value) for key, (time_ns, value) in self.log.latest().items()}
            past = held | read_series(self.log.folder, last_ns - _HISTORY_NS)
            for outlet in self.outlets:
                outlet.remember(past)
            # Frozen machines were still looked at: their silence is past as well, and must stay silent.
            seen_ns = max(last_ns, min(self._served.load(), self._now_ns))
            quiet_ns = max(seen_ns, self._now_ns - _HISTORY_NS)
        self._now_ns = max(self._now_ns, quiet_ns)
        rows: list[Row] = []
        for number, playback in enumerate(self._playbacks):
            look(playback.unit, live=False)
            newest = self._live_again(playback, seen_ns)
            if quiet_ns - seen_ns > _HISTORY_NS:
                playback = fast_forward(playback, self._told, quiet_ns // MS)  # noqa: PLW2901 - the same unit
                self._playbacks[number] = playback
            newest += self._live_again(playback, quiet_ns)
            opening = at_least(
                list({(each.cell, each.signal): each for each in newest}.values()), quiet_ns + MS
            )
            # What a unit has worked out ahead stays coarse: it must not last into the present.
            later = playback.advance(max(self._now_ns - _AHEAD_NS, playback.begin_ms * MS, quiet_ns))
            look(playback.unit, live=True)
            later += playback.advance(self._now_ns)
            for cell in playback.unit.cells:
                if cell not in self._outlet_of:
                    continue
                outlet = self._outlet_of[cell]
                mine = [moment for moment in (*opening, *later) if moment.cell == cell]
                if outlet.has_past:
                    rows += outlet.take(cell, self._said(outlet, mine), self._now_ns // MS)
                else:
                    self._pass_over(cell, [moment for moment in later if moment.cell == cell], self._now_ns)
                    self._opening[cell] = list(newest_of(mine, self._now_ns + MS))
        rows.sort(key=lambda row: row.time_ns)
        if rows:
            self.log.append(rows)
        return Outages(
            self.site, self._life_ms, self._told_ns // MS, (last_ns or 0) // MS, self._now_ns // MS
        )

    def _live_again(self, playback: Playback, until_ns: int) -> list[Change]:
        """Let a unit live what an earlier life has told of; return the newest change of each signal by time.

        Outlets and data faults know of it up to the checkpoint; what came after that they learn again.
        """
        newest: dict[tuple[str, str], Change] = {}
        at_ns = playback.begin_ms * MS
        while at_ns < until_ns:
            at_ns = min(at_ns + _REPLAY_NS, until_ns)
            moments = playback.advance(at_ns)
            for moment in moments:
                if isinstance(moment, Change):
                    newest[moment.cell, moment.signal] = moment
            for cell in playback.unit.cells:
                if cell in self._outlet_of:
                    later = [each for each in moments if each.cell == cell and each.time_ns > self._told_ns]
                    self._pass_over(cell, later, at_ns)
        return sorted(newest.values(), key=lambda change: change.time_ns)

    def _pass_over(self, cell: str, seen: Sequence[Moment], until_ns: int) -> None:
        outlet = self._outlet_of[cell]
        outlet.pass_over(cell, self._said(outlet, seen), until_ns // MS)

    def _save(self) -> None:
        self._checkpoints.save(
            Checkpoint(
                self._life_ms,
                self._part,
                {
                    playback.unit.cells[0]: Life(
                        self._fingerprints[playback.unit.cells[0]], playback.snapshot
                    )
                    for playback in self._playbacks
                },
                {type(outlet).__name__: outlet.snapshots() for outlet in self.outlets},
                self._told_ns,
                self._faults.snapshot(),
            )
        )
