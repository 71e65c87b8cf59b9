"""No message lost and none acknowledged too early, with real brokers that are killed, cut off and restarted."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from edge_agent.sources.mqtt import MqttSource, connection
from edge_agent.sources.mqtt.inbox import Inbox
from shopfloor.block import STATUS_NO_SOURCE_TIME
from shopfloor.errors import SourceUnavailable, StoreUnavailable
from tests.integration.mqtt_brokers import Broker, MemorySink, config, mosquitto, nats, publish, running

TOPIC = "meters/hk01/c1"
PLAIN = [{"topic": "plain/{cell}", "asset": "acme/s/a/l/{cell}", "signals": [{"signal": "v"}]}]
MakeBroker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Broker]]


def counted(numbers: range) -> list[str]:
    return [f'{{"ts":{1_700_000_000_000 + n},"n":{n},"pad":"{"x" * 100}"}}' for n in numbers]


async def stored(sink: MemorySink, how_many: int, task: asyncio.Task[object] | None = None) -> None:
    """Wait until the sink holds that many different samples."""
    async with asyncio.timeout(60):
        while len(sink.distinct) < how_many:
            if task is not None and task.done():
                task.result()
            await asyncio.sleep(0.02)


async def offered(sink: MemorySink, how_many: int = 1) -> None:
    async with asyncio.timeout(30):
        while sink.offered < how_many:
            await asyncio.sleep(0.01)


def numbers(sink: MemorySink) -> list[object]:
    return [value for _, _, value, _ in sink.distinct]


@pytest.fixture(params=[mosquitto, nats], ids=["mosquitto", "nats"])
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


async def test_a_burst_arrives_whole_in_order_and_in_few_blocks(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker:
        sink = MemorySink()
        async with running(MqttSource(config(broker.port)), sink):
            pass  # The broker has the session now.
        await publish(broker.port, TOPIC, *counted(range(5_000)))
        sink.gate.clear()
        async with running(MqttSource(config(broker.port)), sink, subscribed=False) as task:
            await offered(sink)
            sink.gate.set()
            await stored(sink, 5_000, task)
            assert sink.counts["session_resumed"] == 1
        assert sink.values == list(range(5_000))
        assert sink.gaps == []
        assert sink.counts["message"] == 5_000
        assert len(sink.blocks) < 5_000


async def test_messages_published_while_the_agent_was_away_arrive(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker:
        sink = MemorySink()
        for round_number in range(3):
            async with running(MqttSource(config(broker.port)), sink) as task:
                await stored(sink, 20 * round_number, task)
            await publish(broker.port, TOPIC, *counted(range(20 * round_number, 20 * round_number + 20)))
        async with running(MqttSource(config(broker.port)), sink) as task:
            await stored(sink, 60, task)
        assert sink.values == list(range(60))


async def test_what_was_not_stored_comes_again(tmp_path: Path, make_broker: MakeBroker) -> None:
    async with make_broker(tmp_path) as broker:
        sink = MemorySink()
        sink.gate.clear()
        async with running(MqttSource(config(broker.port)), sink):
            await publish(broker.port, TOPIC, *counted(range(50)))
            await offered(sink)
            # Killed while the put lasts: nothing was stored, so nothing may have been acknowledged.
        assert sink.rows == []
        sink.gate.set()
        async with running(MqttSource(config(broker.port)), sink) as task:
            await stored(sink, 50, task)
        assert sorted(sink.values) == list(range(50))


async def test_a_store_that_refuses_ends_the_connection_and_loses_nothing(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker:
        sink = MemorySink()
        sink.broken = True
        async with running(MqttSource(config(broker.port)), sink) as task:
            await publish(broker.port, TOPIC, *counted(range(50)))
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(asyncio.shield(task), 30)
        sink.broken = False
        async with running(MqttSource(config(broker.port)), sink) as task:
            await stored(sink, 50, task)
        assert sorted(sink.values) == list(range(50))


async def test_what_was_stored_but_not_acknowledged_is_a_repeat(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    async with make_broker(tmp_path) as broker:
        sink = MemorySink()
        sink.keeps_before_gate = True
        sink.gate.clear()
        settings = config(broker.port, topics=PLAIN)
        async with running(MqttSource(settings), sink):
            # Ten different values and no machine time: only DUP tells what comes again.
            await publish(broker.port, "plain/c1", *(str(n) for n in range(10)))
            await offered(sink, 1)
            # Killed between the commit and the acknowledgement.
        in_flight = len(sink.rows)
        assert in_flight >= 1
        sink.gate.set()
        async with running(MqttSource(settings), sink) as task:
            await publish(broker.port, "plain/c1", "99")
            await stored(sink, 11, task)
            async with asyncio.timeout(30):
                while sink.counts["repeated_message"] < in_flight:
                    await asyncio.sleep(0.02)
        assert sorted(sink.values) == [*range(10), 99]
        assert {row.status for row in sink.rows} == {STATUS_NO_SOURCE_TIME}


async def test_nats_killed_and_restarted_loses_nothing(tmp_path: Path) -> None:
    async with nats(tmp_path) as broker:
        sink = MemorySink()
        async with running(MqttSource(config(broker.port)), sink) as task:
            await publish(broker.port, TOPIC, *counted(range(500)))
            await stored(sink, 100, task)
            await broker.stop(signal.SIGKILL)
            with pytest.raises(SourceUnavailable):
                await asyncio.wait_for(asyncio.shield(task), 30)
        await broker.start()
        await publish(broker.port, TOPIC, *counted(range(500, 600)))
        async with running(MqttSource(config(broker.port)), sink) as task:
            await stored(sink, 600, task)
        assert sorted(set(sink.values)) == list(range(600))
        assert sink.gaps == []


async def test_nats_repeats_while_connected_what_a_slow_store_keeps_waiting(tmp_path: Path) -> None:
    async with nats(tmp_path, ack_wait="1s") as broker:
        sink = MemorySink()
        sink.gate.clear()
        async with running(MqttSource(config(broker.port, topics=PLAIN)), sink) as task:
            await publish(broker.port, "plain/c1", *(str(n) for n in range(20)))
            await offered(sink)
            async with asyncio.timeout(30):
                while sink.counts["redelivered_message"] < 20:
                    await asyncio.sleep(0.02)
            sink.gate.set()
            await stored(sink, 20, task)
            await publish(broker.port, "plain/c1", "99")
            await stored(sink, 21, task)
        assert sink.values == [*range(20), 99]


async def test_mosquitto_restarted_loses_nothing(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        sink = MemorySink()
        async with running(MqttSource(config(broker.port)), sink) as task:
            await publish(broker.port, TOPIC, *counted(range(500)))
            await stored(sink, 100, task)
            await broker.stop(signal.SIGTERM)
            with pytest.raises(SourceUnavailable):
                await asyncio.wait_for(asyncio.shield(task), 30)
        await broker.start()
        await publish(broker.port, TOPIC, *counted(range(500, 600)))
        async with running(MqttSource(config(broker.port)), sink) as task:
            await stored(sink, 600, task)
            assert sink.counts["session_resumed"] == 1
        assert sorted(set(sink.values)) == list(range(600))
        assert sink.gaps == []


async def test_a_broker_that_forgot_the_session_is_a_gap(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, persistence=False) as broker:
        sink = MemorySink()
        async with running(MqttSource(config(broker.port)), sink) as task:
            await publish(broker.port, TOPIC, *counted(range(1)))
            await stored(sink, 1, task)
        await broker.stop(signal.SIGKILL)
        await broker.start()
        async with running(MqttSource(config(broker.port)), sink):
            pass
        ((reason, from_time, to_time, asset),) = sink.gaps
        assert "no session" in reason
        assert from_time < to_time
        assert asset == "acme/hk01/a/l/c1"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_retained_message_is_one_reading_however_often_we_come(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        sink = MemorySink()
        settings = config(broker.port, topics=PLAIN, protocol=protocol)
        await publish(broker.port, "plain/c1", "1", retain=True)
        for _ in range(3):
            async with running(MqttSource(settings), sink) as task:
                await stored(sink, 1, task)
        async with running(MqttSource(settings), sink) as task:
            await publish(broker.port, "plain/c1", "2", retain=True)
            await stored(sink, 2, task)
        async with running(MqttSource(settings), sink) as task:
            await publish(broker.port, "plain/c1", "3")
            await stored(sink, 3, task)
        assert sink.values == [1, 2, 3]


async def test_mqtt_5_keeps_its_session_and_sends_more_at_once(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, "max_inflight_messages 0") as broker:
        sink = MemorySink()
        settings = config(broker.port, protocol="5", receive_maximum=300)
        async with running(MqttSource(settings), sink):
            pass
        await publish(broker.port, TOPIC, *counted(range(2_000)))
        sink.gate.clear()
        async with running(MqttSource(settings), sink, subscribed=False) as task:
            await offered(sink)
            sink.gate.set()
            await stored(sink, 2_000, task)
            assert sink.counts["session_resumed"] == 1
        assert sink.values == list(range(2_000))
        # More than the 20 that a broker sends unasked.
        assert max(len(block) for block in sink.blocks) > 20


async def test_a_flood_that_nothing_bounds_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inboxes: list[Inbox] = []

    def make_inbox(now: Callable[[], float]) -> Inbox:
        inboxes.append(Inbox(now, max_waiting=100))
        return inboxes[-1]

    monkeypatch.setattr(connection, "Inbox", make_inbox)
    async with mosquitto(tmp_path, "max_inflight_messages 0") as broker:
        sink = MemorySink()
        sink.gate.clear()
        settings = config(broker.port, keepalive_s=2)
        async with running(MqttSource(settings), sink) as task:
            await publish(broker.port, TOPIC, *counted(range(3_000)))
            await offered(sink)
            # Longer than the broker would wait for a sign of life, and than we would wait for one of its own.
            await asyncio.sleep(4)
            assert not task.done()
            assert [len(inbox) for inbox in inboxes] == [100]
            sink.gate.set()
            await stored(sink, 3_000, task)
        assert sink.values == list(range(3_000))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_backlog_larger_than_our_memory_does_not_hide_the_answer_to_the_subscription(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(connection, "Inbox", functools.partial(Inbox, max_waiting=100))
    async with mosquitto(tmp_path, "max_inflight_messages 0") as broker:
        sink = MemorySink()
        settings = config(broker.port, protocol=protocol, receive_maximum=65_535)
        async with running(MqttSource(settings), sink):
            pass
        await publish(broker.port, TOPIC, *counted(range(5_000)))
        async with running(MqttSource(settings), sink) as task:
            await stored(sink, 5_000, task)
        assert sink.values == list(range(5_000))


async def test_messages_received_before_the_connection_broke_are_stored(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        sink = MemorySink()
        sink.gate.clear()
        async with running(MqttSource(config(broker.port, topics=PLAIN, qos=0)), sink) as task:
            await publish(broker.port, "plain/c1", "0")
            await offered(sink)
            await publish(broker.port, "plain/c1", *(str(n) for n in range(1, 10)))
            await broker.stop(signal.SIGKILL)
            sink.gate.set()
            with pytest.raises(SourceUnavailable), contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(task), 30)
        # With QoS 0 nobody sends them again.
        assert sink.values == list(range(10))
