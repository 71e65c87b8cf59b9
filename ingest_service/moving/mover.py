"""A whole move: everything is written, everything is read back and compared, then agents may go on at the new place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import numpy as np

from ingest_service.moving import progress
from ingest_service.moving.checksum import Sums, sums_of
from ingest_service.moving.progress import Moved
from ingest_service.moving.source import Chunk, EmbeddedSource
from ingest_service.moving.target import Put, Target
from ingest_service.plant.engine import is_shared
from shopfloor.block import SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey

Answer = TypeVar("Answer")
Tell = Callable[[str, int, int], None]
"""Told the phase (``moved`` or ``compared``), how many samples are through, and how many there are."""

_WAITS_S: Final = (1, 2, 5, 10, 20, 30, 60)
"""So long a server that does not answer is waited for, time after time."""
_NAMED: Final = 20
_LATE_S: Final = 2.0
_LATE: Final = 5


@dataclass(slots=True)
class Report:
    """What a run did, and found."""

    samples: int = 0
    """That there are to move."""
    chunks: int = 0
    written: int = 0
    """Samples that this run wrote; the others were there already."""
    write_s: float = 0.0
    kept: int = 0
    """Samples that the server can't hold: they lie in the PlantStore."""
    compared: int = 0
    """Samples that this run read back and compared."""
    series_days: int = 0
    """Pairs of a series and a UTC day that this run compared."""
    compare_s: float = 0.0
    zeros: int = 0
    """Series and days in which SQLite has made 0.0 of a -0.0 that the server can't hold."""
    differing: int = 0
    """Pairs of series and day that are not there as they were."""
    differences: list[str] = field(default_factory=list)
    """The first of them, in words."""


class Mover:
    """Moves samples; may be ended at any moment and called again.

    Args:
        source: where from.
        target: where to.
        chunks: of the source.
        samples_per_s: how many are written in a second at most; 0 for as many as can be.
        tell: told of every chunk.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        source: EmbeddedSource,
        target: Target,
        chunks: Sequence[Chunk],
        *,
        samples_per_s: float = 0.0,
        tell: Tell,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._target = target
        self._chunks = chunks
        self._rate = samples_per_s
        self._tell = tell
        self._sleep = sleep
        self._late = _LATE
        self.report = Report(samples=sum(one.samples for one in chunks), chunks=len(chunks))

    def write(self) -> None:
        """Write every chunk that is not there as it is now.

        Raises:
            MoveRefused: the server turns samples away.
            StoreUnavailable: a database does not answer for minutes; what is there is there.
        """
        known = progress.load(self._target.engine)
        stale = set(known) - {(one.day, one.number) for one in self._chunks}
        if stale:
            progress.forget(self._target.engine, sorted(stale))
        began = time.monotonic()
        through = 0
        with ThreadPoolExecutor(1, "move-writer") as writer:
            # One chunk is read while the one before is written.
            waiting: tuple[Chunk, str, int, Future[Put]] | None = None
            for chunk in self._chunks:
                block, sums = self._read(chunk)
                checksum = sums.whole()
                through += len(block)
                is_there = _is_same(known.get((chunk.day, chunk.number)), checksum, len(block))
                if waiting is not None:
                    self._settle_chunk(*waiting)
                    waiting = None
                if not is_there:
                    self._hold_back(began)
                    future = writer.submit(self._put, chunk, block)
                    waiting = chunk, checksum, len(block), future
                    self.report.written += len(block)
                self._tell("moved", through, self.report.samples)
            if waiting is not None:
                self._settle_chunk(*waiting)
        if through != self.report.samples:
            raise StoreUnavailable(
                f"the store says that it has {self.report.samples} samples, and {through} can be read"
            )
        self.report.write_s = time.monotonic() - began
        self.report.kept = sum(one.kept for one in progress.load(self._target.engine).values())

    def compare(self, *, again: bool = False) -> bool:
        """Read back every chunk that was not compared yet; tell whether all of it is as it was.

        Args:
            again: compare also what was compared before.

        Raises:
            StoreUnavailable: a database does not answer for minutes.
        """
        known = progress.load(self._target.engine)
        began = time.monotonic()
        through = 0
        for chunk in self._chunks:
            there = known.get((chunk.day, chunk.number))
            if there is None or again or not there.is_compared:
                through += self._compared(chunk, there)
            else:
                through += there.samples
            self._tell("compared", through, self.report.samples)
        self.report.compare_s = time.monotonic() - began
        return not self.report.differing

    def _compared(self, chunk: Chunk, there: Moved | None) -> int:
        block, sums = self._read(chunk)
        most = int(sums.samples.max(initial=0))
        found = self._patiently(lambda: self._target.sums(chunk, most))
        differing = sums.differing(found)
        if (found.samples < sums.samples).any() and self._late > 0:
            # Some servers show what they took only a little later.
            self._late -= 1
            self._sleep(_LATE_S)
            found = self._patiently(lambda: self._target.sums(chunk, most))
            differing = sums.differing(found)
        if len(differing) and there is not None and there.kept and not is_shared(self._target.engine):
            # SQLite stores -0.0 as 0.0; nothing else may be another.
            alike = sums_of(self._keys(chunk), block, signed_zeros=False)
            differing = alike.differing(self._target.sums(chunk, most, signed_zeros=False))
            self.report.zeros += int(not len(differing))
        self.report.compared += len(block)
        self.report.series_days += int(np.count_nonzero(sums.samples))
        if not len(differing) and _is_same(there, sums.whole(), len(block)):
            progress.note_compared(self._target.engine, chunk)
            return len(block)
        # The next run writes it again.
        progress.forget(self._target.engine, [(chunk.day, chunk.number)])
        self.report.differing += max(1, len(differing))
        keys = self._keys(chunk)
        for place in differing[: _NAMED - len(self.report.differences)].tolist():
            self.report.differences.append(
                f"{keys[place].asset} {keys[place].signal} on {day_name(chunk.day)}: "
                f"{_told(int(sums.samples[place]), int(found.samples[place]))}"
            )
        return len(block)

    def _read(self, chunk: Chunk) -> tuple[SampleBlock, Sums]:
        block = self._source.read(chunk)
        return block, sums_of(self._keys(chunk), block)

    def _put(self, chunk: Chunk, block: SampleBlock) -> Put:
        return self._patiently(lambda: self._target.write(chunk, block))

    def _keys(self, chunk: Chunk) -> list[SeriesKey]:
        return [self._source.keys[place] for place in chunk.places.tolist()]

    def _settle_chunk(self, chunk: Chunk, checksum: str, samples: int, future: Future[Put]) -> None:
        put = future.result()
        self._patiently(
            lambda: progress.note_moved(self._target.engine, chunk, checksum, samples, put.ids, put.block)
        )

    def _patiently(self, do: Callable[[], Answer]) -> Answer:
        for wait_s in _WAITS_S:
            try:
                return do()
            except StoreUnavailable:
                self._sleep(wait_s)
        return do()

    def _hold_back(self, began: float) -> None:
        if self._rate > 0:
            ahead_s = self.report.written / self._rate - (time.monotonic() - began)
            if ahead_s > 0:
                self._sleep(ahead_s)


def day_name(day: int) -> str:
    """Return a day that is counted from 1970 as it is written."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()


def _is_same(there: Moved | None, checksum: str, samples: int) -> bool:
    return there is not None and (there.checksum, there.samples) == (checksum, samples)


def _told(here: int, there: int) -> str:
    if here == there:
        return f"{here} samples, not all of them the same"
    return f"{here} samples, {'more than that' if there > here else there} in the new store"
