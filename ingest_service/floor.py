"""Machines and sites as the pages show them, derived from the newest values, the counters and the contacts."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from ingest_service.agents import AgentBook, Contact
from ingest_service.config import SiteConfig
from ingest_service.facts.states import MachineSignals, MachineState, machine_state
from ingest_service.parts import CounterSample, PartsToday, midnight_ns
from ingest_service.stores.latest import LatestTable, Newest, newest_order
from ingest_service.stores.series import SeriesIndex
from ingest_service.zones import ZonePairs
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.block import Quality

_STATE_SIGNALS: Final = frozenset(
    {
        names.MACHINE_MODE,
        names.PRODUCTION_STATUS,
        names.STANDSTILL_REASON,
        names.POWER_ON,
        names.JOB_STATUS,
        names.MOULD_STATUS,
    }
)
_SIGNALS: Final = _STATE_SIGNALS | {
    names.JOB_NAME,
    names.EXPECTED_CYCLE_TIME,
    names.CYCLE_TIME,
    names.CYCLE_COUNTER,
    names.ACTIVE_POWER,
    names.GOOD_PARTS_COUNTER,
}
_UTC: Final = zoneinfo.ZoneInfo("UTC")
_NEVER: Final = -(2**63)


class _Row:
    """The newest value of one signal."""

    __slots__ = ("quality", "received", "text", "time", "value")

    def __init__(self, time: int, received: int, value: float, quality: int, text: str | None) -> None:
        self.time, self.received, self.quality, self.text = time, received, quality, text
        self.value = None if value != value else value  # noqa: PLR0124 - the test for NaN


class Floor:
    """Everything that is derived for the pages. Belongs to the event loop."""

    def __init__(
        self,
        series: SeriesIndex,
        newest: LatestTable,
        book: AgentBook,
        sites: Sequence[SiteConfig],
        planned_reasons: Iterable[str],
        states: dict[str, tuple[str, int]],
    ) -> None:
        self.machines: dict[str, dict[str, Any]] = {}
        """Asset to Machine, as the interface describes it."""
        self.sites: dict[str, dict[str, Any]] = {}
        """Asset to Site."""
        self.states = states
        """Asset to (state, since UTC ns), kept over restarts."""
        self.unsaved_states: set[str] = set()
        self.unmissed: set[str] = set()
        """Machines that were off, or stood as planned, when they were last heard of, and those that no agent serves."""
        self.zones = ZonePairs()
        self._series = series
        self._latest = newest
        self._book = book
        self._planned = frozenset(planned_reasons)
        self._seen = 0
        self._signals: dict[str, dict[str, int]] = {}
        self._signal_of: dict[int, tuple[str, str]] = {}
        self._interest = np.zeros(1, np.bool_)
        self._assets: dict[str, int] = {}
        self._asset_of = np.zeros(1, np.int64)
        self._asset_newest = np.full(0, _NEVER, np.int64)
        self._zones = {str(site.asset): zoneinfo.ZoneInfo(site.time_zone) for site in sites}
        self._site_names = {str(site.asset): site.name or parse_asset(site.asset).name for site in sites}
        self._parts: dict[str, PartsToday] = {}
        self._rows: dict[int, _Row] = {}
        self._cycle: dict[str, tuple[float | None, int]] = {}

    def take(self, newest: Newest, counters: Iterable[CounterSample], now_ns: int) -> set[str]:
        """Take what a tick brought; return the machines that changed."""
        self._learn()
        touched: set[str] = set()
        for sample in counters:
            asset, name = self._signal_of.get(sample.series_id, ("", ""))
            if name == names.GOOD_PARTS_COUNTER:
                self._parts.setdefault(asset, PartsToday()).add(sample.source_time, sample.value)
                touched.add(asset)
            elif name == names.JOB_NAME and sample.text is not None:
                self._parts.setdefault(asset, PartsToday()).add_job(sample.source_time, sample.text)
        ids = newest.series_id
        changed: dict[str, int] = {}
        if len(ids):
            order = newest_order(newest.source_time, newest.received_time)
            np.maximum.at(self._asset_newest, self._asset_of[ids], order)
            for place in np.flatnonzero(self._interest[ids]).tolist():
                self._take_row(newest, place, int(order[place]), changed)
        touched |= changed.keys()
        return {
            asset
            for asset in touched
            if asset in self.machines and self._derive(asset, now_ns, changed.get(asset))
        }

    def refresh(self, now_ns: int) -> tuple[set[str], set[str]]:
        """Derive everything anew: contacts end and cycles stay away without any sample. Return what changed."""
        self._learn()
        machines = {asset for asset in self.machines if self._derive(asset, now_ns, None)}
        sites = set()
        for asset in {*self._zones, *(site for site in map(_site, self._assets) if site)}:
            site = self._site(asset, now_ns)
            if self.sites.get(asset) != site:
                self.sites[asset] = site
                sites.add(asset)
        return machines, sites

    def zone_deviations_k(self) -> dict[str, float]:
        """Return how far the worst zone of each asset is off its setpoint, in kelvin."""
        return self.zones.deviations_k(self._latest)

    def zone(self, asset: str) -> zoneinfo.ZoneInfo:
        """Return the time zone of an asset's site."""
        return self._zones.get(_site(asset) or "", _UTC)

    def _learn(self) -> None:
        """Take in series that are new."""
        known = len(self._series)
        if known == self._seen:
            return
        fresh = self._series.keys[self._seen : known]
        interest = []
        places = []
        for number, key in enumerate(fresh, self._seen + 1):
            asset = str(key.asset)
            places.append(self._assets.setdefault(asset, len(self._assets)))
            self.zones.learn(number, key)
            interest.append(key.signal in _SIGNALS)
            if key.signal in _SIGNALS:
                self._signals.setdefault(asset, {})[key.signal] = number
                self._signal_of[number] = (asset, key.signal)
            if key.signal == names.MACHINE_MODE:
                self.machines.setdefault(asset, {})
        self._interest = np.concatenate([self._interest, np.array(interest, np.bool_)])
        self._asset_of = np.concatenate([self._asset_of, np.array(places, np.int64)])
        grown = len(self._assets) - len(self._asset_newest)
        self._asset_newest = np.concatenate([self._asset_newest, np.full(grown, _NEVER, np.int64)])
        self._seen = known

    def _take_row(self, newest: Newest, place: int, order: int, changed: dict[str, int]) -> None:
        number = int(newest.series_id[place])
        asset, name = self._signal_of[number]
        row = _Row(
            order,
            int(newest.received_time[place]),
            float(newest.value[place]),
            int(newest.quality[place]),
            newest.text.get(number),
        )
        self._rows[number] = row
        at = order if name in _STATE_SIGNALS else _NEVER
        changed[asset] = max(changed.get(asset, _NEVER), at)
        if (name == names.CYCLE_COUNTER and self._cycle.get(asset, (None, 0))[0] != row.value) or (
            name == names.CYCLE_TIME and names.CYCLE_COUNTER not in self._signals[asset]
        ):
            self._cycle[asset] = (row.value, row.received)

    def _row(self, asset: str, name: str) -> _Row | None:
        return self._rows.get(self._signals.get(asset, {}).get(name, 0))

    def _number(self, asset: str, name: str) -> float | None:
        row = self._row(asset, name)
        return row.value if row and row.quality < Quality.BAD else None

    def _text(self, asset: str, name: str) -> str | None:
        row = self._row(asset, name)
        return row.text if row and row.quality < Quality.BAD else None

    def _derive(self, asset: str, now_ns: int, changed_at: int | None) -> bool:
        contact = self._book.contact(asset, now_ns)
        mode = self._row(asset, names.MACHINE_MODE)
        cycle = self._cycle.get(asset)
        # Both times by the agent's clock: how far it is off does not matter.
        since_cycle_s = (
            None if cycle is None else max(0.0, (now_ns + contact.clock_offset_ns - cycle[1]) / 1e9)
        )
        signals = MachineSignals(
            mode=mode.value if mode else None,
            mode_good=mode is not None and mode.quality < Quality.BAD,
            power_on=self._number(asset, names.POWER_ON),
            production_status=self._number(asset, names.PRODUCTION_STATUS),
            standstill_reason=self._text(asset, names.STANDSTILL_REASON),
            job_status=self._number(asset, names.JOB_STATUS),
            mould_status=self._number(asset, names.MOULD_STATUS),
            expected_cycle_s=self._number(asset, names.EXPECTED_CYCLE_TIME),
            last_cycle_s=self._number(asset, names.CYCLE_TIME),
            since_cycle_s=since_cycle_s,
        )
        state, reason = machine_state(signals, contact=contact.ok, planned_reasons=self._planned)
        said, _ = machine_state(signals, contact=True, planned_reasons=self._planned)
        unmissed = not contact.served or said in {MachineState.OFF, MachineState.DOWN_PLANNED}
        (self.unmissed.add if unmissed else self.unmissed.discard)(asset)
        since = self._since(asset, state, now_ns, changed_at)
        machine = self._machine(asset, contact, now_ns)
        machine.update(state=str(state), since=since // 1_000_000, reason=contact.reason or reason)
        if self.machines.get(asset) == machine:
            return False
        self.machines[asset] = machine
        return True

    def _machine(self, asset: str, contact: Contact, now_ns: int) -> dict[str, Any]:
        power = self._number(asset, names.ACTIVE_POWER)
        parts = self._parts.get(asset)
        return {
            "asset": asset,
            "name": parse_asset(asset).name,
            "site": _site(asset),
            "contact": contact.ok,
            "served_by": self._book.served_by(asset),
            "job": self._text(asset, names.JOB_NAME),
            "parts_today": parts.total(midnight_ns(now_ns, self.zone(asset))) if parts else None,
            "power_kw": power if contact.ok else None,
            "cycle_s": self._number(asset, names.CYCLE_TIME),
            "newest": _ms(int(self._asset_newest[self._assets[asset]])),
        }

    def _since(self, asset: str, state: MachineState, now_ns: int, changed_at: int | None) -> int:
        known = self.states.get(asset)
        if known and known[0] == state:
            return known[1]
        at = now_ns if changed_at is None or changed_at == _NEVER else min(changed_at, now_ns)
        self.states[asset] = (str(state), at)
        self.unsaved_states.add(asset)
        return at

    def _site(self, asset: str, now_ns: int) -> dict[str, Any]:
        inside = asset + "/"
        machines = [one for path, one in self.machines.items() if path.startswith(inside) and one]
        contact = [one for one in machines if one["contact"]]
        running = sum(one["state"] == MachineState.RUNNING for one in contact)
        power = [
            value
            for path, signals in self._signals.items()
            if names.ACTIVE_POWER in signals
            and (path == asset or path.startswith(inside))
            and (value := self._number(path, names.ACTIVE_POWER)) is not None
            and self._book.contact(path, now_ns).ok
        ]
        places = [place for path, place in self._assets.items() if path == asset or path.startswith(inside)]
        newest = int(self._asset_newest[places].max()) if places else _NEVER
        return {
            "asset": asset,
            "name": self._site_names.get(asset, parse_asset(asset).name),
            "time_zone": str(self.zone(asset)),
            "machines": {
                "running": running,
                "stopped": len(contact) - running,
                "no_contact": len(machines) - len(contact),
            },
            "parts_today": sum(one["parts_today"] or 0 for one in machines),
            "power_kw": round(sum(power), 3) if power else None,
            "newest": _ms(newest),
        }


def _site(asset: str) -> str | None:
    segments = asset.split("/", 2)
    return "/".join(segments[:2]) if len(segments) > 1 else None


def _ms(time_ns: int) -> int | None:
    return None if time_ns == _NEVER else time_ns // 1_000_000
