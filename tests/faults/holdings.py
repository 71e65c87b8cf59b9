"""What the machines said and what became of it, read from the logs and the service's own databases."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb
import numpy as np

from ingest_service.stores.duckdb_schema import all_samples_sql
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock
from shopfloor.messages import SpanKind
from shopfloor.signal import SeriesKey
from tests.faults.accounts import overlaps, uncovered
from tests.faults.evidence import Held, Ledger, Loss, Said
from tests.faults.number_log import read_numbers
from tests.faults.plant_config import LINE
from tests.faults.sizes import Sizes


class Columns(NamedTuple):
    """Samples, a sequence for each of their parts; a value is None or masked where there is none."""

    asset: Any
    signal: Any
    value: Any
    source_time: Any
    quality: Any


class Holdings(Protocol):
    """The databases of a service, read past it."""

    def samples(self) -> Columns:
        """Return all that is stored."""
        ...

    def rows(self, query: str) -> list[Any]:
        """Return the rows of a query to the PlantStore."""
        ...

    def batches(self) -> list[tuple[str, int, int]]:
        """Return (stream id, first seq, last seq) of every row of the ledger."""
        ...


class EmbeddedHoldings:
    """DuckDB and SQLite in a folder; samples and ledger are there once the service has ended."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def samples(self) -> Columns:
        """See `Holdings.samples`."""
        with self._open() as database:
            rows = database.execute(
                "SELECT s.asset, s.signal, p.value, p.source_time, p.quality "
                f"FROM ({all_samples_sql(database, self._data / 'samples')}) p JOIN series s USING (series_id)"
            ).fetchnumpy()
        return Columns(rows["asset"], rows["signal"], rows["value"], rows["source_time"], rows["quality"])

    def rows(self, query: str) -> list[Any]:
        """See `Holdings.rows`."""
        path = self._data / "plant.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(query).fetchall()

    def batches(self) -> list[tuple[str, int, int]]:
        """See `Holdings.batches`."""
        with self._open() as database:
            return database.execute("SELECT stream_id, first_seq, last_seq FROM batch").fetchall()

    def _open(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self._data / "samples.duckdb"), read_only=True)


class Places:
    """The numbering of all series, over all machines."""

    def __init__(self, sizes: Sizes) -> None:
        self.series = sizes.series
        self.names = [f"{source} {signal}" for source, signal in self.series]
        self._at = {
            SeriesKey(parse_asset(f"{LINE}/{source}"), signal): number
            for number, (source, signal) in enumerate(self.series)
        }
        self._first = {"history": 0, "plain": sizes.history, "mqtt": sizes.history + sizes.plain}

    def position(self, key: SeriesKey) -> int:
        """Return the number of a series, -1 for one that no machine has."""
        return self._at.get(key, -1)

    def said(self, folder: Path) -> Said:
        """Return what the machines of a folder logged."""
        parts = {name: read_numbers(folder / f"{name}.numbers") for name in self._first}
        rows = np.concatenate(list(parts.values()))
        firsts = np.repeat(
            np.array(list(self._first.values()), np.int64), [len(part) for part in parts.values()]
        )
        clock_ns = time.time_ns() - time.monotonic_ns()
        return Said(
            [source for source, _ in self.series],
            rows["series"].astype(np.int64) + firsts,
            rows["number"].astype(np.int64),
            rows["source_time"].astype(np.int64),
            rows["monotonic"].astype(np.int64) + clock_ns,
        )

    def held(self, block: SampleBlock) -> Held:
        """Return samples that the service gave."""
        places = np.array([self.position(key) for key in block.series] or [-1], np.int64)
        return Held(
            places[block.series_index], block.value, block.source_time, block.quality.astype(np.int64)
        )

    def stored(self, samples: Columns) -> Held:
        """Return what the store holds."""
        return self._held(*samples)

    def quarantined(self, holdings: Holdings) -> Held:
        """Return what the service's quarantine holds."""
        rows = holdings.rows("SELECT asset, signal, value, source_time, quality FROM quarantine")
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return self._held(*columns)

    def _held(self, assets: Any, signals: Any, values: Any, times: Any, qualities: Any) -> Held:
        pairs = [f"{asset}\0{signal}" for asset, signal in zip(assets, signals, strict=True)]
        known = {f"{key.asset}\0{key.signal}": number for key, number in self._at.items()}
        numbers = np.ma.filled(np.ma.asarray(values, np.float64), np.nan)
        return Held(
            np.array([known.get(pair, -1) for pair in pairs], np.int64),
            np.asarray(numbers, np.float64),
            np.asarray(times, np.int64),
            np.asarray(qualities, np.int64),
        )


def quarantined_numbers(holdings: Holdings) -> set[tuple[str, int]]:
    """Return (stream id, seq) of all that lies in quarantine."""
    return {(row[0], row[1]) for row in holdings.rows("SELECT stream_id, seq FROM quarantine")}


def losses(holdings: Holdings) -> list[Loss]:
    """Return all span records that the service has."""
    rows = holdings.rows(
        "SELECT kind, reason, source, stream_id, first_seq, last_seq, from_time, to_time, count, at_least FROM span",
    )
    return [Loss._make((SpanKind(row[0]), *row[1:9], bool(row[9]))) for row in rows]


def ledger(holdings: Holdings, recorded: Sequence[Loss]) -> Ledger:
    """Return what a service that does not run took of each stream; span records cover holes."""
    batches = holdings.batches()
    covered: dict[str, list[tuple[int, int]]] = {}
    for stream, first, last in batches:
        covered.setdefault(stream, []).append((first, last))
    last_seq = {stream: max(last for _, last in spans) for stream, spans in covered.items()}
    twice = [(stream, *numbers) for stream, spans in covered.items() for numbers in overlaps(spans)]
    for loss in recorded:
        if loss.stream_id:
            covered.setdefault(loss.stream_id, []).append((loss.first_seq, loss.last_seq))
    holes = [(stream, first, last) for stream, spans in covered.items() for first, last in uncovered(spans)]
    return Ledger(holes, last_seq, twice, batches)
