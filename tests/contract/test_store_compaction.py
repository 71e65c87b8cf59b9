"""The contract of stores again, where everything that is written becomes files at once; and what files alone do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest_service.stores import Admitted, Outcome, Partials, Selector, TimeSpan, duckdb_schema, regular_grid
from ingest_service.stores.buckets import partials_of
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning, hots
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.contract.store_contract import ALWAYS, T0, SampleStoreContract, batch, write

SMALL = Tuning(memory_bytes=256 * 2**20, threads=1, compaction=False, least_rows=0)
HOUR = 3600 * 10**9
DAY = 24 * HOUR
MIDNIGHT = T0 // DAY * DAY
KEYS = tuple(SeriesKey(parse_asset(f"acme/hk01/a/b/m-{number}"), "x.y") for number in range(4))


class AllInFiles(DuckDBStore):
    """Rewrites after every write."""

    async def write(self, admitted: Sequence[Admitted]) -> Sequence[Outcome | StoreUnavailable]:
        results = await super().write(admitted)
        await self.compact()
        return results


class TestStoreOfFiles(SampleStoreContract):
    """Every promise holds for files as it does for hot rows."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], Awaitable[DuckDBStore]]:
        async def open_it() -> DuckDBStore:
            return AllInFiles(tmp_path / "samples.duckdb", SMALL)

        return open_it


def noise(seed: int, n: int, days: int = 2, keys: tuple[SeriesKey, ...] = KEYS) -> SampleBlock:
    """Samples of all sorts in no order; times are distinct."""
    random = np.random.default_rng(seed)
    times = MIDNIGHT + random.permutation(days * 86_400)[:n] * 10**9 + seed
    value = np.where(random.random(n) < 0.3, random.normal(size=n), random.integers(-99, 99, n) / 10)
    value[random.random(n) < 0.05] = np.nan
    quality = random.choice([0, 0, 0, 1, 2], n)
    return make_block(keys, random.integers(0, len(keys), n), times, times + 5, value, quality, quality << 30)


def expected_of(block: SampleBlock, keys: tuple[SeriesKey, ...] = KEYS) -> SampleBlock:
    return block.take(np.lexsort((block.source_time, block.series_index)))


def same_rows(one: SampleBlock, other: SampleBlock) -> None:
    for name in ("source_time", "received_time", "value", "quality", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert [one.series[place] for place in one.series_index.tolist()] == [
        other.series[place] for place in other.series_index.tolist()
    ]


async def assert_exact(store: DuckDBStore, blocks: list[SampleBlock]) -> None:
    """Rows, pages and aggregates are what plain numpy makes of all that was written."""
    index = np.concatenate([block.series_index for block in blocks])
    columns: list[Any] = [
        np.concatenate([getattr(block, name) for block in blocks])
        for name in ("source_time", "received_time", "value", "quality", "status")
    ]
    order = np.lexsort((columns[0], index))
    index, columns = index[order], [column[order] for column in columns]
    all_rows = SampleBlock(KEYS, index, *columns)
    same_rows((await store.read(Selector(), ALWAYS, 10**6)).block, all_rows)
    span = TimeSpan(MIDNIGHT + 5 * HOUR + 7, MIDNIGHT + 30 * HOUR + 9)
    inside = (columns[0] >= span.from_ns) & (columns[0] < span.to_ns)
    same_rows((await store.read(Selector(), span, 10**6)).block, all_rows.take(inside))
    for every in (DAY, HOUR, 60 * 10**9 * 5, 1000 * 10**9):
        grid = regular_grid(TimeSpan(MIDNIGHT + 3 * HOUR, MIDNIGHT + 40 * HOUR), every)
        found = await store.downsample(Selector(), grid, 10**6)
        series, bucket, partials = partials_of(index, columns[0], columns[2], columns[3], grid)
        present, places = np.unique(series, return_inverse=True)
        assert [one.key for one in found.series] == [KEYS[number] for number in present.tolist()]
        np.testing.assert_array_equal(found.series_index, places)
        np.testing.assert_array_equal(found.bucket, bucket)
        assert_close(found.partials, partials)


def assert_close(one: Partials, other: Partials) -> None:
    for name in ("count", "bad", "minimum", "maximum", "first", "first_time", "last", "last_time"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("sum", "area", "increase"):
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-6, err_msg=name
        )


async def put(store: DuckDBStore, seq: int, block: SampleBlock) -> int:
    await write(store, Batch("a", "s", Lane.LIVE, seq, block))
    return seq + len(block)


@pytest.fixture
async def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "samples.duckdb", SMALL)


