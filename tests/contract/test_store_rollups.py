"""Rollups beside samples on a server say what the samples say, whatever is stored late and whoever stores it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from ingest_service.plant import rollups
from ingest_service.plant.engine import connect
from ingest_service.store_config import InfluxDBStoreConfig
from ingest_service.stores import Buckets, Grid, Selector, SeriesInfo, TimeSpan, regular_grid, server_reader
from ingest_service.stores.buckets import partials_of
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.server_points import Rolled
from ingest_service.stores.server_roller import AGAIN_NS, SETTLED_NS
from ingest_service.stores.server_store import ServerStore
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.contract.store_contract import write
from tests.contract.test_store_compaction import assert_close
from tests.store_servers import PostgresServer, StoreServer, influxdb, postgresql

HOUR = 3600 * 10**9
DAY = 24 * HOUR
MIDNIGHT = 1_760_054_400 * 10**9
KEYS = tuple(
    SeriesKey(parse_asset(f"acme/hk01/moulding/cell-a/imm-{number:02}"), name)
    for number in range(3)
    for name in ("a.value", "b.value")
)
_numbers = itertools.count()
_seqs = itertools.count(1)


@pytest.fixture(scope="module")
def influx() -> Iterator[StoreServer]:
    with influxdb() as running:
        yield running


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    address = (
        tmp_path / "plant.sqlite"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").emptied()
    )
    engine = connect(address)
    yield engine
    engine.dispose()


@pytest.fixture
async def store(influx: StoreServer, engine: sa.Engine) -> AsyncIterator[ServerStore]:
    config = InfluxDBStoreConfig(
        kind="influxdb", url=influx.url, version=1, database=f"rollups{next(_numbers)}"
    )
    store = ServerStore(InfluxDB(config), engine)
    yield store
    await store.close()


def rows(
    first_ns: int, last_ns: int, n: int, seed: int = 1, keys: tuple[SeriesKey, ...] = KEYS
) -> SampleBlock:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(first_ns, last_ns, n))
    value = np.where(random.random(n) < 0.1, np.nan, random.integers(0, 1000, n) / 10)
    quality = np.where(random.random(n) < 0.1, 2, 0)
    return make_block(keys, random.integers(0, len(keys), n), times, times + 7, value, quality)


async def put(store: ServerStore, block: SampleBlock) -> None:
    first = next(_seqs) * 1_000_000
    await write(store, Batch("a", f"s{first}", Lane.LIVE, 1, block))


async def roll_all(store: ServerStore, now_ns: int) -> None:
    while await store.roll_up(now_ns):
        pass


async def same_as_samples(store: ServerStore, grid: Grid) -> Buckets:
    """Compare an answer with one that is made of the rows themselves, in one go."""
    found = await store.downsample(Selector(), grid, 10**6)
    raw = await store.read(Selector(), grid.span, 10**6)
    block = raw.block
    index, bucket, partials = partials_of(
        block.series_index, block.source_time, block.value, block.quality, grid
    )
    present, places = np.unique(index, return_inverse=True)
    assert [one.key for one in found.series] == [raw.series[place].key for place in present.tolist()]
    np.testing.assert_array_equal(found.series_index, places)
    np.testing.assert_array_equal(found.bucket, bucket)
    assert_close(found.partials, partials)
    return found


def watch_samples(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> list[TimeSpan]:
    """Return a list of the spans of which samples are read from now on."""
    spans: list[TimeSpan] = []
    read = store._reader.from_samples

    def watched(series: Sequence[SeriesInfo], grid: Grid, limit: int) -> Buckets:
        spans.append(grid.span)
        return read(series, grid, limit)

    monkeypatch.setattr(store._reader, "from_samples", watched)
    return spans


async def test_hours_that_are_over_are_answered_without_samples(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = MIDNIGHT + 2 * DAY
    await put(store, rows(MIDNIGHT + HOUR // 2, end, 3_000))
    assert await store.roll_up(end + SETTLED_NS)
    await roll_all(store, end + SETTLED_NS)
    for every in (HOUR, 7 * HOUR, DAY):
        await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), every))
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT - DAY, end + DAY), 5 * HOUR))
    spans = watch_samples(store, monkeypatch)
    found = await store.downsample(Selector(), regular_grid(TimeSpan(MIDNIGHT, end), DAY), 10**6)
    assert len(found.bucket) == 2 * len(KEYS)
    assert spans == []
    cut = await store.downsample(Selector(), regular_grid(TimeSpan(MIDNIGHT, end), HOUR), 5)
    assert cut.truncated
    assert len(cut.bucket) == 5


async def test_other_grids_and_hours_that_are_not_over_are_read_from_samples(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = MIDNIGHT + 5 * HOUR
    await put(store, rows(MIDNIGHT, end, 500))
    # The fourth hour has been over for less than it takes to settle.
    await roll_all(store, end - HOUR + SETTLED_NS - 1)
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), HOUR // 2))
    spans = watch_samples(store, monkeypatch)
    await store.downsample(Selector(), regular_grid(TimeSpan(MIDNIGHT, end), HOUR), 10**6)
    assert spans == [TimeSpan(MIDNIGHT + 3 * HOUR, end)]


async def test_what_comes_late_counts_at_once(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    end = MIDNIGHT + DAY
    grid = regular_grid(TimeSpan(MIDNIGHT, end), DAY)
    await put(store, rows(MIDNIGHT, end, 1_000))
    await roll_all(store, end + SETTLED_NS)
    before = await store.downsample(Selector(), grid, 100)
    late = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-99"), "new.value")
    await put(store, rows(MIDNIGHT + 9 * HOUR, MIDNIGHT + 10 * HOUR, 50, seed=2, keys=(*KEYS, late)))
    after = await same_as_samples(store, grid)
    assert after.partials.count.sum() > before.partials.count.sum()
    assert len(after.series) == len(KEYS) + 1
    spans = watch_samples(store, monkeypatch)
    await store.downsample(Selector(), grid, 100)
    assert spans == [TimeSpan(MIDNIGHT + 9 * HOUR, MIDNIGHT + 10 * HOUR)]
    await roll_all(store, end + SETTLED_NS + AGAIN_NS)
    spans.clear()
    again = await store.downsample(Selector(), grid, 100)
    assert spans == []
    assert_close(again.partials, after.partials)


async def test_what_is_stored_while_an_hour_is_rolled_up_is_not_lost(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = MIDNIGHT + 2 * HOUR
    await put(store, rows(MIDNIGHT, end, 100))
    loop = asyncio.get_running_loop()
    server = store._points.rollups
    assert server is not None
    keep = server.write_rollups
    late = iter([rows(MIDNIGHT, end, 40, seed=3)])

    def interrupted(*arguments: Any) -> None:
        # Its samples were read; now others are stored, and only then it is written.
        for block in late:
            asyncio.run_coroutine_threadsafe(put(store, block), loop).result()
        keep(*arguments)

    monkeypatch.setattr(server, "write_rollups", interrupted)
    await roll_all(store, end + SETTLED_NS)
    assert next(late, None) is None
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), HOUR))
    await roll_all(store, end + SETTLED_NS + AGAIN_NS)
    found = await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), HOUR))
    usable = found.partials.count.sum() + found.partials.bad.sum()
    raw = (await store.read(Selector(), TimeSpan(MIDNIGHT, end), 1000)).block
    assert usable == np.count_nonzero(~np.isnan(raw.value) | (raw.quality >= 2))


async def test_numbers_at_their_limits_come_back(store: ServerStore) -> None:
    key = KEYS[:1]
    times = MIDNIGHT + np.arange(8) * 60 * 10**9
    await put(store, make_block(key, np.zeros(4), times[:4], times[:4], [1e308, 1.7e308, -0.0, 5e-324]))
    await put(store, make_block(key, np.zeros(2), times[:2] + HOUR, times[:2], [-0.0, -0.0]))
    await put(store, make_block(key, np.zeros(2), times[:2] + 2 * HOUR, times[:2], [1.0, np.nan], [2, 2]))
    end = MIDNIGHT + 3 * HOUR
    await roll_all(store, end + SETTLED_NS)
    found = await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), HOUR))
    assert found.partials.count.tolist() == [4, 2, 0]
    assert found.partials.bad.tolist() == [0, 0, 2]
    assert np.isinf(found.partials.sum[0])
    assert np.signbit(found.partials.last[1])
    day = await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, MIDNIGHT + DAY), DAY))
    assert day.partials.count.tolist() == [6]


async def test_history_is_rolled_up_backwards_as_far_as_it_goes(
    store: ServerStore, engine: sa.Engine
) -> None:
    end = MIDNIGHT + 3 * DAY
    await put(store, rows(MIDNIGHT + 5 * HOUR, end, 300))
    await roll_all(store, end + SETTLED_NS)
    known = rollups.span(engine)
    assert known is not None
    oldest = (await store.read(Selector(), TimeSpan(MIDNIGHT, end), 1000)).block.source_time.min()
    assert known == (oldest // HOUR * HOUR, end, True)
    # What comes from before is counted, from samples.
    await put(store, rows(MIDNIGHT - 2 * DAY, MIDNIGHT - DAY, 100, seed=5))
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT - 3 * DAY, end), DAY))


async def test_without_any_series_there_is_nothing_to_do(store: ServerStore, engine: sa.Engine) -> None:
    assert not await store.roll_up(MIDNIGHT)
    assert rollups.span(engine) is None


async def test_an_hour_of_many_pages_is_whole(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page ends in the middle of a bucket."""
    monkeypatch.setattr(server_reader, "PAGE", 10)
    await put(store, rows(MIDNIGHT, MIDNIGHT + HOUR, 1_500))
    await roll_all(store, MIDNIGHT + HOUR + SETTLED_NS)
    spans = watch_samples(store, monkeypatch)
    found = await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, MIDNIGHT + HOUR), HOUR))
    assert spans == []
    assert len(found.bucket) == len(KEYS)


