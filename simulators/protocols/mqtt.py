"""A site's energy meters on an MQTT broker: JSON with QoS 1, and nothing given up while the process lives."""

from __future__ import annotations

from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.scenario import BrokerConfig

_WINDOW: Final = 200
"""Messages handed to paho at a time: its message ids are 16 bits wide, an outage may last longer than that."""
_KEEPALIVE_S: Final = 10

METER_SIGNALS: Final = (
    ("power_kw", signal.ACTIVE_POWER, "kW", "Active power, mean over the interval"),
    ("energy_kwh", signal.ACTIVE_ENERGY, "kW.h", "Active energy register"),
    ("voltage_v", signals.VOLTAGE, "V", "Mean voltage between the phases"),
    ("current_a", signals.CURRENT, "A", "Mean current of the phases"),
    ("power_factor", signals.POWER_FACTOR, "1", "Power factor"),
)
"""What a meter's message holds: (key, signal, unit in UCUM, description); ``ts`` is UTC ms. Scale is 1 throughout."""


def meter_payload(reading: MeterReading) -> bytes:
    """Return a meter's message: ``{"ts": ms, "power_kw": ..., ...}``, every number exact."""
    values: dict[str, float] = {"ts": reading.time_ns // 1_000_000}
    values.update({key: getattr(reading, key) for key, *_ in METER_SIGNALS})
    return msgspec.json.encode(values)


class MeterPublisher:
    """Publishes in order, at least once each, through broker restarts of any length.

    Counters are written by one thread each (`published` by the caller's, the acknowledgements by paho's), so that
    no lock is held across paho's own.
    """

    def __init__(self, broker: BrokerConfig, client_id: str) -> None:
        parts = urlsplit(broker.url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 1883
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._handed_total = 0
        self._acknowledged_total = 0
        self.published_total = 0
        """Messages given to `publish`."""
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, protocol=paho.MQTTv311
        )
        if broker.username is not None:
            password = broker.password.get_secret_value() if broker.password else None
            self._client.username_pw_set(broker.username, password)
        self._client.max_queued_messages_set(0)
        # Our own window is the bound; with a second one paho holds messages back that it may forget to send later.
        self._client.max_inflight_messages_set(0)
        self._client.reconnect_delay_set(min_delay=1, max_delay=2)
        self._client.on_publish = self._acknowledged

    @property
    def unacknowledged(self) -> int:
        """How many messages the broker has not acknowledged yet."""
        return self.published_total - self._acknowledged_total

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client.is_connected()

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._client.connect_async(self._host, self._port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes) -> None:
        """Take a message; it is sent as soon as may be."""
        self._waiting.append((topic, payload))
        self.published_total += 1
        self.feed()

    def feed(self) -> None:
        """Hand on what waits; call it now and then, also when there is nothing to publish."""
        while self._waiting and self._handed_total - self._acknowledged_total < _WINDOW:
            topic, payload = self._waiting[0]
            if self._client.publish(topic, payload, qos=1).rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                return
            self._waiting.popleft()
            self._handed_total += 1

    def stop(self) -> None:
        """Disconnect, and forget what is not acknowledged."""
        self._client.disconnect()
        self._client.loop_stop()

    def _acknowledged(self, *_: Any) -> None:
        self._acknowledged_total += 1
