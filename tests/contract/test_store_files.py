"""The files of the embedded store, read as `docs/store.md` says, by pandas, Polars and DuckDB."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning, all_samples_sql
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.contract.store_contract import write

DOCUMENT = Path(__file__).parents[2] / "docs" / "store.md"
KEY = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "barrel.zone_1.temperature")
OTHER = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "job.name")
T0 = 1_760_000_000_000_000_000
DAY = 86_400 * 10**9
TIMES = [T0, T0 + 10**6, T0 + DAY, T0 + DAY + 1, T0 + 2 * DAY]
VALUES = [0.1, 2.5, 1 / 3, -0.0, 7.0]


def example(language: str, folder: Path) -> str:
    found = re.search(rf"```{language}\n(import|SELECT)(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    return (found[1] + found[2]).replace("data/samples", str(folder))


def python_example(library: str, folder: Path) -> Any:
    text = DOCUMENT.read_text()
    (code,) = [
        one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"import {library}" in one
    ]
    names: dict[str, Any] = {}
    exec(code.replace("data/samples", str(folder)), names)
    return names["frame"]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Three days whose files have three units of time, scaled and plain values, a text."""
    store = DuckDBStore(tmp_path / "samples.duckdb", Tuning(threads=1, compaction=False, least_rows=0))
    block = make_block(
        (KEY, OTHER),
        [0, 0, 0, 0, 0, 1],
        [*TIMES, T0],
        [*(time + 1500 for time in TIMES), T0],
        [*VALUES, np.nan],
        text={5: "job 7"},
    )
    await write(store, Batch("a", "s", Lane.LIVE, 1, block))
    await store.compact()
    await store.close()
    return tmp_path / "samples"


def check(times: Any, values: Any) -> None:
    assert np.asarray(times).astype("datetime64[ns]").view(np.int64).tolist() == TIMES
    assert [repr(float(value)) for value in values] == [repr(value) for value in VALUES]


async def test_duckdb_reads_the_files(folder: Path) -> None:
    rows = duckdb.execute(example("sql", folder)).fetchnumpy()
    check(rows["source_time"], rows["value"])


async def test_pandas_reads_the_files(folder: Path) -> None:
    frame = python_example("pandas", folder)
    check(frame["source_time"].to_numpy(), frame["value"])


async def test_polars_reads_the_files(folder: Path) -> None:
    frame = python_example("polars", folder)
    check(frame["source_time"].to_numpy(), frame["value"])


async def test_every_sample_of_a_closed_store_by_one_query(folder: Path) -> None:
    with duckdb.connect(str(folder.parent / "samples.duckdb"), read_only=True) as database:
        rows = database.execute(
            f"SELECT source_time, received_time, value, text FROM ({all_samples_sql(database, folder)}) ORDER BY 1, 4"
        ).fetchall()
    assert sorted(row[0] for row in rows) == sorted([*TIMES, T0])
    assert {row[1] - row[0] for row in rows if row[3] is None} == {1500}
    assert [row[3] for row in rows if row[3] is not None] == ["job 7"]
