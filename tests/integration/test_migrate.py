"""The embedded store moves to a server: exactly, also when it is killed in between, and agents go on behind it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from ingest_service import migrate_command
from ingest_service.auth import Role, create_token, list_tokens
from ingest_service.config import IngestConfig
from ingest_service.plant.engine import connect
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Admitted, Refused
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from ingest_service.stores.influxdb import InfluxDB
from shopfloor.block import SampleBlock, make_block
from shopfloor.configfile import load
from shopfloor.messages import Batch, Lane
from tests.integration.ingest_server import running
from tests.integration.moving_places import (
    BEGIN,
    DAY_NS,
    KEYS,
    MS,
    PER_DAY,
    Place,
    embedded,
    fill,
    influx_store,
    moved,
    ordinary,
    victoria_store,
    wrote,
)
from tests.store_servers import PASSWORD, StoreServer, influxdb, postgresql, victoriametrics


@pytest.fixture(scope="module")
def influx() -> Iterator[StoreServer]:
    with influxdb() as server:
        yield server


@pytest.fixture
def at_influx(tmp_path: Path, influx: StoreServer) -> Place:
    return Place(tmp_path, influx_store(influx))


def later(first: int) -> SampleBlock:
    at = BEGIN + 3 * DAY_NS + first * MS
    return make_block(KEYS[:1], np.zeros(10), at + np.arange(10) * MS, at, np.arange(10.0))


class _Ended(migrate_command._Progress):
    """Ends a move once so many chunks of a phase are through, as Ctrl-C does."""

    def __init__(self, phase: str, chunks: int) -> None:
        super().__init__()
        self._ending = phase
        self._left = chunks

    def __call__(self, phase: str, _through: int, _samples: int) -> None:
        self._left -= phase == self._ending
        if self._left < 0:
            raise KeyboardInterrupt


async def check_killed_and_ended_it_is_exact(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place.data, settled=True)
    before = await embedded(place.data)
    await place.killed(samples_per_s=600)
    monkeypatch.setattr(migrate_command, "_Progress", lambda: _Ended("compared", 8))
    await place.migrate(exits=130)
    monkeypatch.undo()
    chunks, compared = place.progress()
    assert 0 < compared < chunks
    capsys.readouterr()
    await place.migrate("--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["exact"]
    assert found["written"] == 0
    assert 0 < found["compared"] < found["samples"]
    assert found["samples"] == len(before[0]) == 3 * PER_DAY * len(KEYS) + 3 + 33 + 50
    assert (found["streams"], found["ledger_samples"]) == (2, len(before[0]))
    after = await moved(place.new)
    assert after[1] == before[1]
    assert after[0] == before[0]
    assert await embedded(place.data) == before


@pytest.mark.timeout(300)
async def test_killed_on_the_way_to_influxdb_it_is_exact_and_agents_go_on(
    at_influx: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = at_influx
    await check_killed_and_ended_it_is_exact(place, capsys, monkeypatch)
    _, before = await embedded(place.data)
    # The agent did not hear of its last batch: it sends it again, then the next one.
    seq = before[1][3]
    stored = before[0][4] + before[1][4]
    async with running(place.old.parent, store=load(place.new, IngestConfig).store) as plant:
        agent = plant.token(Role.AGENT, "acme/hk01")
        for first, more in ((seq - 9, 0), (seq + 1, 10)):
            answer = (
                await plant.post(Batch("gateway", "stream-1", Lane.LIVE, first, later(first)), agent)
            ).json()
            assert answer["durable_through"] == first + 9
            total = (await plant.get("/v1/ledger", stream="stream-1"))["total"]
            # Ten never came, and one was refused without its being put into quarantine.
            assert (total["stored"], total["missing"]) == (stored + more, 11)
    await place.migrate()
    assert "it was moved at" in capsys.readouterr().out
    after = await moved(place.new)
    assert [run[2:6] for run in after[1]] == [
        before[0][2:6],
        (before[1][2], seq + 10, before[1][4] + 10, 1),
        before[2][2:6],
    ]


@pytest.mark.timeout(300)
async def test_killed_on_the_way_to_victoriametrics_it_is_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with victoriametrics() as server:
        place = Place(tmp_path, victoria_store(server))
        await check_killed_and_ended_it_is_exact(place, capsys, monkeypatch)


async def test_what_came_later_is_moved_by_the_next_run(
    at_influx: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy is moved while the service runs, then the store itself: only what changed is written."""
    place = at_influx
    await fill(place.data, settled=False)
    await place.migrate("--ahead")
    assert "agents are not answered from there yet" in capsys.readouterr().out
    assert (await moved(place.new))[1] == []
    store = DuckDBStore(
        place.data / "samples.duckdb", Tuning(compaction=False, least_rows=0, reserve_bytes=0)
    )
    # A sample at the time of another one, and rewriting as files: repeats of one time become one.
    clash = ordinary(1).take(np.arange(3))
    clash = make_block(KEYS, clash.series_index, clash.source_time, clash.received_time + 7, clash.value + 1)
    await wrote(store, Admitted(Batch("other", "stream-2", Lane.LIVE, 51, clash)))
    await store.compact()
    await store.close()
    with contextlib.closing(duckdb.connect(str(place.data / "samples.duckdb"))) as database:
        # As retention leaves a day of which rollups are kept longer.
        database.execute(
            "INSERT INTO part SELECT 900, 900, NULL, keeping, 100, 0, 1, 0, 0, 0, '', TRUE, TRUE, 0 FROM part LIMIT 1"
        )
    before = await embedded(place.data)
    await place.migrate("--json")
    captured = capsys.readouterr()
    assert "of 1 days only rollups are left" in captured.err
    found = json.loads(captured.out)
    assert 0 < found["written"] < found["samples"]
    assert await moved(place.new) == before


