"""Hot files: what has been acknowledged and is not sorted into parts yet, one file a generation, one frame a commit.

The database says how much of a file counts (table ``hot``), in the transaction that also brings the ledger's rows: a frame
is durable before that transaction begins. Bytes beyond are what a commit left that failed, and are written over.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest_service.stores.duckdb_hot_frame import (
    HEADER_BYTES,
    Column,
    Header,
    encode,
    fill,
    has_texts,
    header_of,
    is_sound,
    layout_of,
)
from ingest_service.stores.duckdb_rows import Rows, concat_rows, empty_rows
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import UInt32
from shopfloor.errors import StoreUnavailable

ALWAYS: Final = TimeSpan(-(2**63), 2**63 - 1)
_LEAST_FRAMED: Final = 4096
"""Rows from which on a frame is read from the file; those of smaller frames are held in memory side by side."""
_FEW_SERIES: Final = 4
_log = logging.getLogger(__name__)


class Hot(NamedTuple):
    """How much of a hot file counts."""

    number: int
    """The generation; below zero for rows that stayed hot when their generation was rewritten."""
    bytes: int
    rows: int


def hot_folder(folder: Path) -> Path:
    """Return where the hot files of a store lie whose parts lie in ``folder``."""
    return folder.with_name(folder.name + ".hot")


def name_of(number: int) -> str:
    """Return the name of a generation's file."""
    return f"{number:08}.rows" if number >= 0 else f"{-number:08}.stayed"


class _Wanted:
    """Which rows a question is about."""

    def __init__(self, ids: UInt32 | None, span: TimeSpan) -> None:
        self._ids = ids
        self._span = span
        self._low = int(ids.min(initial=2**32 - 1)) if ids is not None else 0
        self._high = int(ids.max(initial=0)) if ids is not None else 2**32 - 1
        self._mask: npt.NDArray[np.bool_] | None = None
        if ids is not None and len(ids) > _FEW_SERIES:
            self._mask = np.zeros(self._high + 2, np.bool_)
            self._mask[ids] = True

    def may_be_in(self, first_time: int, last_time: int, lowest_id: int, highest_id: int) -> bool:
        """Tell whether rows with such bounds need to be looked at."""
        span = self._span
        return (
            last_time >= span.from_ns
            and (first_time < span.to_ns or span == ALWAYS)
            and lowest_id <= self._high
            and highest_id >= self._low
        )

    def of_series(self, series_id: UInt32) -> npt.NDArray[np.bool_] | None:
        """Return bool[n]: which rows are of the series asked for; None for all."""
        if self._ids is None:
            return None
        if self._mask is not None:
            found: npt.NDArray[np.bool_] = self._mask[np.minimum(series_id, self._high + 1)]
            return found
        found = np.zeros(len(series_id), np.bool_)
        for number in self._ids.tolist():
            found |= series_id == number
        return found

    def select(self, rows: Rows, found: npt.NDArray[np.bool_] | None) -> Rows:
        """Return those of the span among rows of which ``found`` are of the series asked for."""
        span = self._span
        if span != ALWAYS and rows.n:
            inside = (rows.source_time >= span.from_ns) & (rows.source_time < span.to_ns)
            found = inside if found is None else found & inside
        if found is None:
            return rows
        return rows.take(np.flatnonzero(found))


class _Framed(NamedTuple):
    """A frame that is read from the file."""

    at: int
    header: Header

    @property
    def rows(self) -> int:
        return self.header.rows


