"""Moves that must not be, each refused in words, and a server that turns samples away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ingest_service import migrate_command
from ingest_service.auth import Role, create_token
from ingest_service.config import IngestConfig
from ingest_service.plant.engine import connect
from ingest_service.stores.influxdb import InfluxDB
from shopfloor.__main__ import main
from shopfloor.configfile import load
from tests.integration.ingest_server import batch, running
from tests.integration.moving_places import BEGIN, DAY_NS, Place, embedded, fill, influx_store, moved
from tests.store_servers import StoreServer, influxdb


@pytest.fixture(scope="module")
def influx() -> Iterator[StoreServer]:
    with influxdb() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, influx: StoreServer) -> Place:
    return Place(tmp_path, influx_store(influx))


def said(capsys: pytest.CaptureFixture[str], place: Place, *more: str, exits: int) -> str:
    capsys.readouterr()
    code = main(place.words(*more))
    captured = capsys.readouterr()
    assert code == exits, captured
    return captured.out + captured.err


def test_only_an_embedded_store_moves_and_only_to_a_server(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.old, place.new = place.new, place.old
    assert (
        "store.kind is influxdb; only an embedded store (duckdb) is moved and there is no way back"
        in said(capsys, place, exits=2)
    )
    place.old = place.new
    assert "store.kind is duckdb; influxdb or victoriametrics has to stand" in said(capsys, place, exits=2)
    place.new.write_text("storre: 1")
    assert "storre" in said(capsys, place, exits=2)


_HOLDING = """
import sys, duckdb
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_store_that_is_in_use_or_missing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert "samples.duckdb: there is no embedded store" in said(capsys, place, exits=1)
    await fill(place.data, settled=False)
    words = [sys.executable, "-c", _HOLDING, str(place.data / "samples.duckdb")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert "a service runs on it; stop it first" in said(capsys, place, exits=1)
        holder.communicate()


async def test_a_place_that_somebody_uses(
    tmp_path: Path, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(place.data, settled=False)
    elsewhere = {"data": str(tmp_path / "new-data"), "store": yaml.safe_load(place.new.read_text())["store"]}
    place.new.write_text(yaml.safe_dump(elsewhere))
    (tmp_path / "new-data").mkdir()
    engine = connect(load(place.new, IngestConfig).plant_address)
    create_token(engine, Role.ADMIN, "", "somebody")
    engine.dispose()
    assert "its PlantStore holds something already (token)" in said(capsys, place, exits=1)
    config = load(place.new, IngestConfig)
    (tmp_path / "new-data" / "plant.sqlite").unlink()
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "other", store=config.store) as plant:
        await plant.post(batch())
    place.new.write_text(yaml.safe_dump(elsewhere | {"data": str(tmp_path / "other" / "data")}))
    assert "a service has taken samples there already" in said(capsys, place, exits=1)


async def test_a_server_that_keeps_too_little(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(place.data, settled=False)
    config: Any = load(place.new, IngestConfig).store
    server = InfluxDB(config)
    server.check()
    server._client.query(
        f'ALTER RETENTION POLICY "autogen" ON "{config.database}" DURATION 60h SHARD DURATION 1h'
    )
    text = said(capsys, place, exits=1)
    assert "the server turns" in text
    assert "leave older ones behind with --since" in text
    assert "call it again to go on" in text
    server._client.query(
        f'ALTER RETENTION POLICY "autogen" ON "{config.database}" DURATION INF SHARD DURATION 168h'
    )
    server.close()
    # The older days stay behind; agents go on all the same.
    since = str(np.datetime64(BEGIN + DAY_NS, "ns").astype("datetime64[D]"))
    assert "all are the same" in said(capsys, place, "--since", since, exits=0)
    rows, ledger = await moved(place.new)
    before, ledger_before = await embedded(place.data)
    assert ledger == ledger_before
    assert 0 < len(rows) < len(before)
    assert {*rows} <= {*before}


async def test_victoriametrics_that_would_drop_most_of_it(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place.data, settled=False)
    monkeypatch.setattr(migrate_command, "_BEYOND", 100)
    new = yaml.safe_load(place.new.read_text())
    # Nobody listens there: it is not even asked.
    new["store"] = {"kind": "victoriametrics", "url": "http://127.0.0.1:9", "retention_days": 2}
    place.new.write_text(yaml.safe_dump(new))
    text = said(capsys, place, exits=1)
    assert "samples are older than store.retention_days (2)" in text
    monkeypatch.setattr(migrate_command, "_BEYOND", 10**9)
    assert "VictoriaMetrics does not answer" in said(capsys, place, exits=1)
