"""One hot file: its frames as they lie on the disk, and the rows of small ones in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ingest_service.stores.duckdb_hot_frame import (
    HEADER_BYTES,
    MAGIC,
    Column,
    Header,
    encode,
    fill,
    has_texts,
    header_of,
    is_sound,
    layout_of,
)
from ingest_service.stores.duckdb_rows import Rows, empty_rows
from shopfloor.block import UInt32
from shopfloor.errors import StoreUnavailable

_LEAST_FRAMED: Final = 4096
"""Rows from which on a frame is read from the file; those of smaller frames are held in memory side by side."""


class Hot(NamedTuple):
    """How much of a hot file counts."""

    number: int
    """The generation; below zero for rows that stayed hot when their generation was rewritten."""
    bytes: int
    rows: int


class Framed(NamedTuple):
    """A frame that is read from the file."""

    at: int
    header: Header

    @property
    def rows(self) -> int:
        """How many."""
        return self.header.rows


class Gathered:
    """Rows of small frames, one after the other, in memory; only what no reader has seen is ever written over."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns = empty_rows(0, texts=False)

    def add(self, rows: Rows) -> None:
        """Take the rows of a frame."""
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
        """Whether any of them may have a text."""
        return self._columns.text is not None

    def first(self, rows: int) -> Rows:
        """Return so many of them, which nobody will change."""
        return self._columns.take(slice(0, rows))


class Lost(NamedTuple):
    """Rows that the file does not give back."""

    rows: int


class HotFile:
    """What is known of a file: its rows up to some byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.rows = 0
        self.pieces: list[Framed | Gathered | Lost] = []
        self.problems: list[str] = []
        self._opening = threading.Lock()
        self._descriptor = -1

    def add(self, at: int, header: Header, rows: Rows | None) -> None:
        """Take a frame that stands at a byte; its rows are read from the file if need be."""
        if header.rows >= _LEAST_FRAMED:
            self.pieces.append(Framed(at, header))
        else:
            if not self.pieces or not isinstance(self.pieces[-1], Gathered):
                self.pieces.append(Gathered())
            gathered = self.pieces[-1]
            assert isinstance(gathered, Gathered)
            gathered.add(self.read(at, header) if rows is None else rows)
        self.bytes, self.rows = at + header.bytes, self.rows + header.rows

    def cut(self, end: Hot) -> None:
        """Forget what was added after some commit."""
        while self.rows > end.rows:
            last = self.pieces[-1]
            less = min(last.rows, self.rows - end.rows)
            if isinstance(last, Gathered) and less < last.rows:
                last.rows -= less
            else:
                self.pieces.pop()
            self.rows -= less
        self.bytes = end.bytes

    def scan(self, end: Hot) -> None:
        """Learn the frames up to some commit from the file; what is damaged or gone is left out and said.

        Raises:
            StoreUnavailable: the file is there and can't be read.
        """
        try:
            while self.bytes < end.bytes:
                self._learn(end)
        except FileNotFoundError:
            self.problems.append(f"{self.path}: is gone")
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error}") from error
        if self.rows < end.rows:
            self.pieces.append(Lost(end.rows - self.rows))
        self.bytes, self.rows = end.bytes, end.rows

    def _learn(self, end: Hot) -> None:
        """Take the next frame that is sound."""
        began = self.bytes
        header = self._sound(began, end)
        if header is None:
            self.bytes, header = self._next_sound(began, end)
            self.problems.append(f"{self.path}: damaged between byte {began} and {self.bytes}")
        if header is not None:
            self.add(self.bytes, header, None)

    def _next_sound(self, damaged: int, end: Hot) -> tuple[int, Header | None]:
        """Look for the frame behind a damaged one, which may say nothing of its length; return where it begins."""
        rest = os.pread(self.descriptor, end.bytes - damaged, damaged)
        place = rest.find(MAGIC, 1)
        while place >= 0:
            header = None if place % 8 else self._sound(damaged + place, end)
            if header is not None:
                return damaged + place, header
            place = rest.find(MAGIC, place + 1)
        return end.bytes, None

    def _sound(self, at: int, end: Hot) -> Header | None:
        head = os.pread(self.descriptor, HEADER_BYTES, at)
        header = header_of(head) if len(head) == HEADER_BYTES else None
        if header is None or at + header.bytes > end.bytes:
            return None
        return header if is_sound(os.pread(self.descriptor, header.bytes, at), header) else None

    def read(self, at: int, header: Header) -> Rows:
        """Return the rows of a frame."""
        rows = empty_rows(header.rows, texts=has_texts(header))
        fill(header, rows, lambda column, place: self._read(column, at + place))
        return rows

    def read_into(self, piece: Framed, into: Rows) -> None:
        """Fill columns with the rows of a frame."""
        fill(piece.header, into, lambda column, place: self._read(column, piece.at + place))

    def series_of(self, piece: Framed) -> UInt32:
        """Return only the series ids of a frame."""
        column = np.empty(piece.rows, np.uint32)
        self._read(column, piece.at + layout_of(piece.header).series_id)
        return column

    def _read(self, column: Column, at: int) -> None:
        try:
            got = os.preadv(self.descriptor, [column.data.cast("B")], at)
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error}") from error
        if got != column.nbytes:
            raise StoreUnavailable(f"{self.path}: ends before byte {at + column.nbytes}")

    @property
    def descriptor(self) -> int:
        """Open for reading; raises OSError."""
        with self._opening:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return self._descriptor

    def close(self) -> None:
        """Close it; nobody reads any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def counted(file: HotFile, hot: Hot) -> Iterator[tuple[Framed | Gathered, int]]:
    """Yield the pieces of a file with how many of their rows count."""
    left = hot.rows
    for piece in list(file.pieces):
        count = min(left, piece.rows)
        if count and not isinstance(piece, Lost):
            yield piece, count
        left -= count


def write_frame(descriptor: int, at: int, rows: Rows) -> Header:
    """Write rows as a frame at a byte of a file, durably; raises OSError, and UnicodeEncodeError for what is no text."""
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
