"""Retention of the embedded store: files go, what outlives them as rollups stays, changed rules count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingest_service.stores import Selector, TimeSpan, regular_grid
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_keeping import Keeping, Rule
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.contract.store_contract import ALWAYS, write

SMALL = Tuning(memory_bytes=256 * 2**20, threads=1, compaction=False, least_rows=0)
HOUR = 3600 * 10**9
DAY = 24 * HOUR
FIRST = 20_000
SHORT = SeriesKey(parse_asset("acme/hk01/a/b/short"), "x")
LONG = SeriesKey(parse_asset("acme/hk01/a/b/long"), "x")
N = 2000


def rule(keeping: Keeping) -> Rule:
    return Rule(Selector(("acme/*/**/short",)), keeping)


def open_at(path: Path, day: int, *rules: Rule) -> DuckDBStore:
    return DuckDBStore(path / "s.duckdb", SMALL, rules=rules, clock_ns=lambda: (FIRST + day) * DAY + HOUR)


async def fill(store: DuckDBStore, days: int) -> None:
    times = FIRST * DAY + np.arange(N * days) * (DAY // N)
    block = make_block((SHORT, LONG), np.arange(N * days) % 2, times, times, np.arange(N * days) % 10)
    await write(store, Batch("a", "s", Lane.LIVE, 1, block))


async def counts(store: DuckDBStore, key: SeriesKey, every: int) -> list[int]:
    grid = regular_grid(TimeSpan(FIRST * DAY, (FIRST + 3) * DAY), every)
    found = await store.downsample(Selector((str(key.asset),)), grid, 10**6)
    numbers: list[int] = found.partials.count.tolist()
    return numbers


async def raw_count(store: DuckDBStore, key: SeriesKey) -> int:
    return len((await store.read(Selector((str(key.asset),)), ALWAYS, 10**6)).block)


async def test_samples_go_after_their_days_and_hours_stay(tmp_path: Path) -> None:
    store = open_at(tmp_path, 4, rule(Keeping(2)))
    await fill(store, 3)
    await store.compact()
    # Day 0 and 1 are over for more than two days, day 2 is not.
    assert await raw_count(store, SHORT) == N // 2
    assert await raw_count(store, LONG) == 3 * N // 2
    assert await counts(store, SHORT, DAY) == [N // 2] * 3
    assert sum(await counts(store, SHORT, HOUR)) == 3 * N // 2
    assert sorted(path.parent.name for path in store.folder.glob("*/*")) == [
        *("2024-10-04", "2024-10-05", "2024-10-06", "2024-10-06"),
    ]
    await store.close()


async def test_minutes_that_outlive_samples_are_made_of_them_and_go_in_their_turn(tmp_path: Path) -> None:
    keeping = rule(Keeping(1, 5, 8))
    store = open_at(tmp_path, 4, keeping)
    await fill(store, 3)
    await store.compact()
    assert await raw_count(store, SHORT) == 0
    assert sum(await counts(store, SHORT, 60 * 10**9)) == 3 * N // 2
    await store.close()
    store = open_at(tmp_path, 7, keeping)
    await store.compact()
    # Of day 0 and 1 only hours are left: they stand in the buckets in which they begin.
    minutes = await counts(store, SHORT, 60 * 10**9)
    assert sum(minutes) == 3 * N // 2
    assert max(minutes) > 10
    await store.close()
    store = open_at(tmp_path, 10, keeping)
    await store.compact()
    assert await counts(store, SHORT, DAY) == [N // 2]
    assert await counts(store, LONG, DAY) == [N // 2] * 3
    await store.close()


async def test_hot_rows_that_are_too_old_go_too(tmp_path: Path) -> None:
    store = open_at(tmp_path, 30, rule(Keeping(1, None, 1)))
    await fill(store, 1)
    store._compactor.ask(store._compactor._expire).result(60)
    assert await raw_count(store, SHORT) == 0
    assert await counts(store, SHORT, DAY) == []
    assert await raw_count(store, LONG) == N // 2
    await store.close()


async def test_changed_rules_count_for_files_that_are_there(tmp_path: Path) -> None:
    store = open_at(tmp_path, 4)
    await fill(store, 3)
    await store.compact()
    assert len(list(store.folder.glob("*/*"))) == 3
    await store.close()
    store = open_at(tmp_path, 4, rule(Keeping(2)))
    await store.compact()
    assert await raw_count(store, SHORT) == N // 2
    assert await raw_count(store, LONG) == 3 * N // 2
    await store.close()
    store = open_at(tmp_path, 9)
    await store.compact()
    assert await raw_count(store, SHORT) == N // 2
    await store.close()


async def test_late_rows_of_a_day_whose_samples_are_gone_join_its_hours(tmp_path: Path) -> None:
    store = open_at(tmp_path, 4, rule(Keeping(2)))
    await fill(store, 3)
    await store.compact()
    late = make_block((SHORT,), [0], [FIRST * DAY + HOUR // 2 + 1], [0], [500.0])
    await write(store, Batch("b", "late", Lane.LIVE, 1, late))
    assert (await counts(store, SHORT, DAY))[0] == N // 2 + 1
    await store.compact()
    assert (await counts(store, SHORT, DAY))[0] == N // 2 + 1
    await store.close()
