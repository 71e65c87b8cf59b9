"""All packets but the broker's PUBLISH: paho-mqtt writes and reads them, one at a time, from memory."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.sources.mqtt.broker import BrokerConfig
from edge_agent.sources.mqtt.stream import Stream
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

CONNACK: Final = 0x20
PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"
_PUBACK: Final = 0x4002_0000
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


Failure: TypeAlias = SourceUnavailable | SourceMisconfigured


class Will(NamedTuple):
    """What the broker publishes at QoS 1, retained, when it loses us without a goodbye (MQTT 3.1.1 §3.1.2.5)."""

    topic: str
    payload: bytes


class _Client(Client):
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


class Control:
    """What is said on a connection beside the messages that it brings."""

    def __init__(
        self,
        stream: Stream,
        config: BrokerConfig,
        client_id: str,
        *,
        keep_session: bool,
        will: Will | None,
        on_end: Callable[[type[Failure], str], None],
    ) -> None:
        self._stream = stream
        self._config = config
        self._client_id = client_id
        self._keep_session = keep_session
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._subacks: dict[int | None, asyncio.Future[list[ReasonCode]]] = {}
        self._unconfirmed: set[int] = set()
        self.keepalive_s = float(config.keepalive_s)
        """After so many seconds without a word either side gives the other up."""
        self.connack: asyncio.Future[bool] = self._loop.create_future()
        """Whether the broker still had the session."""
        self.welcome: dict[str, int] = {}
        """What the broker said of itself in CONNACK (MQTT 5.0 §3.2.2.3), by the names of its properties."""
        self.all_confirmed = asyncio.Event()
        """Set while the broker has everything that was published at QoS 1."""
        self.all_confirmed.set()
        self._client = _Client(stream, config, client_id, keep_session=keep_session)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish

    def take(self, packet: bytes) -> str:
        """Take a packet of the broker, and return what is wrong with it: nothing, as a rule."""
        self._stream.put_packet(packet)
        try:
            code = self._client.loop_read()
        except _MALFORMED as error:
            return f"a packet that is not MQTT {self._config.protocol} ({type(error).__name__})"
        return "" if code == MQTTErrorCode.MQTT_ERR_SUCCESS else f"protocol error: {code.name}"

    def connect(self) -> None:
        """Send CONNECT; `connack` waits for the answer."""
        config, broker = self._config, self._config.address
        if config.user is not None:
            password = config.password
            self._client.username_pw_set(config.user, password.get_secret_value() if password else None)
        if config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = config.receive_maximum
            properties.SessionExpiryInterval = config.kept_session_s if self._keep_session else 0
            self._client.connect(
                broker.host,
                broker.port,
                config.keepalive_s,
                clean_start=not self._keep_session,
                properties=properties,
            )
        else:
            self._client.connect(broker.host, broker.port, config.keepalive_s)

    def disconnect(self) -> None:
        """Send DISCONNECT and close."""
        self._client.disconnect()

    async def subscribe(
        self, filters: Sequence[str], qos: int, while_silent: Callable[[], None]
    ) -> list[ReasonCode]:
        """Send one SUBSCRIBE and wait for its answer, ``while_silent`` called from time to time; it may raise."""
        if self._config.protocol == "5":
            # What was retained comes again only for a subscription that is new.
            options = SubscribeOptions(qos=qos, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            _, mid = self._client.subscribe([(each, options) for each in filters])
        else:
            _, mid = self._client.subscribe([(each, qos) for each in filters])
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subacks[mid] = answer
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=self._config.connect_timeout_s)
                if not answer.done():
                    while_silent()
        finally:
            self._subacks.pop(mid, None)
        return answer.result()

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Send one UNSUBSCRIBE."""
        self._client.unsubscribe(list(filters))

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Send one PUBLISH; with QoS 1 `all_confirmed` waits for its PUBACK."""
        info = self._client.publish(topic, payload, qos, retain)
        if qos:
            self._unconfirmed.add(info.mid)
            self.all_confirmed.clear()

    @property
    def _answers(self) -> list[asyncio.Future[Any]]:
        return [self.connack, *self._subacks.values()]

    def give_up(self, error: Failure) -> None:
        """Let everybody who waits for an answer know that none will come."""
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # Whoever waits gets it; it is no mistake if nobody does.
        self.all_confirmed.set()

    def why_lost(self, error: Exception | None) -> str:
        """Return in words why a connection that ended with ``error``, or without any, did."""
        if isinstance(error, ssl.SSLError):
            return f"TLS: {error.reason or error}"
        if error is not None:
            return f"connection lost: {error}"
        if not self.connack.done():
            return (
                f"the broker hung up instead of answering; does it speak MQTT {self._config.protocol} there?"
            )
        return (
            "the broker closed the connection; if that happens again and again, another client uses the "
            f"client id {self._client_id!r}"
        )

    def cancel(self) -> None:
        """Let nobody wait any longer."""
        for answer in self._answers:
            answer.cancel()

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
            self._on_end(kind, f"the broker refused the connection by MQTT {version}: {reason}")
            return
        stated = {name: getattr(properties, name, None) for name in _WELCOME}
        self.welcome = {name: value for name, value in stated.items() if value is not None}
        # MQTT 5.0 §3.2.2.3.14: the broker's keep alive replaces ours.
        self.keepalive_s = min(
            self.keepalive_s, float(getattr(properties, "ServerKeepAlive", 0) or self.keepalive_s)
        )
        if not self.connack.done():
            self.connack.set_result(bool(flags.session_present))

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
        self._on_end(SourceUnavailable, what)

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
            self.all_confirmed.set()


def pubacks(identifiers: Sequence[int]) -> bytes:
    """Return a PUBACK for each packet identifier, in order (MQTT 3.1.1 §3.4)."""
    return struct.pack(f"!{len(identifiers)}I", *[_PUBACK | mid for mid in identifiers])
