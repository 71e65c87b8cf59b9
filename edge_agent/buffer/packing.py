"""How rows and checkpoints are written down, and how they are known to be what was written."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import msgspec
import numpy as np

from shopfloor import wire
from shopfloor.block import Int64, SampleBlock, UInt64
from shopfloor.errors import WireError
from shopfloor.signal import SeriesKey

ROW_OVERHEAD_BYTES: Final = 64
"""What a row takes beside its payload, about."""


class Checkpoint(NamedTuple):
    """The newest time and digest of every series, of all rows up to ``through``."""

    through: int
    series: tuple[SeriesKey, ...]
    times: Int64
    digests: UInt64


class _PackedCheckpoint(msgspec.Struct, array_like=True):
    series: bytes
    times: bytes
    digests: bytes


def packed_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint, without ``through``."""
    series = wire.series_table(checkpoint.series)
    return msgspec.msgpack.encode(
        _PackedCheckpoint(series, checkpoint.times.tobytes(), checkpoint.digests.tobytes())
    )


def parse_checkpoint(through: int, body: bytes) -> Checkpoint:
    """Return a checkpoint; raises msgspec.MsgspecError, WireError or ValueError for what is none."""
    packed = msgspec.msgpack.decode(body, type=_PackedCheckpoint)
    return Checkpoint(
        through,
        wire.parse_series_table(packed.series),
        np.frombuffer(packed.times, dtype=np.int64),
        np.frombuffer(packed.digests, dtype=np.uint64),
    )


def row_checksum(stream: int, first_seq: int, count: int, payload: bytes) -> int:
    """Return the checksum of a row: its place counts as much as its samples."""
    return zlib.crc32(payload, zlib.crc32(b"%d %d %d" % (stream, first_seq, count)))


def decode_row(stream: int, first_seq: int, count: int, checksum: int, payload: object) -> SampleBlock | None:
    """Return the block of a row, None where the row is not what was written."""
    if not isinstance(payload, bytes) or row_checksum(stream, first_seq, count, payload) != checksum:
        return None
    try:
        block = wire.decode_block(payload)
    except WireError:
        return None
    return block if len(block) == count else None
