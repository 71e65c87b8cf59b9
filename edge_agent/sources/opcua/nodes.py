"""The configured nodes of one server: what each becomes, and how each is doing in the present session."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua

from edge_agent.normalise import normalise
from edge_agent.sources import BlockSink
from edge_agent.sources.opcua.arrays import Leaves
from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig
from edge_agent.sources.opcua.decode import Columns, MalformedMessage, Readings
from edge_agent.sources.opcua.expansion import Expansion
from edge_agent.sources.opcua.wording import Wording
from edge_agent.trouble import Trouble
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey

log = logging.getLogger(__name__)

_MAX_RETRY_S: Final = 60.0
_WELL_S: Final = 60.0
"""A node that fails again within this time has not been well in between."""
_MAX_TROUBLES: Final = 1_000
"""Nodes whose failure and return are logged one by one."""
_NAMED_IN_REPORT: Final = 3
NO_SAMPLES: Final = make_block((), [], [], [], [])
"""For puts that save state alone."""


@dataclass(slots=True)
class _Failure:
    reason: str
    next_try_s: float
    delay_s: float


class Nodes:
    """All nodes that are wanted, by number; a node's number is its client handle and its series' position.

    Numbers are never given anew: what was found on the server is added behind what the configuration names.
    """

    def __init__(self, config: OpcUaConfig, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.configs: list[NodeConfig] = []
        self._series: list[SeriesKey] = []
        self._series_now: tuple[SeriesKey, ...] = ()
        self.groups: dict[str, list[int]] = {}
        self._scale = np.empty(0)
        self._offset = np.empty(0)
        self._plain = True
        self._companions: dict[tuple[int, str], int] = {}
        self._retry_s = config.retry_s
        self.ids: dict[int, ua.NodeId] = {}
        """NodeIds of the nodes that work in this session."""
        self.watched_at_once = 0
        """How many the server is asked to watch at once after it did not answer in time, in whatever session; 0 is any."""
        self.changes = 0
        """Grows whenever other nodes work, or the same under other NodeIds."""
        self.readable: set[int] = set()
        """Nodes with a history that can be read."""
        self._failures: dict[int, _Failure] = {}
        self._now_s = now_s
        self._troubles: dict[int, Trouble] = {}
        """Of nodes that failed and have not been well for long since, in whatever session."""
        self._crowd = Trouble(log, f"source {config.name}", {"source": config.name}, now_s)
        self.remarks: list[str] = []
        """What else of the session should be reported, such as a certificate that ends soon."""
        self.search_remarks: list[str] = []
        """What patterns and profiles did not find."""
        self.wording = Wording()
        """The names of the values of enumerations."""
        self.expansion = Expansion(self)
        """The elements of arrays and structures, which have series of their own."""
        self.add(config.nodes)

    def add(self, configs: Sequence[NodeConfig]) -> range:
        """Want more nodes; return their numbers."""
        numbers = range(len(self.configs), len(self.configs) + len(configs))
        if not configs:
            return numbers
        self.configs.extend(configs)
        for number, node in zip(numbers, configs, strict=True):
            self.groups.setdefault(node.group, []).append(number)
        self._scale = np.append(self._scale, [node.scale for node in configs])
        self._offset = np.append(self._offset, [node.offset for node in configs])
        self._plain = bool((self._scale == 1.0).all() and (self._offset == 0.0).all())
        if any(node.enum != "value" for node in configs):
            self.expansion.types.named = True
        self._companions.clear()
        self._series[numbers.start :] = [SeriesKey(parse_asset(node.asset), node.signal) for node in configs]
        self._series_now = tuple(self._series)
        return numbers

    @property
    def series(self) -> tuple[SeriesKey, ...]:
        """Of each node by its number, then the `companion` series; the same object until there are others."""
        if len(self._series_now) != len(self._series):
            self._series_now = tuple(self._series)
        return self._series_now

    def companion(self, number: int, suffix: str) -> int:
        """Return the position in `series` of a series that a node has beside its own: ``SIGNAL.SUFFIX``.

        It counts until the next `add`: ask anew for every block.
        """
        position = self._companions.get((number, suffix))
        if position is None:
            position = self._companions[number, suffix] = len(self._series)
            asset, signal = self._series[number]
            self._series.append(SeriesKey(asset, f"{signal}.{suffix}"))
        return position

    def begin(self) -> None:
        """Forget what belongs to a session."""
        self.changes += 1
        self.ids.clear()
        self.readable.clear()
        self._failures.clear()
        self.expansion.begin()

    def works(self, number: int, node_id: ua.NodeId) -> None:
        """Note that a node is being read."""
        self.changes += 1
        self.ids[number] = node_id
        self._failures.pop(number, None)
        if number in self._troubles:
            self._well(number)

    def fails(self, number: int, reason: str, now_s: float, sink: BlockSink) -> None:
        """Note why a node can't be read, and when to try again."""
        self.changes += 1
        self.ids.pop(number, None)
        before = self._failures.get(number)
        delay = self._retry_s if before is None else min(before.delay_s * 2, max(_MAX_RETRY_S, self._retry_s))
        self._failures[number] = _Failure(reason, now_s + delay, delay)
        sink.count("node_failed")
        trouble = self._troubles.get(number)
        if trouble is None and len(self._troubles) >= _MAX_TROUBLES:
            self._crowd.met("more nodes fail than the log has room for; the source's state counts them")
            return
        if trouble is None:
            trouble = self._troubles[number] = Trouble(log, self.configs[number].label, now_s=self._now_s)
        trouble.met(f"{reason}; trying again")

    def settle(self) -> None:
        """Log which nodes are well again: to be called every now and then."""
        for number in [number for number in self._troubles if number in self.ids]:
            self._well(number)
        if len(self._troubles) < _MAX_TROUBLES:
            self._crowd.over("there is room in the log again")

    def _well(self, number: int) -> None:
        trouble = self._troubles[number]
        trouble.over("is back", well_s=_WELL_S)
        if not trouble.times:
            del self._troubles[number]

    def due(self, now_s: float) -> list[int]:
        """Return the failed nodes whose turn it is."""
        return [number for number, failure in self._failures.items() if failure.next_try_s <= now_s]

    def next_try_s(self) -> float | None:
        """Return when the next failed node is due, None if all work."""
        return min((failure.next_try_s for failure in self._failures.values()), default=None)

    def summary(self) -> str:
        """Say what is wrong, for the source's report; empty if nothing is."""
        parts = [*self.remarks, *self.search_remarks]
        if self._failures:
            named = sorted(self._failures.items())[:_NAMED_IN_REPORT]
            reasons = [f"{self.configs[number].label}: {failure.reason}" for number, failure in named]
            if len(self._failures) > len(named):
                reasons.append("…")
            parts.append(f"{len(self._failures)} of {len(self.configs)} nodes fail: {'; '.join(reasons)}")
        if said := self.expansion.elements.summary():
            parts.append(said)
        return "; ".join(parts)

    def active(self, group: str) -> list[int]:
        """Return the working nodes of a group."""
        return [number for number in self.groups[group] if number in self.ids]

    def known(self, columns: Columns) -> Readings:
        """Return readings; raises MalformedMessage where one belongs to no node."""
        readings = columns.readings()
        if len(readings.handle) and int(readings.handle.max()) >= len(self.configs):
            raise MalformedMessage(f"client handle {int(readings.handle.max())} was never given out")
        return readings

    def block(
        self, readings: Readings, leaves: Sequence[Leaves], received_time: int, sink: BlockSink
    ) -> tuple[SampleBlock, Readings]:
        """Make samples of `known` readings, and count what is odd about them.

        Args:
            readings: of nodes that there are.
            leaves: the elements of those values that are made of others (`Expansion.take_apart`).
            received_time: UTC ns.
            sink: whose counters count.

        Returns:
            The samples, and the readings with the elements in their places; rows of both are the same.
        """
        readings = self.expansion.expand(readings, leaves)
        value = readings.value
        if not self._plain:
            value = value * self._scale[readings.handle] + self._offset[readings.handle]
        block, odd = normalise(
            self.series,
            readings.series,
            readings.source_time,
            received_time,
            value,
            readings.status,
            readings.text,
            readings.null,
        )
        _count(
            sink,
            {
                **odd._asdict(),
                "not_convertible": readings.not_convertible,
                "integer_rounded": readings.integer_rounded,
                "element_left_out": readings.element_left_out,
            },
        )
        return block, readings

    def names(self, number: int) -> Mapping[int, str] | None:
        """Return the names of the values of a node that is an enumeration, where they are wanted."""
        return self.wording.names(number)

    def worded(self, block: SampleBlock) -> SampleBlock:
        """Return samples of this source with the names of enumerations where they are wanted."""
        if not self.wording:
            return block
        return self.wording.put(block, lambda: self.series, self.companion)

    def by_asset(self, numbers: Iterable[int]) -> Mapping[str, int]:
        """Return how many of some nodes belong to each asset, in its order."""
        return dict(sorted(Counter(str(self.series[number].asset) for number in numbers).items()))


def _count(sink: BlockSink, what: Mapping[str, int]) -> None:
    for name, number in what.items():
        if number:
            sink.count(name, number)
