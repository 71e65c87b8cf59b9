"""The OPC UA source: one server, its nodes, from connecting to closing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Never

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from edge_agent.sources import BlockSink
from edge_agent.sources.opcua.backfill import Backfill
from edge_agent.sources.opcua.config import OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.connect import Applicant, open_session
from edge_agent.sources.opcua.coverage import Coverage, Span, State, series_id
from edge_agent.sources.opcua.described import Described, name_values
from edge_agent.sources.opcua.discovery import Discovery
from edge_agent.sources.opcua.events import EVENTS, Events
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.machine_events import machine_events
from edge_agent.sources.opcua.model_changes import MODEL, ModelChanges
from edge_agent.sources.opcua.nodes import NO_SAMPLES, Nodes
from edge_agent.sources.opcua.poll import Poll
from edge_agent.sources.opcua.resolve import Problem, resolve
from edge_agent.sources.opcua.search import keep_searching
from edge_agent.sources.opcua.session import ServiceFault, Session, status_name
from edge_agent.sources.opcua.subscription import Subscriptions, Taker
from edge_agent.trouble import Trouble
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
        await _attach(
            live,
            subscriptions,
            [number for number in range(len(self._nodes.configs)) if number not in watched],
        )
        await self._events.attach(subscriptions)
        if config.rules:
            await model_changes.listen(subscriptions)
        self._remark(session)
        live.report()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(subscriptions.run())
            for poll in polls:
                tasks.create_task(poll.run())
            tasks.create_task(Backfill(live, self._history_trouble).run())
            tasks.create_task(_retry(live, subscriptions))
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
        await _attach(live, subscriptions, numbers)
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


async def _attach(live: Live, subscriptions: Subscriptions, numbers: Iterable[int]) -> None:
    """Find nodes on the server and begin to read them; what does not work is noted and tried again."""
    wanted = list(numbers)
    nodes = live.nodes
    found = await resolve(live.session, [nodes.configs[number].address for number in wanted])
    here: dict[int, ua.NodeId] = {}
    problems: dict[int, str] = {}
    for number, result in zip(wanted, found, strict=True):
        if isinstance(result, Problem):
            problems[number] = result.reason
        else:
            here[number] = result
    problems |= await _look_at(live, here)
    await name_values(live, here)
    with subscriptions.joining():
        problems |= await _begin(live, subscriptions, here, problems)
    now_s = asyncio.get_running_loop().time()
    for number, reason in problems.items():
        nodes.fails(number, reason, now_s, live.sink)
    live.attached.set()


async def _begin(
    live: Live, subscriptions: Subscriptions, here: Mapping[int, ua.NodeId], problems: Mapping[int, str]
) -> dict[int, str]:
    """Have what is sound watched or polled, and put into the books since when; return why some can't be watched."""
    nodes = live.nodes
    state: State = {}
    lost: list[Span] = []
    refused: dict[int, str] = {}
    for group in dict.fromkeys(nodes.configs[number].group for number in here):
        members = [
            number for number in here if nodes.configs[number].group == group and number not in problems
        ]
        settings = live.config.group(group)
        at = live.session.server_now()
        if isinstance(settings, SubscribeGroup) and members:
            outcome, at = await subscriptions.monitor(
                group, settings, [(number, here[number]) for number in members]
            )
            failed = {
                number: result.reason
                for number, result in zip(members, outcome, strict=True)
                if result is not None
            }
            refused |= failed
            members = [number for number in members if number not in failed]
        for number in members:
            nodes.works(number, here[number])
        if members:
            more, gone = live.join(group, members, at)
            state |= more
            lost.extend(gone)
    await live.record_lost(lost, "the connection was interrupted, and the server keeps no history")
    if state:
        await live.sink.put(NO_SAMPLES, state)
    return refused


async def _look_at(live: Live, here: dict[int, ua.NodeId]) -> dict[int, str]:
    """Ask which nodes exist and which of them have a history; return why some can't be read."""
    problems: dict[int, str] = {}
    numbers = list(here)
    levels = await live.session.read_attributes(
        [here[number] for number in numbers], AttributeIds.AccessLevel
    )
    for number, level in zip(numbers, levels, strict=True):
        live.nodes.readable.discard(number)
        status = level.StatusCode
        if status is not None and not status.is_good():
            problems[number] = status_name(status.value)
        elif level.Value is not None and isinstance(level.Value.Value, int):
            if level.Value.Value & ua.AccessLevel.HistoryRead.mask:
                live.nodes.readable.add(number)
            if not level.Value.Value & ua.AccessLevel.CurrentRead.mask:
                problems[number] = "the server does not let it be read (AccessLevel)"
    return problems


async def _retry(live: Live, subscriptions: Subscriptions) -> Never:
    """Try failed nodes again, each with its own backoff; a program loaded into the controller brings them back."""
    loop = asyncio.get_running_loop()
    while True:
        next_s = live.nodes.next_try_s()
        await asyncio.sleep(live.config.retry_s if next_s is None else max(0.05, next_s - loop.time()))
        live.nodes.settle()
        due = live.nodes.due(loop.time())
        if due:
            await live.session.read_namespaces()
            await _attach(live, subscriptions, due)
            if any(number in live.nodes.ids for number in due):
                live.search_wanted.set()
            live.report()


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what a group of failures is about: the first that is not a group itself."""
    causes: Sequence[BaseException] = group.exceptions
    first = causes[0]
    return _first_cause(first) if isinstance(first, BaseExceptionGroup) else first
