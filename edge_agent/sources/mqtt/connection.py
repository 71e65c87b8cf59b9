"""One connection to a broker, from CONNECT to the last PUBACK; never a second one.

The event loop feeds it what the network brought, a chunk at a time: PUBLISH packets go through `framing` into the
`inbox`, all others to paho-mqtt (`control`). Nothing blocks and no thread is needed.

Acknowledging is ours: a PUBACK goes out when the messages are durable, on this connection or never. On another one
the broker may have given their packet identifiers to other messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from edge_agent.sources.mqtt.broker import BrokerConfig
from edge_agent.sources.mqtt.control import CONNACK, DISCONNECT, PINGREQ, Control, Failure, Will, pubacks
from edge_agent.sources.mqtt.framing import MalformedStream, PacketReader
from edge_agent.sources.mqtt.inbox import Inbox, Message
from edge_agent.sources.mqtt.stream import Stream, tls_context
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

_FILTERS_PER_PACKET: Final = 100
_GOODBYE_S: Final = 1.0


class Connection:
    """A connection in use; made by `connected`."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        client_id: str,
        keep_session: bool,
        clock: Callable[[], int],
        count: Callable[[str], None],
        will: Will | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._failure: Failure | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reader = PacketReader(
            with_properties=config.protocol == "5", max_payload_bytes=config.max_payload_bytes
        )
        self._inbox = Inbox(self._loop.time)
        self._arrived = asyncio.Event()
        self._is_awaited = False
        self._last_received_time = 0
        self._greeted = False
        self._has_will = will is not None
        self.session_present = False
        """Whether the broker still had the session, and so what was published meanwhile."""
        self.granted_qos: dict[str, int] = {}
        """Of every filter subscribed to."""
        self.stream = Stream(self._on_data, self._on_lost)
        """The way to the broker."""
        self._control = Control(
            self.stream, config, client_id, keep_session=keep_session, will=will, on_end=self._end
        )

    @property
    def welcome(self) -> dict[str, int]:
        """What the broker said of itself in CONNACK (MQTT 5.0 §3.2.2.3), by the names of its properties."""
        return self._control.welcome

    async def receive(self, max_messages: int, max_bytes: int, timeout_s: float) -> list[Message]:
        """Return what has arrived, at least one message unless ``timeout_s`` passes or somebody calls `wake`.

        Raises:
            SourceUnavailable: the connection is gone, and everything that it brought has been returned.
        """
        if not self._inbox and self._failure is None:
            self._is_awaited = True
            self.stream.attend()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        self._arrived.clear()
        self._is_awaited = False
        if self._failure is not None and not self._inbox:
            raise self._failure
        taken = self._inbox.take_out(max_messages, max_bytes)
        if self.stream.is_paused and self._inbox.is_half_empty:
            self.stream.resume()
            self._parse()
        if taken:
            self.stream.rest()
        return taken

    def wake(self) -> None:
        """Let `receive` return though nothing has arrived."""
        self._arrived.set()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the broker that ``messages``, all of this connection, are durable; in order, QoS 0 left out."""
        identifiers = self._inbox.acknowledge(messages)
        if identifiers:
            self.stream.write(pubacks(identifiers))

    async def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Subscribe to every filter.

        The answer may stand in line behind all that waited in the session: `receive` must go on meanwhile.

        Raises:
            SourceMisconfigured: the broker refuses one of them; the message names it.
            SourceUnavailable: the broker does not answer.
        """
        for start in range(0, len(filters), _FILTERS_PER_PACKET):
            if self._failure is not None:
                raise self._failure
            part = filters[start : start + _FILTERS_PER_PACKET]
            codes = await self._control.subscribe(part, qos, self._raise_if_silent)
            if len(codes) != len(part):
                raise SourceUnavailable(
                    f"{self._where}: the broker answered {len(codes)} of {len(part)} subscriptions"
                )
            for topic_filter, code in zip(part, codes, strict=True):
                if code.is_failure:
                    raise SourceMisconfigured(
                        f"{self._where}: the broker refused the subscription to {topic_filter!r}: {code}"
                    )
                if code.value < qos:
                    self._count("qos_lowered")
                self.granted_qos[topic_filter] = code.value

    def _raise_if_silent(self) -> None:
        silent_s = self._loop.time() - self.stream.heard
        if not self.stream.is_paused and silent_s > self._config.connect_timeout_s:
            raise SourceUnavailable(f"{self._where}: no answer to a subscription")

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Give up subscriptions that an earlier configuration left in the session."""
        for start in range(0, len(filters), _FILTERS_PER_PACKET):
            self._control.unsubscribe(filters[start : start + _FILTERS_PER_PACKET])

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send a message, unless the connection is gone; `confirmed` waits for the broker to have those of QoS 1."""
        if self._failure is None:
            self._control.publish(topic, payload, qos=qos, retain=retain)

    async def confirmed(self, timeout_s: float) -> None:
        """Wait until the broker has everything published at QoS 1, until it is gone, or for ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._control.all_confirmed.wait()

    async def open(self) -> None:
        """Connect and wait for the broker's welcome; errors as in `connected`."""
        broker = self._config.address
        context = tls_context(self._config.tls) if broker.tls else None
        name = broker.host if context else None
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                await self._loop.create_connection(
                    lambda: self.stream, broker.host, broker.port, ssl=context, server_hostname=name
                )
                self._control.connect()
                self.session_present = await self._control.connack
        except ssl.SSLCertVerificationError as error:
            raise SourceMisconfigured(
                f"{self._where}: the certificate is not trusted: {error.verify_message}"
            ) from error
        except TimeoutError:
            waited_s = self._config.connect_timeout_s
            raise SourceUnavailable(f"{self._where}: no answer within {waited_s:g} s") from None
        except OSError as error:
            raise SourceUnavailable(f"{self._where}: {error.strerror or error}") from error
        self._timer = self._loop.call_later(self._control.keepalive_s / 3, self._keep_alive)

    async def close(self) -> None:
        """Say goodbye: the broker keeps a persistent session and sends again what is unacknowledged."""
        if self._timer is not None:
            self._timer.cancel()
        self._control.cancel()
        try:
            if self._failure is None and self._has_will:
                # paho would close at once, and the broker might take that for a loss and publish the will after all.
                self.stream.write(DISCONNECT)
                await self.stream.wait_hung_up(_GOODBYE_S)
            elif self._failure is None:
                self._control.disconnect()
        finally:
            await self.stream.wait_closed(_GOODBYE_S)

    @property
    def _where(self) -> str:
        broker = self._config.address
        return f"{broker.host}:{broker.port}"

    def _on_data(self, data: bytes) -> None:
        if not self._greeted:
            # MQTT 3.1.1 §3.2: nothing may come before CONNACK. A web server would have us wait for ever.
            self._greeted = True
            if data[0] != CONNACK:
                self._break(f"an answer that is not MQTT {self._config.protocol}")
                return
        self._reader.feed(data)
        self._parse()
        if self._inbox and not self._is_awaited:
            # Whoever takes messages is busy with the last ones: what comes has to wait in any case.
            self.stream.rest()

    def _parse(self) -> None:
        try:
            while self._failure is None and not self.stream.is_paused:
                messages = self._reader.messages(self._received_time(), self._inbox.room)
                if messages:
                    self._take(messages)
                    continue
                packet = self._reader.other()
                if packet is None:
                    return
                wrong = self._control.take(packet)
                if wrong:
                    self._break(wrong)
        except MalformedStream as error:
            self._break(f"bytes that are not MQTT {self._config.protocol}: {error}")

    def _received_time(self) -> int:
        """Return the time, UTC ns, or a little more: no two messages get the same."""
        now, last = self._clock(), self._last_received_time
        return last + 1 if now <= last < now + 1_000_000 else now

    def _take(self, messages: list[Message]) -> None:
        self._last_received_time = messages[-1].received_time
        for _ in range(self._inbox.take_in(messages)):
            self._count("redelivered_message")
        if self._inbox:
            self._arrived.set()
        if not self._inbox.room:
            self.stream.pause()

    def _break(self, what: str) -> None:
        self._end(SourceUnavailable, what)
        self.stream.abort()

    def _end(self, kind: type[Failure], what: str) -> None:
        if self._failure is None:
            self._failure = kind(f"{self._where}: {what}")
        self._control.give_up(self._failure)
        self._arrived.set()

    def _keep_alive(self) -> None:
        silent_s = self._loop.time() - self.stream.heard
        # While we do not read we can't hear; the broker hears us all the same.
        if silent_s > self._control.keepalive_s and not self.stream.is_paused:
            self._break(f"the broker has been silent for {silent_s:.0f} s")
            return
        if self._failure is None:
            self.stream.write(PINGREQ)
            self._timer = self._loop.call_later(self._control.keepalive_s / 3, self._keep_alive)

    def _on_lost(self, error: Exception | None) -> None:
        self._end(SourceUnavailable, self._control.why_lost(error))


@contextlib.asynccontextmanager
async def connected(
    config: BrokerConfig,
    *,
    clock: Callable[[], int],
    count: Callable[[str], None],
    client_id: str | None = None,
    keep_session: bool = True,
    will: Will | None = None,
) -> AsyncIterator[Connection]:
    """Connect to the configured broker; leaving the context closes everything.

    Args:
        config: the broker and how to reach it.
        clock: UTC ns.
        count: counts events, by name.
        client_id: instead of the configured one.
        keep_session: whether the broker keeps a session for us; False for a visitor such as a check.
        will: what the broker is to publish when it loses us without a goodbye.

    Raises:
        SourceUnavailable: the broker can't be reached, does not answer, or is not ready.
        SourceMisconfigured: it does not know us, or its certificate is not trusted.
    """
    connection = Connection(
        config,
        client_id=client_id or config.client_id,
        keep_session=keep_session,
        clock=clock,
        count=count,
        will=will,
    )
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()


__all__ = ["Connection", "Will", "connected"]
