"""A full disk stops acknowledgements of the embedded store, not the process, and it recovers by itself."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from ingest_service.stores import Admitted
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.errors import StoreUnavailable
from tests.contract.store_contract import batch, stored_values, write

_CHILD = """
import asyncio, resource, sys
from pathlib import Path
import numpy as np
from ingest_service.stores import Admitted, Outcome
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.errors import StoreUnavailable
from tests.contract.store_contract import batch, stored_values

async def main():
    folder = Path(sys.argv[1])
    tuning = Tuning(memory_bytes=256 * 2**20, threads=1, compaction=False, least_rows=0)
    store = DuckDBStore(folder / "samples.duckdb", tuning)
    refused, seq = 0, 1
    (first,) = await store.write([Admitted(batch(seq, 20_000))])
    seq += 20_000
    # No file may grow beyond this now: as on a full disk a write is cut short, whoever writes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 2**20, resource.RLIM_INFINITY))
    while refused < 5:
        (result,) = await store.write([Admitted(batch(seq, 20_000))])
        if isinstance(result, StoreUnavailable):
            assert result.retry_after_s
            refused += 1
            try:
                await store.compact()
            except Exception as error:
                print("compaction failed:", type(error).__name__)
        else:
            seq += 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = 0
    while again < 3:
        (result,) = await store.write([Admitted(batch(seq, 20_000))])
        if isinstance(result, Outcome):
            assert result.stored == 20_000, result
            seq += 20_000
            again += 1
    await store.compact()
    assert await store.verify() == []
    values = await stored_values(store)
    assert np.array_equal(values, np.arange(1, seq)), (len(values), seq)
    await store.close()
    print("recovered")

asyncio.run(main())
"""


def test_writes_that_the_disk_refuses_are_not_acknowledged_and_work_later(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("recovered\n")


async def test_below_the_reserve_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])  # noqa: PYI024
    free = 10**9
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(10**12, 0, free))
    monkeypatch.setattr("ingest_service.stores.duckdb_writer._LOOK_AT_DISK_S", 0.0)
    store = DuckDBStore(tmp_path / "s.duckdb", Tuning(threads=1, reserve_bytes=10**6))
    await write(store, batch(1))
    free = 10**5
    (result,) = await store.write([Admitted(batch(11))])
    assert isinstance(result, StoreUnavailable)
    assert result.retry_after_s
    assert len(await stored_values(store)) == 10
    free = 10**9
    await write(store, batch(11))
    assert len(await stored_values(store)) == 20
    await store.close()
