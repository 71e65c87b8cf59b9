"""Samples a second into the edge buffer and out of it, beside plain SQLite rows under the same durability.

    python -m benchmarks.buffer [--samples 4000000] [--json]

Ten sources poll 1,000 signals each; every poll is one block of 1,000 samples, and up to ten of each source wait for
the disk (poll groups, an MQTT in-flight window). They go through the agent's own intake: what waits is written
together, synchronous=FULL, acknowledged after the commit. The peer writes the same blocks as rows of one table with
executemany, as many in one transaction as ours took on average. In the end everything is drained and compared with
what was put, sample by sample.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.buffer import Parcel, Position
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from edge_agent.intake import BufferThread, Intake
from shopfloor.asset import AssetPath
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import Lane
from shopfloor.signal import SeriesKey

_SOURCES: Final = 10
_SIGNALS: Final = 1_000
_WAITING: Final = 10
"""Blocks of one source that wait at once."""
_START_NS: Final = 1_795_341_600_000_000_000
_PEER_SAMPLES: Final = 400_000
_SINGLE_BLOCKS: Final = 200
_BATCH: Final = 10_000


def make_blocks(polls: int) -> list[list[SampleBlock]]:
    """Return for each source its polls: temperatures of one decimal that walk, states, counters, raw floats."""
    rng = np.random.default_rng(7)
    index = np.arange(_SIGNALS, dtype=np.uint32)
    sources = []
    for number in range(_SOURCES):
        series = tuple(
            SeriesKey(
                AssetPath(f"acme/hk01/moulding/cell-{number}/imm-{n // 25:03d}"), f"zone_{n % 25}.temperature"
            )
            for n in range(_SIGNALS)
        )
        walk = rng.uniform(20, 300, _SIGNALS)
        counters = rng.integers(0, 100_000, 100)
        states = rng.integers(0, 6, 100)
        blocks = []
        for poll in range(polls):
            walk += rng.normal(0, 0.1, _SIGNALS)
            counters += rng.random(100) < 0.05
            states[rng.integers(0, 100, 2)] = rng.integers(0, 6, 2)
            values = np.round(walk, 1)
            values[700:800], values[800:900] = counters, states
            values[900:] = np.sin(walk[900:]).astype(np.float32)
            received = _START_NS + (poll + 1) * 10**9 + int(rng.integers(0, 10**6)) * 1_000
            times = _START_NS + poll * 10**9 + rng.integers(0, 1_000, _SIGNALS) * 10**6
            blocks.append(make_block(series, index, times, received, values))
        sources.append(blocks)
    return sources


class TimedBuffer(SqliteBuffer):
    """Notes how long each transaction took."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, BufferLimits(max_bytes=2**34), "benchmark")
        self.took_s: list[float] = []

    def append(self, parcels: Sequence[Parcel]) -> Position:
        """See Buffer.append."""
        started = time.perf_counter()
        position = super().append(parcels)
        self.took_s.append(time.perf_counter() - started)
        return position


async def _put_all(
    buffer: SqliteBuffer, sources: list[list[SampleBlock]], waiting: int
) -> tuple[float, list[float]]:
    """Put everything with ``waiting`` blocks of each source on their way; return seconds, and what each put waited."""
    waited: list[float] = []

    async def write(blocks: list[SampleBlock]) -> None:
        for block in blocks:
            started = time.perf_counter()
            await intake.put(Parcel(block))
            waited.append(time.perf_counter() - started)

    with ThreadPoolExecutor(1) as executor:
        intake = Intake(BufferThread(buffer, executor))
        writer = asyncio.create_task(intake.run())
        started = time.perf_counter()
        await asyncio.gather(*(write(blocks[n::waiting]) for n in range(waiting) for blocks in sources))
        took_s = time.perf_counter() - started
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
    return took_s, waited


def _append(folder: Path, sources: list[list[SampleBlock]]) -> dict[str, float]:
    samples = sum(len(block) for blocks in sources for block in blocks)
    buffer = TimedBuffer(folder)
    cpu_before = time.process_time()
    took_s, waited = asyncio.run(_put_all(buffer, sources, _WAITING))
    cpu_s = time.process_time() - cpu_before
    commits = np.array(buffer.took_s) * 1e3
    buffer.close()
    return {
        "samples": samples,
        "append_samples_per_s": round(samples / took_s),
        "append_cpu_us_per_sample": round(cpu_s / samples * 1e6, 4),
        "samples_per_commit": round(samples / len(commits)),
        "commit_p50_ms": round(float(np.percentile(commits, 50)), 2),
        "commit_p99_ms": round(float(np.percentile(commits, 99)), 2),
        "put_p50_ms": round(float(np.percentile(waited, 50)) * 1e3, 2),
        "put_p99_ms": round(float(np.percentile(waited, 99)) * 1e3, 2),
        "bytes_per_sample": round((folder / FILE_NAME).stat().st_size / samples, 3),
    }


