"""An embedded store with all that is hard to move, and the configurations of a move."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ingest_service.config import IngestConfig
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Admitted, Outcome, Refused, SampleStore, Selector, TimeSpan
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from ingest_service.stores.opening import open_store
from shopfloor.__main__ import main
from shopfloor.asset import parse_asset
from shopfloor.block import Sample, SampleBlock, block_of, concat, make_block
from shopfloor.configfile import load
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.store_servers import StoreServer

DAY_NS = 86_400 * 10**9
MS = 1_000_000
ALWAYS = TimeSpan(-(2**63), 2**63 - 1)
MACHINES = [parse_asset(f"acme/hk01/moulding/cell-a/imm-{number:02}") for number in range(3)]
KEYS = tuple(
    SeriesKey(machine, name) for machine in MACHINES for name in ("barrel.zone_1.temperature", "counter")
)
WIDE = SeriesKey(MACHINES[2], "wide")
JOB = SeriesKey(MACHINES[1], "job.name")
BEGIN = time.time_ns() // DAY_NS * DAY_NS - 3 * DAY_NS
PER_DAY = 90
_numbers = itertools.count()


def ordinary(day: int) -> SampleBlock:
    """Samples of one day, each series with times of its own."""
    random = np.random.default_rng(day)
    index = np.arange(PER_DAY * len(KEYS), dtype=np.uint32) % len(KEYS)
    step = np.arange(len(index)) // len(KEYS)
    times = BEGIN + day * DAY_NS + step * 3_600 * MS + index.astype(np.int64) * 7 * MS
    values = np.where(index % 2 == 0, np.round(random.normal(200, 5, len(index)), 2), step + 1000 * day)
    return make_block(KEYS, index, times, times + random.integers(1, 90, len(index)) * MS + 3, values)


def odd() -> SampleBlock:
    """What stores find hard: texts, nulls, zeros, two samples at one time, times far away, a day's last nanosecond."""
    at = BEGIN + DAY_NS + 12 * 3600 * 10**9
    hot, counter = KEYS[0], KEYS[1]
    nan = float("nan")
    return block_of(
        [
            Sample(JOB, at, at + 5, nan, 0, 0, "模具 7 \0 'quoted' \\ \n line"),
            Sample(JOB, at + MS, at + 5, nan, 0, 0, ""),
            Sample(JOB, at + 2 * MS, at + 9, nan, 2, 0x8FF3_0000),
            Sample(hot, at + 1, at + 5, -0.0, 1, 0x4FF2_0000),
            Sample(hot, at + 5 * MS, at + 5, 0.1, 0, 2**32 - 1),
            # Three at one time, of which two say the same.
            Sample(counter, at, at + 8, 7.5, 0, 0),
            Sample(counter, at, at + 6, 8.5, 0, 0),
            Sample(counter, at, at + 9, 7.5, 0, 0),
            Sample(hot, BEGIN + DAY_NS - 1, at, 3.25, 0, 0),
            Sample(hot, BEGIN + DAY_NS, at, 4.25, 0, 0),
            Sample(JOB, -7, -9, 1.0, 0, 0),
            Sample(JOB, 2**62 + 1, at, 2.0, 0, 0),
            # Digits that lie too far apart for one block of VictoriaMetrics.
            *(
                Sample(WIDE, at + row * MS, at, value, 0, 0)
                for row, value in enumerate(
                    [51.18216247002567, 2.0**53, 1e11 + 1 / 3, 1e-9 / 7, 1e-300, 3.5e30, -17.0] * 3
                )
            ),
        ]
    )


async def fill(data: Path, *, settled: bool) -> None:
    """An embedded store with samples in files and hot ones, a ledger with a hole and a refused row."""
    data.mkdir(parents=True)
    store = DuckDBStore(
        data / "samples.duckdb", Tuning(128 * 2**20, 1, compaction=False, least_rows=0, reserve_bytes=0)
    )
    seq = 1
    for day in range(3):
        block = ordinary(day)
        await wrote(store, Admitted(Batch("gateway", "stream-1", Lane.LIVE, seq, block)))
        seq += len(block)
        if settled and day < 2:
            await store.compact()
    refused = Refused(np.array([3]), np.zeros(1, np.uint8), ("implausible_time",))
    strange = odd()
    await wrote(
        store,
        Admitted(
            Batch(
                "gateway", "stream-1", Lane.LIVE, seq + 10, concat([ordinary(0).take(np.arange(4)), strange])
            ),
            refused,
        ),
    )
    await wrote(store, Admitted(Batch("other", "stream-2", Lane.BACKLOG, 1, ordinary(3).take(np.arange(50)))))
    await store.close()


async def wrote(store: SampleStore, admitted: Admitted) -> None:
    (outcome,) = await store.write([admitted])
    assert isinstance(outcome, Outcome), outcome


async def everything(store: SampleStore) -> tuple[list[str], list[tuple[Any, ...]]]:
    raw = await store.read(Selector(), ALWAYS, 10**6)
    assert not raw.truncated
    rows = sorted(repr(one) for one in raw.block.rows())
    return rows, [tuple(run) for run in await store.ledger(None, ALWAYS)]


async def embedded(data: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    store = DuckDBStore(data / "samples.duckdb", Tuning(compaction=False, reserve_bytes=0))
    try:
        return await everything(store)
    finally:
        await store.close()


async def moved(config: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    loaded = load(config, IngestConfig)
    plant = PlantStore(loaded.plant_address)
    store = open_store(loaded, plant, frozenset(), lambda _seconds, _rows: None)
    try:
        return await everything(store)
    finally:
        await store.close()
        plant.close()


class Place:
    """Two configurations: the embedded store, and a server."""

    def __init__(self, folder: Path, store: dict[str, Any], **more: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.data = folder / "data"
        self.old, self.new = folder / "ingest.yaml", folder / "new.yaml"
        self.old.write_text(yaml.safe_dump({"data": str(self.data)}))
        self.new.write_text(yaml.safe_dump({"data": str(self.data), "store": store} | more))

    def words(self, *more: str) -> list[str]:
        return ["ingest", "migrate", str(self.old), str(self.new), "--chunk", "120", *more]

    async def migrate(self, *more: str, exits: int = 0) -> None:
        assert await asyncio.to_thread(main, self.words(*more)) == exits

    def progress(self) -> tuple[int, int]:
        """How many chunks are there, and how many of them were compared."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self.data}/plant.sqlite?mode=ro", uri=True)
            ) as plant:
                rows = plant.execute("SELECT count(*), count(compared_at) FROM moved_chunk").fetchall()
        except sqlite3.OperationalError:
            return 0, 0
        return rows[0][0], rows[0][1]

    async def killed(self, samples_per_s: int) -> None:
        """Begin it in a process of its own, and kill that once some chunks are there."""
        command = [sys.executable, "-m", "shopfloor", *self.words("--samples-per-s", str(samples_per_s))]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(90):
            while self.progress()[0] < 3:
                assert process.returncode is None, "it ended before it could be killed"
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL, "it ended before it was killed"


def influx_store(server: StoreServer) -> dict[str, Any]:
    return {"kind": "influxdb", "version": 1, "url": server.url, "database": f"moved{next(_numbers)}"}


def victoria_store(server: StoreServer) -> dict[str, Any]:
    return {"kind": "victoriametrics", "url": server.url, "retention_days": 36_500}
