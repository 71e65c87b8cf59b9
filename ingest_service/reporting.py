"""Writes every few seconds, into a store on a server, what dashboards and alert rules need beside the samples.

One process does it, the one that leads. A report that fails is not made up for: the next one says what is true then, and
counts from where the last successful one ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ingest_service import report_points
from ingest_service.agents import AgentBook
from ingest_service.alarm_rules import Kind
from ingest_service.alarms import AlarmBook
from ingest_service.floor import Floor
from ingest_service.plant import activity
from ingest_service.plant.store import PlantStore
from ingest_service.stores.own_points import Point
from shopfloor import reports
from shopfloor.errors import StoreUnavailable

_S: Final = 1_000_000_000
_SETTLED_NS: Final = 5 * _S
"""What was recorded so long ago is committed, in every process: counts are of spans that end before."""
_LONGEST_NS: Final = 3600 * _S
_ALARMS_EVERY_NS: Final = 60 * _S
"""They are many by few: of each kind one a site."""
_EVENTS_EVERY_NS: Final = 30 * _S
_EVENTS_BACK_NS: Final = 86_400 * _S
"""A process that begins to lead says the events of so long again, which changes nothing where they are there."""
_OVERLAP_NS: Final = 60 * _S
_KINDS: Final = tuple(map(str, Kind))
_MOST_EVENTS: Final = 5_000
_log = logging.getLogger(__name__)


class Reporter:
    """Belongs to the event loop.

    Args:
        write: takes the points of one report.
        every_s: seconds between two reports; they lie on whole multiples of it, so that one of another process at the
            same moment is the same one.
        leads: whether this process is the one that reports.
        series: how many series there are.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Point]], Awaitable[None]],
        every_s: float,
        *,
        plant: PlantStore,
        book: AgentBook,
        floor: Floor,
        alarms: AlarmBook,
        leads: Callable[[], bool],
        series: Callable[[], int],
        clock_ns: Callable[[], int],
    ) -> None:
        self._write = write
        self._every_ns = round(every_s * _S)
        self._plant = plant
        self._book = book
        self._floor = floor
        self._alarms = alarms
        self._leads = leads
        self._series = series
        self._clock_ns = clock_ns
        self._counted_to = 0
        self._events_at = 0
        self._alarms_at = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Report from now on."""
        self._task = asyncio.create_task(self._run(), name="ingest-report")

    async def stop(self) -> None:
        """Report no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def report(self, at_ns: int) -> None:
        """Write what is true at ``at_ns`` (UTC ns); raises StoreUnavailable."""
        count_to = at_ns - _SETTLED_NS
        count_from = max(self._counted_to or count_to - self._every_ns, count_to - _LONGEST_NS)
        counts = await self._plant.run(activity.between, self._plant.engine, count_from, count_to)
        agents = self._book.records()
        machines, sites = self._floor.machines, self._floor.sites
        points = [
            *report_points.machine_points(
                machines, at_ns, self._floor.unmissed, self._floor.zone_deviations_k()
            ),
            *report_points.site_points(sites, machines, at_ns, self._floor.unmissed),
            *(point for one in agents for point in report_points.agent_points(one, counts, at_ns)),
            Point(
                reports.SERVICE,
                {},
                {
                    "agents": len(agents),
                    "agents_contact": sum(self._book.has_contact(one.agent_id, at_ns) for one in agents),
                    "series": self._series(),
                    "quarantine": self._plant.quarantined,
                    "stored": sum(counts.stored.values()),
                    "refused": sum(counts.refused.values()),
                },
                at_ns,
            ),
        ]
        alarms = at_ns - self._alarms_at >= _ALARMS_EVERY_NS
        if alarms:
            points += report_points.alarm_points(self._alarms.active.values(), sites, _KINDS, at_ns)
        events = at_ns - self._events_at >= _EVENTS_EVERY_NS
        if events:
            since = self._events_at - _OVERLAP_NS if self._events_at else at_ns - _EVENTS_BACK_NS
            found = await self._plant.run(activity.losses, self._plant.engine, since, _MOST_EVENTS)
            points += report_points.start_points(agents)
            points += [
                report_points.loss_point(span, self._book.asset_of(span.agent_id) or "", recorded)
                for span, recorded in found
            ]
        await self._write(points)
        self._counted_to = count_to
        if alarms:
            self._alarms_at = at_ns
        if events:
            self._events_at = at_ns

    async def _run(self) -> None:
        failing = False
        done = 0
        while True:
            now = self._clock_ns()
            at = (now // self._every_ns + 1) * self._every_ns
            if at == done:
                # A timer may wake a little early: said twice, a moment's counts would be those of no time at all.
                at += self._every_ns
            await asyncio.sleep((at - now) / _S)
            if not self._leads():
                self._counted_to = self._events_at = self._alarms_at = 0
                continue
            try:
                await self.report(at)
                failing, done = False, at
            except StoreUnavailable as error:
                # The samples' own writer says so as well, and raises the alarm.
                if not failing:
                    _log.warning("the store takes no report on machines and agents: %s", error)
                failing = True
            except Exception:  # noqa: BLE001 - one odd heartbeat must not end all reports
                # What is odd now may be gone in the next one; until then it is said once.
                if not failing:
                    _log.exception("a report on machines and agents failed; trying on")
                failing = True
