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

from ingest_service.stores.duckdb_hot_file import Framed, Gathered, Hot, HotFile, counted, write_frame
from ingest_service.stores.duckdb_hot_frame import has_texts
from ingest_service.stores.duckdb_hot_wanted import ALWAYS, Wanted
from ingest_service.stores.duckdb_rows import Rows, concat_rows, empty_rows
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import UInt32
from shopfloor.durable import sync

_log = logging.getLogger(__name__)


def hot_folder(folder: Path) -> Path:
    """Return where the hot files of a store lie whose parts lie in ``folder``."""
    return folder.with_name(folder.name + ".hot")


def name_of(number: int) -> str:
    """Return the name of a generation's file."""
    return f"{number:08}.rows" if number >= 0 else f"{-number:08}.stayed"


class HotFiles:
    """Writes and reads the hot files of one store. One thread appends to a file, any may read.

    Args:
        folder: where the store's parts lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = hot_folder(folder)
        self._lock = threading.Lock()
        self._files: dict[int, HotFile] = {}
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
        descriptor = self._descriptor_of(end.number, empty=end.bytes == 0)
        file = self._file(end)
        file.cut(end)
        header = write_frame(descriptor, end.bytes, rows)
        file.add(end.bytes, header, rows)
        return Hot(end.number, file.bytes, file.rows)

    def put(self, number: int, rows: Rows) -> Hot:
        """Write a file that is whole with these rows (at least one); from any thread, raises as `append` does."""
        descriptor = self._create(number)
        try:
            header = write_frame(descriptor, 0, rows)
        except BaseException:
            self.forget(number)
            raise
        finally:
            os.close(descriptor)
        self._file(Hot(number, 0, 0)).add(0, header, rows)
        return Hot(number, header.bytes, rows.n)

    def rows(self, hots: Sequence[Hot], ids: UInt32 | None = None, span: TimeSpan = ALWAYS) -> Rows:
        """Return rows of hot files, unsorted; of some series and a span of source time where that is asked for.

        Raises:
            StoreUnavailable: a file can't be read.
        """
        if ids is None and span == ALWAYS:
            return self._all(hots)
        return concat_rows(list(self.selected(hots, ids, span)))

    def selected(self, hots: Sequence[Hot], ids: UInt32 | None, span: TimeSpan) -> Iterator[Rows]:
        """Yield the rows that `rows` returns, in pieces."""
        wanted = Wanted(ids, span)
        for hot in hots:
            file = self._file(hot)
            for piece, count in counted(file, hot):
                if isinstance(piece, Gathered):
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
            for piece, count in counted(file, hot):
                if isinstance(piece, Framed):
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
        return sum(count for hot in hots for _, count in counted(self._file(hot), hot))

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
            if file.problems and path.exists():
                path.rename(path.with_suffix(path.suffix + ".damaged"))
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
        sync(self._folder)
        sync(self._folder.parent)
        with self._lock:
            self._files[number] = HotFile(path)
        return descriptor

    def _all(self, hots: Sequence[Hot]) -> Rows:
        pieces = [
            (file, piece, count)
            for hot in hots
            for file in [self._file(hot)]
            for piece, count in counted(file, hot)
        ]
        texts = any(
            piece.has_texts if isinstance(piece, Gathered) else has_texts(piece.header)
            for _, piece, _ in pieces
        )
        rows = empty_rows(sum(count for *_, count in pieces), texts=texts)
        at = 0
        for file, piece, count in pieces:
            into = rows.take(slice(at, at + count))
            at += count
            if isinstance(piece, Framed):
                file.read_into(piece, into)
                continue
            for to, column in zip(into, piece.first(count), strict=True):
                if to is not None and column is not None:
                    to[:] = column
        return rows

    def _file(self, hot: Hot) -> HotFile:
        with self._lock:
            file = self._files.get(hot.number)
            if file is None:
                file = self._files[hot.number] = HotFile(self._folder / name_of(hot.number))
            if file.bytes < hot.bytes:
                file.scan(hot)
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