async def test_a_sample_that_is_replaced_leaves_nothing_in_its_hour(store: ServerStore) -> None:
    """InfluxDB keeps the later one of two at one time of a series."""
    times = np.array([MIDNIGHT + 60 * 10**9])
    grid = regular_grid(TimeSpan(MIDNIGHT, MIDNIGHT + HOUR), HOUR)
    now = MIDNIGHT + HOUR + SETTLED_NS
    cases: tuple[tuple[SeriesKey, float, int, list[tuple[int, int]]], ...] = (
        (KEYS[0], 5.0, 0, [(1, 0)]),
        (KEYS[0], 6.0, 2, [(0, 1)]),
        (KEYS[0], 7.0, 0, [(1, 0)]),
        (KEYS[1], np.nan, 2, [(0, 1)]),
        (KEYS[1], np.nan, 1, []),
    )
    for key, value, quality, counts in cases:
        await put(store, make_block((key,), [0], times, times, [value], [quality]))
        await roll_all(store, now)
        found = (await store.downsample(Selector((str(key.asset),), (key.signal,)), grid, 10)).partials
        assert list(zip(found.count.tolist(), found.bad.tolist(), strict=True)) == counts
        assert np.isnan(found.minimum).tolist() == [count == 0 for count, _ in counts]
        now += AGAIN_NS


