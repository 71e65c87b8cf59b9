"""The MQTT source: messages become blocks, blocks become durable, then the broker may forget the messages."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Never, Protocol

from edge_agent.sources import BlockSink
from edge_agent.sources.known_assets import KnownAssets, common_ancestor
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.connection import Connection, connected
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.repeats import RecentPayloads
from edge_agent.sources.mqtt.topics import placeholders, subscription_filters
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import SeriesDeclaration, SourceState
from shopfloor.signal import SeriesKey

_log = logging.getLogger(__name__)

_MAX_MESSAGES: Final = 1_000
_MAX_BYTES: Final = 2**20
_MAX_SAMPLES: Final = 200_000
"""What one block takes at most; a lone message may be larger than the bytes."""
_CONTACT_EVERY_NS: Final = 10 * 1_000_000_000
_IDLE_S: Final = 60.0
"""How often the time of last contact is saved, with messages and without."""

# Keys of the state that the sink keeps for us.
_CONTACT: Final = "contact"
"""UTC ns, int64, little-endian: until then the session was seen to work."""
_SESSION: Final = "session"
"""Present while the broker holds a session with all our subscriptions."""
_FILTERS: Final = "filters"
_INT64: Final = struct.Struct("<q")
_EMPTY: Final[SampleBlock] = make_block((), [], [], [], [])


class Connect(Protocol):
    """How a connection is made; `connected`, or a test's own."""

    def __call__(
        self, config: MqttConfig, *, clock: Callable[[], int], count: Callable[[str], None]
    ) -> AbstractAsyncContextManager[Connection]:
        """Return a context that is the open connection."""
        ...


class MqttSource:
    """One MQTT broker as a source; see `edge_agent.sources.Source`."""

    protocol: Final = "mqtt"

    def __init__(
        self, config: MqttConfig, *, clock: Callable[[], int] = time.time_ns, connect: Connect = connected
    ) -> None:
        self._config = config
        self._clock = clock
        self._connect = connect
        self._translator = Translator(config)
        self._filters = subscription_filters([topic.form for topic in config.topics])
        self._max_messages = max(
            1, min(_MAX_MESSAGES, _MAX_SAMPLES // max(len(topic.signals) or 1 for topic in config.topics))
        )
        # A value of a list takes two bytes at least.
        has_points = any(topic.points is not None for topic in config.topics)
        self._max_bytes = min(_MAX_BYTES, 2 * _MAX_SAMPLES) if has_points else _MAX_BYTES
        self._assets = KnownAssets(topic.asset for topic in config.topics if not placeholders(topic.asset))
        self._session_lost = False
        self._saved_at = 0

    @property
    def name(self) -> str:
        """The configured name."""
        return self._config.name

    @property
    def assets(self) -> tuple[str, ...]:
        """Assets that the configuration names, and those of the topics seen so far, also in earlier runs."""
        return tuple(self._assets)

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        """Return the series that the configuration names without ``optional``, and those met so far."""
        declared: dict[SeriesKey, SeriesDeclaration] = {}
        for topic in self._config.topics:
            for signal in topic.signals:
                # Of what a device may lack it is seen first whether this one has it.
                if not (signal.optional or placeholders(topic.asset) or placeholders(signal.signal)):
                    key = SeriesKey(parse_asset(topic.asset), signal.signal)
                    declared[key] = SeriesDeclaration(*key, signal.unit, signal.description)
        for key, found in self._translator.declared.items():
            unit, description = (found.unit, found.description) if found else ("", "")
            declared.setdefault(key, SeriesDeclaration(*key, unit, description))
        return tuple(declared.values())

    async def run(self, sink: BlockSink) -> Never:
        """Take messages for ever; see `edge_agent.sources.Source.run`.

        Raises:
            SourceUnavailable: the broker can't be reached, or the connection broke.
            SourceMisconfigured: the broker does not know us, or refuses a subscription.
            StoreUnavailable: the sink does not take a block; nothing of it was acknowledged.
        """
        sink.report(SourceState.CONNECTING, self._config.broker)
        saved = sink.state()
        self._assets.restore(saved)
        recent = RecentPayloads(saved)
        async with self._connect(self._config, clock=self._clock, count=sink.count) as connection:
            kept = await self._look_back(connection, sink, saved)
            subscribing = asyncio.create_task(connection.subscribe(self._filters, self._config.qos))
            subscribing.add_done_callback(lambda _task: connection.wake())
            try:
                await self._forward(connection, sink, recent, subscribing, kept=kept)
            finally:
                subscribing.cancel()
                await asyncio.gather(subscribing, return_exceptions=True)
        raise AssertionError

    async def _look_back(self, connection: Connection, sink: BlockSink, saved: Mapping[str, bytes]) -> bool:
        """Return whether the session was kept; if not, record what was missed."""
        contact = saved.get(_CONTACT)
        kept = connection.session_present and bool(saved.get(_SESSION)) and not self._session_lost
        if contact and not kept:
            # Remembered until a new session stands: the next connection will find one, and must still tell.
            self._session_lost = True
            await sink.put(_EMPTY, {_SESSION: b""})
            await sink.gap(
                "the broker kept no session: what was published meanwhile is lost",
                _INT64.unpack(contact)[0],
                self._clock(),
                asset=common_ancestor(self._assets),
            )
            sink.count("session_lost")
        if kept:
            connection.unsubscribe([each for each in _lines(saved, _FILTERS) if each not in self._filters])
        return kept

    async def _forward(
        self,
        connection: Connection,
        sink: BlockSink,
        recent: RecentPayloads,
        subscribing: asyncio.Task[None],
        *,
        kept: bool,
    ) -> Never:
        begun = False
        while True:
            messages = await connection.receive(self._max_messages, self._max_bytes, _IDLE_S)
            if not begun and subscribing.done():
                await self._begin(sink, subscribing, kept=kept)
                begun = True
            block, counts = self._translator.translate(messages, recent)
            state = recent.take_changes()
            if begun and self._clock() - self._saved_at >= _CONTACT_EVERY_NS:
                state |= self._contact()
            state |= self._assets.learn(self._translator.declared)
            if len(block) or state:
                await sink.put(block, state or None)
            connection.acknowledge(messages)
            sink.count("message", len(messages))
            for what, number in counts.items():
                sink.count(what, number)

    async def _begin(self, sink: BlockSink, subscribing: asyncio.Task[None], *, kept: bool) -> None:
        subscribing.result()
        filters = "\n".join(self._filters).encode()
        await sink.put(_EMPTY, {_SESSION: b"1", _FILTERS: filters, **self._contact()})
        self._session_lost = False
        session = "session_resumed" if kept else "session_begun"
        sink.count(session)
        _log.info("%s: %s, MQTT %s, %s", self.name, self._config.broker, self._config.protocol, session)
        # A message beside RUNNING would mean that something is wrong.
        sink.report(SourceState.RUNNING)

    def _contact(self) -> dict[str, bytes]:
        self._saved_at = self._clock()
        return {_CONTACT: _INT64.pack(self._saved_at)}


def _lines(state: Mapping[str, bytes], key: str) -> list[str]:
    text = state.get(key, b"").decode()
    return text.split("\n") if text else []
