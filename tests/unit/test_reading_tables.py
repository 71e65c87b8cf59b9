"""Samples as Arrow tables, CSV and Parquet: batch by batch the same as all at once."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.reading import tables
from ingest_service.stores import Raw, SeriesInfo
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey

KEYS = tuple(
    SeriesKey(parse_asset(f"acme/hk01/m-{asset}"), signal) for asset in range(2) for signal in ("a", "b")
)


def raw_of(first: int, n: int, keys: tuple[SeriesKey, ...] = KEYS) -> Raw:
    rows = np.arange(first, first + n)
    text = {row: f"text {row}" for row in range(0, n, 10)}
    value = rows / 8
    value[list(text)] = np.nan
    index = np.sort(rows % len(keys))
    block = make_block(keys, index, rows * 10**6, rows * 10**6 + 5, value, rows % 3, rows, text=text)
    return Raw(tuple(SeriesInfo(number, key) for number, key in enumerate(keys)), block, truncated=False)


async def encoded(raws: list[Raw], form: str) -> list[bytes]:
    async def batches() -> AsyncIterator[Iterable[pa.RecordBatch]]:
        for raw in raws:
            yield tables.sample_batches(raw, form)

    return [chunk async for chunk in tables.encoded(batches(), tables.SAMPLE_SCHEMA, form)]


def table_of(form: str, content: bytes) -> pa.Table:
    if form == "arrow":
        return pa.ipc.open_stream(content).read_all()
    if form == "parquet":
        return pq.read_table(io.BytesIO(content))
    options = pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    return pacsv.read_csv(io.BytesIO(content), convert_options=options)


def columns_of(block: SampleBlock) -> dict[str, list[Any]]:
    keys = [block.series[index] for index in block.series_index.tolist()]
    return {
        "asset": [str(key.asset) for key in keys],
        "signal": [key.signal for key in keys],
        "source_time": block.source_time.tolist(),
        "received_time": block.received_time.tolist(),
        "value": [None if np.isnan(value) else value for value in block.value.tolist()],
        "text": [block.text.get(row) for row in range(len(block))],
        "quality": block.quality.tolist(),
        "status": block.status.tolist(),
    }


@pytest.mark.parametrize("form", ["arrow", "csv", "parquet"])
async def test_pages_in_batches_hold_every_sample(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH_ROWS", 64)
    # One page ends with its batch, one within it, and one has other series.
    raws = [raw_of(0, 128), raw_of(128, 100), raw_of(228, 7, KEYS[1:2])]
    table = table_of(form, b"".join(await encoded(raws, form)))
    pages = [columns_of(raw.block) for raw in raws]
    for name in table.column_names:
        column = [one for page in pages for one in page[name]]
        found = table[name]
        if name.endswith("_time"):
            found = found.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
        assert found.to_pylist() == column, name


async def test_chunks_come_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH_ROWS", 64)
    chunks = await encoded([raw_of(0, 128)], "arrow")
    assert len(chunks) == 3, "two batches, and the end of the stream"


@pytest.mark.parametrize("form", ["arrow", "csv", "parquet"])
async def test_nothing_is_a_table_without_rows(form: str) -> None:
    table = table_of(form, b"".join(await encoded([raw_of(0, 0, ())], form)))
    assert (table.num_rows, table.column_names) == (0, tables.SAMPLE_SCHEMA.names)


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=20))
async def test_times_of_csv_are_iso_8601_to_the_nanosecond(times: list[int]) -> None:
    block = make_block(KEYS[:1], [0] * len(times), times, 0, 1.0)
    raw = Raw((SeriesInfo(1, KEYS[0]),), block, truncated=False)
    lines = b"".join(await encoded([raw], "csv")).decode().splitlines()[1:]
    assert [line.split(",")[2].strip('"') for line in lines] == [
        f"{np.datetime64(time, 'ns')}Z" for time in times
    ]
