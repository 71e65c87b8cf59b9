"""A run: sorted samples of one day and one retention rule, as files that do not count yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from ingest_service.stores.duckdb_catalog import Part
from ingest_service.stores.duckdb_keeping import Classes
from ingest_service.stores.duckdb_part import PartWriter, Units
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_rollup import HOUR, MINUTE, Rolled, Roller
from ingest_service.stores.duckdb_rows import Rows, repeats_in
from ingest_service.stores.labels import Labels
from ingest_service.stores.latest import LatestTable
from ingest_service.stores.series import SeriesIndex


@dataclass(frozen=True, slots=True)
class Workshop:
    """What rewriting needs."""

    folder: Path
    index: SeriesIndex
    newest: LatestTable
    files: PartReader
    classes: Classes
    part_rows: int
    least_rows: int
    next_id: Callable[[], int]
    clock_ns: Callable[[], int]
    at: Callable[[str], None]
    """Told of each step, for tests that end the process there."""
    labels: Labels
    """The assets and signals of the index."""
    rest: Callable[[float], None]
    """Told the seconds that a piece of work took; may sleep."""


class Written(NamedTuple):
    """A part that does not count yet."""

    part: Part
    levels: dict[int, Rolled]


def write_run(
    shop: Workshop,
    pieces: Iterable[Rows],
    units: Units,
    keeping: str,
    day: int,
    levels: Sequence[int],
    repeats: int = 0,
) -> list[Written]:
    """Write sorted samples of one day and one retention rule as the parts of one run.

    Args:
        shop: the workshop.
        pieces: sorted samples; a series stands in one piece only.
        units: exact for all.
        keeping: the rule's name.
        day: UTC day since 1970.
        levels: of rollups that may be worth it.
        repeats: rows that are known to have been left out of them.

    Raises:
        OSError: the disk refuses; nothing is left behind.
    """
    with _Run(shop, units, keeping, day, levels, repeats) as run:
        for piece in pieces:
            run.add(piece)
        run.end_part()
    return run.written


def discard(shop: Workshop, written: Sequence[Written]) -> None:
    """Remove files that will not count."""
    for one in written:
        if one.part.file is not None:
            (shop.folder / one.part.file).unlink(missing_ok=True)


class _Run:
    """Encodes one piece on a thread of its own, while the next is put in order and this one rolled up."""

    def __init__(
        self, shop: Workshop, units: Units, keeping: str, day: int, levels: Sequence[int], repeats: int
    ) -> None:
        self.written: list[Written] = []
        self._shop, self._units, self._keeping, self._day = shop, units, keeping, day
        self._number = self._run = shop.next_id()
        self._levels, self._repeats = levels, repeats
        self._writer: PartWriter | None = None
        self._roller = Roller(self._levels)
        self._beside = ThreadPoolExecutor(1, "sample-store-encoder")
        self._encoding: Future[float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beside.shutdown()
        if kind is not None:
            if self._writer is not None:
                self._writer.discard()
            discard(self._shop, self.written)

    def add(self, piece: Rows) -> None:
        """Take the next piece."""
        started = time.monotonic()
        repeated = repeats_in(piece)
        self._repeats += int(np.count_nonzero(repeated))
        rows = piece.take(np.flatnonzero(~repeated)) if repeated.any() else piece
        waited_s, encoded_s = self._wait()
        if self._writer is not None and self._writer.samples + rows.n > self._shop.part_rows:
            self.end_part()
        if self._writer is None:
            self._begin_part()
        assert self._writer is not None
        self._encoding = self._beside.submit(_encode, self._writer, rows)
        self._roller.add(rows)
        self._shop.rest(time.monotonic() - started - waited_s + encoded_s)

    def end_part(self) -> None:
        """Make the part durable that is being written, if there is one."""
        self._shop.rest(self._wait()[1])
        if self._writer is None:
            return
        info = self._writer.finish()
        levels = self._roller.finish()
        part = Part(
            part_id=self._number,
            run=self._run,
            file=f"{self._writer.path.parent.name}/{self._writer.path.name}",
            keeping=self._keeping,
            day=self._day,
            first_time=info.first_time,
            last_time=info.last_time,
            samples=info.samples,
            repeats=self._repeats,
            bytes=info.bytes,
            sha256=info.sha256,
            minutes=MINUTE in levels,
            hours=HOUR in levels,
            made_at=self._shop.clock_ns(),
        )
        self._repeats = 0
        self._writer = None
        self.written.append(Written(part, levels))
        self._shop.at("file written")

    def _begin_part(self) -> None:
        if self.written:
            self._number = self._shop.next_id()
        path = self._shop.folder / str(np.datetime64(self._day, "D")) / f"{self._number:08}.parquet"
        self._writer = PartWriter(path, self._units, self._shop.labels)
        self._roller = Roller(self._levels)
        self._shop.at("file begun")

    def _wait(self) -> tuple[float, float]:
        """Wait for the piece that is being encoded; return the seconds that this and its encoding took."""
        if self._encoding is None:
            return 0.0, 0.0
        started = time.monotonic()
        encoding, self._encoding = self._encoding, None
        encoded_s = encoding.result()
        return time.monotonic() - started, encoded_s


def _encode(writer: PartWriter, rows: Rows) -> float:
    started = time.monotonic()
    writer.write(rows)
    return time.monotonic() - started
