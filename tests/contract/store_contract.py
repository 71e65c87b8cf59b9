"""The contract of a SampleStore: subclass `SampleStoreContract` for each store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np
import pytest

from ingest_service.stores import (
    Admitted,
    Outcome,
    Position,
    Refused,
    SampleStore,
    Selector,
    TimeSpan,
    regular_grid,
)
from shopfloor.asset import parse_asset
from shopfloor.block import Sample, block_of, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey

T0 = 1_760_000_000_000_000_000
ALWAYS = TimeSpan(-(2**63), 2**63 - 1)
TEMPERATURE = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "barrel.zone_1.temperature")
JOB = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "job.name")
OTHER = SeriesKey(parse_asset("acme/dg01/moulding/cell-a/imm-07"), "barrel.zone_1.temperature")


def batch(first_seq: int, n: int = 10, stream: str = "stream-1", *, agent: str = "agent-1") -> Batch:
    """Rows whose value is their seq and whose time follows from it."""
    seq = np.arange(first_seq, first_seq + n)
    block = make_block((TEMPERATURE,), np.zeros(n), T0 + seq * 1_000_000, T0 + seq * 1_000_000, seq)
    return Batch(agent, stream, Lane.LIVE, first_seq, block)


def refusing(one: Batch, rows: Sequence[int]) -> Admitted:
    numbers = np.array(rows, np.int64)
    return Admitted(one, Refused(numbers, np.zeros(len(rows), np.uint8), ("implausible_time",)))


def outcome_of(result: Outcome | StoreUnavailable) -> Outcome:
    assert isinstance(result, Outcome), result
    return result


async def write(store: SampleStore, *admitted: Admitted | Batch) -> list[Outcome]:
    results = await store.write([one if isinstance(one, Admitted) else Admitted(one) for one in admitted])
    return [outcome_of(one) for one in results]


async def stored_values(store: SampleStore, key: SeriesKey = TEMPERATURE) -> list[float]:
    raw = await store.read(Selector((str(key.asset),), (key.signal,)), ALWAYS, 1_000_000)
    assert not raw.truncated
    values: list[float] = raw.block.value.tolist()
    return values


class SampleStoreContract:
    """Subclass it with a fixture ``open_store``: it opens the same storage again after it was closed."""

    @pytest.fixture
    async def store(self, open_store: Callable[[], Awaitable[SampleStore]]) -> AsyncIterator[SampleStore]:
        store = await open_store()
        yield store
        await store.close()

    async def test_rows_come_back_exactly(self, store: SampleStore) -> None:
        samples = [
            Sample(TEMPERATURE, T0, T0 + 5, 0.1, 0, 0),
            Sample(TEMPERATURE, T0 + 1, T0 + 5, -0.0, 1, 0x4FF2_0000),
            Sample(TEMPERATURE, T0 + 2, T0 + 5, float(2**53), 2, 2**32 - 1),
            Sample(TEMPERATURE, T0 + 3, T0 + 5, 5e-324, 0, 0),
            Sample(TEMPERATURE, 2**62 + 1, T0 + 5, 1.7976931348623157e308, 1, 0),
            Sample(JOB, T0, T0 + 5, float("nan"), 0, 0, "模具 7 \0 'quoted'"),
            Sample(JOB, T0 + 1, T0 + 5, float("nan"), 0, 0, ""),
            Sample(JOB, T0 + 2, T0 + 5, float("nan"), 2, 0x8FF3_0000),
            Sample(OTHER, -7, -9, 1.0, 0, 0),
        ]
        (outcome,) = await write(store, Batch("a", "s", Lane.LIVE, 1, block_of(samples)))
        assert outcome[:4] == (9, 9, 9, 0)
        raw = await store.read(Selector(), ALWAYS, 100)
        order = {OTHER: 0, TEMPERATURE: 1, JOB: 2}
        expected = sorted(samples, key=lambda one: (order[one.series], one.source_time))
        assert [repr(one) for one in raw.block.rows()] == [repr(one) for one in expected]

    async def test_nan_is_null(self, store: SampleStore) -> None:
        null = make_block((TEMPERATURE,), [0, 0], [T0, T0 + 1], T0, [np.nan, 4.0], [2, 0])
        await write(store, Batch("a", "s", Lane.LIVE, 1, null))
        raw = await store.read(Selector(), ALWAYS, 10)
        assert np.isnan(raw.block.value[0])
        buckets = await store.downsample(Selector(), regular_grid(TimeSpan(T0, T0 + 10), 10), 10)
        assert buckets.partials.count.tolist() == [1]
        assert buckets.partials.bad.tolist() == [1]
        assert buckets.partials.mean.tolist() == [4.0]

    async def test_a_repeat_changes_nothing(self, store: SampleStore) -> None:
        first = await write(store, batch(1))
        again = await write(store, batch(1))
        assert first[0].stored == 10
        assert (again[0].stored, again[0].repeated, again[0].durable_through) == (0, 10, 10)
        assert len(await stored_values(store)) == 10

    async def test_the_overlapping_part_is_a_repeat(self, store: SampleStore) -> None:
        await write(store, batch(1))
        (outcome,) = await write(store, batch(6))
        assert (outcome.stored, outcome.repeated, outcome.durable_through) == (5, 5, 15)
        assert await stored_values(store) == [float(seq) for seq in range(1, 16)]

    async def test_repeats_inside_one_call(self, store: SampleStore) -> None:
        outcomes = await write(store, batch(1), batch(1), batch(5), batch(1, 3, "stream-2"))
        assert [one.stored for one in outcomes] == [10, 0, 4, 3]
        # Another stream's very same samples may be kept once or twice; nothing else is.
        assert sorted(set(await stored_values(store))) == [float(seq) for seq in range(1, 15)]
        assert len(await stored_values(store)) in {14, 17}

    async def test_requests_at_the_same_time_store_once(self, store: SampleStore) -> None:
        outcomes = await asyncio.gather(*(write(store, batch(1)) for _ in range(20)))
        assert sum(one.stored for (one,) in outcomes) == 10
        assert len(await stored_values(store)) == 10

    async def test_a_cancelled_request_is_stored_or_not_but_never_twice(self, store: SampleStore) -> None:
        request = asyncio.create_task(write(store, batch(1)))
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await write(store, batch(1))
        assert len(await stored_values(store)) == 10

    async def test_a_gap_is_reported(self, store: SampleStore) -> None:
        await write(store, batch(1))
        (outcome,) = await write(store, batch(21))
        assert outcome.missing == (11, 20)
        assert outcome.durable_through == 30
        assert [run[2:4] for run in await store.runs("stream-1")] == [(1, 10), (21, 30)]

    async def test_the_first_batch_of_a_stream_may_leave_a_gap(self, store: SampleStore) -> None:
        (outcome,) = await write(store, batch(5))
        assert outcome.missing == (1, 4)

    async def test_the_ledger_of_all_streams(self, store: SampleStore) -> None:
        before = time.time_ns()
        await write(store, refusing(batch(1), [0, 4]), batch(11, 5), batch(3, 4, "stream-2", agent="agent-2"))
        await write(store, batch(21), batch(1))
        runs = await store.ledger(None, ALWAYS)
        assert [tuple(run[:6]) for run in runs] == [
            ("stream-1", "agent-1", 1, 15, 13, 2),
            ("stream-1", "agent-1", 21, 30, 10, 0),
            ("stream-2", "agent-2", 3, 6, 4, 0),
        ]
        assert all(before <= run.received_from <= run.received_to <= time.time_ns() for run in runs)
        assert [run[2:4] for run in await store.ledger(["stream-2", "unknown"], ALWAYS)] == [(3, 6)]
        assert await store.ledger([], ALWAYS) == []

    async def test_the_ledger_of_a_span_of_time(self, store: SampleStore) -> None:
        await write(store, batch(1))
        (first,) = await store.ledger(None, ALWAYS)
        await write(store, batch(11))
        later = TimeSpan(first.received_to + 1, ALWAYS.to_ns)
        assert [run[2:4] for run in await store.ledger(None, later)] == [(11, 20)]
        earlier = TimeSpan(ALWAYS.from_ns, later.from_ns)
        assert [run[2:4] for run in await store.ledger(None, earlier)] == [(1, 10)]

    async def test_an_empty_batch_changes_nothing(self, store: SampleStore) -> None:
        (outcome,) = await write(store, batch(7, 0))
        assert outcome[:4] == (0, 0, 0, 0)
        assert outcome.missing is None
        assert await store.watermark("stream-1") == (0, 0)

    async def test_refused_rows_are_left_out_and_passed(self, store: SampleStore) -> None:
        (outcome,) = await write(store, refusing(batch(1), [0, 4, 9]))
        assert (outcome.stored, len(outcome.refused), outcome.durable_through) == (7, 3, 10)
        assert await stored_values(store) == [2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0]
        assert [tuple(run[:6]) for run in await store.runs("stream-1")] == [
            ("stream-1", "agent-1", 1, 10, 7, 3)
        ]

    async def test_refused_rows_under_the_watermark_are_repeats(self, store: SampleStore) -> None:
        await write(store, batch(1, 5))
        (outcome,) = await write(store, refusing(batch(1), [0, 4, 9]))
        assert (outcome.stored, outcome.repeated, outcome.refused.rows.tolist()) == (4, 5, [9])

    async def test_a_wholly_refused_batch_moves_the_watermark(self, store: SampleStore) -> None:
        (outcome,) = await write(store, refusing(batch(1, 3), [0, 1, 2]))
        assert (outcome.stored, outcome.durable_through) == (0, 3)
        assert await store.watermark("stream-1") == (3, 3)

    async def test_text_stays_beside_its_row_when_rows_are_left_out(self, store: SampleStore) -> None:
        block = make_block((JOB,), np.zeros(4), T0 + np.arange(4), T0, np.nan, text={0: "a", 1: "b", 3: "d"})
        await write(store, Batch("a", "s", Lane.LIVE, 1, block.take(np.array([0]))))
        await write(store, refusing(Batch("a", "s", Lane.LIVE, 1, block), [1]))
        raw = await store.read(Selector(), ALWAYS, 10)
        assert [one.text for one in raw.block.rows()] == ["a", None, "d"]

    async def test_everything_is_there_after_opening_again(
        self, store: SampleStore, open_store: Callable[[], Awaitable[SampleStore]]
    ) -> None:
        await write(store, batch(1), batch(1, 4, "stream-2"))
        ids = [one.id for one in await store.series(Selector())]
        await store.close()
        again = await open_store()
        assert await again.watermark("stream-1") == (10, 10)
        assert [one.id for one in await again.series(Selector())] == ids
        assert (await again.latest(Selector())).block.value.tolist() == [10.0]
        (outcome,) = await write(again, batch(6))
        assert (outcome.stored, outcome.repeated) == (5, 5)
        await again.close()

    async def test_latest_is_not_replaced_by_late_data(self, store: SampleStore) -> None:
        await write(store, batch(11))
        await write(store, batch(1, 10, "backlog"))
        assert (await store.latest(Selector())).block.value.tolist() == [20.0]

    async def test_a_clock_far_ahead_does_not_stay_newest(self, store: SampleStore) -> None:
        year = 365 * 86_400 * 1_000_000_000
        ahead = make_block((TEMPERATURE,), [0], [T0 + 3 * year], [T0], [1.0], [1])
        sound = make_block((TEMPERATURE,), [0], [T0 + 120 * 10**9], [T0 + 120 * 10**9], [2.0])
        await write(store, Batch("a", "s", Lane.LIVE, 1, ahead))
        assert (await store.latest(Selector())).block.value.tolist() == [1.0]
        await write(store, Batch("a", "s", Lane.LIVE, 2, sound))
        assert (await store.latest(Selector())).block.value.tolist() == [2.0]

    async def test_selectors(self, store: SampleStore) -> None:
        block = make_block((TEMPERATURE, JOB, OTHER), [0, 1, 2], T0, T0, [1, 2, 3])
        await write(store, Batch("a", "s", Lane.LIVE, 1, block))

        async def keys(selector: Selector) -> list[SeriesKey]:
            return [one.key for one in await store.series(selector)]

        assert await keys(Selector(("acme/hk01",))) == [TEMPERATURE, JOB]
        assert await keys(Selector(("acme/hk0",))) == []
        assert await keys(Selector((), ("barrel.*",))) == [OTHER, TEMPERATURE]
        assert await keys(Selector(("acme/hk01", "acme/dg01"), ("barrel.*",), "acme/dg01")) == [OTHER]
        assert await keys(Selector(("acme/hk01",), (), "acme/dg01")) == []

    async def test_reads_are_bounded(self, store: SampleStore) -> None:
        await write(store, batch(1, 100))
        raw = await store.read(Selector(), ALWAYS, 10)
        assert raw.truncated
        assert raw.block.value.tolist() == [float(seq) for seq in range(1, 11)]
        span = TimeSpan(T0 + 3_000_000, T0 + 5_000_000)
        assert (await store.read(Selector(), span, 10)).block.value.tolist() == [3.0, 4.0]

    async def test_pages_neither_lose_nor_repeat(self, store: SampleStore) -> None:
        """Also where a page ends among samples of the same series and time."""
        time = T0 + np.array([0, 1, 1, 1, 1, 2, 0, 1, 1, 1], np.int64)
        index = [0] * 6 + [1] * 4
        block = make_block((TEMPERATURE, OTHER), index, time, T0 + np.arange(10), np.arange(10.0))
        await write(store, Batch("a", "s", Lane.LIVE, 1, block))
        whole = (await store.read(Selector(), ALWAYS, 100)).block
        for limit in (1, 2, 3, 7):
            rows: list[str] = []
            after: Position | None = None
            while True:
                page = await store.read(Selector(), ALWAYS, limit, after)
                rows += [repr(one) for one in page.block.rows()]
                after = page.position(after)
                if not page.truncated:
                    break
                assert len(page.block) == limit
            assert rows == [repr(one) for one in whole.rows()]

    async def test_the_newest_before_a_moment(self, store: SampleStore) -> None:
        block = make_block(
            (TEMPERATURE, OTHER, JOB),
            [0, 0, 0, 0, 1, 2],
            T0 + np.array([0, 10, 20, 30, 5, 7]),
            T0,
            [1, 2, 3, np.nan, 5, np.nan],
            [0, 0, 2, 0, 0, 0],
            text={5: "job 7"},
        )
        await write(store, Batch("a", "s", Lane.LIVE, 1, block))

        async def newest(at: int, within: int) -> list[tuple[SeriesKey, float | str]]:
            found = (await store.before(Selector(), T0 + at, within)).block
            return [(one.series, one.text or one.value) for one in found.rows()]

        assert await newest(100, 100) == [(OTHER, 5), (TEMPERATURE, 2), (JOB, "job 7")]
        assert await newest(10, 5) == [(OTHER, 5), (JOB, "job 7")]
        assert await newest(10, 10) == [(OTHER, 5), (TEMPERATURE, 1), (JOB, "job 7")]
        assert await newest(0, 10) == []

    async def test_buckets(self, store: SampleStore) -> None:
        times = np.array([-11, -10, -1, 0, 9, 10], np.int64)
        block = make_block((TEMPERATURE,), np.zeros(6), times, times, [1, 2, 3, 4, 5, 6])
        await write(store, Batch("a", "s", Lane.LIVE, 1, block))
        buckets = await store.downsample(Selector(), regular_grid(TimeSpan(-100, 100), 10), 100)
        partials = buckets.partials
        assert buckets.start.tolist() == [-20, -10, 0, 10]
        assert partials.count.tolist() == [1, 2, 2, 1]
        assert partials.minimum.tolist() == [1, 2, 4, 6]
        assert partials.maximum.tolist() == [1, 3, 5, 6]
        assert partials.mean.tolist() == [1, 2.5, 4.5, 6]
        assert partials.first.tolist() == [1, 2, 4, 6]
        assert partials.last.tolist() == [1, 3, 5, 6]
        assert partials.area.tolist() == [0, 18e-9, 36e-9, 0]
        assert partials.increase.tolist() == [0, 1, 1, 0]
        assert not buckets.truncated

    async def test_writing_after_close_is_unavailable(self, store: SampleStore) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.write([Admitted(batch(1))])
