"""The parts of the service, put together: opened, kept ticking, closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Self

import numpy as np

from ingest_service.access.authenticator import Authenticator
from ingest_service.access.gate import Access
from ingest_service.admission import Admission
from ingest_service.agents import AgentBook
from ingest_service.alarms import AlarmBook
from ingest_service.backpressure import Backpressure
from ingest_service.companions import FOLLOW_S, Companions
from ingest_service.config import IngestConfig
from ingest_service.examination import uncovered
from ingest_service.floor import Floor
from ingest_service.gauges import connect_gauges
from ingest_service.live import NO_ALARMS, LiveHub
from ingest_service.live_events import PING_S, EventWriter
from ingest_service.metrics import Metrics
from ingest_service.parts import WATCHED, CounterSample, Watch, midnight_ns
from ingest_service.plant import stream_notes
from ingest_service.plant.alarms import AlarmRow
from ingest_service.plant.leader import Leader
from ingest_service.plant.store import PlantStore
from ingest_service.readmission import Readmission
from ingest_service.reporting import Reporter
from ingest_service.rolling import Rolling
from ingest_service.stores import Selector, TimeSpan
from ingest_service.stores.opening import heard_of, open_store, report_every_s, report_to, roll_up_of
from shopfloor.asset import AssetPath
from shopfloor.block import Quality
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SeriesDeclaration, SeriesDeclarations
from shopfloor.signal import SeriesKey

TICK_S: Final = 0.1
_REFRESH_S: Final = 1.0
_SAVE_S: Final = 5.0
_LOOK_BACK_NS: Final = 2 * 86_400 * 1_000_000_000
_log = logging.getLogger(__name__)


class Service:
    """Everything behind the routes."""

    def __init__(self, config: IngestConfig, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.config = config
        self.clock_ns = clock_ns
        self.metrics = Metrics()
        config.data.mkdir(parents=True, exist_ok=True)
        self.plant = PlantStore(config.plant_address)
        try:
            self.store = open_store(config, self.plant, WATCHED, self.metrics.observe_commit)
        except StoreUnavailable:
            self.plant.close()
            raise
        index = self.store.index
        self._watch = Watch(index)
        self.store.listeners.append(self._watch)
        self.book = AgentBook(self.plant.load_agents(), clock_ns)
        self.declared = {
            (one.asset, one.signal): (one.unit, one.description) for one in self.plant.load_declarations()
        }
        self.companions = Companions(self.plant, self.book, self.note_declared, heard_of(self.store))
        self.leader = Leader(self.plant.engine)
        self.floor = Floor(
            index,
            self.store.newest,
            self.book,
            config.sites,
            config.planned_standstill_reasons,
            self.plant.load_machine_states(),
        )
        self.alarms = AlarmBook(self.plant, config.alarms, self.book.asset_of, clock_ns)
        self._started_ns = clock_ns()
        self._leads = False
        self.hub = LiveHub(
            index,
            EventWriter(
                index,
                self.store.newest,
                self.floor,
                self.book,
                self.unit,
                clock_ns,
                lambda: list(self.alarms.active.values()),
            ),
        )
        self.authenticator = Authenticator(self.plant, idle_s=config.access.session_idle_s, clock_ns=clock_ns)
        self.access = Access(
            config.access, self.plant, self.metrics, behind_proxy=config.behind_proxy, clock_ns=clock_ns
        )
        self.backpressure = Backpressure(config.limits.waiting_bytes, config.limits.agent_waiting_bytes)
        self.admission = Admission(
            self.store,
            self.plant,
            self,
            self.metrics,
            series_limit=config.limits.series,
            series_known=lambda series: (index.unknown(series), len(index)),
            quarantine_limit=config.limits.quarantine_samples,
            clock_ns=clock_ns,
            observer=self.alarms,
        )
        self.readmission = Readmission(self.store, self.plant, self.admission, clock_ns)
        write = report_to(self.store)
        self.reporter = write and Reporter(
            write,
            report_every_s(config.store),
            plant=self.plant,
            book=self.book,
            floor=self.floor,
            alarms=self.alarms,
            leads=lambda: self._leads,
            series=lambda: len(index),
            clock_ns=clock_ns,
        )
        roll_up = roll_up_of(self.store)
        self.rolling = roll_up and Rolling(roll_up, leads=lambda: self._leads, clock_ns=clock_ns)
        self._ticking: asyncio.Task[None] | None = None
        self._agent_contact: dict[str, tuple[bool, object]] = {}
        connect_gauges(
            self.metrics,
            self.store,
            self.admission,
            self.backpressure,
            self.hub,
            self.alarms,
            self.book,
            clock_ns,
        )

    async def __aenter__(self) -> Self:
        await self._load_counters()
        now = self.clock_ns()
        self.floor.take(self.store.newest.take_dirty(), (), now)
        self.floor.refresh(now)
        self._ticking = asyncio.create_task(self._tick_forever(), name="ingest-tick")
        for one in (self.reporter, self.rolling):
            if one:
                one.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hub.close()
        if self._ticking:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        for one in (self.reporter, self.rolling):
            if one:
                await one.stop()
        with contextlib.suppress(StoreUnavailable):
            await self._save()
        await self.store.close()
        self.leader.close()
        self.access.close()
        self.plant.close()

    def asset_of(self, agent_id: str) -> str | None:
        """Return the asset that an agent serves."""
        return self.book.asset_of(agent_id)

    def has_reported(self, agent_id: str) -> bool:
        """See `AgentBook.has_reported`."""
        return self.book.has_reported(agent_id)

    def stream_agent(self, stream_id: str) -> str | None:
        """Return the agent that first wrote a stream."""
        return self.store.stream_agent(stream_id)

    async def settle_vanished(self, agent_id: str, vanished: Mapping[str, int], *, final: bool) -> None:
        """Note numbers that waited at an agent and do not any more, as far as the store does not have them.

        An alarm it is only once it is final: no loss record is on its way that may explain them.
        """
        try:
            marks = {stream: await self.store.watermark(stream) for stream in vanished}
            lost = {
                stream: through
                for stream, through in vanished.items()
                if through > marks[stream].received_through
            }
            if lost:
                await self.plant.run(
                    stream_notes.put_vanished, self.plant.engine, agent_id, lost, self.clock_ns()
                )
            for stream, through in lost.items() if final else ():
                known = await self.plant.run(self.plant.spans_of, stream)
                span = (marks[stream].received_through + 1, through)
                if count := uncovered(span, [(first, last) for first, last, _, _ in known]):
                    self.alarms.lost(
                        agent_id, stream, f"{count} samples waited at the edge, and do not any more"
                    )
        except StoreUnavailable:
            self.book.keep_unexplained(agent_id, vanished)

    async def retire(self, agent_id: str) -> None:
        """Take an agent out of the registry; what still waited at it is missing from now on; raises StoreUnavailable."""
        pending = self.book.retire(agent_id, self.clock_ns())
        self.alarms.retire(agent_id)
        await self.settle_vanished(agent_id, pending, final=True)
        await self.plant.run(self.plant.save_agents, self.book.changed_rows())

    def unit(self, key: SeriesKey) -> str:
        """Return the declared unit of a series, empty where none is."""
        return self.declared.get((str(key.asset), key.signal), ("", ""))[0]

    async def declare(self, declarations: SeriesDeclarations, asset: str) -> None:
        """Keep what an agent says about its series."""
        await self.plant.run(self.plant.put_declarations, declarations)
        self.note_declared(declarations.series)
        self.book.set_declared(declarations.agent_id, declarations.config_hash, asset)

    def note_declared(self, series: Iterable[SeriesDeclaration]) -> None:
        """Take what is declared durably; pages learn of other units."""
        renewed = []
        for one in series:
            if self.declared.get((one.asset, one.signal), ("", ""))[0] != one.unit:
                number = self.store.index.get(SeriesKey(AssetPath(one.asset), one.signal))
                renewed += [] if number is None else [number]
            self.declared[one.asset, one.signal] = (one.unit, one.description)
        self.hub.renew(renewed)

    async def check(self) -> None:
        """Raise StoreUnavailable where a store does not answer."""
        await self.plant.run(self.plant.check)
        await self.store.check()

    async def _tick_forever(self) -> None:
        due_refresh = due_save = due_ping = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            try:
                self._tick(refresh=now >= due_refresh, ping=now >= due_ping)
                due_refresh = now + _REFRESH_S if now >= due_refresh else due_refresh
                due_ping = now + PING_S if now >= due_ping else due_ping
                if now >= due_save:
                    due_save = now + (FOLLOW_S if self.companions.shared else _SAVE_S)
                    await self._save()
                    await self.companions.follow()
                    self.alarms.reach("plant", None)
            except StoreUnavailable as error:
                self.alarms.reach("plant", error)
                _log.warning("agents and machine states are not saved: %s", error)
            except Exception:  # noqa: BLE001 - one odd value must not end the pages for all
                _log.exception("a tick of the live pages failed")

    def _tick(self, *, refresh: bool, ping: bool) -> None:
        now_ns = self.clock_ns()
        newest = self.store.newest.take_dirty()
        machines = self.floor.take(newest, self._watch.drain(), now_ns)
        sites: set[str] = set()
        agents: set[str] = set()
        alarms: Mapping[str, AlarmRow] = NO_ALARMS
        if refresh:
            more, sites = self.floor.refresh(now_ns)
            machines |= more
            agents = self._changed_agents(now_ns)
            if self._leads:
                self.alarms.look_at(self.book.records(), self._started_ns)
            alarms = self.alarms.news()
        self.hub.publish(newest.series_id, machines, sites, agents, alarms, ping=ping)

    def _changed_agents(self, now_ns: int) -> set[str]:
        changed = set()
        for agent_id in self.book.ids():
            described = self.book.describe(agent_id, now_ns)
            # The time of the last contact alone is no news; that contact ended, or a source's state, is.
            news = (described["contact"], described["sources"])
            if self._agent_contact.get(agent_id) != news:
                self._agent_contact[agent_id] = news
                changed.add(agent_id)
        for gone in self._agent_contact.keys() - set(self.book.ids()):
            del self._agent_contact[gone]
        return changed

    async def _save(self) -> None:
        agents = self.book.changed_rows()
        states = {asset: self.floor.states[asset] for asset in self.floor.unsaved_states}
        self.floor.unsaved_states.clear()
        repeated = self.admission.take_repeated()
        await self.plant.run(self.plant.save_agents, agents)
        await self.plant.run(stream_notes.add_repeated, self.plant.engine, repeated)
        self._leads = await self.plant.run(self.leader.leads)
        if self._leads:
            await self.alarms.save()
        await self.alarms.follow(leads=self._leads)
        if self._leads:
            await self.readmission.resume()
            await self.plant.run(self.plant.save_machine_states, states)

    async def _load_counters(self) -> None:
        now = self.clock_ns()
        zones = [self.floor.zone(site.asset) for site in self.config.sites] or [self.floor.zone("")]
        begin = min(midnight_ns(now, zone) for zone in zones) - _LOOK_BACK_NS
        selector = Selector(signals=tuple(sorted(WATCHED)))
        found = await self.store.read(selector, TimeSpan(begin, 2**63 - 1), self.config.limits.export_samples)
        block = found.block
        samples: Sequence[CounterSample] = [
            CounterSample(found.series[index].id, at, value, block.text.get(row))
            for row, (index, at, value, quality) in enumerate(
                zip(
                    block.series_index.tolist(),
                    block.source_time.tolist(),
                    block.value.tolist(),
                    block.quality.tolist(),
                    strict=True,
                )
            )
            if quality < Quality.BAD
        ]
        self.floor.take(self.store.newest.of(np.empty(0, np.int64)), samples, now)
