"""A load at a real broker: every QoS 1 message arrives, also over the broker's restart; Sparkplug as a host sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shopfloor.errors import ShopfloorError
from shopfloor.sparkplug import DataType, Metric, Payload, bd_seq_of, decode_payload, encode_payload
from simulators.load.plan import LoadPlan, value
from tests.integration.load_fleet import fleet, until
from tests.integration.mqtt_brokers import mosquitto
from tests.ports import free_port

MACHINES, SIGNALS = 6, 8
SMALL = ["--machines", str(MACHINES), "--signals", str(SIGNALS), "--servers", "2"]


@contextlib.asynccontextmanager
async def listening(port: int, topic: str) -> AsyncIterator[tuple[paho.Client, list[tuple[str, bytes]]]]:
    """Collect what comes on a topic, with QoS 1 and a session that outlives the broker's restart."""
    got: list[tuple[str, bytes]] = []
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
    client.reconnect_delay_set(1, 1)
    client.on_connect = lambda client, *_: client.subscribe(topic, 1)

    def hears(*_: Any) -> None:
        loop.call_soon_threadsafe(subscribed.set)

    client.on_subscribe = hears
    client.on_message = lambda _client, _data, message: got.append((message.topic, bytes(message.payload)))
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        await asyncio.wait_for(subscribed.wait(), 10)
        yield client, got
    finally:
        client.disconnect()
        client.loop_stop()


def ticks_of(plan: LoadPlan, got: list[tuple[str, bytes]]) -> dict[tuple[str, str], list[int]]:
    """Return the ticks of every variable in order of arrival, having compared every value."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for topic, payload in got:
        content = json.loads(payload)
        tick = plan.newest_tick(content.pop("ts"))
        machine = int(topic[-4:]) - 1
        for name, number in content.items():
            assert number == value(tick, plan.number(machine, int(name[1:]) - 1))
            found[topic, name].append(tick)
    return found


@pytest.mark.parametrize("each", ["0", "2"])
async def test_every_message_arrives_once_and_in_order(tmp_path: Path, each: str) -> None:
    async with mosquitto(tmp_path, "max_inflight_messages 1000") as broker:
        words = ["--protocol", "mqtt", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--hz", "40"]
        async with listening(broker.port, "load/#") as (_, got):
            async with fleet(*SMALL, *words, "--values-per-message", each, "--window", "7") as (
                running,
                plan,
            ):
                await running.start()
                await until(lambda: len(got) > 600, "600 messages arrive")
                totals = await running.stop()
            await until(lambda: len(got) >= totals.sent_messages, "all arrives")
    assert totals.acknowledged_messages == totals.sent_messages == len(got)
    assert totals.sent_values == len(got) * (int(each) or SIGNALS)
    found = ticks_of(plan, got)
    assert len(found) == MACHINES * SIGNALS
    for ticks in found.values():
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))


async def test_nothing_is_lost_when_the_broker_is_started_again(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        words = ["--protocol", "mqtt", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--hz", "50"]
        async with listening(broker.port, "load/#") as (_, got):
            async with fleet(*SMALL, *words) as (running, plan):
                await running.start()
                await until(lambda: len(got) > 200, "200 messages arrive")
                await broker.stop(signal.SIGTERM)  # mosquitto then writes what it has acknowledged
                await broker.start()
                before = len(got)
                await until(lambda: len(got) > before + 200, "200 more arrive")
                totals = await running.stop()
            found = ticks_of(plan, got)
            await until(
                lambda: sum(len(set(each)) for each in ticks_of(plan, got).values()) >= totals.sent_values,
                "all arrives",
            )
            found = ticks_of(plan, got)
    assert totals.reconnects >= 2
    assert totals.acknowledged_messages == totals.sent_messages
    for ticks in found.values():
        assert sorted(set(ticks)) == list(range(min(ticks), max(ticks) + 1))
    assert sum(len(set(ticks)) for ticks in found.values()) == totals.sent_values


async def test_a_host_sees_births_and_then_data_in_sequence_and_may_ask_again(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, "max_inflight_messages 1000") as broker:
        words = ["--protocol", "sparkplug", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--hz", "40"]
        async with listening(broker.port, "spBv1.0/load/#") as (client, got):
            async with fleet(*SMALL, *words) as (running, plan):
                await running.start()
                await until(lambda: len(got) > 400, "400 messages arrive")
                rebirth = Metric("Node Control/Rebirth", None, None, DataType.Boolean, value=True)
                command = encode_payload(Payload(1, (rebirth,)))
                client.publish("spBv1.0/load/NCMD/load-01", command, 1)
                client.publish("spBv1.0/load/NCMD/load-01", b"\xff no payload", 1)
                births = "spBv1.0/load/NBIRTH/load-01"
                await until(lambda: sum(topic == births for topic, _ in list(got)) == 2, "a second birth")
                before = len(got)
                await until(lambda: len(got) > before + 100, "data after it")
                totals = await running.stop()
            deaths = {f"spBv1.0/load/NDEATH/load-0{number}" for number in (1, 2)}
            await until(lambda: deaths <= {topic for topic, _ in list(got)}, "both nodes say goodbye")
    assert totals.rebirths == 1
    check_sequences(plan, got)


def check_sequences(plan: LoadPlan, got: list[tuple[str, bytes]]) -> None:
    """Hold the messages of every edge node against what births, aliases and seq promise."""
    session: dict[str, int | None] = {}
    expected: dict[str, int] = {}
    aliases: dict[tuple[str, int | None], tuple[str, str | None]] = {}
    ticks: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for topic, content in got:
        _, _, kind, edge, *device = topic.split("/")
        if kind == "NCMD":
            continue
        message = decode_payload(content)
        if kind == "NDEATH":
            assert bd_seq_of(message) == session[edge]
            continue
        if kind == "NBIRTH":
            session[edge], expected[edge] = bd_seq_of(message), 0
        assert message.seq == expected[edge], topic
        expected[edge] = (expected[edge] + 1) % 256
        for metric in message.metrics if device else ():
            if kind == "DBIRTH":
                aliases[edge, metric.alias] = (device[0], metric.name)
                continue
            machine, name = aliases[edge, metric.alias]
            assert machine == device[0]
            assert metric.timestamp_ms is not None
            assert name is not None
            tick = plan.newest_tick(metric.timestamp_ms)
            assert metric.value == value(tick, plan.number(int(machine[-4:]) - 1, int(name[-3:]) - 1))
            ticks[machine, name].append(tick)
    assert len(ticks) == MACHINES * SIGNALS
    for each in ticks.values():
        assert each == list(range(each[0], each[0] + len(each)))


async def test_a_broker_that_is_not_there_ends_the_load_at_once() -> None:
    words = ["--protocol", "mqtt", "--broker", f"mqtt://127.0.0.1:{free_port()}"]
    async with fleet(*SMALL, *words) as (running, _):
        with pytest.raises(ShopfloorError, match=r"broker 127\.0\.0\.1:\d+: .*refused"):
            await running.start()


async def test_a_broker_that_lets_nobody_in_is_quoted(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, "allow_anonymous false", anonymous=False) as broker:
        words = ["--protocol", "mqtt", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
        async with fleet(*SMALL, *words) as (running, _):
            with pytest.raises(ShopfloorError, match="it does not let us in"):
                await running.start()
