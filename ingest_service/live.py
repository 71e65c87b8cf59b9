"""What open pages are told: the newest value of each series, machines, sites and agents, as they change.

A tick gathers what changed into one `Changes`, encoded once for all viewers of the same scope. A viewer that has not
taken the last one gets the two merged: a value is replaced, never queued, and a slow viewer costs one `Changes`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ingest_service.agents import AgentBook
from ingest_service.floor import Floor
from ingest_service.stores import below
from ingest_service.stores.latest import LatestTable, Newest
from ingest_service.stores.series import SeriesIndex
from shopfloor.block import Int64
from shopfloor.signal import SeriesKey

PING_S: Final = 2
_REMEMBERED_SCOPES: Final = 256
_encoder: Final = msgspec.json.Encoder()

Scope = tuple[str, ...]
"""Asset paths that a viewer asked for and may see; ("",) is everything, () nothing."""
Units = Callable[[SeriesKey], str]


def effective_scope(asked: Iterable[str], reach: str) -> Scope:
    """Return what is both asked for (nothing means everything) and in a token's reach."""
    wanted = tuple(dict.fromkeys(asked)) or ("",)
    inside = {
        path if below(path, reach) else reach for path in wanted if below(path, reach) or below(reach, path)
    }
    return tuple(
        sorted(path for path in inside if not any(path != one and below(path, one) for one in inside))
    )


def visible(asset: str, scope: Scope) -> bool:
    """Tell whether a scope shows an asset."""
    return any(below(asset, path) for path in scope)


@dataclass(slots=True, eq=False)
class Changes:
    """What changed between two moments."""

    series_from: int
    """Series with a higher id than this are new."""
    series_through: int
    ids: Int64
    """Series whose newest value changed, ascending."""
    machines: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    ping: bool = False
    encoded: dict[Scope, bytes] = field(default_factory=dict)

    def merged(self, later: Changes) -> Changes:
        """Return both as one."""
        return Changes(
            self.series_from,
            later.series_through,
            np.union1d(self.ids, later.ids),
            self.machines | later.machines,
            self.sites | later.sites,
            self.agents | later.agents,
            self.ping or later.ping,
        )


class Viewer:
    """One open page: what it has not been given yet."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._pending: Changes | None = None
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, changes: Changes) -> None:
        """Give it news; never waits."""
        self._pending = changes if self._pending is None else self._pending.merged(changes)
        self._wake.set()

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._wake.set()

    async def take(self) -> Changes | None:
        """Wait for news; None when the service stops."""
        await self._wake.wait()
        self._wake.clear()
        pending, self._pending = self._pending, None
        return None if self._closed else pending


class LiveHub:
    """Tells viewers. Belongs to the event loop; `tick` is called ten times a second."""

    def __init__(
        self,
        series: SeriesIndex,
        newest: LatestTable,
        floor: Floor,
        book: AgentBook,
        units: Units,
        clock_ns: Callable[[], int],
    ) -> None:
        self._series = series
        self._newest = newest
        self._floor = floor
        self._book = book
        self._units = units
        self._clock_ns = clock_ns
        self._viewers: set[Viewer] = set()
        self._announced = 0
        self._masks: OrderedDict[Scope, npt.NDArray[np.bool_]] = OrderedDict()
        self._closed = False

    def __len__(self) -> int:
        return len(self._viewers)

    def publish(
        self, ids: Int64, machines: Iterable[str], sites: Iterable[str], agents: Iterable[str], *, ping: bool
    ) -> None:
        """Offer a tick's changes to all viewers."""
        known = len(self._series)
        changes = Changes(
            self._announced, known, ids, frozenset(machines), frozenset(sites), frozenset(agents), ping
        )
        self._announced = known
        if not (
            len(ids)
            or changes.series_from < known
            or changes.machines
            or changes.sites
            or changes.agents
            or ping
        ):
            return
        for viewer in self._viewers:
            viewer.offer(changes)

    def close(self) -> None:
        """End all viewers, so that the server can stop; new ones end at once."""
        self._closed = True
        for viewer in list(self._viewers):
            viewer.close()

    async def watch(self, scope: Scope) -> AsyncIterator[bytes]:
        """Yield server-sent events for one viewer until the service stops or the viewer goes."""
        viewer = Viewer(scope)
        if self._closed:
            return
        self._viewers.add(viewer)
        try:
            yield self._hello(scope)
            while (changes := await viewer.take()) is not None:
                chunk = self.encode(changes, scope)
                if chunk:
                    yield chunk
        finally:
            self._viewers.discard(viewer)

    def encode(self, changes: Changes, scope: Scope) -> bytes:
        """Return the events for a scope; made once for all of its viewers."""
        known = changes.encoded.get(scope)
        if known is None:
            known = changes.encoded[scope] = b"".join(self._events(changes, scope))
        return known

    def _hello(self, scope: Scope) -> bytes:
        everything = Changes(0, len(self._series), np.arange(1, len(self._series) + 1))
        hello = _event(
            "hello", {"now": self._clock_ns() // 1_000_000, "ping_s": PING_S, "version": version("shopfloor")}
        )
        now_ns = self._clock_ns()
        parts = [
            hello,
            self._series_event(everything, scope),
            self._values_event(everything, scope) or _event("values", {"id": [], "t": [], "v": [], "q": []}),
            _event("machines", {"machines": self._machines(self._floor.machines, scope)}),
            _event("sites", {"sites": self._sites(self._floor.sites, scope)}),
            _event("agents", {"agents": self._agents(self._book.ids(), scope, now_ns)}),
        ]
        return b"".join(parts)

    def _events(self, changes: Changes, scope: Scope) -> Iterable[bytes]:
        if changes.series_from < changes.series_through:
            yield self._series_event(changes, scope)
        if len(changes.ids):
            yield self._values_event(changes, scope)
        if machines := self._machines(changes.machines, scope):
            yield _event("machines", {"machines": machines})
        if sites := self._sites(changes.sites, scope):
            yield _event("sites", {"sites": sites})
        if agents := self._agents(changes.agents, scope, self._clock_ns()):
            yield _event("agents", {"agents": agents})
        if changes.ping:
            yield _event("ping", {"now": self._clock_ns() // 1_000_000})

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

    def _series_event(self, changes: Changes, scope: Scope) -> bytes:
        first, through = changes.series_from, changes.series_through
        shown = [
            (number, key)
            for number, key in enumerate(self._series.keys[first:through], first + 1)
            if visible(key.asset, scope)
        ]
        return _event(
            "series",
            {
                "id": [number for number, _ in shown],
                "asset": [str(key.asset) for _, key in shown],
                "signal": [key.signal for _, key in shown],
                "unit": [self._units(key) for _, key in shown],
            },
        )

    def _values_event(self, changes: Changes, scope: Scope) -> bytes:
        ids = changes.ids
        if scope != ("",):
            ids = ids[self._mask(scope)[ids]]
        newest = self._newest.of(ids)
        return _event("values", values_of(newest)) if len(newest.series_id) else b""

    def _mask(self, scope: Scope) -> npt.NDArray[np.bool_]:
        """Return bool[series + 1]: which a scope shows."""
        mask = self._masks.get(scope, np.zeros(1, np.bool_))
        known = len(self._series)
        if len(mask) <= known:
            fresh = self._series.keys[len(mask) - 1 : known]
            mask = np.concatenate([mask, np.array([visible(key.asset, scope) for key in fresh], np.bool_)])
            self._masks[scope] = mask
            while len(self._masks) > _REMEMBERED_SCOPES:
                self._masks.popitem(last=False)
        return mask


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