def _single(folder: Path, blocks: list[SampleBlock]) -> dict[str, float]:
    """One source, one block at a time: every block waits for its own sync."""
    buffer = TimedBuffer(folder)
    for block in blocks:
        buffer.append([Parcel(block)])
    buffer.close()
    commits = np.array(buffer.took_s) * 1e3
    return {
        "single_append_samples_per_s": round(sum(map(len, blocks)) / commits.sum() * 1e3),
        "single_commit_p50_ms": round(float(np.percentile(commits, 50)), 2),
        "single_commit_p99_ms": round(float(np.percentile(commits, 99)), 2),
    }


def _drain(folder: Path, sources: list[list[SampleBlock]]) -> dict[str, float]:
    """Deliver everything in batches as the uplink does, then compare it with what was put."""
    samples = sum(len(block) for blocks in sources for block in blocks)
    started = time.perf_counter()
    buffer = TimedBuffer(folder)
    opened_s = time.perf_counter() - started
    got: list[SampleBlock] = []
    expected_seq = 1
    started = time.perf_counter()
    while (batch := buffer.peek(_BATCH, Lane.BACKLOG)) is not None:
        if batch.first_seq != expected_seq:
            raise AssertionError(f"a hole: {batch.first_seq} after {expected_seq - 1}")
        expected_seq = batch.last_seq + 1
        got.append(batch.block)
        buffer.commit(batch.stream_id, batch.last_seq)
    drained_s = time.perf_counter() - started
    left, spans = buffer.stats().pending_samples, buffer.spans(1)
    buffer.close()
    flat = [block for blocks in sources for block in blocks]
    if left or spans or not np.array_equal(_columns(got), _columns(flat)):
        raise AssertionError("what came out is not what was put")
    return {
        "open_s": round(opened_s, 3),
        "drain_samples_per_s": round(samples / drained_s),
        "verified_samples": sum(map(len, got)),
    }


def _columns(blocks: list[SampleBlock]) -> npt.NDArray[np.int64]:
    """Return every sample's series, times, value bits and quality as int64[n, 5], in a fixed order."""
    numbers: dict[SeriesKey, int] = {}
    maps: dict[int, npt.NDArray[np.int64]] = {}
    parts = []
    for block in blocks:
        known = maps.get(id(block.series))
        if known is None:
            known = np.array([numbers.setdefault(key, hash(key)) for key in block.series], dtype=np.int64)
            maps[id(block.series)] = known
        parts.append(
            np.column_stack(
                (
                    known[block.series_index],
                    block.source_time,
                    block.received_time,
                    block.value.view(np.int64),
                    block.quality.astype(np.int64),
                )
            )
        )
    table = np.concatenate(parts)
    return table[np.lexsort((table[:, 1], table[:, 0]))]


def _peer(folder: Path, sources: list[list[SampleBlock]], samples_per_commit: int) -> dict[str, float]:
    """Write plain rows: one table, executemany, WAL, synchronous=FULL, one sequence number a row."""
    path = folder / "peer.sqlite3"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(
        "CREATE TABLE sample(seq INTEGER PRIMARY KEY, series INTEGER, source_time INTEGER, received_time INTEGER, "
        "value REAL, quality INTEGER, status INTEGER)"
    )
    blocks = [block for polls in zip(*sources, strict=True) for block in polls]
    together = max(1, samples_per_commit // _SIGNALS)
    written, started = 0, time.perf_counter()
    while written < _PEER_SAMPLES and blocks:
        group, blocks = blocks[:together], blocks[together:]
        database.execute("BEGIN IMMEDIATE")
        for block in group:
            columns = (block.series_index, block.source_time, block.received_time, block.value)
            database.executemany(
                "INSERT INTO sample(series, source_time, received_time, value, quality, status) VALUES (?, ?, ?, ?, ?, ?)",
                zip(*(column.tolist() for column in (*columns, block.quality, block.status)), strict=True),
            )
            written += len(block)
        database.execute("COMMIT")
    took_s = time.perf_counter() - started
    database.close()
    return {
        "peer_rows_samples_per_s": round(written / took_s),
        "peer_rows_bytes_per_sample": round(path.stat().st_size / written, 3),
    }


def measure(samples: int) -> dict[str, Any]:
    """Return the figures; raises AssertionError where a sample is missing, changed or there twice."""
    polls = max(2 * _WAITING, samples // (_SOURCES * _SIGNALS))
    sources = make_blocks(polls)
    with tempfile.TemporaryDirectory(prefix="buffer-benchmark-", dir=".") as name:
        folder = Path(name)
        figures: dict[str, Any] = _append(folder / "grouped", sources)
        figures |= _drain(folder / "grouped", sources)
        figures |= _single(folder / "single", sources[0][:_SINGLE_BLOCKS])
        figures |= _peer(folder, sources, figures["samples_per_commit"])
    figures["append_ratio"] = round(figures["append_samples_per_s"] / figures["peer_rows_samples_per_s"], 2)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=4_000_000, help="samples to append (default 4,000,000)"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    figures = measure(arguments.samples)
    print(json.dumps(figures) if arguments.json else "\n".join(f"{k:30} {v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
