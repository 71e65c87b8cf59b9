"""The versioned binary form of sample blocks and batches.

Layout of a message::

    offset 0   2 bytes   b"SF"
           2   1 byte    kind: "B" batch, "K" block
           3   1 byte    wire version
           4   ...       one zstd frame that states its size, of msgpack arrays (the structs below)

The version stands outside the compression, so that a message of another version is recognised without reading
on. Decoding is safe against hostile bytes: sizes are bounded before anything is allocated, and whatever is wrong
raises WireError. docs/specs/wire.md is the specification.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import zstandard

from shopfloor.asset import parse_asset
from shopfloor.block import NO_TEXT, Quality, SampleBlock
from shopfloor.columns import Column, pack_floats, pack_integers, unpack_floats, unpack_integers, unpack_small
from shopfloor.errors import InvalidName, WireError, WireVersionUnsupported
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey, parse_signal

WIRE_VERSION: Final = 1
READABLE_VERSIONS: Final = frozenset({1})
_MAGIC: Final = b"SF"
_BATCH: Final = ord("B")
_BLOCK: Final = ord("K")
_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder accepts; everything is checked before memory of that size is taken."""

    compressed_bytes: int = 16 * 2**20
    decompressed_bytes: int = 64 * 2**20
    samples: int = 500_000
    series: int = 100_000
    text_bytes: int = 64 * 1024
    """One text value, as UTF-8."""


DEFAULT_LIMITS: Final = Limits()


class _Block(msgspec.Struct, frozen=True, array_like=True):
    count: int
    series_count: int
    series: bytes
    """``asset NUL signal``, joined by newlines: one run of bytes, so that decoders can cache what it means."""
    series_index: Column
    source_time: Column
    received_time: Column
    value: Column
    quality: Column
    status: Column
    text_rows: Column
    text: list[str]


class _Batch(msgspec.Struct, frozen=True, array_like=True):
    agent_id: str
    stream_id: str
    lane: str
    first_seq: int
    block: _Block


_block_decoder: Final = msgspec.msgpack.Decoder(_Block)
_batch_decoder: Final = msgspec.msgpack.Decoder(_Batch)
_encoder: Final = msgspec.msgpack.Encoder()
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


