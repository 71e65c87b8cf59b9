"""What goes wrong with a site's data and servers while it runs: data faults, outages, the nightly cut of the link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from simulators.data_faults import KINDS, DataFaults, Fault, Window, schedule
from simulators.physics.unit import Facts
from simulators.plant.opcua_outlet import OpcuaOutlet
from simulators.plant.outlet import Outlet
from simulators.plant.sparkplug_outlet import SparkplugOutlet
from simulators.scenario import Scenario, SiteConfig
from simulators.scenario.mishaps import Outage, outages

_DAY_MS: Final = 86_400_000
_SCHEDULED_DAYS: Final = 60
"""Data faults by chance are drawn for so long; a run that goes on has none after that."""


def data_faults(scenario: Scenario, site: SiteConfig, life_ms: int) -> DataFaults:
    """Return the data faults of a site whose life began at ``life_ms``: those written down, and those by chance."""
    windows = [each.window(life_ms) for each in site.data_faults]
    windows += _by_chance(scenario, site, life_ms)
    return DataFaults(windows)


def _by_chance(scenario: Scenario, site: SiteConfig, life_ms: int) -> Iterator[Window]:
    if not site.data_faults_per_day:
        return
    faults = [Fault(kind) for kind in KINDS]
    clocks = {each.cell for each in site.data_faults if each.kind == "data.clock_behind"}
    for cell in site.cells:
        seed = scenario.seed_of(f"{site.asset}/{cell}/data")
        end_ms = life_ms + _SCHEDULED_DAYS * _DAY_MS
        for window in schedule(seed, cell, life_ms, end_ms, site.data_faults_per_day, faults):
            if window.fault.kind != "data.clock_behind" or cell not in clocks:
                yield window


class Outages:
    """Begins and ends outages when it is time, and says what they were."""

    def __init__(self, site: SiteConfig, life_ms: int, now_ms: int) -> None:
        self._site = site
        self._waiting = [
            each for each in sorted(outages(site.outages, life_ms), key=_begin) if each.begin_ms >= now_ms
        ]
        self._at_work: list[Outage] = []
        self._told: list[Facts] = []

    async def advance(self, outlets: Iterable[Outlet], now_ms: int) -> None:
        """Begin what is due, end what is over."""
        cut = self._nightly_cut(now_ms)
        if cut is not None and all(each.begin_ms != cut.begin_ms for each in self._at_work):
            self._waiting.insert(0, cut)
        for outage in [each for each in self._at_work if each.end_ms <= now_ms]:
            self._at_work.remove(outage)
            await _end(outage, outlets)
        while self._waiting and self._waiting[0].begin_ms <= now_ms:
            outage = self._waiting.pop(0)
            self._told.append(
                Facts(
                    "faults",
                    {
                        "begin_ms": outage.begin_ms,
                        "end_ms": outage.end_ms,
                        "kind": f"outage.{outage.kind}",
                        "severity": 1.0,
                    },
                )
            )
            await _begin_outage(outage, outlets)
            if outage.end_ms > now_ms:
                self._at_work.append(outage)
            else:
                await _end(outage, outlets)

    def take_facts(self) -> Sequence[Facts]:
        """Return the rows of the outages that have begun since the last call."""
        told, self._told = self._told, []
        return told

    def _nightly_cut(self, now_ms: int) -> Outage | None:
        """Return the cut of the site's link that is on at a time."""
        config = self._site.sparkplug.wan_cut
        if config is None:
            return None
        zone = ZoneInfo(self._site.time_zone)
        now = datetime.fromtimestamp(now_ms / 1000.0, UTC).astimezone(zone)
        for day in (now.date(), now.date() - timedelta(days=1)):
            begin = datetime.combine(day, config.start, zone)
            begin_ms = round(begin.timestamp() * 1000)
            end_ms = begin_ms + round(config.minutes * 60_000)
            if begin_ms <= now_ms < end_ms:
                return Outage("wan_cut", begin_ms, end_ms, "")
        return None


def _begin(outage: Outage) -> int:
    return outage.begin_ms


async def _begin_outage(outage: Outage, outlets: Iterable[Outlet]) -> None:
    for outlet in outlets:
        if isinstance(outlet, OpcuaOutlet) and outage.kind == "server_restart":
            await outlet.go_down()
        elif isinstance(outlet, SparkplugOutlet):
            match outage.kind:
                case "wan_cut":
                    outlet.node.pause()
                case "missed_birth":
                    outlet.node.session.skip_birth_of(outage.device)
                case "reordered_seq":
                    outlet.node.session.swap_next_messages()
                case _:
                    pass


async def _end(outage: Outage, outlets: Iterable[Outlet]) -> None:
    for outlet in outlets:
        if isinstance(outlet, OpcuaOutlet) and outage.kind == "server_restart":
            await outlet.come_up()
        elif isinstance(outlet, SparkplugOutlet) and outage.kind == "wan_cut":
            outlet.node.resume()
