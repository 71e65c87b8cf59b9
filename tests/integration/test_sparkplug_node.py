"""A simulated edge node on real brokers that are killed, with a host that dies: a strict reader ends with everything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shopfloor.sparkplug import (
    REBIRTH,
    DataType,
    HostState,
    Metric,
    Payload,
    Topic,
    encode_payload,
    encode_state,
)
from simulators.protocols import sparkplug
from simulators.protocols.sparkplug import DeviceSample, MetricSpec, SessionLimits, SparkplugNode
from simulators.scenario import BrokerConfig
from tests.integration.mqtt_brokers import Broker, mosquitto, nats
from tests.integration.sparkplug_reader import Reader

DEVICES = {
    name: [MetricSpec("Temperature", DataType.Double, "Cel"), MetricSpec("Shots", DataType.Int32)]
    for name in ("imm-1", "imm-2")
}
STATE = str(Topic("STATE", host="scada"))
NCMD = str(Topic("NCMD", "vn01", "edge"))
ASK = encode_payload(Payload(metrics=(Metric(REBIRTH, datatype=DataType.Boolean, value=True),)))
BROKERS = pytest.mark.parametrize("make", [mosquitto, nats])

Make = Callable[[Path], AbstractAsyncContextManager[Broker]]


class Host:
    """A primary host of one session: it asks for a rebirth whenever its reader wants one."""

    def __init__(self, port: int, reader: Reader, stamp: int) -> None:
        self.reader = reader
        self._ready = threading.Event()
        self._stamp = stamp
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"scada-{stamp}",
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.will_set(
            STATE, encode_state(HostState(online=False, timestamp_ms=stamp)), 1, retain=True
        )
        self._client.on_subscribe = self._birth
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port, keepalive=10)
        self._client.subscribe("spBv1.0/vn01/#", 0)
        self._client.loop_start()
        assert self._ready.wait(20)

    def _birth(self, *_: Any) -> None:
        state = HostState(online=True, timestamp_ms=self._stamp)
        self._client.publish(STATE, encode_state(state), 1, retain=True)
        self._ready.set()

    def _take(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if "CMD" not in message.topic and self.reader.take(
            message.topic, bytes(message.payload), time.monotonic()
        ):
            self.ask()

    def ask(self) -> None:
        self._client.publish(NCMD, ASK, 0)

    def die(self) -> None:
        """Go without a word: the broker publishes the will."""
        connection: Any = self._client.socket()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        self.reader.forget()


@contextlib.contextmanager
def host(port: int, reader: Reader) -> Iterator[Host]:
    made = Host(port, reader, time.time_ns() // 1_000_000)
    try:
        yield made
    finally:
        made.die()


async def until(
    condition: Callable[[], bool],
    what: str,
    timeout_s: float = 40.0,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {timeout_s} s not yet: {what}")
        meanwhile()
        await asyncio.sleep(0.01)


class Plant:
    """A node that is fed every 10 ms, and everything that it was given."""

    def __init__(self, port: int, folder: Path, **limits: Any) -> None:
        broker = BrokerConfig(url=f"mqtt://127.0.0.1:{port}")
        self.node = SparkplugNode(broker, "vn01", "edge", "scada", folder, DEVICES, SessionLimits(**limits))
        self.published: set[tuple[str, str, int, object]] = set()
        self._time = 0

    def publish(self, ticks: int) -> None:
        for _ in range(ticks):
            self._time += 1
            made = [
                DeviceSample(device, metric, self._time, value)
                for device in DEVICES
                for metric, value in (("Temperature", self._time / 8), ("Shots", -self._time))
            ]
            self.node.publish(made)
            self.published.update(made)

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
        await until(condition, what, timeout_s, meanwhile=self.node.feed)

    async def arrived(self, reader: Reader) -> None:
        await self.until(lambda: self.published <= set(reader.samples), "everything arrived")
        await self.until(lambda: self.node.unacknowledged == 0, "nothing waits")
        assert set(reader.samples) == self.published
        assert self.node.session.dropped_total == 0


@contextlib.asynccontextmanager
async def plant(port: int, folder: Path, **limits: Any) -> AsyncIterator[Plant]:
    made = Plant(port, folder, **limits)
    made.node.start()
    try:
        yield made
    finally:
        await asyncio.to_thread(made.node.stop)


@BROKERS
async def test_births_data_and_rebirth_on_command(make: Make, tmp_path: Path) -> None:
    reader = Reader()
    async with make(tmp_path) as broker, plant(broker.port, tmp_path) as own:
        own.publish(3)
        await own.until(lambda: own.node.connected, "connected")
        assert own.node.waiting == 12
        with host(broker.port, reader) as scada:
            await own.arrived(reader)
            assert reader.log[:3] == ["NBIRTH", "DBIRTH imm-1", "DBIRTH imm-2"]
            assert reader.units == {("imm-1", "Temperature"): "Cel", ("imm-2", "Temperature"): "Cel"}
            assert reader.bd_seqs == [0]
            own.publish(2)
            await own.arrived(reader)
            # What waited came as historical but for the last values, which the births showed; what came later is live.
            assert reader.values(historical=True)["imm-1", "Shots"] == [-1, -2]
            assert reader.values(historical=False)["imm-1", "Shots"] == [-3, -4, -5]
            births = reader.log.count("NBIRTH")
            scada.ask()
            await own.until(lambda: reader.log.count("NBIRTH") > births and reader.is_born, "born again")
            assert reader.bd_seqs == [0, 0]
            own.publish(1)
            await own.arrived(reader)


@BROKERS
async def test_while_the_host_is_dead_samples_wait_and_what_it_missed_comes_again(
    make: Make, tmp_path: Path
) -> None:
    reader = Reader()
    async with make(tmp_path) as broker, plant(broker.port, tmp_path) as own:
        with host(broker.port, reader):
            own.publish(5)
            await own.arrived(reader)
        for _ in range(2):
            # Some of these are on their way to nobody before the node knows.
            own.publish(5)
            await own.until(lambda: not own.node.session.is_live, "the node knows that the host is gone")
            own.publish(5)
            assert own.node.waiting >= 20
            await own.until(lambda: own.node.connected, "connected again")
            assert not own.node.session.is_live
            with host(broker.port, reader):
                await own.arrived(reader)
        assert reader.bd_seqs[0] == 0
        assert sorted(set(reader.bd_seqs)) == [0, 1, 2]


@BROKERS
async def test_nothing_is_lost_when_the_broker_is_killed(make: Make, tmp_path: Path) -> None:
    reader = Reader()
    async with make(tmp_path) as broker, plant(broker.port, tmp_path) as own:
        for _ in range(3):
            with host(broker.port, reader):
                await own.until(lambda: own.node.session.is_live, "live")
                own.publish(200)
                await broker.stop(signal.SIGKILL)
                own.publish(50)
            await own.until(lambda: not own.node.connected, "the node knows")
            own.publish(50)
            await broker.start()
            await own.until(lambda: own.node.connected, "connected again")
            # A broker that kept the STATE says online although nobody listens.
            own.publish(50)
        with host(broker.port, reader):
            await own.arrived(reader)
            assert not own.node.waiting


@BROKERS
async def test_an_outage_fires_the_will_and_ends_with_backfill(make: Make, tmp_path: Path) -> None:
    reader = Reader()
    async with make(tmp_path) as broker, plant(broker.port, tmp_path) as own:
        with host(broker.port, reader):
            await own.until(lambda: own.node.session.is_live, "live")
            own.publish(5)
            await own.arrived(reader)
            own.node.pause()
            await own.until(lambda: reader.deaths == [0], "the will")
            own.publish(400)
            own.node.feed()
            assert not own.node.connected
            assert own.node.waiting >= 1600
            own.node.resume()
            await own.arrived(reader)
            assert reader.bd_seqs == [0, 1]
            # The last value is news: the births showed it.
            historical = reader.values(historical=True)["imm-2", "Temperature"]
            assert historical == [number / 8 for number in range(6, 405)]
            own.node.pause()
            own.node.pause()
            own.node.resume()
            own.node.resume()
            own.publish(1)
            await own.arrived(reader)


async def test_data_faults_are_healed_by_the_rebirths_that_they_provoke(tmp_path: Path) -> None:
    reader = Reader()
    async with mosquitto(tmp_path) as broker, plant(broker.port, tmp_path) as own:
        with host(broker.port, reader) as scada:
            own.publish(5)
            await own.arrived(reader)
            for fault in (
                own.node.session.swap_next_messages,
                own.node.session.duplicate_next,
                lambda: own.node.session.skip_birth_of("imm-1"),
            ):
                fault()
                births = reader.log.count("NBIRTH")
                scada.ask()
                await own.until(lambda before=births: reader.log.count("NBIRTH") > before, "reborn")  # type: ignore[misc]
                own.publish(3)
                # The reader asks again only some seconds later, as hosts must.
                while not own.published <= set(reader.samples):
                    own.publish(1)
                    await asyncio.sleep(0.1)
                    own.node.feed()
                await own.arrived(reader)


async def test_bd_seq_goes_on_after_a_restart_and_stopping_is_a_death_of_its_own(tmp_path: Path) -> None:
    reader = Reader()
    async with mosquitto(tmp_path) as broker:
        with host(broker.port, reader):
            for run in range(3):
                async with plant(broker.port, tmp_path / "state") as own:
                    await own.until(lambda: reader.is_born, "born")
                # The node has stopped; the broker may still be telling the host of it.
                await until(lambda run=run: len(reader.deaths) > run, "its death")  # type: ignore[misc]
                assert reader.deaths == list(range(run + 1))
                reader.forget()
            (file,) = (tmp_path / "state").iterdir()
            file.write_text("no number\n")
            async with plant(broker.port, tmp_path / "state") as own:
                await own.until(lambda: reader.is_born, "born")
        assert reader.bd_seqs == [0, 1, 2, 0]


async def test_a_broker_that_is_not_there_or_hangs_blocks_nobody(tmp_path: Path) -> None:
    reader = Reader()
    async with mosquitto(tmp_path) as broker:
        await broker.stop()
        async with plant(broker.port, tmp_path) as own:
            own.publish(1)
            await asyncio.sleep(1.3)
            own.node.feed()
            assert not own.node.connected
            await broker.start()
            with host(broker.port, reader):
                await own.arrived(reader)
                # No CONNECT was sent while the broker was away.
                assert reader.bd_seqs == [0]
                broker.signal(signal.SIGSTOP)
                try:
                    own.publish(1000)
                    own.node.pause()
                    own.node.resume()
                    own.node.feed()
                finally:
                    broker.signal(signal.SIGCONT)
                await own.arrived(reader)


@BROKERS
async def test_a_node_that_waits_asks_again_for_the_state(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparkplug, "_LOOK_AGAIN_S", 0.05)
    async with make(tmp_path) as broker:
        with host(broker.port, Reader()):
            pass
        async with plant(broker.port, tmp_path) as own:
            states: list[bytes] = []
            monkeypatch.setattr(own.node.session, "message", lambda _topic, payload: states.append(payload))
            await own.until(lambda: len(states) >= 3, "the retained STATE came again")
            assert set(states) == {states[0]}
            assert b"false" in states[0]