async def test_rows_that_the_server_can_not_hold_count(store: ServerStore) -> None:
    times = np.full(3, MIDNIGHT + 60 * 10**9)
    await put(store, make_block(KEYS[:1], np.zeros(3), times, times, [1.0, 2.0, np.inf]))
    await roll_all(store, MIDNIGHT + HOUR + SETTLED_NS)
    grid = regular_grid(TimeSpan(MIDNIGHT, MIDNIGHT + HOUR), HOUR)
    assert (await same_as_samples(store, grid)).partials.count.tolist() == [3]


async def test_what_others_wrote_into_the_measurement_is_left_out(store: ServerStore) -> None:
    await put(store, rows(MIDNIGHT, MIDNIGHT + HOUR, 50, keys=KEYS[:1]))
    await roll_all(store, MIDNIGHT + HOUR + SETTLED_NS)
    tags = "enterprise=acme,site=hk01,area=moulding,line=cell-a,cell=imm-00,signal=a.value"
    assert isinstance(store._points, InfluxDB)
    store._points._client.write(f"rollup_hour,{tags} odd=1 {MIDNIGHT + 7}\n".encode())
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, MIDNIGHT + HOUR), HOUR))


async def test_an_hour_that_can_not_be_made_does_not_keep_others_from_it(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = MIDNIGHT + 3 * HOUR
    await put(store, rows(MIDNIGHT, end, 300))
    server = store._points.rollups
    assert server is not None
    keep = server.write_rollups

    def refusing(keys: Sequence[SeriesKey], rolled: Rolled) -> None:
        if rolled.start[0] == MIDNIGHT + HOUR:
            raise StoreUnavailable("refused")
        keep(keys, rolled)

    monkeypatch.setattr(server, "write_rollups", refusing)
    with pytest.raises(StoreUnavailable, match="refused"):
        await roll_all(store, end + SETTLED_NS)
    await roll_all(store, end + SETTLED_NS + 60)
    spans = watch_samples(store, monkeypatch)
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), HOUR))
    assert spans == [TimeSpan(MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR)]


