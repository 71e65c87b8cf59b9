"""Every dialect from the publisher over a real broker into the agent's source, held against the emission log."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from edge_agent.buffer.repeats import RepeatIndex
from edge_agent.sources.mqtt import MqttSource
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, concat
from shopfloor.signal import GOOD_PARTS_COUNTER, MACHINE_MODE, SeriesKey
from simulators.data_faults import DataFaults, Fault, Window
from simulators.demo.verify import Comparison, compare
from simulators.emissions import EmissionLog, read_emissions, read_untimed
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS, Change, CycleEnd, Moment
from simulators.protocols.mqtt import MqttPublisher
from simulators.protocols.mqtt_dialects import (
    Dialect,
    Gateway,
    PackML,
    PlainMeter,
    Said,
    Shelly,
    Shown,
    Tasmota,
    Umh,
    distinct_topics,
    log_rows,
    repeated,
)
from simulators.protocols.mqtt_dialects.gateway import CYCLE, CYCLE_NUMBER, POLL_NUMBER
from simulators.scenario import BrokerConfig
from tests.integration.mqtt_brokers import Broker, MemorySink, config, mosquitto, nats, running, until

MakeBroker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Broker]]
ASSET = parse_asset("acme/dg01/moulding/cell-b/imm-05")
CELL = "imm-05"
S = 1_000_000_000


class Site:
    """One device of each dialect and their log, on a clock that the test moves; published at once, as it is said."""

    def __init__(self, folder: Path, port: int) -> None:
        self.start_ms = time.time_ns() // MS
        self.gateway = Gateway(ASSET, "gateway/dg01/imm-05", self.start_ms, interval_ms=10)
        self.cells: list[Any] = [
            self.gateway,
            PackML(
                parse_asset("acme/hk01/assembly/u-line/test-1"),
                "Asia/Shanghai",
                {"packml.state": Shown("StateCurrent")},
                {"unit.serial": Shown("Serial")},
            ),
            Umh(
                parse_asset("acme/hk01/garment/line-1/imm-05"),
                {GOOD_PARTS_COUNTER: Shown("good"), "garment.style": Shown("style")},
            ),
        ]
        self.meters: list[Any] = [
            PlainMeter(parse_asset("acme/dg01/moulding/cell-b/imm-06")),
            Tasmota(parse_asset("acme/dg01/moulding/cell-b/imm-07"), "plug-7", "Asia/Shanghai", 0),
            Shelly(parse_asset("acme/dg01/moulding/cell-b/imm-08"), "shelly-8"),
        ]
        self.log = EmissionLog(folder / "log")
        self.numbers: dict[Dialect, dict[str, int]] = {
            dialect: {
                name: self.log.series(SeriesKey(dialect.asset, name), untimed=name in dialect.untimed)
                for name in dialect.signals
            }
            for dialect in self.dialects
        }
        self.publisher = MqttPublisher(BrokerConfig(url=f"mqtt://127.0.0.1:{port}"), "simulator-dg01")
        self.publisher.start()

    @property
    def dialects(self) -> list[Dialect]:
        return [*self.cells, *self.meters]

    def close(self) -> None:
        self.publisher.stop()
        self.log.close()

    def step(self, number: int, faults: DataFaults | None = None) -> None:
        """Let each device say what 10 ms of its life hold."""
        faults = faults or DataFaults()
        begin_ms = self.start_ms + 10 * number
        moments: list[Moment] = [
            *(
                Change(CELL, name, begin_ms * MS, value)
                for name, value in (
                    (MACHINE_MODE, float(number % 5)),
                    ("barrel.zone_1.temperature", 220.0 + number % 3 / 10),
                    ("packml.state", float(number % 17)),
                    ("garment.style", f"style {number // 10}"),
                )
            ),
            CycleEnd(
                CELL,
                (begin_ms + 5) * MS,
                {
                    CYCLE[0].signal: 65_500.0 + number,
                    GOOD_PARTS_COUNTER: float(number),
                    "unit.serial": f"U-{number}",
                },
            ),
        ]
        said = list(faults.moments(moments))
        reading = MeterReading(
            (begin_ms + 10_000 * number) * MS, 1.0 + number, 20.0 + number / 3, 399.5, 7.25, 0.9
        )
        for cell in self.cells:
            self.say(cell, cell.moments(said, begin_ms + 10), faults.copies(CELL, begin_ms * MS))
        for meter in self.meters:
            self.say(meter, meter.reading(reading))

    def say(self, dialect: Dialect, said: list[Said], copies: int = 1) -> None:
        # Tests are not faster than their clock is allowed to be: what has no time is logged as published now.
        said = [each._replace(time_ns=time.time_ns()) for each in repeated(said, copies)]
        rows = log_rows(said, self.numbers[dialect])
        if rows:
            self.log.append(rows)
        for each in said:
            self.publisher.say(each)

    async def drained(self) -> None:
        async with asyncio.timeout(60):
            while self.publisher.unacknowledged:
                self.publisher.feed()
                await asyncio.sleep(0.01)

    async def arrived(self, sink: MemorySink) -> None:
        await until(lambda: not self.compare(sink).missing, "all arrived")

    def compare(self, sink: MemorySink) -> Comparison:
        return compare(read_emissions(self.log.folder), kept(sink), read_untimed(self.log.folder))


def kept(sink: MemorySink) -> SampleBlock:
    """What the agent's buffer keeps of what its source brought."""
    repeats = RepeatIndex(1_000_000)
    return concat([repeats.admit(block).block for block in sink.blocks])


