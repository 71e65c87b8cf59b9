"""What goes wrong with a site's data and servers while it runs: data faults, outages, the nightly cut of the link."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from shopfloor import signal
from simulators.data_faults import KINDS, DataFaults, Fault, Kind, Window, makes_sense, schedule
from simulators.physics.unit import Facts
from simulators.plant.opcua_outlet import OpcuaOutlet
from simulators.plant.outlet import Outlet
from simulators.plant.sparkplug_outlet import SparkplugOutlet
from simulators.scenario import Scenario, SiteConfig
from simulators.scenario.cell_signals import cell_signals
from simulators.scenario.mishaps import Outage, outages

_DAY_MS: Final = 86_400_000
_MOMENTARY: Final = frozenset({"missed_birth", "reordered_seq", "doubled_message"})
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
    end_ms = life_ms + _SCHEDULED_DAYS * _DAY_MS
    clocks = site.clocks - {each.cell for each in site.data_faults if each.kind == "data.clock_behind"}
    wide = {machine.cell for machine in site.machines if machine.protocol != "gateway"}
    for cell, known in cell_signals(site).items():
        seed = scenario.seed_of(f"{site.asset}/{cell}/data")
        for window in schedule(seed, cell, life_ms, end_ms, site.data_faults_per_day, faults):
            match kind := window.fault.kind:
                case "data.clock_behind":
                    possible = cell in clocks
                case "data.duplicate":
                    possible = cell in site.publishers
                case _:
                    drawn = _draw(seed, window, _candidates(kind, known, wide=cell in wide))
                    possible = drawn is not None
                    window = drawn or window  # noqa: PLW2901 - the same one, of a signal
            if possible:
                yield window


def _candidates(kind: Kind, known: Sequence[str], *, wide: bool) -> list[str]:
    """Return the signals of a cell that a fault by chance may be of; ``wide`` counters may grow beyond 16 bits."""
    if kind == "data.counter_wrap":
        # Only the counter of a machine's life ever gets so far.
        return [signal.CYCLE_COUNTER] if wide else []
    return [name for name in known if makes_sense(kind, name)]


def _draw(seed: int, window: Window, candidates: Sequence[str]) -> Window | None:
    """Return a window whose fault is one of a signal, the same one for the same window; None where there is none."""
    if not candidates:
        return None
    rng = random.Random(zlib.crc32(f"{seed}:{window.begin_ms}:{window.fault.kind}".encode()))
    return window._replace(fault=replace(window.fault, signal=rng.choice(candidates)))


class Outages:
    """Begins and ends outages when it is time, and says what they were. A kill ends those at work.

    Args:
        site: whose.
        life_ms: when the site's life began, UTC ms.
        told_ms: those that ended until then are told already.
        lived_ms: until when an earlier life lived; 0 where there was none.
        now_ms: outages that begin before it do not begin any more, and a nightly cut that is on is left out.
    """

    def __init__(self, site: SiteConfig, life_ms: int, told_ms: int, lived_ms: int, now_ms: int) -> None:
        self._site = site
        self._zone = ZoneInfo(site.time_zone)
        planned = sorted(outages(site.outages, life_ms), key=_begin)
        self._began_ms = now_ms
        self._waiting = [each for each in planned if each.begin_ms >= now_ms]
        self._at_work: list[Outage] = []
        past = [*planned, *self._cuts(told_ms, lived_ms)]
        self._told = [
            each._replace(end_ms=min(each.end_ms, lived_ms))
            for each in sorted(past, key=_begin)
            if each.begin_ms <= lived_ms and each.end_ms > told_ms
        ]

    async def advance(self, outlets: Iterable[Outlet], now_ms: int) -> None:
        """Begin what is due, end what is over."""
        due = [each for each in self._waiting if each.begin_ms <= now_ms]
        del self._waiting[: len(due)]
        due += [
            cut
            for cut in self._cuts(now_ms, now_ms + 1)
            if cut.begin_ms > self._began_ms and cut not in self._at_work
        ]
        for outage in [each for each in self._at_work if each.end_ms <= now_ms]:
            await self._end(outage, outlets)
        for outage in due:
            self._at_work.append(outage)
            if not any(_same(each, outage) for each in self._at_work[:-1]) or outage.kind in _MOMENTARY:
                await _begin_outage(outage, outlets)
            if outage.end_ms <= now_ms:
                await self._end(outage, outlets)

    async def end_all(self, outlets: Iterable[Outlet], now_ms: int) -> None:
        """End what is at work, since nothing happens any more: what waits for its end is to get through."""
        for outage in list(self._at_work):
            self._at_work[self._at_work.index(outage)] = ended = outage._replace(end_ms=now_ms)
            await self._end(ended, outlets)

    async def _end(self, outage: Outage, outlets: Iterable[Outlet]) -> None:
        self._at_work.remove(outage)
        self._told.append(outage)
        if not any(_same(each, outage) for each in self._at_work):
            await _end(outage, outlets)

    def take_facts(self) -> Sequence[Facts]:
        """Return the rows of the outages that have ended since the last call."""
        told, self._told = self._told, []
        return [_row(each) for each in told]

    def unfinished(self, now_ms: int) -> Sequence[Facts]:
        """Return the rows of those at work, as if they ended now."""
        return [_row(each._replace(end_ms=now_ms)) for each in self._at_work if each.begin_ms < now_ms]

    def _cuts(self, begin_ms: int, end_ms: int) -> Iterator[Outage]:
        """Yield the nightly cuts of the site's link that are on at some time from ``begin_ms`` to ``end_ms``."""
        config = self._site.sparkplug.wan_cut
        if config is None or end_ms <= begin_ms:
            return
        day, last = (
            datetime.fromtimestamp(at_ms / 1000.0, UTC).astimezone(self._zone).date()
            for at_ms in (begin_ms, end_ms)
        )
        day -= timedelta(days=1)  # it may last over midnight
        while day <= last:
            cut_ms = round(datetime.combine(day, config.start, self._zone).timestamp() * 1000)
            cut = Outage("wan_cut", cut_ms, cut_ms + round(config.minutes * 60_000), "")
            if cut.begin_ms < end_ms and begin_ms < cut.end_ms:
                yield cut
            day += timedelta(days=1)


def _row(outage: Outage) -> Facts:
    return Facts(
        "faults",
        {
            "begin_ms": outage.begin_ms,
            "end_ms": outage.end_ms,
            "kind": f"outage.{outage.kind}",
            "severity": 1.0,
            "place": outage.device or None,
        },
    )


def _same(one: Outage, other: Outage) -> bool:
    """Tell whether two outages are of the same thing: it is back when the last of them ends."""
    return one.kind == other.kind and one.device == other.device


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
                case "device_down":
                    outlet.node.session.device_down(outage.device)
                case "missed_birth":
                    outlet.node.session.skip_birth_of(outage.device)
                case "reordered_seq":
                    outlet.node.session.swap_next_messages()
                case "doubled_message":
                    outlet.node.session.duplicate_next()
                case _:
                    pass


async def _end(outage: Outage, outlets: Iterable[Outlet]) -> None:
    for outlet in outlets:
        if isinstance(outlet, OpcuaOutlet) and outage.kind == "server_restart":
            await outlet.come_up()
        elif isinstance(outlet, SparkplugOutlet) and outage.kind == "wan_cut":
            outlet.node.resume()
        elif isinstance(outlet, SparkplugOutlet) and outage.kind == "device_down":
            outlet.node.session.device_up(outage.device)