async def test_a_difference_is_found_named_and_mended(
    at_influx: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = at_influx
    await fill(place.data, settled=True)
    before = await embedded(place.data)
    monkeypatch.setattr(migrate_command, "_Progress", lambda: _Ended("compared", 0))
    await place.migrate(exits=130)
    monkeypatch.undo()
    config: Any = load(place.new, IngestConfig).store
    server = InfluxDB(config)
    server._client.query(
        "DELETE FROM sample WHERE cell = 'imm-02' AND signal = 'counter' AND time < now() - 48h"
    )
    block = ordinary(0)
    tags = "enterprise=acme,site=hk01,area=moulding,line=cell-a,cell=imm-00,signal=counter"
    server._client.write(f"sample,{tags} quality=1i {block.source_time[1]}\n".encode())
    server._client.write(f"sample,{tags} value=1 {block.source_time[1] + 1}\n".encode())
    server.close()
    capsys.readouterr()
    await place.migrate(exits=1)
    said = capsys.readouterr().err
    assert (
        f"imm-02 counter on {np.datetime64(BEGIN, 'ns').astype('datetime64[D]')}: {PER_DAY} samples, 0 in"
        in said
    )
    assert "imm-00 counter on" in said
    assert "samples, more than that in the new store" in said
    # What it wrote itself it mends; the stranger's point stays one too many.
    await place.migrate(exits=1)
    said = capsys.readouterr().err
    assert "1 series and days are not there as they were" in said
    server = InfluxDB(config)
    server._client.query(f"DELETE FROM sample WHERE time = {block.source_time[1] + 1}")
    server.close()
    await place.migrate()
    assert await moved(place.new) == before
    await place.migrate("--verify")


async def test_everything_of_the_plant_comes_along(
    tmp_path: Path, at_influx: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with postgresql() as postgres:
        address = postgres.database()
        store = load(at_influx.new, IngestConfig).store
        secret = tmp_path / "password"
        secret.write_text(PASSWORD)
        place = Place(
            tmp_path / "elsewhere",
            store.model_dump(mode="json", exclude_defaults=True) | {"kind": "influxdb"},
            plant={"url": address._replace(password=None).render_as_string(), "password": f"file:{secret}"},
        )
        await fill(place.data, settled=True)
        old = PlantStore(place.data / "plant.sqlite")
        text = create_token(old.engine, Role.AGENT, "acme/hk01", "gateway")
        refused = Refused(np.array([3]), np.zeros(1, np.uint8), ("implausible_time",))
        old.put_quarantine(Batch("gateway", "stream-1", Lane.LIVE, 1651, ordinary(0)), refused)
        old.close()
        before = await embedded(place.data)
        await place.migrate("--json")
        found = json.loads(capsys.readouterr().out)
        assert found["plant_rows"] == 2
        assert await moved(place.new) == before
        new = connect(load(place.new, IngestConfig).plant_address)
        try:
            assert [one.name for one in list_tokens(new)] == ["gateway"]
            # PostgreSQL counts on where SQLite was.
            create_token(new, Role.VIEWER, "acme", "next")
            assert [one.token_id for one in list_tokens(new)] == [1, 2]
        finally:
            new.dispose()
        config = load(place.new, IngestConfig)
        async with running(tmp_path / "service", store=config.store, plant=config.plant) as plant:
            seq = before[1][1][3]
            answer = await plant.post(
                Batch("gateway", "stream-1", Lane.LIVE, seq + 1, later(1)),
                {"Authorization": f"Bearer {text}"},
            )
            assert answer.json()["durable_through"] == seq + 10
