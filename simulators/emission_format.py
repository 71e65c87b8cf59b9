"""How an emission log lies on disk.

A log is a folder of segments, and a segment is a file::

    8 bytes            b"SFEMIT" and the version, uint16 little-endian
    frame, frame ...   uint32 length, uint32 CRC-32, then that many bytes, the first of them the kind:
       H   JSON: start_ns, rows_before (rows in all earlier segments, kept or not)
       S   JSON: [[asset, signal, untimed], ...], numbered on from what the segment has; all are repeated in each
           segment. untimed is true where messages carry no time: such rows bear the publisher's clock, and a
           collector stores them at the time of receipt. Version 1 has no third member, and no such series.
       C   rows: the newest value of each series at the start of the segment
       R   rows: what was emitted, in that order; times rise within each series unless its machine's clock was put
           back

    rows: uint32 n, uint32 text_bytes, uint32[n] series, int64[n] source time in ns, float64[n] value, and JSON
          [[row, text], ...] for the rows that are text, whose value is NaN

C makes a segment stand alone, so that old ones can be deleted. Readers count it in the oldest segment only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.block import Float64, Int64, UInt32
from shopfloor.errors import Permanent
from shopfloor.signal import SeriesKey, parse_signal

Value: TypeAlias = float | str
MAGIC: Final = b"SFEMIT" + struct.pack("<H", 2)
_READABLE: Final = (b"SFEMIT" + struct.pack("<H", 1), MAGIC)
_FRAME: Final = struct.Struct("<II")
_ROWS: Final = struct.Struct("<II")
_MAX_FRAME_BYTES: Final = 256 * 2**20


class LogDamaged(Permanent):
    """A segment holds bytes that were never written there (a torn end is no damage: it is cut off)."""


class Row(NamedTuple):
    """One emission: the number of its series, source time in UTC ns, value."""

    series: int
    time_ns: int
    value: Value


class Header(msgspec.Struct):
    """What a segment begins with."""

    start_ns: int
    """The oldest source time in it."""
    rows_before: int
    """Rows in all earlier segments, kept or not."""


class Named(msgspec.Struct, array_like=True, frozen=True):
    """A series as frame S has it."""

    asset: str
    signal: str
    untimed: bool = False

    @property
    def key(self) -> SeriesKey:
        """The series; raises InvalidName."""
        return SeriesKey(parse_asset(self.asset), parse_signal(self.signal))


class Rows(NamedTuple):
    """One frame of rows as columns of length n."""

    kind: str
    keys: tuple[SeriesKey, ...]
    """The series that the segment has named so far."""
    series: UInt32
    time_ns: Int64
    value: Float64
    text: dict[int, str]


def segments(folder: Path) -> list[Path]:
    """Return the segments of a log, oldest first."""
    return sorted(folder.glob("[0-9]*.seg"))


def _frame(kind: bytes, body: bytes) -> bytes:
    payload = kind + body
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def encode_header(header: Header) -> bytes:
    """Return the frame H."""
    return _frame(b"H", msgspec.json.encode(header))


def encode_series(keys: Iterable[SeriesKey], untimed: Container[SeriesKey] = ()) -> bytes:
    """Return a frame S; ``untimed`` holds the series whose messages carry no time."""
    return _frame(
        b"S", msgspec.json.encode([Named(str(key.asset), key.signal, key in untimed) for key in keys])
    )


def encode_rows(kind: bytes, rows: Sequence[Row]) -> bytes:
    """Return a frame of rows of kind C or R."""
    series, times, values = zip(*rows, strict=True)
    text = [[number, value] for number, value in enumerate(values) if isinstance(value, str)]
    numbers = [float("nan") if isinstance(value, str) else value for value in values] if text else values
    text_bytes = msgspec.json.encode(text) if text else b""
    return _frame(
        kind,
        b"".join(
            (
                _ROWS.pack(len(rows), len(text_bytes)),
                np.array(series, dtype="<u4").tobytes(),
                np.array(times, dtype="<i8").tobytes(),
                np.array(numbers, dtype="<f8").tobytes(),
                text_bytes,
            )
        ),
    )


def rows_of(path: Path, kinds: str) -> Iterator[Rows]:
    """Yield a segment's frames of rows of certain kinds; raises LogDamaged."""
    keys: tuple[SeriesKey, ...] = ()
    for kind, body in _frames(path):
        if kind == "S":
            keys += tuple(named.key for named in _decode_series(body))
        elif kind in kinds:
            count, text_bytes = _ROWS.unpack_from(body)
            at = _ROWS.size
            series = np.frombuffer(body, "<u4", count, at).astype(np.uint32, copy=False)
            times = np.frombuffer(body, "<i8", count, at + 4 * count).astype(np.int64, copy=False)
            values = np.frombuffer(body, "<f8", count, at + 12 * count).astype(np.float64, copy=False)
            text = {}
            if text_bytes:
                text = dict(msgspec.json.decode(body[at + 20 * count :], type=list[tuple[int, str]]))
            yield Rows(kind, keys, series, times, values, text)


def untimed_of(path: Path) -> frozenset[SeriesKey]:
    """Return the series of a segment whose messages carry no time; raises LogDamaged."""
    return frozenset(
        named.key
        for kind, body in _frames(path)
        if kind == "S"
        for named in _decode_series(body)
        if named.untimed
    )


def _decode_series(body: bytes) -> list[Named]:
    return msgspec.json.decode(body, type=list[Named])


def read_header(path: Path) -> Header:
    """Return what a segment begins with; raises LogDamaged."""
    for kind, body in _frames(path, only_first=True):
        if kind == "H":
            return msgspec.json.decode(body, type=Header)
    raise LogDamaged(f"{path}: has no header")


def _frames(path: Path, *, only_first: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield (kind, body); ends where the last complete frame ends."""
    with path.open("rb") as file:
        data = file.read(4096) if only_first else file.read()
    for start, length in _sound_frames(path, data):
        yield chr(data[start]), data[start + 1 : start + length]
        if only_first:
            return


def _sound_frames(path: Path, data: bytes) -> Iterator[tuple[int, int]]:
    if data[: len(MAGIC)] not in _READABLE:
        raise LogDamaged(f"{path}: not a segment of version 1 or 2")
    at = len(MAGIC)
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        start = at + _FRAME.size
        if not 1 <= length <= _MAX_FRAME_BYTES:
            raise LogDamaged(f"{path}: a frame of {length} bytes at byte {at}")
        if start + length > len(data):
            return
        if zlib.crc32(data[start : start + length]) != checksum:
            raise LogDamaged(f"{path}: the frame at byte {at} has a wrong checksum")
        yield start, length
        at = start + length


def cut_torn_end(path: Path) -> None:
    """Cut off a frame that a dying process left incomplete; raises LogDamaged where more is wrong."""
    data = path.read_bytes()
    end = len(MAGIC)
    for start, length in _sound_frames(path, data):
        end = start + length
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