class _PerThread(threading.local):
    """zstd contexts are not for several threads at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)


_zstd: Final = _PerThread()


class _SeriesTables:
    """Both directions of the series table, remembered: agents send the same one again and again.

    Bounded in bytes, because its keys come from outside.
    """

    def __init__(self, limit_bytes: int = 32 * 2**20) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._series: OrderedDict[bytes, tuple[SeriesKey, ...]] = OrderedDict()
        self._encoded: tuple[tuple[SeriesKey, ...], bytes] = ((), b"")
        self._lock = threading.Lock()

    def keep(self, limit_bytes: int) -> None:
        """Set the bound."""
        with self._lock:
            self._limit_bytes = limit_bytes
            self._forget()

    def encode(self, series: tuple[SeriesKey, ...]) -> bytes:
        known, table = self._encoded
        if known is not series:
            table = series_table(series)
            self._encoded = (series, table)
            # A buffer reads back what it wrote: the very same keys, instead of thousands of new ones.
            self._remember(table, series)
        return table

    def decode(self, table: bytes, count: int) -> tuple[SeriesKey, ...]:
        with self._lock:
            series = self._series.get(table)
            if series is not None:
                self._series.move_to_end(table)
        if series is None:
            series = parse_series_table(table)
            self._remember(table, series)
        if len(series) != count:
            raise WireError(f"the series table has {len(series)} entries, the header says {count}")
        return series

    def _remember(self, table: bytes, series: tuple[SeriesKey, ...]) -> None:
        with self._lock:
            if table not in self._series:
                self._series[table] = series
                self._used_bytes += _cost(table, series)
            self._forget()

    def _forget(self) -> None:
        while self._used_bytes > self._limit_bytes:
            dropped, series = self._series.popitem(last=False)
            self._used_bytes -= _cost(dropped, series)


def _cost(table: bytes, series: tuple[SeriesKey, ...]) -> int:
    # The bytes themselves, the keys, and texts of their own where no other key has the same.
    return 3 * len(table) + 100 * len(series) + 1000


def series_table(series: tuple[SeriesKey, ...]) -> bytes:
    """Write series as one run of bytes: ``asset NUL signal`` joined by newlines."""
    return "\n".join([f"{key.asset}\0{key.signal}" for key in series]).encode()


def parse_series_table(table: bytes) -> tuple[SeriesKey, ...]:
    """Read a series table (``asset NUL signal`` joined by newlines); raises WireError where it is not one."""
    if not table:
        return ()
    keys = []
    try:
        for line in table.decode().split("\n"):
            asset, found, signal = line.partition("\0")
            if not found:
                raise WireError("a series is not an asset and a signal")
            keys.append(SeriesKey(parse_asset(asset), parse_signal(signal)))
    except (InvalidName, UnicodeDecodeError) as error:
        raise WireError(f"series table: {error}") from error
    if len(set(keys)) != len(keys):
        raise WireError("the series table names a series twice")
    return tuple(keys)


_tables: Final = _SeriesTables()


def remember_series_tables(limit_bytes: int) -> None:
    """Bound what this process keeps of series tables in both directions; 32 MiB are some 150,000 series.

    Where more series than that take turns, each message's table is read anew, which takes longer than all the rest of
    it: a process that hears many agents wants room for all of them.
    """
    _tables.keep(limit_bytes)


def encode_batch(batch: Batch) -> bytes:
    """Return the message for a batch."""
    body = _Batch(batch.agent_id, batch.stream_id, str(batch.lane), batch.first_seq, _pack(batch.block))
    return _seal(_BATCH, _encoder.encode(body))


def decode_batch(message: bytes, limits: Limits = DEFAULT_LIMITS) -> Batch:
    """Read a batch from untrusted bytes.

    Raises:
        WireVersionUnsupported: a well-formed message of a version that this process does not read.
        WireError: anything else that is not a batch within ``limits``.
    """
    body = _open(_BATCH, message, limits)
    try:
        packed = _batch_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a batch: {error}") from error
    for name, text in (("agent", packed.agent_id), ("stream", packed.stream_id)):
        if not _ID.fullmatch(text):
            raise WireError(f"{name} id {text[:80]!r} is malformed")
    if packed.lane not in {"live", "backlog"}:
        raise WireError(f"unknown lane {packed.lane[:80]!r}")
    if not 1 <= packed.first_seq <= 2**62:
        raise WireError(f"first_seq {packed.first_seq} is out of range")
    block = _unpack(packed.block, limits)
    return Batch(packed.agent_id, packed.stream_id, Lane(packed.lane), packed.first_seq, block)


def encode_block(block: SampleBlock) -> bytes:
    """Return the message for a block alone, as buffers and exports keep it."""
    return _seal(_BLOCK, _encoder.encode(_pack(block)))


def decode_block(message: bytes, limits: Limits = DEFAULT_LIMITS) -> SampleBlock:
    """Read a block from untrusted bytes; raises WireVersionUnsupported and WireError as `decode_batch` does."""
    body = _open(_BLOCK, message, limits)
    try:
        packed = _block_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a block: {error}") from error
    return _unpack(packed, limits)


def _seal(kind: int, body: bytes) -> bytes:
    return _MAGIC + bytes((kind, WIRE_VERSION)) + _zstd.compressor.compress(body)


def _open(kind: int, message: bytes, limits: Limits) -> bytes:
    if len(message) > limits.compressed_bytes:
        raise WireError(f"{len(message)} bytes, at most {limits.compressed_bytes} are taken")
    if len(message) < 4 or message[:2] != _MAGIC or message[2] != kind:
        raise WireError("not a message of this kind (wrong first bytes)")
    if message[3] not in READABLE_VERSIONS:
        raise WireVersionUnsupported(
            f"wire version {message[3]}; this process reads {', '.join(map(str, sorted(READABLE_VERSIONS)))}"
        )
    frame = message[4:]
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if size > limits.decompressed_bytes:
            stated = "no size" if size == zstandard.CONTENTSIZE_UNKNOWN else f"{size} bytes"
            raise WireError(f"the frame states {stated}, at most {limits.decompressed_bytes} are taken")
        return _zstd.decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"damaged or truncated: {error}") from error


def _pack(block: SampleBlock) -> _Block:
    rows = np.fromiter(block.text.keys(), dtype=np.int64, count=len(block.text))
    return _Block(
        count=len(block),
        series_count=len(block.series),
        series=_tables.encode(block.series),
        series_index=pack_integers(block.series_index.astype(np.int64), delta=True),
        source_time=pack_integers(block.source_time, delta=True, units=True),
        received_time=pack_integers(block.received_time, delta=True, units=True),
        value=pack_floats(block.value),
        quality=pack_integers(block.quality.astype(np.int64)),
        status=pack_integers(block.status.astype(np.int64)),
        text_rows=pack_integers(rows),
        text=list(block.text.values()),
    )


def _unpack(packed: _Block, limits: Limits) -> SampleBlock:
    count = packed.count
    if not 0 <= count <= limits.samples:
        raise WireError(f"{count} samples, at most {limits.samples} are taken")
    if not 0 <= packed.series_count <= limits.series:
        raise WireError(f"{packed.series_count} series, at most {limits.series} are taken")
    series = _tables.decode(packed.series, packed.series_count)
    value = unpack_floats(packed.value, count)
    return SampleBlock(
        series,
        unpack_small(
            packed.series_index,
            count,
            np.uint32,
            len(series) - 1,
            "a sample belongs to no series of the table",
        ),
        unpack_integers(packed.source_time, count),
        unpack_integers(packed.received_time, count),
        value,
        unpack_small(packed.quality, count, np.uint8, Quality.BAD, "a quality is none of 0, 1, 2"),
        unpack_small(packed.status, count, np.uint32, 2**32 - 1, "a status is not a 32-bit number"),
        _unpack_text(packed, value, limits) if packed.text else NO_TEXT,
    )


def _unpack_text(
    packed: _Block, value: np.ndarray[tuple[int], np.dtype[np.float64]], limits: Limits
) -> dict[int, str]:
    if len(packed.text) > packed.count:
        raise WireError("more texts than samples")
    rows = unpack_integers(packed.text_rows, len(packed.text))
    if rows.min() < 0 or rows.max() >= packed.count:
        raise WireError("a text stands at a row that does not exist")
    if not np.isnan(value[rows]).all():
        raise WireError("a row has both a number and a text")
    if any(len(text) > limits.text_bytes or len(text.encode()) > limits.text_bytes for text in packed.text):
        raise WireError(f"a text has more than {limits.text_bytes} bytes")
    texts = dict(zip(rows.tolist(), packed.text, strict=True))
    if len(texts) != len(packed.text):
        raise WireError("two texts stand at one row")
    return texts
