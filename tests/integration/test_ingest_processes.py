"""Several ingestion processes on one PostgreSQL and one InfluxDB, behind whatever sends to either of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from ingest_service.auth import Role, create_token
from ingest_service.plant import rollups
from ingest_service.plant.engine import connect
from ingest_service.plant.rollups import HOUR_NS
from ingest_service.store_config import InfluxDBStoreConfig, PlantConfig
from ingest_service.stores import Selector, TimeSpan
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.server_store import ServerStore
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane, Receipt
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch
from tests.e2e.real_processes import Process
from tests.integration.ingest_server import IMM, Running, block, heartbeat, running
from tests.ports import free_port
from tests.store_servers import PASSWORD, PostgresServer, StoreServer, influxdb, postgresql

T0 = 1_790_000_000_000_000_000
ALWAYS = TimeSpan(-(2**63), 2**63 - 1)
STREAMS = 5
BATCHES = 20
"""Between two faults, of all streams together."""
ROWS = 50


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def influx() -> Iterator[StoreServer]:
    with influxdb() as server:
        yield server


def sections(address: sa.URL, influx: StoreServer) -> dict[str, Any]:
    plant = PlantConfig(url=address._replace(password=None).render_as_string(), password=SecretStr(PASSWORD))
    return {
        "plant": plant,
        "store": InfluxDBStoreConfig(
            kind="influxdb", url=influx.url, version=1, database=address.database or ""
        ),
    }


@asynccontextmanager
async def two(
    folder: Path, postgres: PostgresServer, influx: StoreServer
) -> AsyncIterator[tuple[Running, Running]]:
    """Two services in this process; they share nothing but the databases."""
    shared = sections(postgres.database(), influx)
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    async with running(folder / "a", **shared) as a, running(folder / "b", **shared) as b:
        yield a, b


async def eventually(condition: Any, what: str, timeout_s: float = 40.0) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"after {timeout_s} s not yet: {what}")


async def test_each_shows_what_the_other_received(
    tmp_path: Path, postgres: PostgresServer, influx: StoreServer
) -> None:
    async with two(tmp_path, postgres, influx) as (a, b):
        # It does not say what it speaks for: who writes an asset, both have to know.
        beat = heartbeat()
        series = (
            SeriesKey(IMM, names.MACHINE_MODE),
            SeriesKey(IMM, names.GOOD_PARTS_COUNTER),
            SeriesKey(IMM, "note"),
        )
        now = block(1).source_time[0]
        # Between two looks the counter is reset: 3 parts, then 2 more.
        counted = make_block(
            series,
            [0, 1, 1, 1, 2],
            now + np.array([0, 1, 2, 3, 4]) * 1_000_000,
            now,
            [1, 10, 13, 2, np.nan],
            text={4: "long " * 1000},
        )
        answer = await a.post(Batch("gateway", "s", Lane.LIVE, 1, counted))
        assert answer.status_code == 200, answer.text

        async def shown(plant: Running) -> dict[str, Any]:
            latest = await plant.get("/v1/latest")
            return dict(zip(latest["signal"], latest["value"], strict=True))

        async def arrived() -> bool:
            return len(await shown(b)) == 3

        await eventually(arrived, "the other process knows the newest values")
        assert await shown(b) == await shown(a)
        assert (await shown(b))["note"] == "long " * 1000

        async def counted_alike() -> bool:
            await a.client.post("/v1/heartbeats", json=beat, headers=a.agent)
            machines = [(await plant.get("/v1/machines"))["machines"] for plant in (a, b)]
            return all(one and one[0]["parts_today"] == 5 and one[0]["contact"] for one in machines)

        await eventually(counted_alike, "both count the parts of both sides of the reset")
        # Numbers of series are those of the database: a page may go on at the other process.
        ids = [[one["id"] for one in (await plant.get("/v1/series"))["series"]] for plant in (a, b)]
        assert ids[0] == ids[1]


async def test_a_page_of_one_hears_of_values_of_the_other(
    tmp_path: Path, postgres: PostgresServer, influx: StoreServer
) -> None:
    async with two(tmp_path, postgres, influx) as (a, b):
        async with b.client.stream("GET", "/v1/live", headers=b.viewer) as page:
            lines = page.aiter_lines()
            assert (await a.post(Batch("gateway", "s", Lane.LIVE, 1, block(10)))).status_code == 200
            async with asyncio.timeout(40):
                async for line in lines:
                    if line.startswith('data: {"id":[') and "1.125" in line:
                        break


async def test_only_one_of_them_leads_and_the_other_takes_over(
    tmp_path: Path, postgres: PostgresServer, influx: StoreServer
) -> None:
    async with two(tmp_path, postgres, influx) as (a, b):

        async def one_leads() -> bool:
            return a.service.leader.leading != b.service.leader.leading

        await eventually(one_leads, "one leads")
        first, second = (a, b) if a.service.leader.leading else (b, a)
        first.server.should_exit = True

        async def taken_over() -> bool:
            return second.service.leader.leading

        await eventually(taken_over, "the other leads")


async def test_agents_speak_to_either(tmp_path: Path, postgres: PostgresServer, influx: StoreServer) -> None:
    async with two(tmp_path, postgres, influx) as (a, b):
        await a.client.post("/v1/heartbeats", json=heartbeat(), headers=a.agent)

        async def known() -> bool:
            agents = (await b.get("/v1/agents"))["agents"]
            return [(one["id"], one["contact"]) for one in agents] == [("gateway", True)]

        await eventually(known, "the other process knows that the agent has contact")
        # Whose stream it is, holds for both.
        await a.post(Batch("gateway", "s", Lane.LIVE, 1, block(10)))
        stranger = b.token(Role.AGENT, "acme/dg01")
        refused = await b.post(Batch("other", "s", Lane.LIVE, 11, block(1)), stranger)
        assert refused.status_code == 403


class Site:
    """Two real processes that are killed and started, and agents that send to whichever takes it."""

    def __init__(self, folder: Path, address: sa.URL, influx: StoreServer) -> None:
        self.ports = [free_port(), free_port()]
        self.processes: list[Process] = []
        (folder / "password").write_text(PASSWORD)
        for number, port in enumerate(self.ports):
            config = folder / f"ingest-{number}.yaml"
            config.write_text(
                f"listen: 127.0.0.1:{port}\ndata: data-{number}\n"
                f"plant:\n  url: {address._replace(password=None).render_as_string()}\n  password: file:password\n"
                f"store:\n  kind: influxdb\n  url: {influx.url}\n  version: 1\n  database: processes\n"
            )
            self.processes.append(Process(folder / f"log-{number}", "ingest", "serve", config))
        engine = connect(address)
        self.headers = {
            "Authorization": f"Bearer {create_token(engine, Role.AGENT, 'acme/hk01', '')}",
            "Content-Type": BATCH_MEDIA_TYPE,
        }
        engine.dispose()
        self.client = httpx.AsyncClient(timeout=30, verify=False)

    async def post(self, number: int, body: bytes, timeout_s: float = 30.0) -> Receipt | None:
        url = f"http://127.0.0.1:{self.ports[number]}/v1/batches"
        with contextlib.suppress(httpx.HTTPError):
            answer = await self.client.post(url, content=body, headers=self.headers, timeout=timeout_s)
            if answer.status_code == 200:
                return msgspec.json.decode(answer.content, type=Receipt)
            assert answer.status_code in {429, 503}, answer.text
        return None

    async def send(self, batch: Batch, dice: random.Random) -> None:
        """Send until a receipt covers it: to one, to both at once, or broken off and to the other one."""
        body = encode_batch(batch)
        while True:
            way, first = dice.random(), dice.randrange(2)
            if way < 0.4:
                receipts = [await self.post(first, body)]
            elif way < 0.8:
                receipts = list(await asyncio.gather(*(self.post(number, body) for number in (0, 1))))
            else:
                receipts = [await self.post(first, body, 0.005), await self.post(1 - first, body)]
            answers = {one.durable_through for one in receipts if one is not None}
            assert answers <= {batch.last_seq}
            if answers:
                return
            await asyncio.sleep(0.05)

    async def stream(self, number: int, progress: list[int], over: asyncio.Event) -> int:
        """Send batch after batch until the faults are over; return how many samples these were."""
        dice = random.Random(number)
        key = SeriesKey(parse_asset(f"acme/hk01/moulding/cell-a/imm-{number}"), "cycle.counter")
        place = 0
        while not over.is_set():
            seq = 1 + place * ROWS + np.arange(ROWS)
            rows = make_block((key,), np.zeros(ROWS), T0 + seq * 1_000_000, T0, seq)
            await self.send(Batch(f"agent-{number}", f"stream-{number}", Lane.LIVE, int(seq[0]), rows), dice)
            progress[0] += 1
            place += 1
        return place * ROWS

    async def answers(self, number: int) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.ports[number]}/readyz"
            return (await self.client.get(url)).status_code == 200
        return False

    async def start(self, number: int) -> None:
        self.processes[number].start()

        async def ready() -> bool:
            assert self.processes[number].lives, self.processes[number].log
            return await self.answers(number)

        await eventually(ready, f"process {number} is ready", 90)

    async def faults(self, progress: list[int], over: asyncio.Event) -> None:
        """Kill one and start it again, then kill the other one for good, as the samples go on."""
        await self.more(progress)
        self.processes[0].kill()
        await self.more(progress)
        await self.start(0)
        await self.more(progress)
        self.processes[1].kill()
        await self.more(progress)
        over.set()

    async def more(self, progress: list[int]) -> None:
        begin = progress[0]

        async def gone_on() -> bool:
            return progress[0] >= begin + BATCHES

        await eventually(gone_on, "batches are acknowledged", 90)


async def test_what_is_over_is_rolled_up_by_a_process_that_leads(
    tmp_path: Path, postgres: PostgresServer, influx: StoreServer
) -> None:
    address = postgres.database()
    shared = sections(address, influx)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    begin = time.time_ns() // HOUR_NS * HOUR_NS - 6 * HOUR_NS
    times = begin + np.arange(240) * 60_000_000_000
    counted = make_block(
        (SeriesKey(IMM, names.GOOD_PARTS_COUNTER),), np.zeros(240), times, times, np.arange(240)
    )
    question: dict[str, Any] = {
        "from": begin // 1_000_000,
        "to": begin // 1_000_000 + 4 * 3_600_000,
        "every": "1h",
        "aggregate": "count,increase",
    }
    async with running(tmp_path / "a", **shared) as plant:
        answer = await plant.post(Batch("gateway", "s", Lane.LIVE, 1, counted))
        assert answer.status_code == 200, answer.text
        before = await plant.get("/v1/samples", **question)
    engine = connect(address)
    async with running(tmp_path / "b", **shared) as plant:

        async def rolled_up() -> bool:
            span = rollups.span(engine)
            return span is not None and span.is_complete and rollups.count_due(engine) == 0

        await eventually(rolled_up, "all hours are rolled up")
        known = rollups.span(engine)
        assert known is not None
        assert known.begin == begin
        assert await plant.get("/v1/samples", **question) == before
    engine.dispose()
    (counter,) = before["series"]
    assert counter["count"] == [60] * 4
    assert counter["increase"] == [59, 60, 60, 60]


# Three starts of a process on a machine where all takes ten times as long.
@pytest.mark.timeout(400)
async def test_two_processes_that_are_killed_store_every_sample_once(
    tmp_path: Path, postgres: PostgresServer, influx: StoreServer
) -> None:
    address = postgres.database()
    site = Site(tmp_path, address, influx)
    try:
        await asyncio.gather(site.start(0), site.start(1))
        progress, over = [0], asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(site.faults(progress, over))
            streams = [group.create_task(site.stream(number, progress, over)) for number in range(STREAMS)]
    finally:
        for process in site.processes:
            process.kill()
        await site.client.aclose()
    config = InfluxDBStoreConfig(kind="influxdb", url=influx.url, version=1, database="processes")
    engine = connect(address)
    store = ServerStore(InfluxDB(config), engine)
    for number, stream in enumerate(streams):
        total = stream.result()
        assert total
        found = await store.read(Selector((f"acme/hk01/moulding/cell-a/imm-{number}",)), ALWAYS, total + 1)
        assert found.block.value.tolist() == [float(seq) for seq in range(1, total + 1)]
        (run,) = await store.runs(f"stream-{number}")
        assert (run.first_seq, run.last_seq, run.stored, run.rejected) == (1, total, total, 0)
    await store.close()
    engine.dispose()
