"""A history for benchmarks of the stores: made of numbers, written into the embedded store and as line protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ingest_service.stores import Admitted, Outcome
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey

BEGIN_NS = 1_763_596_800_000_000_000
"""2025-11-20, midnight UTC."""
BATCH_ROWS = 200_000


class Plan(NamedTuple):
    """So many series, one value of one decimal each every ``step_ns``."""

    series: int
    steps: int
    step_ns: int
    jitter_ms: int
    """Times lie up to so many whole milliseconds after their step; 0 is exactly on it."""

    @property
    def samples(self) -> int:
        """How many in all."""
        return self.series * self.steps

    @property
    def keys(self) -> tuple[SeriesKey, ...]:
        """Ten signals a machine, ten machines a line, one site."""
        return tuple(
            SeriesKey(
                parse_asset(f"acme/hk01/moulding/line-{number // 100:02}/imm-{number // 10:03}"),
                f"signal.s{number % 10}",
            )
            for number in range(self.series)
        )

    def blocks(self) -> Iterator[SampleBlock]:
        """Yield everything in order of time."""
        keys = self.keys
        at_once = max(1, BATCH_ROWS // self.series)
        walk = np.random.default_rng(1).integers(1500, 2500, self.series)
        for first in range(0, self.steps, at_once):
            random = np.random.default_rng((7, first))
            n = min(at_once, self.steps - first)
            moves = random.integers(-3, 4, (n, self.series))
            walk_here = walk + np.cumsum(moves, axis=0)
            walk = walk_here[-1]
            step = np.repeat(np.arange(first, first + n, dtype=np.int64), self.series)
            times = BEGIN_NS + step * self.step_ns
            if self.jitter_ms:
                times = times + random.integers(0, self.jitter_ms, len(times)) * 1_000_000
            yield SampleBlock(
                keys,
                np.tile(np.arange(self.series, dtype=np.uint32), n),
                times,
                times + 50_000_000,
                walk_here.ravel() / 10,
                np.zeros(len(times), np.uint8),
                np.zeros(len(times), np.uint32),
            )


def fill(path: Path, blocks: Iterable[SampleBlock]) -> dict[str, float]:
    """Write blocks into an embedded store and let all become files; return rows and seconds."""
    return asyncio.run(_fill(path, blocks))


async def _fill(path: Path, blocks: Iterable[SampleBlock]) -> dict[str, float]:
    path.parent.mkdir(parents=True, exist_ok=True)
    store = DuckDBStore(path, Tuning(compaction_share=1.0))
    began = time.perf_counter()
    seq = 1
    for block in blocks:
        (outcome,) = await store.write([Admitted(Batch("bench", "bench", Lane.LIVE, seq, block))])
        if not isinstance(outcome, Outcome):
            raise SystemExit(f"the store refused: {outcome}")
        seq += len(block)
    written_s = time.perf_counter() - began
    began = time.perf_counter()
    await store.compact()
    settled_s = time.perf_counter() - began
    problems = await store.verify()
    if problems:
        raise SystemExit(f"the store is not sound: {problems[:3]}")
    await store.close()
    # Opening it again gives back to the disk what the database no longer needs.
    await DuckDBStore(path).close()
    return {"samples": seq - 1, "write_s": round(written_s, 2), "compact_s": round(settled_s, 2)}


def disk_bytes(folder: Path) -> int:
    """Return the bytes of everything in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def lines_of(block: SampleBlock) -> bytes:
    """Return a block as line protocol, without received times and qualities."""
    heads = [_head(key) for key in block.series]
    return "\n".join(
        f"{heads[series]} value={value!r} {at}"
        for series, value, at in zip(
            block.series_index.tolist(), block.value.tolist(), block.source_time.tolist(), strict=True
        )
    ).encode()


def _head(key: SeriesKey) -> str:
    levels = ("enterprise", "site", "area", "line", "cell")
    tags = ",".join(f"{level}={name}" for level, name in zip(levels, key.asset.split("/"), strict=False))
    return f"sample,{tags},signal={key.signal}"
