"""The OPC UA source: one server, its nodes, from connecting to closing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Never

from edge_agent.sources import BlockSink
from edge_agent.sources.opcua.attaching import attach, retry
from edge_agent.sources.opcua.backfill import Backfill
from edge_agent.sources.opcua.config import OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.connect import Applicant, open_session
from edge_agent.sources.opcua.coverage import Coverage, series_id
from edge_agent.sources.opcua.described import Described
from edge_agent.sources.opcua.discovery import Discovery
from edge_agent.sources.opcua.event_books import EVENTS
from edge_agent.sources.opcua.events import Events
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.machine_events import machine_events
from edge_agent.sources.opcua.model_changes import MODEL, ModelChanges
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.poll import Poll
from edge_agent.sources.opcua.search import keep_searching
from edge_agent.sources.opcua.session import ServiceFault, Session
from edge_agent.sources.opcua.subscription import Subscriptions, Taker
from edge_agent.trouble import Trouble
from shopfloor import memory
from shopfloor.errors import SourceUnavailable
from shopfloor.messages import SeriesDeclaration, SourceState

log = logging.getLogger(__name__)

_REMARK_INTERVAL_S = 3_600.0
_HISTORY_BATCH = 50
"""Nodes that share a hole: small enough that progress of a slow one does not hold back many."""


class OpcUaSource:
    """One OPC UA server, read as `Source` demands.

    Args:
        config: what a user wrote.
        clock: UTC ns, the agent's.
        agent_id: the agent's name, for the certificate that is made for it.
        pki: the agent's folder of certificates; a security policy needs it, unless the configuration names one.
    """

    protocol = "opcua"

    def __init__(
        self,
        config: OpcUaConfig,
        *,
        clock: Callable[[], int] = time.time_ns,
        agent_id: str = "",
        pki: Path | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._applicant = Applicant(agent_id, pki)
        self._nodes = Nodes(config)
        for group in dict.fromkeys(str(rule.settings["group"]) for rule in config.rules if not rule.objects):
            # So that a subscription or a round of polling is there when something is found.
            self._nodes.groups.setdefault(group, [])
        self._described = Described(self._nodes)
        self._discovery: Discovery | None = None
        self._events = Events(config.name, (*config.events, *config.alarms))
        self._declared: tuple[SeriesDeclaration, ...] = ()
        self._declared_for = (0, -1)
        self._history_trouble = Trouble(
            log, f"source {config.name}: reading history", {"source": config.name}
        )

    @property
    def name(self) -> str:
        """See Source."""
        return self._config.name

    @property
    def assets(self) -> tuple[str, ...]:
        """See Source."""
        found = () if self._discovery is None else self._discovery.machines
        return tuple(
            dict.fromkeys(
                [
                    *(str(node.asset) for node in self._nodes.configs),
                    *self._events.assets,
                    *(machine.asset for machine in found),
                ]
            )
        )

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        """See Source; the same object until there is more to say."""
        described = self._described.declarations()
        made_for = (id(described), len(self._events.listeners))
        if made_for != self._declared_for:
            self._declared = (*described, *self._events.declarations())
            self._declared_for = made_for
        return self._declared

    async def run(self, sink: BlockSink) -> Never:
        """See Source."""
        sink.report(SourceState.CONNECTING)
        self._nodes.begin()
        discovery = self._remember(sink)
        try:
            async with open_session(self._config, self._clock, self._applicant) as session:
                await self._serve(session, sink, discovery)
        except ServiceFault as fault:
            raise SourceUnavailable(str(fault)) from fault
        except BaseExceptionGroup as group:
            cause = _first_cause(group)
            if isinstance(cause, ServiceFault):
                raise SourceUnavailable(str(cause)) from cause
            raise cause from None
        raise SourceUnavailable("the session ended")

    def _remember(self, sink: BlockSink) -> Discovery:
        """Return what was found before, and want it again."""
        if self._discovery is None:
            taken = (
                [(str(node.asset), node.signal) for node in self._config.nodes] if self._config.rules else []
            )
            self._discovery = Discovery(self._config.rules, taken)
            self._nodes.add(self._discovery.restore(sink.state()))
            self._described.restore(sink.state())
            self._events.want(machine_events(self._config, self._discovery.machines))
        return self._discovery

    async def _serve(self, session: Session, sink: BlockSink, discovery: Discovery) -> None:
        config = self._config
        coverage = Coverage(
            config.name,
            [series_id(node.asset, node.signal) for node in self._nodes.configs],
            sink.state(),
            overlap_ns=round(config.history.overlap_s * 1e9),
            batch=_HISTORY_BATCH,
        )
        live = Live(session, config, sink, self._nodes, coverage, self._clock)
        subscriptions = Subscriptions(live)
        takers: dict[str, Taker | None] = {
            group: None for group in self._nodes.groups if isinstance(config.group(group), SubscribeGroup)
        }
        if self._events.open(live):
            takers[EVENTS] = self._events
        model_changes = ModelChanges(live)
        if config.rules:
            takers[MODEL] = model_changes
        watched = set(await subscriptions.inherit(takers))
        polls: list[Poll] = []
        for group in self._nodes.groups:
            settings = config.group(group)
            if isinstance(settings, SubscribeGroup):
                await subscriptions.create(group, settings)
            else:
                polls.append(Poll(live, group, settings))
        await attach(
            live,
            subscriptions,
            [number for number in range(len(self._nodes.configs)) if number not in watched],
        )
        await self._events.attach(subscriptions)
        if config.rules:
            await model_changes.listen(subscriptions)
        self._remark(session)
        live.report()
        # The requests and answers about ten thousand nodes have gone.
        memory.give_back()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(subscriptions.run())
            for poll in polls:
                tasks.create_task(poll.run())
            tasks.create_task(Backfill(live, self._history_trouble).run())
            tasks.create_task(retry(live, subscriptions))
            tasks.create_task(self._events.tend(subscriptions, partial(self._say, live)))
            tasks.create_task(self._events.read_history())
            if config.read_metadata:
                tasks.create_task(self._described.keep_asking(live))
            if config.rules:
                tasks.create_task(
                    keep_searching(live, discovery, partial(self._attach_found, live, subscriptions))
                )
            tasks.create_task(session.keep_alive(sink.clock_offset))
            tasks.create_task(session.renew_channel())
            tasks.create_task(self._watch_certificates(live))

    async def _attach_found(self, live: Live, subscriptions: Subscriptions, numbers: Iterable[int]) -> None:
        """Begin to read nodes that were found, and to listen to the machines that they belong to."""
        await attach(live, subscriptions, numbers)
        if self._discovery is not None:
            self._events.want(machine_events(self._config, self._discovery.machines))
        await self._events.attach(subscriptions)
        self._remark(live.session)

    async def _watch_certificates(self, live: Live) -> Never:
        """Say in time what will end, also in a session that lasts for months."""
        while True:
            await asyncio.sleep(_REMARK_INTERVAL_S)
            self._say(live)

    def _say(self, live: Live) -> None:
        if self._remark(live.session):
            live.report()

    def _remark(self, session: Session) -> bool:
        """Put what certificates need and events lack into the source's report; return whether that is news."""
        remarks = [*session.remarks(), *self._events.problems()]
        before, self._nodes.remarks = self._nodes.remarks, remarks
        for remark in remarks:
            if remark not in before:
                log.warning("source %s: %s", self.name, remark)
        return remarks != before


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what a group of failures is about: the first that is not a group itself."""
    causes: Sequence[BaseException] = group.exceptions
    first = causes[0]
    return _first_cause(first) if isinstance(first, BaseExceptionGroup) else first
