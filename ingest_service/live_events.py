"""Server-sent events (WHATWG HTML §9.2) as open pages get them; docs/specs/http-api.md says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import msgspec
import numpy as np

from ingest_service.agents import AgentBook
from ingest_service.alarms import may_see, shown
from ingest_service.floor import Floor
from ingest_service.live_scope import EVERYTHING, Scope, ScopeMasks, visible
from ingest_service.plant.alarms import AlarmRow
from ingest_service.stores.latest import LatestTable, Newest
from ingest_service.stores.series import SeriesIndex
from shopfloor.block import Int64
from shopfloor.signal import SeriesKey

PING_S: Final = 2
_encoder: Final = msgspec.json.Encoder()

Units = Callable[[SeriesKey], str]


@dataclass(slots=True, eq=False)
class Changes:
    """What changed between two moments."""

    tick: int
    """The later one of them."""
    new_series: Int64
    """Ids that were not known before, ascending."""
    ids: Int64
    """Series whose newest value changed, ascending."""
    machines: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    ping: bool = False
    alarms: Mapping[str, AlarmRow] = field(default_factory=dict)
    """Those that are new, changed or over, by id."""
    encoded: dict[Scope, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether there is anything to say."""
        return bool(
            len(self.ids)
            or len(self.new_series)
            or self.machines
            or self.sites
            or self.agents
            or self.ping
            or self.alarms
        )

    def merged(self, later: Changes) -> Changes:
        """Return both as one."""
        return Changes(
            later.tick,
            np.union1d(self.new_series, later.new_series),
            np.union1d(self.ids, later.ids),
            self.machines | later.machines,
            self.sites | later.sites,
            self.agents | later.agents,
            self.ping or later.ping,
            {**self.alarms, **later.alarms},
        )


class EventWriter:
    """Writes events about the plant as it is now."""

    def __init__(
        self,
        series: SeriesIndex,
        newest: LatestTable,
        floor: Floor,
        book: AgentBook,
        units: Units,
        clock_ns: Callable[[], int],
        alarms: Callable[[], Iterable[AlarmRow]] = tuple,
    ) -> None:
        self._series = series
        self._newest = newest
        self._floor = floor
        self._book = book
        self._units = units
        self._clock_ns = clock_ns
        self._active_alarms = alarms
        self._masks = ScopeMasks(series)

    def hello(self, *, resumed: bool) -> bytes:
        """Return the first event of a connection."""
        return _event(
            "hello",
            {
                "now": self._clock_ns() // 1_000_000,
                "ping_s": PING_S,
                "version": version("shopfloor"),
                "resumed": resumed,
            },
        )

    def beginning(self, new_series: Int64, ids: Int64, scope: Scope) -> bytes:
        """Return what follows `hello`: series and values as given, and everything else that there is."""
        now_ns = self._clock_ns()
        parts = [
            self._series_event(new_series, scope),
            self._values_event(ids, scope) or _event("values", {"id": [], "t": [], "v": [], "q": []}),
            _event("machines", {"machines": self._machines(self._floor.machines, scope)}),
            _event("sites", {"sites": self._sites(self._floor.sites, scope)}),
            _event("alarms", {"alarms": self._alarms(self._active_alarms(), scope)}),
            _event("agents", {"agents": self._agents(self._book.ids(), scope, now_ns)}),
        ]
        return b"".join(parts)

    def changed(self, changes: Changes, scope: Scope) -> bytes:
        """Return the events about what changed; empty where nothing of it is in the scope."""
        return b"".join(self._events(changes, scope))

    def _events(self, changes: Changes, scope: Scope) -> Iterable[bytes]:
        if len(new_series := self._shown(changes.new_series, scope)):
            yield self._series_event(new_series, scope)
        if len(changes.ids):
            yield self._values_event(changes.ids, scope)
        if machines := self._machines(changes.machines, scope):
            yield _event("machines", {"machines": machines})
        if sites := self._sites(changes.sites, scope):
            yield _event("sites", {"sites": sites})
        if agents := self._agents(changes.agents, scope, self._clock_ns()):
            yield _event("agents", {"agents": agents})
        if alarms := self._alarms(changes.alarms.values(), scope):
            yield _event("alarms", {"alarms": alarms})
        if changes.ping:
            yield _event("ping", {"now": self._clock_ns() // 1_000_000})

    def _alarms(self, alarms: Iterable[AlarmRow], scope: Scope) -> list[dict[str, Any]]:
        return [shown(one) for one in alarms if may_see(one, *scope)]

    def _machines(self, assets: Iterable[str], scope: Scope) -> list[dict[str, Any]]:
        machines = self._floor.machines
        return [one for asset in sorted(assets) if visible(asset, scope) and (one := machines.get(asset))]

    def _sites(self, assets: Iterable[str], scope: Scope) -> list[dict[str, Any]]:
        sites = self._floor.sites
        return [sites[asset] for asset in sorted(assets) if visible(asset, scope)]

    def _agents(self, ids: Iterable[str], scope: Scope, now_ns: int) -> list[dict[str, Any]]:
        return [
            self._book.describe(agent_id, now_ns)
            for agent_id in sorted(ids)
            if (asset := self._book.asset_of(agent_id)) is not None and visible(asset, scope)
        ]

    def _series_event(self, ids: Int64, scope: Scope) -> bytes:
        shown = self._shown(ids, scope).tolist()
        keys = [self._series.keys[number - 1] for number in shown]
        return _event(
            "series",
            {
                "id": shown,
                "asset": [str(key.asset) for key in keys],
                "signal": [key.signal for key in keys],
                "unit": [self._units(key) for key in keys],
            },
        )

    def _values_event(self, ids: Int64, scope: Scope) -> bytes:
        newest = self._newest.of(self._shown(ids, scope))
        return _event("values", values_of(newest)) if len(newest.series_id) else b""

    def _shown(self, ids: Int64, scope: Scope) -> Int64:
        return ids if scope == EVERYTHING else ids[self._masks.of(scope)[ids]]


def values_of(newest: Newest) -> dict[str, list[Any]]:
    """Return newest values as the columns of a ``values`` event."""
    values: list[float | str] = newest.value.tolist()
    if newest.text:
        for place, number in enumerate(newest.series_id.tolist()):
            if number in newest.text:
                values[place] = newest.text[number]
    return {
        "id": newest.series_id.tolist(),
        "t": (newest.source_time // 1_000_000).tolist(),
        "v": values,
        "q": newest.quality.tolist(),
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    # msgspec writes NaN as null, which is what it means here.
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encoder.encode(data))


__all__ = ["PING_S", "Changes", "EventWriter", "Units", "values_of"]