@pytest.mark.parametrize("steps", ["wc", "wcw", "wcwc", "wwcwcw", "wcwcwcw"])
async def test_answers_are_exact_whatever_lies_hot_late_or_in_files(store: DuckDBStore, steps: str) -> None:
    """Dense enough for rollups of minutes and hours; later blocks fall between the samples of earlier ones."""
    blocks: list[SampleBlock] = []
    seq = 1
    for number, step in enumerate(steps):
        if step == "c":
            await store.compact()
        else:
            size = 40_000 if not blocks else 300
            blocks.append(noise(number, size))
            seq = await put(store, seq, blocks[-1])
    await assert_exact(store, blocks)
    await store.close()


async def test_rollups_are_used_and_followed_by_later_files(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "samples.duckdb", SMALL)
    n = 6 * 86_400
    times = MIDNIGHT + np.arange(n) * (DAY // n)
    block = make_block(KEYS[:1], np.zeros(n), times, times, np.arange(n) % 100)
    seq = await put(store, 1, block)
    await store.compact()
    with store._cursor() as cursor:
        levels = cursor.execute("SELECT level, count(*) FROM rollup GROUP BY 1 ORDER BY 1").fetchall()
    assert levels == [(1, 1440), (2, 24)]
    late = make_block(KEYS[:1], [0], [MIDNIGHT + 7 * HOUR + 1], MIDNIGHT, [1000.0])
    await put(store, seq, late)
    grid = regular_grid(TimeSpan(MIDNIGHT, MIDNIGHT + DAY), HOUR)
    hot = (await store.downsample(Selector(), grid, 100)).partials
    await store.compact()
    merged = (await store.downsample(Selector(), grid, 100)).partials
    assert hot.maximum.tolist() == [99.0] * 7 + [1000.0] + [99.0] * 16
    assert_close(hot, merged)
    await store.close()


async def test_files_are_sorted_by_key_and_few(store: DuckDBStore) -> None:
    blocks, seq = [], 1
    for number in range(5):
        blocks.append(noise(number, 500, keys=KEYS))
        seq = await put(store, seq, blocks[-1])
        await store.compact()
    assert len(list(store.folder.glob("*/*.parquet"))) == 2
    await assert_exact(store, blocks)
    await store.close()


async def test_exact_repeats_in_a_partition_are_stored_once_and_counted(store: DuckDBStore) -> None:
    block = noise(1, 100)
    again = SampleBlock(
        block.series,
        block.series_index,
        block.source_time,
        block.received_time + 7,
        block.value,
        block.quality,
        block.status,
    )
    await write(store, Batch("a", "s", Lane.LIVE, 1, block), Batch("b", "t", Lane.LIVE, 1, again))
    await store.compact()
    await assert_exact(store, [block])
    with store._cursor() as cursor:
        assert cursor.execute("SELECT sum(samples), sum(repeats) FROM part").fetchall() == [(100, 100)]
    await store.close()


async def test_days_with_few_rows_stay_hot_as_long_as_they_are_few(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "s.duckdb", SMALL._replace(least_rows=1000, hot_rows=1))
    many, few = noise(1, 5000, days=1), noise(2, 10, days=1)
    late = SampleBlock(
        KEYS,
        few.series_index,
        few.source_time - 9 * DAY,
        *(getattr(few, name) for name in ("received_time", "value", "quality", "status")),
    )
    await put(store, await put(store, 1, many), late)

    def step() -> None:
        store._compactor._step()

    store._compactor.ask(step).result(60)
    assert store.backlog() == (0, 0)
    assert [path.parent.name for path in store.folder.glob("*/*")] == [
        str(np.datetime64(MIDNIGHT, "ns").astype("datetime64[D]"))
    ]
    assert len((await store.read(Selector(), ALWAYS, 10**6)).block) == 5010
    await store.close()


async def test_hot_files_stay_small_while_the_compactor_is_busy(tmp_path: Path) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def at(step: str) -> None:
        if step == "absorb: sorted" and not busy.is_set():
            busy.set()
            assert go_on.wait(60)

    store = DuckDBStore(tmp_path / "s.duckdb", SMALL._replace(compaction=True, hot_rows=1000), at=at)
    block = noise(1, 12_000)
    pieces = [block.take(np.arange(first, first + 500)) for first in range(0, 12_000, 500)]
    seq = await put(store, await put(store, 1, pieces[0]), pieces[1])
    assert await asyncio.to_thread(busy.wait, 60)
    for piece in pieces[2:]:
        seq = await put(store, seq, piece)
    # The writer closes a file after it has answered.
    store._writer.call(lambda _: None)
    with store._cursor() as cursor:
        rows = [hot.rows for hot in hots(cursor)]
    assert len(rows) == 13
    assert max(rows) == 1000
    assert store.backlog().generations == 12
    go_on.set()
    await store.compact()
    await assert_exact(store, [block])
    await store.close()


async def test_the_start_needs_no_file_for_newest_values(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "s.duckdb", SMALL)
    await write(store, batch(1, 1000))
    await store.compact()
    await write(store, batch(1001, 5, stream="other"))
    await store.close()
    for path in store.folder.glob("*/*"):
        path.write_bytes(b"")
    again = DuckDBStore(tmp_path / "s.duckdb", SMALL)
    assert (await again.latest(Selector())).block.value.tolist() == [1005.0]
    with pytest.raises(StoreUnavailable, match="parquet"):
        await again.read(Selector(), ALWAYS, 10)
    await again.close()


async def test_the_ledger_stays_small_and_says_the_same(tmp_path: Path) -> None:
    later = 3 * HOUR + time.time_ns()
    store = DuckDBStore(tmp_path / "s.duckdb", SMALL, clock_ns=lambda: later)
    for seq in range(1, 400, 10):
        await write(store, batch(seq), batch(seq + 1000, stream="with-hole") if seq != 101 else batch(1, 0))
    before = [await store.runs(stream) for stream in ("stream-1", "with-hole")]
    await store.compact()
    with store._cursor() as cursor:
        rows = cursor.execute("SELECT count(*) FROM batch").fetchall()[0][0]
    assert rows <= 6
    assert [await store.runs(stream) for stream in ("stream-1", "with-hole")] == before
    await store.close()


async def test_a_reader_keeps_what_it_began_with(store: DuckDBStore) -> None:
    """A file that was replaced is removed only after the last reader that saw it."""
    seq = await put(store, 1, noise(1, 100, days=1))
    await store.compact()
    (old,) = store.folder.glob("*/*.parquet")
    with store._pins.reading():
        await put(store, seq, noise(2, 100, days=1))
        await store.compact()
        assert old.exists()
    await store.compact()
    assert not old.exists()
    await store.close()


async def test_one_series_longer_than_a_page_is_read_in_pieces(store: DuckDBStore) -> None:
    block = noise(1, 60_000, days=4, keys=KEYS[:1])
    await put(store, 1, block)
    await store.compact()
    raw = await store.read(Selector(), ALWAYS, 100)
    same_rows(raw.block, expected_of(block).take(np.arange(100)))
    assert raw.truncated
    await store.close()


@pytest.mark.parametrize("limit", [401, 1_000, 7_000])
async def test_pages_over_files_and_hot_rows_give_every_sample_once(store: DuckDBStore, limit: int) -> None:
    """Of one long series among short ones, from where a page ended within any of them."""
    numbers = np.random.default_rng(9).permutation(np.repeat(np.arange(4), [40, 9_000, 700, 260]))
    time = MIDNIGHT + np.sort(np.random.default_rng(10).permutation(3 * 86_400)[: len(numbers)]) * 10**9
    text = {row: f"t{row}" for row in range(0, len(numbers), 97)}
    value = numbers / 10
    value[list(text)] = np.nan
    block = make_block(KEYS, numbers, time, time + 5, value, text=text)
    seq = await put(store, 1, block.take(np.r_[0:9_000]))
    await store.compact()
    await put(store, seq, block.take(np.r_[9_000:10_000]))
    expected = block.take(np.lexsort((block.source_time, block.series_index)))
    span = TimeSpan(MIDNIGHT + 7 * HOUR + 1, int(time[9_500]))
    for asked in (ALWAYS, span):
        wanted = [
            row
            for row in expected.rows()
            if asked.from_ns <= row.source_time and (asked is ALWAYS or row.source_time < asked.to_ns)
        ]
        found: list[Any] = []
        after = None
        while True:
            page = await store.read(Selector(), asked, limit, after)
            found += map(repr, page.block.rows())
            after = page.position(after)
            if not page.truncated:
                break
            assert len(page.block) == limit
        assert found == list(map(repr, wanted))
    await store.close()


async def test_the_start_gives_free_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_schema, "_WORTH_SHRINKING", 2**20)
    path = tmp_path / "s.duckdb"
    tuning = SMALL._replace(checkpoint_bytes=2**20)
    store = DuckDBStore(path, tuning)
    blocks = [noise(number, 80_000) for number in range(2)]
    seq = await put(store, 1, blocks[0])
    await put(store, seq, blocks[1])
    await store.compact()
    with store._cursor() as cursor:
        cursor.execute("CREATE TABLE filler AS SELECT hash(range) AS noise FROM range(2_000_000)")
        cursor.execute("DROP TABLE filler")
    await store.close()
    before = path.stat().st_size
    again = DuckDBStore(path, tuning)
    assert path.stat().st_size < before / 2
    await assert_exact(again, blocks)
    await again.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["s", "s.duckdb", "s.hot"]
