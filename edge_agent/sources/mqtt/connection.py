"""One connection to a broker, from CONNECT to the last PUBACK; never a second one.

paho-mqtt reads and writes the packets; the event loop feeds it, so nothing blocks and no thread is needed.

Acknowledging is ours: a PUBACK goes out when the messages are durable, on this connection or never. On another one
the broker may have given their packet identifiers to other messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.sources.mqtt.broker import BrokerConfig
from edge_agent.sources.mqtt.framing import MalformedStream, PacketReader, Publish
from edge_agent.sources.mqtt.inbox import Inbox, Message
from edge_agent.sources.mqtt.stream import Stream, tls_context
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

_CONNACK: Final = 0x20
_PINGREQ: Final = b"\xc0\x00"
_DISCONNECT: Final = b"\xe0\x00"
_PUBACK: Final = struct.Struct("!BBH")
_FILTERS_PER_PACKET: Final = 100
_GOODBYE_S: Final = 1.0
_TAKEN_OVER: Final = 0x8E
_REFUSED_FOR_GOOD: Final = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x95, 0x9D})
"""CONNACK reasons that only a person can mend (MQTT 5.0 §3.2.2.2): version, client id, password, rights, ban."""
_WELCOME: Final = (
    "ReceiveMaximum",
    "MaximumQoS",
    "MaximumPacketSize",
    "SessionExpiryInterval",
    "ServerKeepAlive",
    "TopicAliasMaximum",
    "RetainAvailable",
    "WildcardSubscriptionAvailable",
    "SharedSubscriptionAvailable",
    "SubscriptionIdentifierAvailable",
)
_MALFORMED: Final = (struct.error, LookupError, ValueError, TypeError)
"""What paho raises, beside its own errors, for bytes that are no packet."""


class Will(NamedTuple):
    """What the broker publishes at QoS 1, retained, when it loses us without a goodbye (MQTT 3.1.1 §3.1.2.5)."""

    topic: str
    payload: bytes


class _Codec(Client):
    """paho's client on a stream that is open already."""

    def __init__(self, stream: Stream, config: BrokerConfig, client_id: str, *, keep_session: bool) -> None:
        self._stream = stream
        newest = config.protocol == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if newest else not keep_session,
            protocol=MQTTProtocolVersion.MQTTv5 if newest else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )

    def _create_socket(self) -> Stream:
        return self._stream


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
        self._client_id = client_id
        self._keep_session = keep_session
        self._clock = clock
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._failure: SourceUnavailable | SourceMisconfigured | None = None
        self._keepalive_s = float(config.keepalive_s)
        self._timer: asyncio.TimerHandle | None = None
        self._reader = PacketReader(
            with_properties=config.protocol == "5", max_payload_bytes=config.max_payload_bytes
        )
        self._inbox = Inbox(self._loop.time)
        self._arrived = asyncio.Event()
        self._last_received_time = 0
        self._greeted = False
        self._connack: asyncio.Future[bool] = self._loop.create_future()
        self._subacks: dict[int | None, asyncio.Future[list[ReasonCode]]] = {}
        self.session_present = False
        """Whether the broker still had the session, and so what was published meanwhile."""
        self.granted_qos: dict[str, int] = {}
        """Of every filter subscribed to."""
        self.welcome: dict[str, int] = {}
        """What the broker said of itself in CONNACK (MQTT 5.0 §3.2.2.3), by the names of its properties."""
        self.stream = Stream(self._on_data, self._on_lost)
        """The way to the broker."""
        self._codec = _Codec(self.stream, config, client_id, keep_session=keep_session)
        self._codec.on_publish = self._on_publish
        self._unconfirmed: set[int] = set()
        self._all_confirmed = asyncio.Event()
        self._all_confirmed.set()
        self._has_will = will is not None
        if will is not None:
            self._codec.will_set(will.topic, will.payload, qos=1, retain=True)
        self._codec.on_connect = self._on_connect
        self._codec.on_disconnect = self._on_disconnect
        self._codec.on_subscribe = self._on_subscribe

    async def receive(self, max_messages: int, max_bytes: int, timeout_s: float) -> list[Message]:
        """Return what has arrived, at least one message unless ``timeout_s`` passes or somebody calls `wake`.

        Raises:
            SourceUnavailable: the connection is gone, and everything that it brought has been returned.
        """
        if not self._inbox and self._failure is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        self._arrived.clear()
        if self._failure is not None and not self._inbox:
            raise self._failure
        taken = self._inbox.take_out(max_messages, max_bytes)
        if self.stream.is_paused and self._inbox.is_half_empty:
            self.stream.resume()
            self._parse()
        return taken

    def wake(self) -> None:
        """Let `receive` return though nothing has arrived."""
        self._arrived.set()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the broker that ``messages``, all of this connection, are durable; in order, QoS 0 left out."""
        packets = b"".join([_PUBACK.pack(0x40, 2, mid) for mid in self._inbox.acknowledge(messages)])
        if packets:
            self.stream.write(packets)

    async def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Subscribe to every filter.

        The answer may stand in line behind all that waited in the session: `receive` must go on meanwhile.

        Raises:
            SourceMisconfigured: the broker refuses one of them; the message names it.
            SourceUnavailable: the broker does not answer.
        """
        for start in range(0, len(filters), _FILTERS_PER_PACKET):
            part = filters[start : start + _FILTERS_PER_PACKET]
            for topic_filter, code in zip(part, await self._subscribe(part, qos), strict=True):
                if code.is_failure:
                    raise SourceMisconfigured(
                        f"{self._where}: the broker refused the subscription to {topic_filter!r}: {code}"
                    )
                if code.value < qos:
                    self._count("qos_lowered")
                self.granted_qos[topic_filter] = code.value

    async def _subscribe(self, filters: Sequence[str], qos: int) -> list[ReasonCode]:
        if self._failure is not None:
            raise self._failure
        if self._config.protocol == "5":
            # What was retained comes again only for a subscription that is new.
            options = SubscribeOptions(qos=qos, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            _, mid = self._codec.subscribe([(each, options) for each in filters])
        else:
            _, mid = self._codec.subscribe([(each, qos) for each in filters])
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subacks[mid] = answer
        patience_s = self._config.connect_timeout_s
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=patience_s)
                silent_s = self._loop.time() - self.stream.heard
                if not answer.done() and not self.stream.is_paused and silent_s > patience_s:
                    raise SourceUnavailable(f"{self._where}: no answer to a subscription")
        finally:
            self._subacks.pop(mid, None)
        codes = answer.result()
        if len(codes) != len(filters):
            raise SourceUnavailable(
                f"{self._where}: the broker answered {len(codes)} of {len(filters)} subscriptions"
            )
        return codes

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Give up subscriptions that an earlier configuration left in the session."""
        for start in range(0, len(filters), _FILTERS_PER_PACKET):
            self._codec.unsubscribe(list(filters[start : start + _FILTERS_PER_PACKET]))

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send a message, unless the connection is gone; `confirmed` waits for the broker to have those of QoS 1."""
        if self._failure is None:
            info = self._codec.publish(topic, payload, qos, retain)
            if qos:
                self._unconfirmed.add(info.mid)
                self._all_confirmed.clear()

    async def confirmed(self, timeout_s: float) -> None:
        """Wait until the broker has everything published at QoS 1, until it is gone, or for ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_confirmed.wait()

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
                self._send_connect()
                self.session_present = await self._connack
        except ssl.SSLCertVerificationError as error:
            raise SourceMisconfigured(
                f"{self._where}: the certificate is not trusted: {error.verify_message}"
            ) from error
        except TimeoutError:
            waited_s = self._config.connect_timeout_s
            raise SourceUnavailable(f"{self._where}: no answer within {waited_s:g} s") from None
        except OSError as error:
            raise SourceUnavailable(f"{self._where}: {error.strerror or error}") from error
        self._timer = self._loop.call_later(self._keepalive_s / 3, self._keep_alive)

    def _send_connect(self) -> None:
        config = self._config
        if config.user is not None:
            password = config.password
            self._codec.username_pw_set(config.user, password.get_secret_value() if password else None)
        broker = config.address
        if config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = config.receive_maximum
            properties.SessionExpiryInterval = config.kept_session_s if self._keep_session else 0
            self._codec.connect(
                broker.host,
                broker.port,
                config.keepalive_s,
                clean_start=not self._keep_session,
                properties=properties,
            )
        else:
            self._codec.connect(broker.host, broker.port, config.keepalive_s)

    async def close(self) -> None:
        """Say goodbye: the broker keeps a persistent session and sends again what is unacknowledged."""
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers:
            answer.cancel()
        try:
            if self._failure is None and self._has_will:
                # paho would close at once, and the broker might take that for a loss and publish the will after all.
                self.stream.write(_DISCONNECT)
                await self.stream.wait_hung_up(_GOODBYE_S)
            elif self._failure is None:
                self._codec.disconnect()
        finally:
            await self.stream.wait_closed(_GOODBYE_S)

    @property
    def _where(self) -> str:
        broker = self._config.address
        return f"{broker.host}:{broker.port}"

    @property
    def _answers(self) -> list[asyncio.Future[Any]]:
        return [self._connack, *self._subacks.values()]

    def _on_data(self, data: bytes) -> None:
        if not self._greeted:
            # MQTT 3.1.1 §3.2: nothing may come before CONNACK. A web server would have us wait for ever.
            self._greeted = True
            if data[0] != _CONNACK:
                self._break(f"an answer that is not MQTT {self._config.protocol}")
                return
        self._reader.feed(data)
        self._parse()

    def _parse(self) -> None:
        try:
            while self._failure is None and not self.stream.is_paused:
                packet = self._reader.next()
                if packet is None:
                    return
                if isinstance(packet, Publish):
                    self._take(packet)
                    continue
                self.stream.put_packet(packet)
                code = self._codec.loop_read()
                if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    self._break(f"protocol error: {code.name}")
        except MalformedStream as error:
            self._break(f"bytes that are not MQTT {self._config.protocol}: {error}")
        except _MALFORMED as error:
            self._break(f"a packet that is not MQTT {self._config.protocol} ({type(error).__name__})")

    def _break(self, what: str) -> None:
        self._fail(SourceUnavailable(f"{self._where}: {what}"))
        self.stream.abort()

    def _fail(self, error: SourceUnavailable | SourceMisconfigured) -> None:
        if self._failure is None:
            self._failure = error
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(self._failure)
                answer.exception()  # Whoever waits gets it; it is no mistake if nobody does.
        self._arrived.set()
        self._all_confirmed.set()

    def _keep_alive(self) -> None:
        silent_s = self._loop.time() - self.stream.heard
        # While we do not read we can't hear; the broker hears us all the same.
        if silent_s > self._keepalive_s and not self.stream.is_paused:
            self._break(f"the broker has been silent for {silent_s:.0f} s")
            return
        if self._failure is None:
            self.stream.write(_PINGREQ)
            self._timer = self._loop.call_later(self._keepalive_s / 3, self._keep_alive)

    def _on_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            what = f"TLS: {exc.reason or exc}"
        elif exc is not None:
            what = f"connection lost: {exc}"
        elif not self._connack.done():
            what = (
                f"the broker hung up instead of answering; does it speak MQTT {self._config.protocol} there?"
            )
        else:
            what = (
                "the broker closed the connection; if that happens again and again, another client uses the "
                f"client id {self._client_id!r}"
            )
        self._fail(SourceUnavailable(f"{self._where}: {what}"))

    def _on_connect(
        self,
        _client: Client,
        _data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            kind = SourceMisconfigured if reason.value in _REFUSED_FOR_GOOD else SourceUnavailable
            version = self._config.protocol
            self._fail(kind(f"{self._where}: the broker refused the connection by MQTT {version}: {reason}"))
            return
        stated = {name: getattr(properties, name, None) for name in _WELCOME}
        self.welcome = {name: value for name, value in stated.items() if value is not None}
        # MQTT 5.0 §3.2.2.3.14: the broker's keep alive replaces ours.
        self._keepalive_s = min(
            self._keepalive_s, float(getattr(properties, "ServerKeepAlive", 0) or self._keepalive_s)
        )
        if not self._connack.done():
            self._connack.set_result(bool(flags.session_present))

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if not flags.is_disconnect_packet_from_server:
            return
        if reason.value == _TAKEN_OVER:
            what = (
                f"another client connected with the client id {self._client_id!r} and took the session over"
            )
        else:
            what = f"the broker ended the connection: {reason}"
        self._fail(SourceUnavailable(f"{self._where}: {what}"))

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        answer = self._subacks.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, _reason: ReasonCode, _properties: Properties
    ) -> None:
        self._unconfirmed.discard(mid)
        if not self._unconfirmed:
            self._all_confirmed.set()

    def _take(self, packet: Publish) -> None:
        try:
            topic = packet.topic.decode()
        except UnicodeDecodeError:
            # MQTT 5.0 §1.5.4 would have us hang up; one bad publisher must not stop all others.
            topic = "\ufffd"
        received_time = self._clock()
        if received_time <= self._last_received_time < received_time + 1_000_000:
            received_time = self._last_received_time + 1
        self._last_received_time = received_time
        message = Message(
            topic,
            packet.payload,
            received_time,
            packet.qos,
            packet.mid,
            packet.dup,
            packet.retain,
            packet.oversize,
        )
        if not self._inbox.take_in(message):
            self._count("redelivered_message")
            return
        self._arrived.set()
        if self._inbox.is_full:
            self.stream.pause()


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
