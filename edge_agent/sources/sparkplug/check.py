"""A look at a broker before anything is deployed: which edge nodes and devices speak there, and what becomes of them.

A visitor is no host application: it neither says STATE nor asks for births, so nothing changes for the edge nodes.
Only those that are born while it listens show their metrics.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from typing import Final

from edge_agent.sources.mqtt.check import Finding, shown
from edge_agent.sources.mqtt.connection import Connection, connected
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.sparkplug.catalogue import Catalogue
from edge_agent.sources.sparkplug.config import SparkplugConfig
from edge_agent.sources.sparkplug.host import Host
from edge_agent.sources.sparkplug.presence import Presence
from shopfloor.block import Sample
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from shopfloor.sparkplug import HostState, SparkplugDecodeError, decode_state, parse_topic

_SHOWN: Final = 10
_MAX_SEEN: Final = 2_000
_BIRTHS: Final = frozenset({"NBIRTH", "DBIRTH"})
_UNREMARKABLE: Final = frozenset(
    {"unknown_node", "never_valued", "transient", "historical", "stale_death", "node_death"}
)


class _Visit:
    """What was seen so far."""

    def __init__(self, config: SparkplugConfig) -> None:
        self._config = config
        self._host = Host(config, Catalogue(config), Presence(0), {}, time.monotonic())
        self._spoke: dict[str, bool] = {}
        """Descriptor to whether its birth was seen."""
        self._samples: dict[str, Sample] = {}
        self._counts: Counter[str] = Counter()
        self._state: HostState | None = None

    def note(self, messages: list[Message]) -> None:
        for message in messages:
            topic = parse_topic(message.topic)
            if message.topic == self._config.state_topic:
                self._note_state(message.payload)
            elif topic is not None and topic.group and not message.retain and len(self._spoke) < _MAX_SEEN:
                descriptor = "/".join(part for part in (topic.group, topic.edge, topic.device) if part)
                born = self._spoke.get(descriptor, False) or topic.type in _BIRTHS
                self._spoke[descriptor] = born
        now_s = time.monotonic()
        self._host.take([each for each in messages if each.topic != self._config.state_topic], now_s)
        found = self._host.collect(now_s, may_ask=False)
        self._counts += found.counts
        for sample in found.block.rows():
            if len(self._samples) < _MAX_SEEN:
                self._samples.setdefault(str(sample.series), sample)

    def _note_state(self, payload: bytes) -> None:
        try:
            self._state = decode_state(payload)
        except SparkplugDecodeError:
            self._counts["state_not_understood"] += 1

    def findings(self, listen_s: float) -> list[Finding]:
        host_id = self._config.host_id
        if self._state is None:
            said = f"no host application {host_id} was ever online there"
        else:
            said = f"host application {host_id} is {'online' if self._state.online else 'offline'} there"
        found = [Finding(said)]
        if not self._spoke:
            found.append(Finding(f"no message of the configured edge nodes in {listen_s:g} s"))
        born = [descriptor for descriptor, is_born in self._spoke.items() if is_born]
        silent = [descriptor for descriptor, is_born in self._spoke.items() if not is_born]
        if born:
            found.append(Finding(f"{len(born)} births: {_some(born)}"))
        if silent:
            found.append(Finding(f"{len(silent)} spoke whose births came before: {_some(silent)}"))
        if self._samples:
            some = [f"{each.series} = {shown(each)}" for each in list(self._samples.values())[:_SHOWN]]
            found.append(Finding(f"{len(self._samples)} signals: {_some(some, len(self._samples))}"))
        elif born:
            found.append(Finding("the births give no sample as configured", sound=False))
        found += [
            Finding(f"{what}: {number} times", sound=False)
            for what, number in self._counts.items()
            if what not in _UNREMARKABLE
        ]
        return found


async def check(config: SparkplugConfig, listen_s: float = 5.0) -> list[Finding]:
    """Connect as a visitor (own client id, no will), listen for ``listen_s`` and say what was found."""
    visitor = f"{config.client_id[:100]}-check-{secrets.token_hex(3)}"
    findings: list[Finding] = []
    try:
        async with connected(
            config, clock=time.time_ns, count=lambda _what: None, client_id=visitor, keep_session=False
        ) as connection:
            findings.append(Finding(f"connected to {config.broker}, MQTT {config.protocol}"))
            visit = _Visit(config)
            subscribing = asyncio.create_task(connection.subscribe(config.filters, 1))
            try:
                await _listen(connection, visit, listen_s)
            finally:
                if not subscribing.done():
                    findings.append(Finding("not all subscriptions were answered in time", sound=False))
                subscribing.cancel()
                await asyncio.wait([subscribing])
                findings += visit.findings(listen_s)
            if not subscribing.cancelled():
                subscribing.result()
    except (SourceUnavailable, SourceMisconfigured) as error:
        findings.append(Finding(str(error), sound=False))
    return findings


async def _listen(connection: Connection, visit: _Visit, listen_s: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + listen_s
    while (left_s := end - loop.time()) > 0:
        messages = await connection.receive(100, 2**20, left_s)
        visit.note(messages)
        connection.acknowledge(messages)


def _some(texts: list[str], number: int = 0) -> str:
    left = max(number, len(texts)) - len(texts[:_SHOWN])
    return ", ".join(texts[:_SHOWN]) + (f" and {left} more" if left else "")
