"""Meters on real brokers that are killed and come back: the publisher gives up nothing that it was given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from simulators.physics.meter import MeterReading
from simulators.protocols.mqtt import MeterPublisher, meter_payload
from simulators.scenario import BrokerConfig
from tests.integration.mqtt_brokers import Broker, mosquitto, nats, until

TOPIC = "meters/hk01/moulding/cell-a/imm-01"


def payload(number: int) -> bytes:
    return meter_payload(
        MeterReading((1_700_000_000_000 + number) * 1_000_000, 0.1, float(number), 400.0, 1.5, 0.9)
    )


@contextlib.contextmanager
def publisher(port: int) -> Iterator[MeterPublisher]:
    made = MeterPublisher(BrokerConfig(url=f"mqtt://127.0.0.1:{port}"), "simulator-hk01")
    made.start()
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def listener(port: int) -> Iterator[list[dict[str, Any]]]:
    """A subscriber with a session of its own that outlives the broker's restarts."""
    heard: list[dict[str, Any]] = []
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False, protocol=paho.MQTTv311
    )
    client.reconnect_delay_set(1, 1)
    client.on_message = lambda _client, _data, message: heard.append(json.loads(message.payload))
    subscribed = threading.Event()

    def subscribe(*_: Any) -> None:
        client.subscribe("meters/#", 1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(20)
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_message_holds_the_exact_numbers() -> None:
    reading = MeterReading(1_700_000_000_123_000_000, 0.1 + 0.2, 12345.6789, 399.9, 17.34, 0.912)
    assert json.loads(meter_payload(reading)) == {
        "ts": 1_700_000_000_123,
        "power_kw": 0.1 + 0.2,
        "energy_kwh": 12345.6789,
        "voltage_v": 399.9,
        "current_a": 17.34,
        "power_factor": 0.912,
    }


@pytest.mark.parametrize("make", [nats, mosquitto], ids=["nats", "mosquitto"])
async def test_nothing_is_lost_when_the_broker_is_killed_and_comes_back(
    make: Callable[[Path], AbstractAsyncContextManager[Broker]], tmp_path: Path
) -> None:
    async with make(tmp_path) as broker:
        with listener(broker.port) as heard, publisher(broker.port) as meters:
            await until(lambda: meters.connected, "the publisher is connected")
            for number in range(300):
                meters.publish(TOPIC, payload(number))
            for first in (300, 600):
                # Killed with messages in flight; more come while it is down.
                await broker.stop(signal.SIGKILL)
                for number in range(first, first + 300):
                    meters.publish(TOPIC, payload(number))
                assert meters.unacknowledged >= 300
                await broker.start()
                await until(lambda: meters.connected, "connected again")
                while meters.unacknowledged:
                    meters.feed()
                    await asyncio.sleep(0.02)
            assert meters.published_total == 900
            if make is nats:
                # It has on disk what it acknowledged; mosquitto's memory dies with it.
                await until(lambda: {row["energy_kwh"] for row in heard} == set(range(900)), "all arrived")


async def test_an_outage_longer_than_the_window_is_kept(tmp_path: Path) -> None:
    async with nats(tmp_path) as broker:
        with listener(broker.port) as heard, publisher(broker.port) as meters:
            meters.publish(TOPIC, payload(0))
            await until(lambda: bool(heard), "the listener's session stands")
            await broker.stop(signal.SIGKILL)
            for number in range(1, 3000):
                meters.publish(TOPIC, payload(number))
            assert meters.unacknowledged >= 2999
            await broker.start()
            while meters.unacknowledged:
                meters.feed()
                await asyncio.sleep(0.01)
            await until(lambda: {row["energy_kwh"] for row in heard} == set(range(3000)), "all arrived")
