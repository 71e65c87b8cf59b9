"""Samples and aggregates as Arrow tables, and those as CSV, Arrow streams and Parquet, piece by piece."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ingest_service.stores import Buckets, Raw, SeriesInfo

CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
PARQUET: Final = "application/vnd.apache.parquet"
MEDIA_TYPES: Final = {"csv": CSV, "arrow": ARROW, "parquet": PARQUET}
_TIME: Final = pa.timestamp("ns", "UTC")
_NAME: Final = pa.dictionary(pa.int32(), pa.string())
SAMPLE_SCHEMA: Final = pa.schema(
    [
        ("asset", _NAME),
        ("signal", _NAME),
        ("source_time", _TIME),
        ("received_time", _TIME),
        ("value", pa.float64()),
        ("text", pa.string()),
        ("quality", pa.uint8()),
        ("status", pa.uint32()),
    ]
)
"""Of raw samples; ``value`` is null for texts and for nothing at all."""


def bucket_schema(names: Sequence[str]) -> pa.Schema:
    """Return the schema of aggregates."""
    counts = {"count", "bad"}
    kinds = [(name, pa.int64() if name in counts else pa.float64()) for name in names]
    return pa.schema([("asset", _NAME), ("signal", _NAME), ("start", _TIME), ("end", _TIME), *kinds])


def sample_batch(raw: Raw) -> pa.RecordBatch:
    """Return samples as one record batch with SAMPLE_SCHEMA."""
    block = raw.block
    text: list[str | None] | None = None
    if block.text:
        text = [None] * len(block)
        for row, line in block.text.items():
            text[row] = line
    return pa.RecordBatch.from_arrays(
        [
            *_names(raw.series, block.series_index),
            pa.array(block.source_time).cast(_TIME),
            pa.array(block.received_time).cast(_TIME),
            pa.array(block.value, from_pandas=True),
            pa.nulls(len(block), pa.string()) if text is None else pa.array(text, pa.string()),
            pa.array(block.quality),
            pa.array(block.status),
        ],
        schema=SAMPLE_SCHEMA,
    )


def bucket_batch(buckets: Buckets, columns: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    """Return aggregates as one record batch with `bucket_schema` of their names."""
    return pa.RecordBatch.from_arrays(
        [
            *_names(buckets.series, buckets.series_index),
            pa.array(buckets.start).cast(_TIME),
            pa.array(buckets.grid.edges[buckets.bucket + 1]).cast(_TIME),
            *(pa.array(column, from_pandas=True) for column in columns.values()),
        ],
        schema=bucket_schema(list(columns)),
    )


async def encoded(
    batches: AsyncIterator[pa.RecordBatch], schema: pa.Schema, form: str
) -> AsyncIterator[bytes]:
    """Yield a file of one of MEDIA_TYPES' names; only one batch at a time is in memory.

    A file that breaks off because ``batches`` failed is recognised by whoever reads it: Arrow streams and Parquet files
    have an end, and an HTTP answer in chunks does as well.
    """
    sink = _Sink()
    writer = await asyncio.to_thread(_WRITERS[form], sink, schema)
    async for batch in batches:
        await asyncio.to_thread(_write, writer, batch, form)
        if chunk := sink.taken():
            yield chunk
    await asyncio.to_thread(writer.close)
    if chunk := sink.taken():
        yield chunk


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken; remembers how much there was, as Parquet's footer needs it."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self._at += len(chunk)
        return len(chunk)

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


def _csv_writer(sink: _Sink, schema: pa.Schema) -> Any:
    return pacsv.CSVWriter(sink, _csv_schema(schema))


def _csv_schema(schema: pa.Schema) -> pa.Schema:
    plain = {pa.types.is_timestamp: pa.string(), pa.types.is_dictionary: pa.string()}
    return pa.schema(
        [
            (field.name, next((kind for test, kind in plain.items() if test(field.type)), field.type))
            for field in schema
        ]
    )


_WRITERS: Final[Mapping[str, Any]] = {
    "csv": _csv_writer,
    "arrow": pa.ipc.new_stream,
    "parquet": lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"),
}


def _write(writer: Any, batch: pa.RecordBatch, form: str) -> None:
    if form == "csv":
        import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a start

        columns = [
            pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")
            if pa.types.is_timestamp(column.type)
            else column.cast(pa.string())
            if pa.types.is_dictionary(column.type)
            else column
            for column in batch.columns
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=_csv_schema(batch.schema))
    writer.write_batch(batch)


def _names(series: Sequence[SeriesInfo], index: npt.NDArray[np.uint32]) -> tuple[pa.Array, pa.Array]:
    """Return asset and signal of each row; each distinct text stands once."""
    found = []
    for texts in ([str(one.key.asset) for one in series], [one.key.signal for one in series]):
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        number = np.array([distinct[text] for text in texts], np.int32)
        rows = number[index] if len(series) else np.empty(0, np.int32)
        found.append(pa.DictionaryArray.from_arrays(pa.array(rows), pa.array(list(distinct), pa.string())))
    return found[0], found[1]


__all__ = [
    "ARROW",
    "CSV",
    "MEDIA_TYPES",
    "PARQUET",
    "SAMPLE_SCHEMA",
    "bucket_batch",
    "bucket_schema",
    "encoded",
    "sample_batch",
]
