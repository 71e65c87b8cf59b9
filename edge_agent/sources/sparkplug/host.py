"""The host application without its connection: messages in; samples, gaps and requests for births out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.sparkplug.catalogue import Catalogue
from edge_agent.sources.sparkplug.config import SparkplugConfig
from edge_agent.sources.sparkplug.device import DEAD, INT64
from edge_agent.sources.sparkplug.findings import Findings, Gap
from edge_agent.sources.sparkplug.node import EdgeNode
from edge_agent.sources.sparkplug.ordering import Received
from edge_agent.sources.sparkplug.presence import Presence
from shopfloor.block import SampleBlock
from shopfloor.sparkplug import (
    REBIRTH,
    DataType,
    Metric,
    Payload,
    SparkplugDecodeError,
    Topic,
    decode_payload,
    encode_payload,
    parse_topic,
)

_log = logging.getLogger(__name__)

_NODE: Final = "node."
"""Before the descriptor, a key of the state of an edge node that was born once."""
_GREETING_S: Final = 5.0
"""How long an edge node that is known may take to notice that this host is back."""
_COMMANDS: Final = frozenset({"NCMD", "DCMD"})
_SHOWN: Final = 5

_topic = lru_cache(maxsize=16_384)(parse_topic)


class Collected(NamedTuple):
    """What has come together since the last time."""

    block: SampleBlock
    gaps: list[Gap]
    state: dict[str, bytes]
    counts: Counter[str]
    rebirths: list[str]
    """Topics of the edge nodes to ask for their births."""


class Host:
    """One session of the host application; the catalogue outlives it, what edge nodes said does not."""

    def __init__(
        self,
        config: SparkplugConfig,
        catalogue: Catalogue,
        presence: Presence,
        saved: Mapping[str, bytes],
        now_s: float,
    ) -> None:
        self._config = config
        self._catalogue = catalogue
        self.presence = presence
        self._found = Findings()
        self._dead = {
            key.removeprefix(DEAD): INT64.unpack(value)[0]
            for key, value in saved.items()
            if key.startswith(DEAD)
        }
        self._nodes: dict[str, EdgeNode] = {}
        self._remembered: set[str] = set()
        for key in saved:
            if key.startswith(_NODE):
                self._remember(key.removeprefix(_NODE), now_s)
        self._greeted_s = now_s + _GREETING_S

    def _remember(self, descriptor: str, now_s: float) -> None:
        if not self._config.wants(descriptor):
            self._found.state[_NODE + descriptor] = b""
            return
        self._remembered.add(descriptor)
        node = self._node(descriptor)
        if node is not None:
            # One that has nothing to say would else stay unknown.
            node.rebirth.want(now_s, _GREETING_S)

    def take(self, messages: Sequence[Message], now_s: float) -> None:
        """Take messages in the order in which they came; ``now_s`` is monotonic."""
        for message in messages:
            if message.topic == self._config.state_topic:
                odd = self.presence.hear(message.payload)
                if odd:
                    why = "is another host application of this name at work?"
                    self._catalogue.complain(odd, message.topic, why)
                continue
            topic = _topic(message.topic)
            if topic is not None and topic.type in _COMMANDS:
                continue
            if topic is None or not topic.group:
                self._found.count("unknown_topic")
                continue
            self._take(topic, message, now_s)

    def _take(self, topic: Topic, message: Message, now_s: float) -> None:
        descriptor = f"{topic.group}/{topic.edge}"
        if message.retain:
            # Never the present: these messages are not to be retained (4.2).
            self._catalogue.complain("retained_message", descriptor, f"{topic.type} is not to be retained")
            return
        if message.oversize:
            limit = self._config.max_payload_bytes
            why = f"{message.oversize} bytes, max_payload_bytes is {limit}"
            self._catalogue.complain("payload_too_large", descriptor, why)
            return
        try:
            payload = decode_payload(message.payload)
        except SparkplugDecodeError as error:
            self._catalogue.complain("not_sparkplug", descriptor, str(error))
            return
        node = self._node(descriptor)
        if node is None:
            return
        node.take(Received(topic.type, topic.device or "", payload, message.received_time), now_s)
        if node.is_alive and descriptor not in self._remembered:
            self._remembered.add(descriptor)
            self._found.state[_NODE + descriptor] = b"1"

    def _node(self, descriptor: str) -> EdgeNode | None:
        node = self._nodes.get(descriptor)
        if node is None:
            if len(self._nodes) >= self._config.max_edge_nodes:
                why = f"{len(self._nodes)} are followed already"
                self._catalogue.complain("too_many_edge_nodes", descriptor, why)
                return None
            node = self._nodes[descriptor] = EdgeNode(
                descriptor,
                self._catalogue,
                self._found,
                self._dead,
                reorder_timeout_s=self._config.reorder_timeout_s,
                rebirth_min_interval_s=self._config.rebirth_min_interval_s,
                forwards=self._config.store_and_forward,
            )
        return node

    def next_s(self) -> float | None:
        """Return when `collect` has something to do though no message came; None while nothing is pending."""
        pending = [node.next_s() for node in self._nodes.values()]
        pending.append(self.presence.next_s())
        return min((each for each in pending if each is not None), default=None)

    def collect(self, now_s: float, *, may_ask: bool = True) -> Collected:
        """Return everything that has come together, and what is due now; ``may_ask`` for births."""
        rebirths: list[str] = []
        for descriptor, node in self._nodes.items():
            node.tick(now_s)
            if may_ask and node.rebirth.take(now_s):
                group, _, edge = descriptor.partition("/")
                rebirths.append(str(Topic("NCMD", group, edge)))
        found = self._found
        block = found.rows.block()
        counts = found.rows.take_counts() + self._catalogue.counts
        self._catalogue.counts.clear()
        gaps, found.gaps = found.gaps, []
        state, found.state = found.state, {}
        return Collected(block, gaps, state, counts, rebirths)

    def summary(self, now_s: float) -> str:
        """Say which edge nodes and devices are not there; empty where nothing is wrong."""
        if now_s < self._greeted_s:
            return ""
        away = [
            descriptor
            for descriptor, node in self._nodes.items()
            if not node.is_alive and descriptor in self._remembered
        ]
        for node in self._nodes.values():
            if node.is_alive:
                away += node.dead_devices
        if not away:
            return ""
        shown = ", ".join(away[:_SHOWN]) + (f" and {len(away) - _SHOWN} more" if len(away) > _SHOWN else "")
        return f"disconnected: {shown}"


def rebirth_request(now_ms: int) -> bytes:
    """Return the payload of the command that asks an edge node for all its births (6.4.23)."""
    return encode_payload(Payload(now_ms, (Metric(REBIRTH, None, now_ms, DataType.Boolean, value=True),)))