def test_what_two_made_at_once_is_made_again(engine: sa.Engine) -> None:
    rollups.begin(engine, MIDNIGHT)
    rollups.extend(engine, MIDNIGHT, MIDNIGHT + HOUR, is_complete=True)
    (due,) = rollups.next_due(engine, 10)
    rollups.done(engine, due)
    assert rollups.count_due(engine) == 0
    # The second one may have written something older over it.
    rollups.done(engine, due)
    (again,) = rollups.next_due(engine, 10)
    assert (again.start, again.block) == (due.start, due.block)
    assert again.version != due.version


def test_hours_that_are_too_old_count_no_more(engine: sa.Engine) -> None:
    rollups.begin(engine, MIDNIGHT)
    rollups.extend(engine, MIDNIGHT - DAY, MIDNIGHT + DAY, is_complete=True)
    rollups.drop_before(engine, MIDNIGHT)
    assert rollups.span(engine) == (MIDNIGHT, MIDNIGHT + DAY, True)
    assert rollups.count_due(engine) == 24


def test_counting_more_hours_waits_for_who_did_not_know_of_them(postgres: PostgresServer) -> None:
    engine = connect(postgres.emptied())
    try:
        rollups.begin(engine, MIDNIGHT)
        ids, times = np.ones(1, np.uint32), np.array([MIDNIGHT + HOUR])
        ended = threading.Event()

        def extend() -> None:
            rollups.extend(engine, MIDNIGHT, MIDNIGHT + DAY, is_complete=False)
            ended.set()

        with engine.begin() as connection:
            rollups.mark(engine, connection, ids, times)
            thread = threading.Thread(target=extend)
            thread.start()
            with engine.connect() as other:
                waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                while not other.execute(waiting).scalar():
                    other.rollback()
            assert not ended.is_set()
        thread.join()
        assert ended.is_set()
        with engine.begin() as connection:
            rollups.mark(engine, connection, ids, times)
        (found,) = rollups.next_due(engine)
        assert found.start == MIDNIGHT + 23 * HOUR
        hours = rollups.due_in(engine, [0], MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR)
        assert hours == {0: [MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR]}
    finally:
        engine.dispose()


async def test_rollups_that_count_no_more_while_they_are_read_are_not_taken(
    store: ServerStore, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = MIDNIGHT + 3 * HOUR
    await put(store, rows(MIDNIGHT, end, 100))
    await roll_all(store, end + SETTLED_NS)
    await put(store, rows(MIDNIGHT, end, 30, seed=9))
    look = rollups.due_in

    def overtaken(*arguments: Any) -> dict[int, list[int]]:
        with engine.begin() as connection:
            rollups.restart(connection)
        return look(*arguments)

    monkeypatch.setattr(rollups, "due_in", overtaken)
    await same_as_samples(store, regular_grid(TimeSpan(MIDNIGHT, end), HOUR))


async def test_all_is_made_again_once_samples_were_moved_in(store: ServerStore, engine: sa.Engine) -> None:
    end = MIDNIGHT + 3 * HOUR
    await put(store, rows(MIDNIGHT, end, 100))
    await roll_all(store, end + SETTLED_NS)
    with engine.begin() as connection:
        rollups.restart(connection)
    assert rollups.span(engine) is None
    grid = regular_grid(TimeSpan(MIDNIGHT, end), HOUR)
    before = await same_as_samples(store, grid)
    await roll_all(store, end + SETTLED_NS)
    assert_close((await same_as_samples(store, grid)).partials, before.partials)
