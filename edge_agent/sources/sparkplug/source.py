"""The Sparkplug source: this agent as a host application of one broker, durable from receipt."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Never, Protocol

from edge_agent.sources import BlockSink
from edge_agent.sources.known_assets import KnownAssets, common_ancestor
from edge_agent.sources.mqtt.connection import Connection, Will, connected
from edge_agent.sources.mqtt.topics import placeholders
from edge_agent.sources.sparkplug.catalogue import Catalogue
from edge_agent.sources.sparkplug.config import SparkplugConfig
from edge_agent.sources.sparkplug.device import INT64
from edge_agent.sources.sparkplug.host import Host, rebirth_request
from edge_agent.sources.sparkplug.presence import Presence
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import SeriesDeclaration, SourceState

_log = logging.getLogger(__name__)

_MAX_MESSAGES: Final = 1_000
_MAX_BYTES: Final = 2**20
_CONTACT_EVERY_NS: Final = 10 * 1_000_000_000
_IDLE_S: Final = 10.0
_GOODBYE_S: Final = 1.0
_EMPTY: Final[SampleBlock] = make_block((), [], [], [], [])

# Keys of the state that the sink keeps for us, beside those of edge nodes.
_CONTACT: Final = "contact"
"""UTC ns, int64, little-endian: until then this host was seen to work."""
_SESSION: Final = "session"
"""UTC ms, int64: the timestamp of the last session's STATE."""


class Connect(Protocol):
    """How a connection is made; `connected`, or a test's own."""

    def __call__(
        self,
        config: SparkplugConfig,
        *,
        clock: Callable[[], int],
        count: Callable[[str], None],
        keep_session: bool,
        will: Will,
    ) -> AbstractAsyncContextManager[Connection]:
        """Return a context that is the open connection."""
        ...


class SparkplugSource:
    """One broker with Sparkplug edge nodes as a source; see `edge_agent.sources.Source`."""

    protocol: Final = "sparkplug"

    def __init__(
        self,
        config: SparkplugConfig,
        *,
        clock: Callable[[], int] = time.time_ns,
        connect: Connect = connected,
    ) -> None:
        self._config = config
        self._clock = clock
        self._connect = connect
        self._catalogue = Catalogue(config)
        self._assets = KnownAssets(each.asset for each in config.publishers if not placeholders(each.asset))
        self._saved_at = 0
        self._said = ""

    @property
    def name(self) -> str:
        """The configured name."""
        return self._config.name

    @property
    def assets(self) -> tuple[str, ...]:
        """Assets that the configuration names, and those of the devices seen so far, also in earlier runs."""
        return tuple(self._assets)

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        """Return the series that the configuration names with a unit, and those that births have named so far."""
        return tuple(self._catalogue.declared.values())

    async def run(self, sink: BlockSink) -> Never:
        """Be a host application for ever; see `edge_agent.sources.Source.run`.

        Raises:
            SourceUnavailable: the broker can't be reached, or the connection broke.
            SourceMisconfigured: the broker does not know us, or refuses a subscription.
            StoreUnavailable: the sink does not take a block.
        """
        sink.report(SourceState.CONNECTING, self._config.broker)
        saved = sink.state()
        self._assets.restore(saved)
        last_ms = INT64.unpack(saved[_SESSION])[0] if _SESSION in saved else 0
        presence = Presence(max(self._now_ms(), last_ms + 1))
        host = Host(self._config, self._catalogue, presence, saved, time.monotonic())
        async with self._connect(
            self._config,
            clock=self._clock,
            count=sink.count,
            keep_session=False,
            will=Will(self._config.state_topic, presence.death),
        ) as connection:
            subscribing = asyncio.create_task(connection.subscribe(self._config.filters, 1))
            subscribing.add_done_callback(lambda _task: connection.wake())
            try:
                await self._forward(connection, sink, host, subscribing, saved)
            finally:
                subscribing.cancel()
                await asyncio.gather(subscribing, return_exceptions=True)
                # Before the goodbye of MQTT, which has the broker forget our will.
                goodbye = presence.goodbye(self._now_ms())
                connection.publish(self._config.state_topic, goodbye, qos=1, retain=True)
                await connection.confirmed(_GOODBYE_S)
        raise AssertionError

    async def _forward(
        self,
        connection: Connection,
        sink: BlockSink,
        host: Host,
        subscribing: asyncio.Task[None],
        saved: Mapping[str, bytes],
    ) -> Never:
        begun = False
        while True:
            due_s = host.next_s() if begun else None
            wait_s = _IDLE_S if due_s is None else min(_IDLE_S, max(0.0, due_s - time.monotonic()))
            messages = await connection.receive(_MAX_MESSAGES, _MAX_BYTES, wait_s)
            if not begun and subscribing.done():
                subscribing.result()
                await self._begin(connection, sink, host.presence, saved)
                begun = True
            now_s = time.monotonic()
            host.take(messages, now_s)
            found = host.collect(now_s, may_ask=begun)
            for gap in found.gaps:
                await sink.gap(gap.reason, gap.from_time, gap.to_time, asset=gap.asset, count=gap.messages)
            state = found.state | self._assets.learn(self._catalogue.declared)
            if begun and self._clock() - self._saved_at >= _CONTACT_EVERY_NS:
                state |= self._contact()
            if len(found.block) or state:
                await sink.put(found.block, state or None)
            connection.acknowledge(messages)
            for what, number in found.counts.items():
                sink.count(what, number)
            if messages:
                sink.count("message", len(messages))
            if begun:
                self._speak(connection, sink, host, found.rebirths)

    async def _begin(
        self, connection: Connection, sink: BlockSink, presence: Presence, saved: Mapping[str, bytes]
    ) -> None:
        """Become online, now that nothing which edge nodes say from here on can be missed."""
        contact = saved.get(_CONTACT)
        if contact and not self._config.store_and_forward:
            await sink.gap(
                "this host was away: what was published meanwhile is lost",
                INT64.unpack(contact)[0],
                self._clock(),
                asset=common_ancestor(self._assets),
            )
        session = {_SESSION: INT64.pack(presence.timestamp_ms)}
        await sink.put(_EMPTY, session | self._contact())
        self._announce(connection, presence)
        sink.count("session_begun")
        _log.info("%s: online at %s as host %s", self.name, self._config.broker, self._config.host_id)
        self._said = ""
        # A message beside RUNNING would mean that something is wrong.
        sink.report(SourceState.RUNNING)

    def _announce(self, connection: Connection, presence: Presence) -> None:
        birth = presence.birth(time.monotonic())
        connection.publish(self._config.state_topic, birth, qos=1, retain=True)

    def _speak(self, connection: Connection, sink: BlockSink, host: Host, rebirths: list[str]) -> None:
        now_s = time.monotonic()
        if host.presence.is_due(now_s):
            sink.count("state_repeated")
            self._announce(connection, host.presence)
        for topic in rebirths:
            sink.count("rebirth_requested")
            connection.publish(topic, rebirth_request(self._now_ms()))
        summary = host.summary(now_s)
        if summary != self._said:
            self._said = summary
            sink.report(SourceState.RUNNING, summary)

    def _now_ms(self) -> int:
        return self._clock() // 1_000_000

    def _contact(self) -> dict[str, bytes]:
        self._saved_at = self._clock()
        return {_CONTACT: INT64.pack(self._saved_at)}
