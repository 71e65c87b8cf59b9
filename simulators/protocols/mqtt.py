"""A site's devices on an MQTT broker: nothing given up while the process lives. How they speak: `mqtt_dialects`."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from simulators.protocols.mqtt_dialects import METER_SIGNALS, Message, Said, meter_payload
from simulators.scenario import BrokerConfig

_log = logging.getLogger(__name__)

__all__ = ["METER_SIGNALS", "MqttPublisher", "meter_payload"]

_WINDOW: Final = 200
"""Messages handed to paho at a time: its message ids are 16 bits wide, an outage may last longer than that."""
_MAX_WAITING: Final = 2_000_000
"""Messages that wait for a broker at most; then the oldest are lost, and counted."""
_AWAY_S: Final = 10.0
_SETTLE_S: Final = 0.02
"""paho sends again what was under way just after it has called back: what is handed on meanwhile would overtake it."""
_KEEPALIVE_S: Final = 10


class MqttPublisher:
    """Publishes in order, at least once each, through broker restarts of any length.

    What was under way when a connection broke is sent again: the broker may get it twice, and passes the second one
    on as a message of its own, without DUP (MQTT 3.1.1 §3.3.1.1). With QoS 0 a message is lost where there is no
    connection.

    All methods are for one thread. paho's own thread only notes what happened, so that no lock is held across paho's.

    Args:
        broker: where to.
        client_id: of the session that the broker keeps for it.
        will: what the broker shall say when the connection breaks; not said after `stop`.
    """

    def __init__(self, broker: BrokerConfig, client_id: str, will: Message | None = None) -> None:
        parts = urlsplit(broker.url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 1883
        self._waiting: deque[Message] = deque()
        self._under_way: set[int] = set()
        self._confirmed: deque[int] = deque()
        self._opened_s: float | None = None
        self._away_s: float | None = None
        self._complained = False
        self.published_total = 0
        """Messages given to `publish`, each copy counted."""
        self.lost_total = 0
        """Messages with QoS 0 that there was no connection for, and those that waited longer than there was room."""
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, protocol=paho.MQTTv311
        )
        if broker.username is not None:
            password = broker.password.get_secret_value() if broker.password else None
            self._client.username_pw_set(broker.username, password)
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.max_queued_messages_set(0)
        # Our own window is the bound; with a second one paho holds messages back that it may forget to send later.
        self._client.max_inflight_messages_set(0)
        self._client.reconnect_delay_set(min_delay=1, max_delay=2)
        self._client.on_connect = self._connected
        self._client.on_publish = self._acknowledged

    @property
    def unacknowledged(self) -> int:
        """How many messages wait, or were not acknowledged by the broker as of the last `feed`."""
        return len(self._waiting) + len(self._under_way)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client.is_connected()

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._client.connect_async(self._host, self._port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    def publish(
        self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False, copies: int = 1
    ) -> None:
        """Take a message; it is sent as soon as may be.

        Args:
            topic: where to.
            payload: at most 256 MiB.
            qos: 0 or 1. (With QoS 2 mosquitto 2.0 loses what goes beyond 20 messages on their way, acknowledged.)
            retain: whether the broker keeps it for those who subscribe later.
            copies: how often it is sent; 2 is a device that missed the acknowledgement.

        Raises:
            ValueError: another quality of service.
        """
        if qos not in {0, 1}:
            raise ValueError(f"{topic}: quality of service {qos} is not 0 or 1")
        self._waiting.extend([Message(topic, payload, qos, retain)] * copies)
        self.published_total += copies
        self.feed()

    def say(self, said: Said, copies: int = 1) -> None:
        """Take what a dialect says; see `publish`."""
        topic, payload, qos, retain = said.message
        self.publish(topic, payload, qos, retain=retain, copies=copies)

    def feed(self) -> None:
        """Hand on what waits; call it now and then, also when there is nothing to publish."""
        while self._confirmed:
            # With QoS 0 "sent" is all there is; nobody waits for it.
            self._under_way.discard(self._confirmed.popleft())
        if not self._ready():
            return
        while self._waiting and len(self._under_way) < _WINDOW:
            topic, payload, qos, retain = self._waiting[0]
            handed = self._client.publish(topic, payload, qos=qos, retain=retain)
            if handed.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                return
            self._waiting.popleft()
            if qos:
                self._under_way.add(handed.mid)
            elif handed.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self.lost_total += 1

    def _ready(self) -> bool:
        """Tell whether more may be handed on: not before what an earlier connection left has been sent again."""
        if not self._client.is_connected():
            while self._waiting and (not self._waiting[0].qos or len(self._waiting) > _MAX_WAITING):
                self._waiting.popleft()
                self.lost_total += 1
            self._complain()
            return False
        self._away_s = None
        if self._complained:
            _log.info("the broker %s:%d is there again", self._host, self._port)
            self._complained = False
        if self._opened_s is not None:
            if self._under_way or time.monotonic() - self._opened_s < _SETTLE_S:
                return False
            self._opened_s = None
        return True

    def _complain(self) -> None:
        """Say once that there has been no broker for a while."""
        now_s = time.monotonic()
        if self._away_s is None:
            self._away_s = now_s
        elif not self._complained and now_s - self._away_s > _AWAY_S:
            self._complained = True
            _log.warning("no connection to the broker %s:%d; messages wait", self._host, self._port)

    def stop(self) -> None:
        """Disconnect, and forget what is not acknowledged."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, *_: Any) -> None:
        self._opened_s = time.monotonic()

    def _acknowledged(self, _client: object, _data: object, mid: int, *_: Any) -> None:
        self._confirmed.append(mid)
