"""Samples and aggregates as Arrow tables, and those as CSV, Arrow streams and Parquet, piece by piece."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
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

_BATCH_ROWS: Final = 65_536
"""Few enough for their memory to be used again and again, enough for what a message costs not to count."""


def bucket_schema(names: Sequence[str]) -> pa.Schema:
    """Return the schema of aggregates."""
    counts = {"count", "bad"}
    kinds = [(name, pa.int64() if name in counts else pa.float64()) for name in names]
    return pa.schema([("asset", _NAME), ("signal", _NAME), ("start", _TIME), ("end", _TIME), *kinds])


def sample_batches(raw: Raw, form: str) -> Iterator[pa.RecordBatch]:
    """Yield samples as record batches with SAMPLE_SCHEMA, at least one, of a size that suits one of MEDIA_TYPES' names."""
    block = raw.block
    names = [_distinct(texts) for texts in _texts(raw.series)]
    # Looked for as another type, all of the column would be made that type.
    numbers = np.arange(len(raw.series) + 1, dtype=np.uint32)
    edges: npt.NDArray[np.int64] = np.searchsorted(block.series_index, numbers)
    size = max(1, len(block)) if form == "parquet" else _BATCH_ROWS
    for first in range(0, max(1, len(block)), size):
        rows = slice(first, min(first + size, len(block)))
        inside: npt.NDArray[np.int64] = np.clip(edges, rows.start, rows.stop)
        text = pa.nulls(rows.stop - rows.start, pa.string())
        if block.text:
            text = pa.array([block.text.get(row) for row in range(rows.start, rows.stop)], pa.string())
        value = block.value[rows]
        yield pa.RecordBatch.from_arrays(
            [
                *(_labelled(np.repeat(codes, inside[1:] - inside[:-1]), labels) for codes, labels in names),
                pa.array(block.source_time[rows]).view(_TIME),
                pa.array(block.received_time[rows]).view(_TIME),
                # Looking for what is no number takes much longer than seeing that there is none.
                pa.array(value, from_pandas=True) if np.isnan(value).any() else pa.array(value),
                text,
                pa.array(block.quality[rows]),
                pa.array(block.status[rows]),
            ],
            schema=SAMPLE_SCHEMA,
        )


def bucket_batch(buckets: Buckets, columns: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    """Return aggregates as one record batch with `bucket_schema` of their names."""
    return pa.RecordBatch.from_arrays(
        [
            *(
                _labelled(codes[buckets.series_index], labels)
                for codes, labels in map(_distinct, _texts(buckets.series))
            ),
            pa.array(buckets.start).cast(_TIME),
            pa.array(buckets.grid.edges[buckets.bucket + 1]).cast(_TIME),
            *(pa.array(column, from_pandas=True) for column in columns.values()),
        ],
        schema=bucket_schema(list(columns)),
    )


async def encoded(
    batches: AsyncIterator[Iterable[pa.RecordBatch]], schema: pa.Schema, form: str
) -> AsyncIterator[bytes]:
    """Yield a file of one of MEDIA_TYPES' names; only one batch at a time is encoded, and made where it is an iterator's.

    A file that breaks off because ``batches`` failed is recognised by whoever reads it: Arrow streams and Parquet files
    have an end, and an HTTP answer in chunks does as well.
    """
    sink = _Sink(keeps=form == "arrow")
    writer = await asyncio.to_thread(_WRITERS[form], sink, schema)
    async for some in batches:
        left = iter(some)
        while (chunk := await asyncio.to_thread(_next_chunk, left, writer, sink, form)) is not None:
            if chunk:
                yield chunk
    await asyncio.to_thread(writer.close)
    if chunk := sink.taken():
        yield chunk


def _next_chunk(batches: Iterator[pa.RecordBatch], writer: Any, sink: _Sink, form: str) -> bytes | None:
    batch = next(batches, None)
    if batch is None:
        return None
    _write(writer, batch, form)
    return sink.taken()


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken; remembers how much there was, as Parquet's footer needs it.

    Args:
        keeps: Arrow's buffers may be kept as they are until then; writers of CSV and Parquet use theirs again.
    """

    def __init__(self, *, keeps: bool) -> None:
        super().__init__()
        self._keeps = keeps
        self._chunks: list[Any] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        chunk = data if self._keeps and isinstance(data, bytes | pa.Buffer) else bytes(data)
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


def _parquet_writer(sink: _Sink, schema: pa.Schema) -> Any:
    # Of times hardly any comes twice: looking for a dictionary of them takes half of all the time.
    repeated = [field.name for field in schema if not pa.types.is_timestamp(field.type)]
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=repeated)


_WRITERS: Final[Mapping[str, Any]] = {
    "csv": _csv_writer,
    "arrow": pa.ipc.new_stream,
    "parquet": _parquet_writer,
}


def _write(writer: Any, batch: pa.RecordBatch, form: str) -> None:
    if form == "csv":
        columns = [
            _iso_times(column)
            if pa.types.is_timestamp(column.type)
            else column.cast(pa.string())
            if pa.types.is_dictionary(column.type)
            else column
            for column in batch.columns
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=_csv_schema(batch.schema))
    writer.write_batch(batch)


def _iso_times(time: pa.Array) -> pa.Array:
    """Return times, int64 ns since 1970, as ISO 8601 with nine decimals; strftime takes ten times as long."""
    import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a start

    text = time.view(pa.timestamp("ns")).cast(pa.string())
    # All of these years have four digits.
    return pc.binary_join_element_wise(pc.binary_replace_slice(text, 10, 11, "T"), "Z", "")


def _texts(series: Sequence[SeriesInfo]) -> tuple[list[str], list[str]]:
    return [str(one.key.asset) for one in series], [one.key.signal for one in series]


def _distinct(texts: list[str]) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """Return for each text its number, and the texts by number; each distinct text stands once."""
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return np.array([distinct[text] for text in texts], np.int32), pa.array(list(distinct), pa.string())


def _labelled(codes: npt.NDArray[np.int32], labels: pa.Array) -> pa.Array:
    """Return texts by their numbers, all of which there are."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), labels, safe=False)


__all__ = [
    "ARROW",
    "CSV",
    "MEDIA_TYPES",
    "PARQUET",
    "SAMPLE_SCHEMA",
    "bucket_batch",
    "bucket_schema",
    "encoded",
    "sample_batches",
]