@pytest.fixture(params=[mosquitto, nats], ids=["mosquitto", "nats"])
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    make: MakeBroker = request.param
    return make


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    made: list[Site] = []
    yield made
    for site in made:
        site.close()


def source(site: Site, broker: Broker) -> MqttSource:
    return MqttSource(config(broker.port, topics=distinct_topics(site.dialects)))


async def test_every_dialect_arrives_exactly_and_in_order(
    make_broker: MakeBroker, sites: list[Site], tmp_path: Path
) -> None:
    async with make_broker(tmp_path) as broker:
        sites.append(site := Site(tmp_path, broker.port))
        sink = MemorySink()
        faults = DataFaults(
            Window(fault, CELL, site.start_ms + begin, site.start_ms + begin + 200)
            for fault, begin in (
                (Fault("data.duplicate"), 200),
                (Fault("data.nan", "barrel"), 500),
                (Fault("data.counter_reset", CYCLE[0].signal), 800),
                (Fault("data.clock_behind", behind_ms=137), 1_100),
                (Fault("data.stuck", "garment.style"), 1_400),
            )
        )
        async with running(source(site, broker), sink):
            for number in range(200):
                site.step(number, faults)
                await asyncio.sleep(0)
            await site.drained()
            await site.arrived(sink)
        found = site.compare(sink)
        assert found.first_examples() == []
        assert (found.clean, found.reordered, found.stored) == (True, 0, site.log.rows_total)
        # 200 polls and 200 cycles, a tenth of them twice, each with its number.
        numbered = sum(row.series.signal in {POLL_NUMBER, CYCLE_NUMBER} for row in kept(sink).rows())
        assert numbered == 440


async def test_an_agent_that_dies_again_and_again_stores_each_value_once(
    make_broker: MakeBroker, sites: list[Site], tmp_path: Path
) -> None:
    async with make_broker(tmp_path) as broker:
        sites.append(site := Site(tmp_path, broker.port))
        sink = MemorySink()
        async with running(source(site, broker), sink):
            pass  # the session stands
        for life in range(4):
            # What was brought is neither durable nor acknowledged when this life ends.
            sink.gate.clear()
            sink.offered = 0
            async with running(source(site, broker), sink, subscribed=False):
                for number in range(20):
                    site.step(20 * life + number)
                await site.drained()
                await until(lambda: sink.offered > 0, "something was brought")
            sink.gate.set()
            async with running(source(site, broker), sink, subscribed=False):
                await site.arrived(sink)
        found = site.compare(sink)
        assert (found.missing, found.duplicated, found.wrong) == (0, 0, 0)


async def test_a_broker_that_dies_makes_the_publisher_repeat_itself_and_that_is_seen(
    sites: list[Site], tmp_path: Path
) -> None:
    async with nats(tmp_path) as broker:
        sites.append(site := Site(tmp_path, broker.port))
        sink = MemorySink()
        async with running(source(site, broker), sink):
            pass
        for life in range(3):
            for number in range(20):
                site.step(40 * life + number)
            await broker.stop(signal.SIGKILL)
            for number in range(20):
                site.step(40 * life + 20 + number)
            await broker.start()
            await site.drained()
        async with running(source(site, broker), sink, subscribed=False):
            await site.arrived(sink)
        found = site.compare(sink)
        assert (found.missing, found.wrong) == (0, 0)
        # What was on its way is published again. Without a time nothing tells the second message from a second reading.
        untimed = {str(key) for key in read_untimed(site.log.folder)}
        assert {line.split()[1] for line in found.examples} <= untimed
        assert found.duplicated == found.stored - found.emitted
