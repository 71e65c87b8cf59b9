"""Backup and restore of PostgreSQL and InfluxDB 1.x in the order that docs/operations.md says, with what came in between."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from ingest_service.auth import Role
from ingest_service.store_config import InfluxDBStoreConfig, PlantConfig
from ingest_service.stores import Selector, TimeSpan
from tests.integration.deployed import SECRET, adapted, listens, place, program, started
from tests.integration.ingest_server import Running, batch, running
from tests.ports import free_port
from tests.store_servers import PASSWORD, PostgresServer, postgresql

__all__ = ["place"]


def ask(port: int, query: str, **who: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/query?{urlencode(who)}", data=urlencode({"q": query}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b"error" not in answer.read()


def tool(*words: str) -> None:
    done = subprocess.run(
        words,
        env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def sections(
    address: sa.URL, influx_port: int, database: str
) -> dict[str, PlantConfig | InfluxDBStoreConfig]:
    return {
        "plant": PlantConfig(
            url=address._replace(password=None).render_as_string(), password=SecretStr(PASSWORD)
        ),
        "store": InfluxDBStoreConfig(
            kind="influxdb",
            url=f"http://127.0.0.1:{influx_port}",
            version=1,
            database=database,
            user="operator",
            password=SecretStr(SECRET),
        ),
    }


def address_of(database: sa.URL) -> str:
    """Return what PostgreSQL's tools take; the password is in their environment."""
    return f"host={database.host} port={database.port} user={database.username} dbname={database.database}"


async def counted(plant: Running) -> tuple[int, int, int]:
    """Return how many samples the ledger calls stored and missing, and how many can be read."""
    total = (await plant.get("/v1/ledger", plant.token(Role.VIEWER, "")))["total"]
    found = await plant.service.store.read(Selector(), TimeSpan(-(2**63), 2**63 - 1), 1000)
    return total["stored"], total["missing"], len(found.block)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with postgresql() as server:
        yield server


async def test_first_the_plant_then_the_samples(
    tmp_path: Path, place: tuple[Path, str | None], postgres: PostgresServer
) -> None:
    influxd = program("influxd", "influxdb")
    pg_dump, pg_restore = program("pg_dump", "postgresql"), program("pg_restore", "postgresql")
    folder, user = place
    port, backup_port = free_port(), free_port()
    configuration = adapted(
        "influxdb/influxdb-1.conf",
        folder,
        {
            "/var/lib/influxdb": str(folder),
            "127.0.0.1:8088": f"127.0.0.1:{backup_port}",
            "127.0.0.1:8086": f"127.0.0.1:{port}",
        },
    )
    copies = tmp_path / "copies"
    copies.mkdir()
    with started(
        [influxd, "-config", str(configuration)], user, lambda: listens(port), folder / "log", signal.SIGTERM
    ):
        ask(port, f"CREATE USER operator WITH PASSWORD '{SECRET}' WITH ALL PRIVILEGES")
        before = postgres.database()
        (tmp_path / "a").mkdir()
        async with running(tmp_path / "a", **sections(before, port, "shopfloor")) as plant:
            assert (await plant.post(batch(1))).status_code == 200
            tool(pg_dump, "--format=custom", f"--file={copies}/plant.dump", "--dbname", address_of(before))
            assert (await plant.post(batch(11))).status_code == 200
            tool(
                influxd,
                "backup",
                "-portable",
                "-host",
                f"127.0.0.1:{backup_port}",
                "-db",
                "shopfloor",
                str(copies / "influx"),
            )
            agent = plant.agent
        # Both are lost; what came in between lies in the samples and not in the ledger.
        ask(port, "DROP DATABASE shopfloor", u="operator", p=SECRET)
        after = postgres.database()
        tool(
            pg_restore, "--exit-on-error", "--no-owner", "--dbname", address_of(after), f"{copies}/plant.dump"
        )
        tool(
            influxd,
            "restore",
            "-portable",
            "-host",
            f"127.0.0.1:{backup_port}",
            "-db",
            "shopfloor",
            str(copies / "influx"),
        )
        (tmp_path / "b").mkdir()
        async with running(tmp_path / "b", **sections(after, port, "shopfloor")) as plant:
            assert await counted(plant) == (10, 0, 20)
            # The token of before is known again; what was acknowledged before is there once.
            assert (await plant.post(batch(1), agent)).status_code == 200
            assert await counted(plant) == (10, 0, 20)
            # The agent has forgotten batch 11: the ledger says that its numbers are missing, the samples are there.
            assert (await plant.post(batch(21), agent)).status_code == 200
            assert await counted(plant) == (20, 10, 30)
