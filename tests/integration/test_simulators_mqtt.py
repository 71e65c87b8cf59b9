"""Devices on real brokers that are killed and come back: the publisher gives up nothing that it was given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shopfloor.asset import parse_asset
from simulators.physics.meter import MeterReading
from simulators.protocols.mqtt import MqttPublisher, meter_payload
from simulators.protocols.mqtt_dialects import Message, Tasmota
from simulators.scenario import BrokerConfig
from tests.integration.mqtt_brokers import Broker, mosquitto, nats, until

MakeBroker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Broker]]
TOPIC = "meters/hk01/moulding/cell-a/imm-01"


def payload(number: int) -> bytes:
    return meter_payload(
        MeterReading((1_700_000_000_000 + number) * 1_000_000, 0.1, float(number), 400.0, 1.5, 0.9)
    )


@contextlib.contextmanager
def publisher(port: int, will: Message | None = None) -> Iterator[MqttPublisher]:
    made = MqttPublisher(BrokerConfig(url=f"mqtt://127.0.0.1:{port}"), "simulator-hk01", will)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def listener(
    port: int, topics: str = "meters/#", client_id: str = "listener"
) -> Iterator[list[paho.MQTTMessage]]:
    """A subscriber with a session of its own that outlives the broker's restarts."""
    heard: list[paho.MQTTMessage] = []
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, protocol=paho.MQTTv311
    )
    client.reconnect_delay_set(1, 1)
    client.on_message = lambda _client, _data, message: heard.append(message)
    subscribed = threading.Event()

    def subscribe(*_: Any) -> None:
        client.subscribe(topics, 1)

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


def registers(heard: list[paho.MQTTMessage]) -> list[float]:
    """The meters' registers, in the order in which they came."""
    return [json.loads(message.payload)["energy_kwh"] for message in heard]


def contents(heard: list[paho.MQTTMessage]) -> list[tuple[bytes, bool]]:
    return [(bytes(message.payload), message.retain) for message in heard]


async def drained(meters: MqttPublisher) -> None:
    async with asyncio.timeout(60):
        while meters.unacknowledged:
            meters.feed()
            await asyncio.sleep(0.01)


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
    make: MakeBroker, tmp_path: Path
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
                await drained(meters)
            assert meters.published_total == 900
            if make is nats:
                # It has on disk what it acknowledged; mosquitto's memory dies with it.
                await until(lambda: set(registers(heard)) == set(range(900)), "all arrived")


async def test_an_outage_longer_than_the_window_is_kept(tmp_path: Path) -> None:
    async with nats(tmp_path) as broker:
        with listener(broker.port) as heard, publisher(broker.port) as meters:
            meters.publish(TOPIC, payload(0))
            await drained(meters)
            await until(lambda: bool(heard), "the listener's session stands")
            await broker.stop(signal.SIGKILL)
            for number in range(1, 3000):
                meters.publish(TOPIC, payload(number))
            assert meters.unacknowledged >= 2999
            await broker.start()
            await drained(meters)
            await until(lambda: set(registers(heard)) == set(range(3000)), "all arrived")


@pytest.mark.parametrize("make", [nats, mosquitto], ids=["nats", "mosquitto"])
async def test_what_is_sent_twice_comes_twice(make: MakeBroker, tmp_path: Path) -> None:
    async with make(tmp_path) as broker:
        with listener(broker.port) as heard, publisher(broker.port) as meters:
            for number in range(500):
                meters.publish(TOPIC, payload(number), copies=2 if number % 10 == 0 else 1)
            await drained(meters)
            assert meters.published_total == 550
            expected = [float(number) for number in range(500) for _ in range(2 if number % 10 == 0 else 1)]
            await until(lambda: len(heard) >= 550, "all arrived")
            # To the broker each copy is a message; nothing tells a collector that one of them is a repetition.
            first = [message for message in heard if not message.dup]
            if make is mosquitto:
                assert registers(first) == expected
            # nats-server puts behind newer messages what a slow listener did not acknowledge in time.
            assert sorted(set(registers(heard))) == sorted(set(expected))


@pytest.mark.parametrize("make", [nats, mosquitto], ids=["nats", "mosquitto"])
async def test_a_plug_s_will_speaks_for_it_only_where_it_did_not_take_leave(
    make: MakeBroker, tmp_path: Path
) -> None:
    plug = Tasmota(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "plug-1", "Asia/Hong_Kong", 0)
    async with make(tmp_path) as broker:
        with listener(broker.port, "tele/#") as heard, publisher(broker.port, plug.will) as meters:
            meters.say(plug.connection(0, online=True))
            await drained(meters)
            await until(lambda: contents(heard) == [(b"Online", False)], "it is online")
            line = meters._client.socket()
            assert isinstance(line, socket.socket)
            line.shutdown(socket.SHUT_RDWR)
            await until(lambda: contents(heard)[1:] == [(b"Offline", False)], "the broker says so")
            await until(lambda: meters.connected, "connected again")
            with listener(broker.port, "tele/#", "late") as late:
                await until(lambda: contents(late) == [(b"Offline", True)], "it was retained")
            meters.say(plug.connection(1, online=True))
            meters.say(plug.connection(2, online=False))
            await drained(meters)
            await until(lambda: len(heard) == 4, "it took leave")
            meters.stop()
            with publisher(broker.port) as again:
                again.say(plug.connection(3, online=True))
                await drained(again)
                await until(lambda: len(heard) >= 5, "it came back")
            assert [message.payload for message in heard[2:]] == [b"Online", b"Offline", b"Online"]


async def test_messages_without_acknowledgement_are_sent_once_and_nobody_waits_for_them(
    tmp_path: Path,
) -> None:
    async with mosquitto(tmp_path) as broker:
        with listener(broker.port) as heard, publisher(broker.port) as meters:
            await until(lambda: meters.connected, "connected")
            for number in range(300):
                meters.publish(TOPIC, payload(number), number % 2)
            await drained(meters)
            await until(lambda: len(heard) == 300, "all arrived")
            # Between the two qualities of service mosquitto keeps no order.
            assert sorted(registers(heard)) == list(range(300))
            assert (meters.published_total, meters.lost_total) == (300, 0)
            await broker.stop(signal.SIGKILL)
            await until(lambda: not meters.connected, "the connection is gone")
            meters.publish(TOPIC, payload(300), 0)
            meters.publish(TOPIC, payload(301), 1)
            assert (meters.lost_total, meters.unacknowledged) == (1, 1)
            with pytest.raises(ValueError, match="quality of service 2"):
                meters.publish(TOPIC, payload(302), 2)
