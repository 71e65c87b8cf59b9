"""Stores on database servers, held against the contract of stores: each with its PlantStore on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from ingest_service.plant.engine import connect
from ingest_service.store_config import InfluxDBStoreConfig, VictoriaMetricsStoreConfig
from ingest_service.stores import Admitted, Refused, SampleStore, Selector
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.server_store import ServerStore
from ingest_service.stores.victoriametrics import VictoriaMetrics
from shopfloor.block import Sample, block_of, concat, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from tests.contract.store_contract import (
    ALWAYS,
    JOB,
    T0,
    TEMPERATURE,
    SampleStoreContract,
    batch,
    stored_values,
    write,
)
from tests.store_servers import PostgresServer, StoreServer, influxdb, postgresql, victoriametrics

MS = 1_000_000
_numbers = itertools.count()
OpenStore = Callable[[], Awaitable[ServerStore]]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgresql() as running:
        yield running


@pytest.fixture(scope="module")
def influx() -> Iterator[StoreServer]:
    with influxdb() as running:
        yield running


def influx_config(server: StoreServer, **more: object) -> InfluxDBStoreConfig:
    """Of a database that nobody has used."""
    values = {"kind": "influxdb", "url": server.url, "version": 1, "database": f"d{next(_numbers)}"}
    return InfluxDBStoreConfig.model_validate(values | more)


class _InfluxDB(SampleStoreContract):
    @pytest.fixture
    async def open_store(self, influx: StoreServer, address: Path | sa.URL) -> AsyncIterator[OpenStore]:
        config = influx_config(influx)
        engines: list[sa.Engine] = []

        async def open_it() -> ServerStore:
            engines.append(connect(address))
            return ServerStore(InfluxDB(config), engines[-1])

        yield open_it
        for engine in engines:
            engine.dispose()


class TestInfluxDBWithSQLite(_InfluxDB):
    """One process."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> Path:
        return tmp_path / "plant.sqlite"


class TestInfluxDBWithPostgreSQL(_InfluxDB):
    """One of several."""

    @pytest.fixture
    def address(self, postgres: PostgresServer) -> sa.URL:
        return postgres.emptied()


class TestVictoriaMetrics(SampleStoreContract):
    """A single node; its database can't be emptied, so that each test has a server of its own."""

    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[OpenStore]:
        engines: list[sa.Engine] = []
        with victoriametrics() as server:
            config = VictoriaMetricsStoreConfig(kind="victoriametrics", url=server.url, retention_days=36_500)

            async def open_it() -> ServerStore:
                engines.append(connect(tmp_path / "plant.sqlite"))
                return ServerStore(VictoriaMetrics(config), engines[-1])

            yield open_it
        for engine in engines:
            engine.dispose()

    async def test_rows_come_back_exactly(self, store: SampleStore) -> None:
        """Samples of one millisecond lie in SQLite, which knows no negative zero: here each has one of its own."""
        now = time.time_ns() // MS * MS - 10**12
        values = [0.1, -0.0, 1234.5, 51.18216247002567, 1 / 3, -95.04636963259352, 1e3, np.nan]
        n = len(values)
        times = now + np.arange(n) * MS + np.array([0, 1, 999_999, 0, 0, 7, 0, 5])
        quality = [0, 1, 2, 0, 0, 0, 0, 2]
        status = [0, 0x4FF2_0000, 2**32 - 1, 0, 0, 0, 0, 0x8FF3_0000]
        block = make_block(
            (TEMPERATURE,), np.zeros(n), times, now + np.arange(n) * 3 - 7, values, quality, status
        )
        odd = block_of(
            [
                Sample(JOB, now, now + 5, float("nan"), 0, 0, "模具 7 \0 'quoted'"),
                Sample(JOB, now + 1, now + 5, float("nan"), 0, 0, ""),
                Sample(JOB, 2**62 + 1, now + 5, 1.7976931348623157e308, 1, 0),
                Sample(JOB, -7, -9, 5e-324, 0, 0),
            ]
        )
        await write(store, Batch("a", "s", Lane.LIVE, 1, concat([block, odd])))
        raw = await store.read(Selector(), ALWAYS, 100)
        expected = [*block.rows(), *sorted(odd.rows(), key=lambda one: one.source_time)]
        assert [repr(one) for one in raw.block.rows()] == [repr(one) for one in expected]

    async def test_two_batches_share_a_millisecond(self, store: SampleStore) -> None:
        now = time.time_ns() // MS * MS
        for seq in range(1, 5):
            rows = make_block((TEMPERATURE,), [0], [now + seq], [now], [seq])
            await write(store, Batch("a", "s", Lane.LIVE, seq, rows))
        assert await stored_values(store) == [1.0, 2.0, 3.0, 4.0]


async def test_points_that_influxdb_turns_away_go_to_quarantine(influx: StoreServer, tmp_path: Path) -> None:
    """Somebody made a field of ours with another type: its point is refused for ever, and only it."""
    config = influx_config(influx)
    points = InfluxDB(config)
    points.check()
    tags = "enterprise=acme,site=hk01,area=moulding,line=cell-a,cell=imm-01,signal=job.name"
    points._client.write(f"sample,{tags} text=1i {T0}\n".encode())
    engine = connect(tmp_path / "plant.sqlite")
    quarantined: list[tuple[str, list[int], tuple[str, ...]]] = []

    def quarantine(one: Batch, refused: Refused) -> None:
        quarantined.append((one.stream_id, refused.rows.tolist(), refused.reasons))

    store = ServerStore(points, engine, quarantine=quarantine)
    rows = make_block((TEMPERATURE, JOB), [0, 1, 0], T0 + np.arange(3), T0, [1, np.nan, 3], text={1: "job"})
    (outcome,) = await write(store, Batch("a", "s", Lane.LIVE, 1, rows))
    assert (outcome.stored, outcome.received_through, outcome.refused.rows.tolist()) == (2, 3, [1])
    assert await stored_values(store) == [1.0, 3.0]
    ((stream, turned, reasons),) = quarantined
    assert (stream, turned) == ("s", [1])
    assert "store_refused" in reasons[0]
    await store.close()
    engine.dispose()


async def test_nothing_is_acknowledged_while_the_server_is_away(tmp_path: Path) -> None:
    with influxdb() as server:
        engine = connect(tmp_path / "plant.sqlite")
        store = ServerStore(InfluxDB(influx_config(server)), engine)
        await write(store, batch(1))
        server.stop()
        (failed,) = await store.write([Admitted(batch(11))])
        assert isinstance(failed, StoreUnavailable)
        assert failed.retry_after_s
        assert await store.watermark("stream-1") == (10, 10)
        server.start()
        (outcome,) = await write(store, batch(11))
        assert outcome.stored == 10
        assert await stored_values(store) == [float(seq) for seq in range(1, 21)]
        await store.close()
        engine.dispose()
