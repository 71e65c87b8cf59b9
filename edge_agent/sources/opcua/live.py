"""What the parts of one session share: the server, the way to the buffer, the nodes, the books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncua import ua

from edge_agent.sources import BlockSink
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.coverage import Coverage, Mark, Span, State
from edge_agent.sources.opcua.datatypes import learn
from edge_agent.sources.opcua.decode import Columns, MalformedMessage, Readings
from edge_agent.sources.opcua.nodes import NO_SAMPLES, Nodes
from edge_agent.sources.opcua.session import Session
from shopfloor.block import SampleBlock
from shopfloor.errors import SourceUnavailable
from shopfloor.messages import SourceState

_MAX_NESTING: Final = 8
"""So many times structures of unknown types may lie in each other."""
_HOUR_NS = 3_600 * 1_000_000_000


@dataclass(slots=True)
class Live:
    """One session at work."""

    session: Session
    config: OpcUaConfig
    sink: BlockSink
    nodes: Nodes
    coverage: Coverage
    clock: Callable[[], int]
    """The agent's clock, UTC ns."""
    history_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a new hole, or a node that an old one waits for."""
    attached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when more nodes work."""
    search_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nodes have come back: where they were, there may be others."""
    data_types: dict[ua.NodeId, Mapping[int, str]] = field(default_factory=dict)
    """Names of the values of the data types that were asked for in this session."""

    def __post_init__(self) -> None:
        self.nodes.expansion.elements.restore(self.sink.state().get(self._elements_key))

    @property
    def _elements_key(self) -> str:
        return f"{self.config.name}/elements"

    async def samples(self, columns: Columns, received_time: int) -> tuple[SampleBlock, Readings]:
        """Make samples of what one message brought, asking the server about structures that are met for the first time.

        Raises:
            SourceUnavailable: the message can't be right, or the server does not answer.
        """
        expansion = self.nodes.expansion
        try:
            readings = self.nodes.known(columns)
            leaves, unknown = expansion.take_apart(readings)
            for _ in range(_MAX_NESTING if unknown else 0):
                await learn(self.session, expansion.types, unknown)
                # What lies in structures shows only now.
                leaves, unknown = expansion.take_apart(readings)
                if not unknown:
                    break
            made = self.nodes.block(readings, leaves, received_time, self.sink)
        except MalformedMessage as error:
            raise SourceUnavailable(str(error)) from error
        elements = expansion.elements
        if elements.news:
            # Before, for what others learn meanwhile is news again.
            elements.news = False
            try:
                await self.sink.put(NO_SAMPLES, {self._elements_key: elements.saved()})
            except BaseException:
                elements.news = True
                raise
            self.report()
        return made

    def join(self, group: str, numbers: Sequence[int], at: int) -> tuple[State, tuple[Span, ...]]:
        """Note that nodes of a group are live since ``at`` (UTC ns, the server's clock)."""
        change = self.coverage.join(
            group,
            numbers,
            Mark(at, self.clock()),
            readable=self.nodes.readable,
            backfill_ns=round(self.config.history.backfill_h * _HOUR_NS),
        )
        self.history_wanted.set()
        return change.state, change.lost

    def model_changed(self) -> None:
        """Note that the server's address space has changed: there may be more to be found."""
        self.sink.count("address_space_changed")
        self.search_wanted.set()

    async def overflowed(self, group: str, numbers: Sequence[int], until: int) -> State:
        """Note that the server's queues of nodes overflowed before ``until``; return the state to put."""
        self.sink.count("server_queue_overflow", len(numbers))
        change = self.coverage.interrupted(group, numbers, until, readable=self.nodes.readable)
        # The bit says that one is missing, not how many.
        await self.record_lost(
            change.lost, "the server's queue overflowed, and it keeps no history", of_each=1
        )
        self.history_wanted.set()
        return change.state

    async def lose(self, numbers: Sequence[int], reason: str) -> None:
        """Note that nodes stopped working: they are tried again, and read from history when they are back."""
        now_s = asyncio.get_running_loop().time()
        for number in numbers:
            self.nodes.fails(number, reason, now_s, self.sink)
        await self.sink.put(NO_SAMPLES, self.coverage.leave(numbers))
        self.report()

    async def record_lost(self, spans: Iterable[Span], reason: str, *, of_each: int = 0) -> None:
        """Record what can't be read again, once for every asset; ``of_each`` node so many values at least."""
        for span in spans:
            for asset, members in self.nodes.by_asset(span.nodes).items():
                await self.sink.gap(reason, span.start, span.end, asset=asset, count=of_each * members)

    def report(self) -> None:
        """Say how the source is doing."""
        self.sink.report(SourceState.RUNNING, self.nodes.summary())