class _Held:
    """Rows of small frames, one after the other, in memory; only what no reader has seen is ever written over."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns = empty_rows(0, texts=False)

    def add(self, rows: Rows) -> None:
        end = self.rows + rows.n
        columns = self._columns
        if end > columns.n or (rows.text is not None and columns.text is None):
            grown = empty_rows(
                max(end, 2 * columns.n, 1024), texts=rows.text is not None or columns.text is not None
            )
            for old, new in zip(columns, grown, strict=True):
                if old is not None and new is not None:
                    new[: self.rows] = old[: self.rows]
            columns = grown
        for name, column in zip(Rows._fields, columns, strict=True):
            if column is not None:
                column[self.rows : end] = getattr(rows, name)
        self._columns, self.rows = columns, end

    @property
    def has_texts(self) -> bool:
        return self._columns.text is not None

    def first(self, rows: int) -> Rows:
        return self._columns.take(slice(0, rows))


class _Lost(NamedTuple):
    """Rows that the file does not give back."""

    rows: int


class _File:
    """What is known of a file: its rows up to some byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.rows = 0
        self.pieces: list[_Framed | _Held | _Lost] = []
        self.problems: list[str] = []
        self._descriptor = -1

    def add(self, at: int, header: Header, rows: Rows | None) -> None:
        """Take a frame that stands at a byte; its rows are read from the file if need be."""
        if header.rows >= _LEAST_FRAMED:
            self.pieces.append(_Framed(at, header))
        else:
            if not self.pieces or not isinstance(self.pieces[-1], _Held):
                self.pieces.append(_Held())
            held = self.pieces[-1]
            assert isinstance(held, _Held)
            held.add(self.read(at, header) if rows is None else rows)
        self.bytes, self.rows = at + header.bytes, self.rows + header.rows

    def cut(self, end: Hot) -> None:
        """Forget what was added after some commit."""
        while self.rows > end.rows:
            last = self.pieces[-1]
            less = min(last.rows, self.rows - end.rows)
            if isinstance(last, _Held) and less < last.rows:
                last.rows -= less
            else:
                self.pieces.pop()
            self.rows -= less
        self.bytes = end.bytes

    def scan(self, end: Hot) -> None:
        """Learn the frames up to some commit from the file; what is damaged is left out and said."""
        while self.bytes < end.bytes:
            at = self.bytes
            head = os.pread(self.descriptor, HEADER_BYTES, at)
            header = header_of(head) if len(head) == HEADER_BYTES else None
            if header is None or at + header.bytes > end.bytes:
                self.problems.append(f"{self.path}: damaged from byte {at} on")
                break
            if is_sound(os.pread(self.descriptor, header.bytes, at), header):
                self.add(at, header, None)
            else:
                self.problems.append(f"{self.path}: damaged between byte {at} and {at + header.bytes}")
                self.bytes = at + header.bytes
        if self.rows < end.rows:
            self.pieces.append(_Lost(end.rows - self.rows))
        self.bytes, self.rows = end.bytes, end.rows

    def read(self, at: int, header: Header) -> Rows:
        """Return the rows of a frame."""
        rows = empty_rows(header.rows, texts=has_texts(header))
        fill(header, rows, lambda column, place: self._read(column, at + place))
        return rows

    def read_into(self, piece: _Framed, into: Rows) -> None:
        """Fill columns with the rows of a frame."""
        fill(piece.header, into, lambda column, place: self._read(column, piece.at + place))

    def series_of(self, piece: _Framed) -> UInt32:
        """Return only the series ids of a frame."""
        column = np.empty(piece.rows, np.uint32)
        self._read(column, piece.at + layout_of(piece.header).series_id)
        return column

    def _read(self, column: Column, at: int) -> None:
        if os.preadv(self.descriptor, [column.data.cast("B")], at) != column.nbytes:
            raise StoreUnavailable(f"{self.path}: ends before byte {at + column.nbytes}")

    @property
    def descriptor(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class HotFiles:
    """Writes and reads the hot files of one store. One thread appends to a file, any may read.

    Args:
        folder: where the store's parts lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = hot_folder(folder)
        self._lock = threading.Lock()
        self._files: dict[int, _File] = {}
        self._writing: tuple[int, int] | None = None

    def begin(self, number: int) -> None:
        """Create the file of a generation, durably by name; raises OSError."""
        os.close(self._create(number))

    def append(self, end: Hot, rows: Rows) -> Hot:
        """Write rows behind what counts of a generation's file; for one thread alone.

        Returns:
            Where the file ends then; the rows are on the disk.

        Raises:
            OSError: the disk refuses; what counts stays as it is.
            UnicodeEncodeError: a text holds what is no character.
        """
        if not rows.n:
            return end
        file = self._file(end)
        file.cut(end)
        header = _write(self._descriptor_of(end.number, empty=end.bytes == 0), end.bytes, rows)
        file.add(end.bytes, header, rows)
        return Hot(end.number, file.bytes, file.rows)

    def put(self, number: int, rows: Rows) -> Hot:
        """Write a file that is whole with these rows (at least one); from any thread, raises as `append` does."""
        descriptor = self._create(number)
        try:
            header = _write(descriptor, 0, rows)
        finally:
            os.close(descriptor)
        self._file(Hot(number, 0, 0)).add(0, header, rows)
        return Hot(number, header.bytes, rows.n)

    def rows(self, hots: Sequence[Hot], ids: UInt32 | None = None, span: TimeSpan = ALWAYS) -> Rows:
        """Return rows of hot files, unsorted; of some series and a span of source time where that is asked for.

        Raises:
            StoreUnavailable, OSError: a file can't be read.
        """
        if ids is None and span == ALWAYS:
            return self._all(hots)
        return concat_rows(list(self.selected(hots, ids, span)))

    def selected(self, hots: Sequence[Hot], ids: UInt32 | None, span: TimeSpan) -> Iterator[Rows]:
        """Yield the rows that `rows` returns, in pieces."""
        wanted = _Wanted(ids, span)
        for hot in hots:
            file = self._file(hot)
            for piece, count in _counted(file, hot):
                if isinstance(piece, _Held):
                    rows = piece.first(count)
                    yield wanted.select(rows, wanted.of_series(rows.series_id))
                elif wanted.may_be_in(*piece.header[5:9]):
                    found = wanted.of_series(file.series_of(piece))
                    if found is None or found.any():
                        yield wanted.select(file.read(piece.at, piece.header), found)

    def pieces(self, hots: Sequence[Hot]) -> Iterator[Rows]:
        """Yield all rows of hot files, piece by piece."""
        return self.selected(hots, None, ALWAYS)

    def series_of(self, hots: Sequence[Hot], span: TimeSpan) -> Iterator[UInt32]:
        """Yield the series of all rows in a span, one number for each row."""
        for hot in hots:
            file = self._file(hot)
            for piece, count in _counted(file, hot):
                if isinstance(piece, _Framed):
                    first, last = piece.header.first_time, piece.header.last_time
                    if last < span.from_ns or first >= span.to_ns:
                        continue
                    if span.from_ns <= first and last < span.to_ns:
                        yield file.series_of(piece)
                        continue
                    rows = file.read(piece.at, piece.header)
                else:
                    rows = piece.first(count)
                inside = (rows.source_time >= span.from_ns) & (rows.source_time < span.to_ns)
                yield rows.series_id[inside]

    def count(self, hots: Sequence[Hot]) -> int:
        """Return how many rows hot files give back."""
        return sum(count for hot in hots for _, count in _counted(self._file(hot), hot))

    def problems(self, hots: Sequence[Hot]) -> list[str]:
        """Return what is damaged, as far as the files were read from the disk."""
        return [problem for hot in hots for problem in self._file(hot).problems]

    def forget(self, number: int) -> None:
        """Remove a file that no longer counts; one that was damaged is put aside instead."""
        with self._lock:
            file = self._files.pop(number, None)
        path = self._folder / name_of(number)
        if file is not None:
            file.close()
            if file.problems:
                path.rename(path.with_suffix(path.suffix + ".damaged"))
                return
        path.unlink(missing_ok=True)

    def remove_strays(self, hots: Sequence[Hot]) -> None:
        """Remove files that do not count, left by a process that ended."""
        if not self._folder.is_dir():
            return
        known = {name_of(hot.number) for hot in hots}
        for path in self._folder.iterdir():
            if path.suffix in {".rows", ".stayed"} and path.name not in known:
                path.unlink()

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            if self._writing is not None:
                os.close(self._writing[1])
                self._writing = None

    def _create(self, number: int) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name_of(number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        for folder in (self._folder, self._folder.parent):
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        with self._lock:
            self._files[number] = _File(path)
        return descriptor

    def _all(self, hots: Sequence[Hot]) -> Rows:
        pieces = [
            (file, piece, count)
            for hot in hots
            for file in [self._file(hot)]
            for piece, count in _counted(file, hot)
        ]
        texts = any(
            piece.has_texts if isinstance(piece, _Held) else has_texts(piece.header) for _, piece, _ in pieces
        )
        rows = empty_rows(sum(count for *_, count in pieces), texts=texts)
        at = 0
        for file, piece, count in pieces:
            into = rows.take(slice(at, at + count))
            at += count
            if isinstance(piece, _Framed):
                file.read_into(piece, into)
                continue
            for to, column in zip(into, piece.first(count), strict=True):
                if to is not None and column is not None:
                    to[:] = column
        return rows

    def _file(self, hot: Hot) -> _File:
        with self._lock:
            file = self._files.get(hot.number)
            if file is None:
                file = self._files[hot.number] = _File(self._folder / name_of(hot.number))
            if file.bytes < hot.bytes:
                try:
                    file.scan(hot)
                except OSError as error:
                    raise StoreUnavailable(f"{file.path}: {error}") from error
                for problem in file.problems:
                    _log.error("%s: its rows are lost", problem)
            return file

    def _descriptor_of(self, number: int, *, empty: bool) -> int:
        if self._writing is None or self._writing[0] != number:
            if self._writing is not None:
                os.close(self._writing[1])
                self._writing = None
            try:
                descriptor = os.open(self._folder / name_of(number), os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if not empty:
                    raise
                # A backup has no empty files.
                descriptor = self._create(number)
            self._writing = number, descriptor
        return self._writing[1]


def _counted(file: _File, hot: Hot) -> Iterator[tuple[_Framed | _Held, int]]:
    """Yield the pieces of a file with how many of their rows count."""
    left = hot.rows
    for piece in list(file.pieces):
        count = min(left, piece.rows)
        if count and not isinstance(piece, _Lost):
            yield piece, count
        left -= count


def _write(descriptor: int, at: int, rows: Rows) -> Header:
    """Write rows as a frame, durably."""
    header, pieces = encode(rows)
    left = [memoryview(piece) for piece in pieces]
    while left:
        written = os.pwritev(descriptor, left, at)
        at += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]
    os.fdatasync(descriptor)
    return header
