"""What open pages are told: the newest value of each series, machines, sites and agents, as they change.

A tick gathers what changed into one `Changes`, encoded once for all viewers of the same scope. A viewer that has not
taken the last one gets the two merged: a value is replaced, never queued, and a slow viewer costs one `Changes`.

Behind the events of a tick stands an id. Who comes back with it gets what has changed since, not everything anew.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from ingest_service.live_events import Changes, EventWriter
from ingest_service.live_scope import Scope
from ingest_service.plant.alarms import AlarmRow
from ingest_service.stores.series import SeriesIndex
from shopfloor.block import Int64

NO_ALARMS: Final[Mapping[str, AlarmRow]] = MappingProxyType({})
_REMEMBERED_BEGINNINGS: Final = 8
_ID: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})-([0-9]{1,15})")


class Viewer:
    """One open page: what it has not been given yet."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._pending: Changes | None = None
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, changes: Changes, merged: dict[Changes, Changes]) -> None:
        """Give it news; never waits.

        Args:
            changes: the news.
            merged: what earlier news became together with these: viewers that wait for the same get the same, so that
                it is encoded once for all of them. A service that is late is not made later by being so.
        """
        pending = self._pending
        if pending is None:
            self._pending = changes
        else:
            if pending not in merged:
                merged[pending] = pending.merged(changes)
            self._pending = merged[pending]
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


class _Past:
    """When each series was announced, and when its newest value last changed: int64[series + 1], by id, in ticks."""

    def __init__(self) -> None:
        self._announced = np.zeros(1024, np.int64)
        self._changed = np.zeros(1024, np.int64)

    def note(self, changes: Changes, known: int) -> None:
        while known >= len(self._announced):
            self._announced = np.concatenate([self._announced, np.zeros_like(self._announced)])
            self._changed = np.concatenate([self._changed, np.zeros_like(self._changed)])
        self._announced[changes.new_series] = changes.tick
        self._changed[changes.ids] = changes.tick

    def since(self, tick: int) -> tuple[Int64, Int64]:
        """Return the ids that were announced, and those whose value changed, after a tick."""
        return np.flatnonzero(self._announced > tick), np.flatnonzero(self._changed > tick)


class LiveHub:
    """Tells viewers. Belongs to the event loop; `publish` is called ten times a second."""

    def __init__(self, series: SeriesIndex, writer: EventWriter) -> None:
        self._series = series
        self._writer = writer
        self._viewers: set[Viewer] = set()
        self._announced = 0
        self._renewed: set[int] = set()
        self._past = _Past()
        self._tick = 0
        self._process = secrets.token_hex(8)
        """Ids of series and ticks count in this process alone."""
        self._beginnings: OrderedDict[tuple[Scope, int | None], bytes] = OrderedDict()
        """What viewers that came since the last tick began with: after a restart all of them come at once."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._viewers)

    def publish(
        self,
        ids: Int64,
        machines: Iterable[str],
        sites: Iterable[str],
        agents: Iterable[str],
        alarms: Mapping[str, AlarmRow] = NO_ALARMS,
        *,
        ping: bool,
    ) -> None:
        """Offer a tick's changes to all viewers."""
        known = len(self._series)
        changes = Changes(
            self._tick + 1,
            np.union1d(np.arange(self._announced + 1, known + 1), np.array(sorted(self._renewed), np.int64)),
            ids,
            frozenset(machines),
            frozenset(sites),
            frozenset(agents),
            ping,
            alarms,
        )
        if not changes:
            return
        self._tick = changes.tick
        self._announced = known
        self._renewed.clear()
        self._beginnings.clear()
        self._past.note(changes, known)
        merged: dict[Changes, Changes] = {}
        for viewer in self._viewers:
            viewer.offer(changes, merged)

    def renew(self, ids: Iterable[int]) -> None:
        """Announce series again with the next tick: their units have changed."""
        self._renewed.update(ids)

    def close(self) -> None:
        """End all viewers, so that the server can stop; new ones end at once."""
        self._closed = True
        for viewer in list(self._viewers):
            viewer.close()

    async def watch(self, scope: Scope, last_event_id: str = "") -> AsyncGenerator[bytes, None]:
        """Yield server-sent events for one viewer until the service stops or the viewer goes.

        Args:
            scope: what it is shown.
            last_event_id: where it goes on, as its last connection left off; of another process or scope, it begins anew.
        """
        viewer = Viewer(scope)
        if self._closed:
            return
        self._viewers.add(viewer)
        try:
            yield self._begin(scope, last_event_id)
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
            events = self._writer.changed(changes, scope)
            known = changes.encoded[scope] = events and events + self._mark(changes.tick, scope)
        return known

    def _begin(self, scope: Scope, last_event_id: str) -> bytes:
        since = self._tick_of(last_event_id, scope)
        hello = self._writer.hello(resumed=since is not None)
        known = self._beginnings.get((scope, since))
        if known is None:
            everything = np.arange(1, len(self._series) + 1)
            new_series, ids = (everything, everything) if since is None else self._past.since(since)
            known = self._writer.beginning(new_series, ids, scope) + self._mark(self._tick, scope)
            self._beginnings[scope, since] = known
            while len(self._beginnings) > _REMEMBERED_BEGINNINGS:
                self._beginnings.popitem(last=False)
        return hello + known

    def _mark(self, tick: int, scope: Scope) -> bytes:
        return f"id: {self._process}-{_digest(scope)}-{tick}\n\n".encode()

    def _tick_of(self, last_event_id: str, scope: Scope) -> int | None:
        match = _ID.fullmatch(last_event_id)
        if match is None or match[1] != self._process or match[2] != _digest(scope):
            return None
        tick = int(match[3])
        return tick if tick <= self._tick else None


def _digest(scope: Scope) -> str:
    return f"{zlib.crc32(chr(0).join(scope).encode()):08x}"


__all__ = ["LiveHub", "Viewer"]
