"""Stores on database servers, held against the contract of stores: each with its PlantStore on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest_service.plant.engine import connect
from ingest_service.store_config import InfluxDBStoreConfig
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.server_store import ServerStore
from tests.contract.store_contract import SampleStoreContract
from tests.store_servers import PostgresServer, StoreServer, influxdb, postgresql

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
