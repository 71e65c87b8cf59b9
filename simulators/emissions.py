"""The simulator's own log of all that it said: the ground truth that collectors are judged against.

Every value is written here before it is exposed or published, exactly as a correct collector has to store it
(the same float64, after unit mapping). Where a message carries no time, its rows bear the publisher's clock; their
series are marked, and only the order of their values can be held against a store. The log survives the death of the process: each append reaches the operating
system before it returns. It is not synced to the disk; a power cut of the whole computer ends the simulated plant
as well.

`simulators.emission_format` says how it lies on disk.
"""

from __future__ import annotations

import fcntl
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np

from shopfloor.block import Float64, Int64, SampleBlock, concat, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey
from simulators.emission_format import (
    MAGIC,
    Header,
    LogDamaged,
    Row,
    Value,
    cut_torn_end,
    encode_header,
    encode_rows,
    encode_series,
    read_header,
    rows_of,
    segments,
    untimed_of,
)

__all__ = [
    "EmissionLog",
    "LogDamaged",
    "Row",
    "SeriesColumns",
    "Value",
    "alone",
    "read_emissions",
    "read_series",
    "read_untimed",
]

_SEGMENT_NS: Final = 3600 * 1_000_000_000
_APPEND_ROWS: Final = 100_000
_H_NS: Final = 3600 * 1_000_000_000
CLOCK_SLACK_NS: Final = 3600 * 1_000_000_000
"""No machine's clock is further from the truth than this. A segment may hold rows so much newer than the beginning of
the next one, whose oldest row may be of a clock that is behind."""


class SeriesColumns(NamedTuple):
    """All emissions of one series, in order of time."""

    time_ns: Int64
    value: Float64
    """NaN where the emission is text."""
    text: Mapping[int, str]


class EmissionLog:
    """The writer. One process owns a log's folder.

    Args:
        folder: made if missing.
        keep_h: keep at least the emissions of so many hours, and each series' newest before that; None keeps all.

    Raises:
        StoreUnavailable: another process owns the log, or the disk does not take it.
    """

    def __init__(self, folder: Path, keep_h: float | None = None) -> None:
        self.folder = folder
        self._keep_ns = None if keep_h is None else round(keep_h * _H_NS)
        self._file: int | None = None
        self._keys: list[SeriesKey] = []
        self._numbers: dict[SeriesKey, int] = {}
        self._untimed: set[SeriesKey] = set()
        self._declared: set[SeriesKey] = set()
        self._latest: dict[int, tuple[int, Value]] = {}
        self._segment_start_ns = 0
        self.last_time_ns: int | None = None
        """The newest source time in the log."""
        self.rows_total = 0
        """All rows ever appended, by this process or an earlier one, kept or not."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover()
        except BlockingIOError:
            os.close(self._lock)
            raise StoreUnavailable(f"{folder}: another simulator writes this log") from None
        except BaseException:
            os.close(self._lock)
            raise

    def series(self, key: SeriesKey, *, untimed: bool = False) -> int:
        """Return the number of a series, a new one if need be.

        Args:
            key: the series.
            untimed: whether its messages carry no time. An earlier life of the log may have said otherwise: from this
                life's first row on, what is said here counts.

        Raises:
            ValueError: this life said otherwise before: two devices say the same series.
        """
        number = self._numbers.get(key)
        if number is None:
            if self._file is not None:
                self._write(encode_series([key], {key} if untimed else ()))
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
        elif key in self._declared and untimed != (key in self._untimed):
            raise ValueError(f"{key}: one device gives a time with it, another one does not")
        self._declared.add(key)
        (self._untimed.add if untimed else self._untimed.discard)(key)
        return number

    @property
    def untimed(self) -> frozenset[SeriesKey]:
        """The series whose messages carry no time."""
        return frozenset(self._untimed)

    def latest(self) -> dict[SeriesKey, tuple[int, Value]]:
        """Return the last emission of each series: (source time in ns, value)."""
        return {self._keys[number]: row for number, row in self._latest.items()}

    def append(self, rows: Sequence[Row]) -> None:
        """Write emissions; when this returns, they outlive the process.

        Within a series no two rows have the same time and value, and times rise except where its machine's clock
        was put back. The rows of an untimed series are in the order of their messages and may be equal.

        Raises:
            StoreUnavailable: the disk does not take them; they must not be exposed.
        """
        for start in range(0, len(rows), _APPEND_ROWS):
            self._append(rows[start : start + _APPEND_ROWS])

    def _append(self, rows: Sequence[Row]) -> None:
        start_ns = min(row.time_ns for row in rows)
        if self._file is None or start_ns >= self._segment_start_ns + _SEGMENT_NS:
            self._begin_segment(start_ns)
        self._write(encode_rows(b"R", rows))
        latest = self._latest
        for number, time_ns, value in rows:
            latest[number] = (time_ns, value)
        self.rows_total += len(rows)
        self.last_time_ns = max(self.last_time_ns or start_ns, *(row.time_ns for row in rows))

    def close(self) -> None:
        """Close the file and give up the folder."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_segment(self, start_ns: int) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        found = segments(self.folder)
        number = int(found[-1].stem) + 1 if found else 1
        path = self.folder / f"{number:08d}.seg"
        carried = [Row(number, *row) for number, row in sorted(self._latest.items())]
        body = encode_header(Header(start_ns, self.rows_total)) + encode_series(self._keys, self._untimed)
        if carried:
            body += encode_rows(b"C", carried)
        # Complete before it has its name, so that no reader ever sees a segment without its beginning.
        draft = path.with_suffix(".new")
        try:
            self._file = os.open(
                draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            self._write(MAGIC + body)
            draft.rename(path)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}") from error
        self._segment_start_ns = start_ns
        if self._keep_ns is not None:
            self._drop_before(start_ns - self._keep_ns - CLOCK_SLACK_NS)

    def _drop_before(self, cutoff_ns: int) -> None:
        """Delete segments whose successor begins at or before ``cutoff_ns``: all in them is older."""
        found = segments(self.folder)
        for path, successor in itertools.pairwise(found):
            if read_header(successor).start_ns > cutoff_ns:
                break
            path.unlink()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise StoreUnavailable(f"{self.folder}: the log is closed")
        end = os.fstat(self._file).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            os.ftruncate(self._file, end)
            raise StoreUnavailable(f"{self.folder}: {error.strerror}") from error

    def _recover(self) -> None:
        for draft in self.folder.glob("*.new"):
            draft.unlink()
        found = segments(self.folder)
        if not found:
            return
        cut_torn_end(found[-1])
        header = read_header(found[-1])
        self.rows_total = header.rows_before
        self._segment_start_ns = header.start_ns
        untimed = untimed_of(found[-1])
        for kind, keys, series, times, values, text in rows_of(found[-1], "CR"):
            for key in keys[len(self._keys) :]:
                self.series(key, untimed=key in untimed)
            for row, (number, time_ns, value) in enumerate(
                zip(series.tolist(), times.tolist(), values.tolist(), strict=True)
            ):
                self._latest[number] = (time_ns, text.get(row, value))
            self.rows_total += len(series) if kind == "R" else 0
        self._declared.clear()
        if self._latest:
            self.last_time_ns = max(time_ns for time_ns, _ in self._latest.values())


