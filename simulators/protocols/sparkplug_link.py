"""One MQTT connection of a simulated edge node, from its CONNECT to its end; the next one is another link.

A link a CONNECT, because each needs a will of its own (bdSeq), and so that nothing that was queued for a connection
can come out of the next.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from simulators.protocols.sparkplug_outbox import Publish
from simulators.scenario import BrokerConfig

_KEEPALIVE_S: Final = 10
_CONNECT_TIMEOUT_S: Final = 3.0

logger = logging.getLogger(__name__)


class Connected(NamedTuple):
    """The broker accepted the CONNECT, and the subscriptions are on their way before anything else."""


class Arrived(NamedTuple):
    """A message has arrived."""

    topic: str
    payload: bytes


class Ended(NamedTuple):
    """The connection is gone, or could not be made."""


class Link:
    """A connection in a thread of paho's. The thread only appends to `events` and counts what it has written."""

    def __init__(self, broker: BrokerConfig, client_id: str, will: Publish, topics: Sequence[str]) -> None:
        parts = urlsplit(broker.url)
        self.events: deque[Connected | Arrived | Ended] = deque()
        """For the owner to take from the left."""
        self.written_total = 0
        """Messages with QoS 0 that the socket has taken."""
        self.was_opened = False
        """Whether there was a TCP connection, and so perhaps a CONNECT."""
        self.has_ended = False
        """Whether it is over; its thread ends by itself."""
        self._topics = topics
        self._dropped = False
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        if broker.username is not None:
            password = broker.password.get_secret_value() if broker.password else None
            self._client.username_pw_set(broker.username, password)
        self._client.will_set(will.topic, will.payload, will.qos, retain=False)
        self._client.connect_timeout = _CONNECT_TIMEOUT_S
        self._client.max_queued_messages_set(0)
        self._client.on_socket_open = self._opened
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._ended
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._arrived
        self._client.on_publish = self._published
        self._client.on_disconnect = self._ended
        self._client.connect_async(parts.hostname or "127.0.0.1", parts.port or 1883, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    def publish(self, message: Publish) -> None:
        """Hand a message over; where the connection is gone already, `Ended` says so."""
        self._client.publish(message.topic, message.payload, message.qos, retain=False)

    def subscribe(self) -> None:
        """Subscribe, once more if need be: the broker sends its retained messages again (MQTT 3.1.1, 3.8.4)."""
        self._client.subscribe([(topic, 1) for topic in self._topics])

    def leave(self) -> None:
        """Disconnect with a DISCONNECT, after everything handed over before; the broker forgets the will."""
        self._client.disconnect()

    def drop(self) -> None:
        """Cut the connection as a cable would: the broker publishes the will."""
        self._dropped = True
        self._cut(self._client.socket())

    def join(self) -> None:
        """Wait for the thread to end; after `drop` that takes no longer than connecting may."""
        self._client.loop_stop()

    @staticmethod
    def _cut(connection: Any) -> None:
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("the connection was gone already")

    def _opened(self, _client: paho.Client, _data: Any, connection: Any) -> None:
        self.was_opened = True
        if self._dropped:
            self._cut(connection)

    def _connected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            logger.warning("the broker refuses the edge node: %s", reason)
        else:
            self.subscribe()
            # Not with the SUBACK: brokers may send retained messages before that (MQTT 3.1.1, 3.8.4).
            self.events.append(Connected())

    def _subscribed(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        for topic, reason in zip(self._topics, reasons, strict=False):
            if reason.is_failure:
                logger.warning("the broker refuses the subscription to %s: %s", topic, reason)

    def _arrived(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self.events.append(Arrived(message.topic, bytes(message.payload)))

    def _published(self, _client: paho.Client, _data: Any, _mid: int, *_: Any) -> None:
        self.written_total += 1

    def _ended(self, *_: Any) -> None:
        self.has_ended = True
        self.events.append(Ended())
