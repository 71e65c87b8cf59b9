"""The two servers that several ingestion processes share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from tests.faults.actor import CannotRun
from tests.store_servers import PostgresServer, StoreServer, influxdb, postgresql

STORE_DATABASE = "campaign"


@dataclass(frozen=True, slots=True)
class Databases:
    """InfluxDB for samples, PostgreSQL for everything that has to be exact."""

    influxdb: StoreServer
    postgresql: PostgresServer
    address: sa.URL
    """An empty database of PostgreSQL."""

    def kill(self, name: str) -> None:
        """End one of them at once; PostgreSQL as its manual says (SIGKILL leaves its children alone in the world)."""
        self._server(name).stop(signal.SIGQUIT if name == "postgresql" else signal.SIGKILL)

    def start(self, name: str) -> None:
        """Start it again, and wait until it answers."""
        self._server(name).start()

    def _server(self, name: str) -> StoreServer:
        return self.postgresql if name == "postgresql" else self.influxdb


@contextmanager
def databases() -> Iterator[Databases]:
    """Both, empty, on free ports; raises CannotRun where one is not installed."""
    with ExitStack() as stack:
        try:
            store, plant = stack.enter_context(influxdb()), stack.enter_context(postgresql())
        except pytest.skip.Exception as error:
            raise CannotRun(str(error)) from error
        yield Databases(store, plant, plant.database())
