"""Ends a process at every step of writing and rewriting, one after the other, and looks what is there afterwards.

Run as a program it prints one JSON line a step; `test_store_kills` judges them. It forks before any thread exists, because
starting Python anew for every step would take most of the time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ingest_service.stores import Admitted, Outcome, Selector, TimeSpan, regular_grid
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_catalog import view_of
from ingest_service.stores.duckdb_hot import hot_folder, name_of
from ingest_service.stores.duckdb_keeping import Keeping, Rule
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey

DAY_NS = 86_400 * 10**9
DAY = 20_000
KEPT = SeriesKey(parse_asset("acme/hk01/a/b/kept"), "x")
EXPIRING = SeriesKey(parse_asset("acme/hk01/a/b/expiring"), "x")
RULES = (Rule(Selector((str(EXPIRING.asset),)), Keeping(3, None, None)),)
ROWS = 1000
BATCHES = 5
KILLED = 9
WORKERS = 4


def block_of(number: int) -> SampleBlock:
    """Batch ``number``: every BATCHES-th moment of two days, so that each lies between the rows of the others."""
    step = np.arange(ROWS, dtype=np.int64)
    time = DAY * DAY_NS + (step * BATCHES + number) * (2 * DAY_NS // (ROWS * BATCHES))
    return make_block((KEPT, EXPIRING), step % 2, time, time + 1, (step * BATCHES + number) / 10)


def open_store(folder: Path, day: int, at: Callable[[str], None]) -> DuckDBStore:
    tuning = Tuning(
        memory_bytes=128 * 2**20,
        threads=1,
        compaction=False,
        least_rows=0,
        part_rows=400,
        reserve_bytes=0,
    )
    return DuckDBStore(
        folder / "samples.duckdb", tuning, rules=RULES, clock_ns=lambda: day * DAY_NS + 5, at=at
    )


async def live(folder: Path, at: Callable[[str], None]) -> None:
    """Write, rewrite, write late rows, rewrite again, then let days pass until retention removes some."""
    store = open_store(folder, DAY + 2, at)
    for number in range(BATCHES):
        await store.write([Admitted(Batch("a", "s", Lane.LIVE, 1 + number * ROWS, block_of(number)))])
        if number in {1, 3, 4}:
            await store.compact()
    await store.close()
    store = open_store(folder, DAY + 4, at)
    await store.compact()
    await store.close()
    store = open_store(folder, DAY + 20, at)
    await store.compact()
    await store.close()


async def verdict(folder: Path) -> list[str]:
    """Open what was left, go on to the end, and name what is wrong."""
    problems: list[str] = []
    store = open_store(folder, DAY + 2, lambda _step: None)
    await _judge(store, "after the kill", problems)
    mark = (await store.watermark("s")).durable_through
    for number in range(mark // ROWS, BATCHES):
        batch = Batch("a", "s", Lane.LIVE, 1 + number * ROWS, block_of(number))
        (outcome,) = await store.write([Admitted(batch)])
        assert isinstance(outcome, Outcome), outcome
    await store.compact()
    await _judge(store, "at the end", problems)
    await store.close()
    return problems


async def _judge(store: DuckDBStore, when: str, problems: list[str]) -> None:
    mark = (await store.watermark("s")).durable_through
    if mark % ROWS:
        problems.append(f"{when}: a batch is there in part: {mark}")
    blocks = [block_of(number) for number in range(mark // ROWS)]
    always = TimeSpan(-(2**63), 2**63 - 1)
    for place, key in enumerate((KEPT, EXPIRING)):
        selector = Selector((str(key.asset),))
        rows = [block.take(block.series_index == place) for block in blocks]
        time = np.concatenate([np.empty(0, np.int64), *(one.source_time for one in rows)])
        order = np.argsort(time)
        value = np.concatenate([np.empty(0), *(one.value for one in rows)])[order]
        found = (await store.read(selector, always, 10**6)).block
        if key == KEPT and not (
            np.array_equal(found.source_time, time[order]) and np.array_equal(found.value, value)
        ):
            problems.append(f"{when}: {len(found)} rows of {key} instead of {len(time)}")
        # What retention removed is still counted by its rollups.
        grid = regular_grid(TimeSpan(DAY * DAY_NS, (DAY + 2) * DAY_NS), 3600 * 10**9)
        hours = (await store.downsample(selector, grid, 10**6)).partials
        if int(hours.count.sum()) != len(time) or not np.isclose(np.nansum(hours.sum), value.sum()):
            problems.append(f"{when}: hours of {key} count {int(hours.count.sum())} instead of {len(time)}")
    with store._cursor() as cursor:
        parts, hot = view_of(cursor)
    named = {part.file for part in parts if part.file} | {name_of(one.number) for one in hot}
    store._pins.sweep()
    there = {f"{path.parent.name}/{path.name}" for path in store.folder.glob("*/*.parquet")}
    there |= {path.name for path in hot_folder(store.folder).iterdir()}
    if named != there:
        problems.append(f"{when}: files {sorted(there - named)} too many, {sorted(named - there)} too few")


def forked(run: Callable[[], Any]) -> tuple[int, str]:
    """Run something in a process of its own; return its exit status and what it wrote."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            os.write(write, json.dumps(run()).encode())
        except BaseException:  # noqa: BLE001 - told to the parent
            os.write(write, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def steps_of(folder: Path) -> list[str]:
    """Return the steps of a life that nobody ends."""
    folder.mkdir()
    steps: list[str] = []

    def life() -> list[str]:
        asyncio.run(live(folder, steps.append))
        return steps

    status, said = forked(life)
    assert status == 0, said
    told: list[str] = json.loads(said)
    return told


def killed_at(folder: Path, last: int) -> list[str]:
    """End a life at its step number ``last``; return what is wrong afterwards."""
    folder.mkdir()

    def life() -> None:
        steps = itertools.count()

        def at(_step: str) -> None:
            if next(steps) == last:
                os._exit(KILLED)

        asyncio.run(live(folder, at))

    status, said = forked(life)
    if status != KILLED:
        return [f"the life ended with {status}: {said}"]
    status, said = forked(lambda: asyncio.run(verdict(folder)))
    problems: list[str] = json.loads(said) if status == 0 else [said]
    return problems


def main() -> None:
    """Kill at the first step of each kind, or with ``--all`` at every step; a few lives at a time wait for the disk."""
    root = Path(sys.argv[1])
    steps = steps_of(root / "whole")
    chosen = [
        (number, step)
        for number, step in enumerate(steps)
        if "--all" in sys.argv or step not in steps[:number]
    ]
    workers = []
    for first in range(WORKERS):
        worker = os.fork()
        if not worker:
            for number, step in chosen[first::WORKERS]:
                problems = killed_at(root / str(number), number)
                line = json.dumps({"step": step, "number": number, "problems": problems}) + "\n"
                os.write(sys.stdout.fileno(), line.encode())
            os._exit(0)
        workers.append(worker)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers))


if __name__ == "__main__":
    main()