def alone(time_ns: int, value: Value) -> SeriesColumns:
    """Return one emission as columns."""
    text = {0: value} if isinstance(value, str) else {}
    number = math.nan if isinstance(value, str) else value
    return SeriesColumns(np.array([time_ns], dtype=np.int64), np.array([number], dtype=np.float64), text)


def read_emissions(folder: Path, since_ns: int | None = None) -> SampleBlock:
    """Return what a log holds, rows in the order in which they were said; the received time is the source time.

    It may be read while it is written: a frame that is not complete yet is left out.

    Args:
        folder: of the log.
        since_ns: only rows at or after this source time, and of what lies before it nothing.

    Raises:
        LogDamaged: a segment is not what was written.
    """
    found = segments(folder)
    first = 0
    if since_ns is not None:
        while first + 1 < len(found) and read_header(found[first + 1]).start_ns <= since_ns - CLOCK_SLACK_NS:
            first += 1
    blocks = []
    for number, path in enumerate(found[first:]):
        for kind, keys, series, times, values, text in rows_of(path, "R" if number or first else "CR"):
            block = make_block(keys, series, times, times, values, 0, 0, text)
            if since_ns is not None and (kind == "C" or len(times) == 0 or int(times.min()) < since_ns):
                block = block.take(block.source_time >= since_ns)
            blocks.append(block)
    return concat(blocks)


def read_untimed(folder: Path) -> frozenset[SeriesKey]:
    """Return the series of a log whose messages carry no time, in any of its segments; raises LogDamaged."""
    return frozenset().union(*map(untimed_of, segments(folder)))


def read_series(folder: Path, since_ns: int | None = None) -> dict[SeriesKey, SeriesColumns]:
    """Return what a log holds by series; see `read_emissions`."""
    block = read_emissions(folder, since_ns)
    order = np.lexsort((block.source_time, block.series_index))
    block = block.take(order)
    bounds = np.searchsorted(block.series_index, np.arange(len(block.series) + 1))
    texts: dict[int, dict[int, str]] = {}
    for row, text in block.text.items():
        index = int(block.series_index[row])
        texts.setdefault(index, {})[row - int(bounds[index])] = text
    return {
        key: SeriesColumns(
            block.source_time[bounds[i] : bounds[i + 1]],
            block.value[bounds[i] : bounds[i + 1]],
            texts.get(i, {}),
        )
        for i, key in enumerate(block.series)
        if bounds[i + 1] > bounds[i]
    }
