"""A second copy of the newest rows, in two plain files beside the database: a damaged page of it costs none of them.

What is damaged may be undelivered, or be the memory by which repeats are recognised; both come back from here. The copy
is written after the transaction and not synced: it survives a kill. A power cut may cost its end, which matters only
where the database is damaged as well.

A record is a header and, but for a mark that rows are gone, the payload of one row, with a checksum over both. What
can't be read is stepped over.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.trouble import Trouble
from shopfloor import wire
from shopfloor.block import SampleBlock, concat
from shopfloor.errors import WireError

log = logging.getLogger(__name__)

GENERATION_BYTES: Final = 4 * 2**20
"""Of each of the two files: a million samples as machines make them, more than the window of repeats."""
_MAX_UNWRITTEN_BYTES: Final = 2**20
_MAGIC: Final = b"SFr1"
_HEADER: Final = struct.Struct("<4sIIqqqqB")
"""Magic, checksum of all that follows, bytes of the payload, stream number, committed, first seq, count, bytes of the id."""
_CHECKED_FROM: Final = 8


class Copy(NamedTuple):
    """A row; without a payload, the mark that the rows of these numbers were dropped."""

    stream: int
    stream_id: str
    committed: int
    """Through which number the stream was delivered when this was written."""
    first_seq: int
    samples: int
    payload: bytes

    @property
    def last_seq(self) -> int:
        """Sequence number of its last sample."""
        return self.first_seq + self.samples - 1


class Copies(NamedTuple):
    """What a mirror holds."""

    rows: list[Copy]
    """The oldest first."""
    checkpoint: bytes | None
    """Of all rows before those."""


class Mirror:
    """The files ``…recent`` and ``…recent-old`` beside a database. Nothing here raises for what a disk does."""

    def __init__(self, database: Path, generation_bytes: int = GENERATION_BYTES) -> None:
        self._path = database.with_name(f"{database.name}.recent")
        self._older = database.with_name(f"{database.name}.recent-old")
        self._generation_bytes = generation_bytes
        self._file: int | None = None
        self._size = 0
        self._unwritten = b""
        """What a full disk refused; it goes with the next record."""
        self._trouble = Trouble(log, "second copy of the buffer's newest rows")

    def write(self, copies: Iterable[Copy], checkpoint: Callable[[], bytes]) -> None:
        """Append records; a new file begins with a checkpoint of all series, made by the function."""
        data = self._unwritten + b"".join(map(_packed, copies))
        if not data:
            return
        try:
            self._append(data, checkpoint)
        except OSError as error:
            self._trouble.met(f"can't be written: {error}")
            self._unwritten = data
            with suppress(OSError):
                if self._file is not None:
                    os.ftruncate(self._file, self._size)
            if len(data) > _MAX_UNWRITTEN_BYTES:
                # A copy with a hole may hold what was dropped since.
                self.clear()
            return
        self._unwritten = b""
        self._trouble.over("is written again")

    def copies(self) -> Copies:
        """Return every sound row that was not dropped afterwards, and the newest checkpoint."""
        rows: dict[tuple[str, int], Copy] = {}
        gone: dict[str, list[tuple[int, int]]] = {}
        checkpoint = None
        for path in (self._older, self._path):
            for copy in _records(_content(path)):
                if not copy.stream_id:
                    checkpoint = copy.payload
                elif copy.payload:
                    rows[copy.stream_id, copy.first_seq] = copy
                else:
                    gone.setdefault(copy.stream_id, []).append((copy.first_seq, copy.last_seq))
        dropped = {stream_id: sorted(spans) for stream_id, spans in gone.items()}
        kept = [copy for copy in rows.values() if not overlaps(dropped.get(copy.stream_id, []), copy)]
        return Copies(kept, checkpoint)

    def find(self, stream_id: str, first_seq: int, count: int) -> SampleBlock | None:
        """Return the samples of a row, which may have been several small ones; None where not all of them are here."""
        last_seq, expected, blocks = first_seq + count - 1, first_seq, []
        of_stream = [copy for copy in self.copies().rows if copy.stream_id == stream_id]
        for copy in sorted(of_stream, key=lambda copy: copy.first_seq):
            if copy.first_seq == expected and copy.last_seq <= last_seq:
                with suppress(WireError):
                    blocks.append(wire.decode_block(copy.payload))
                    expected = copy.last_seq + 1
        return concat(blocks) if blocks and expected == last_seq + 1 else None

    def shrink(self) -> None:
        """Give the older file back to a disk that is short."""
        with suppress(OSError):
            self._older.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        self._unwritten = b""
        self.close()
        self.shrink()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            os.close(self._file)
            self._file, self._size = None, 0

    def _append(self, data: bytes, checkpoint: Callable[[], bytes]) -> None:
        if self._size >= self._generation_bytes:
            self.close()
            self._path.replace(self._older)
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = os.fstat(self._file).st_size
        if not self._size:
            data = _packed(Copy(0, "", 0, 0, 0, checkpoint())) + data
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)


def _packed(copy: Copy) -> bytes:
    name = copy.stream_id.encode()
    header = _HEADER.pack(
        _MAGIC, 0, len(copy.payload), copy.stream, copy.committed, copy.first_seq, copy.samples, len(name)
    )[_CHECKED_FROM:]
    checksum = zlib.crc32(copy.payload, zlib.crc32(header + name))
    return b"".join((_MAGIC, checksum.to_bytes(4, "little"), header, name, copy.payload))


def _records(data: bytes) -> Iterator[Copy]:
    """Yield every sound record; behind one that is not, look for the next."""
    place = data.find(_MAGIC)
    while place >= 0:
        copy, end = _record(data, place)
        if copy is not None:
            yield copy
        place = data.find(_MAGIC, end)


def _record(data: bytes, place: int) -> tuple[Copy | None, int]:
    """Return the record at a place, None if it is not sound, and where to go on."""
    further = place + len(_MAGIC)
    if place + _HEADER.size > len(data):
        return None, further
    _, checksum, size, stream, committed, first_seq, count, name_size = _HEADER.unpack_from(data, place)
    name_at = place + _HEADER.size
    payload_at = name_at + name_size
    end = payload_at + size
    if end > len(data) or zlib.crc32(memoryview(data)[place + _CHECKED_FROM : end]) != checksum:
        return None, further
    name = data[name_at:payload_at].decode(errors="replace")
    return Copy(stream, name, committed, first_seq, count, data[payload_at:end]), end


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        log.error("%s: %s", path, error)  # noqa: TRY400  one line says it all
        return b""


def overlaps(spans: Sequence[tuple[int, int]], copy: Copy) -> bool:
    """Tell whether one of the sorted (first, last) spans, none of which overlap, has a number in common with a row."""
    place = bisect_right(spans, (copy.last_seq, 2**63))
    return place > 0 and spans[place - 1][1] >= copy.first_seq
