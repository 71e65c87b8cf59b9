"""The two lanes: live first, the backlog at its share, one batch of a stream on its way, back-pressure behind them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import edge_agent.intake
from edge_agent.buffer import Parcel, WhenFull
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.delivery import Delivery, DeliveryLimits
from edge_agent.intake import BufferThread, Intake
from edge_agent.uplink import Answer, HttpUplink
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane, Receipt
from shopfloor.wire import decode_batch
from tests.contract.buffer_contract import samples, times_of

_LIMITS = DeliveryLimits(batch_samples=4, linger_s=0.0, retry_first_s=0.001, retry_limit_s=0.002)


class Rig:
    """Delivery over a real buffer; the service takes everything and notes what is on its way at the same time."""

    def __init__(self, folder: Path, limits: DeliveryLimits = _LIMITS) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.folder = folder
        self.thread = BufferThread(self.reopened(), self.executor)
        self.intake = Intake(self.thread)
        self.now_s = 0.0
        self.request_s = 0.0
        self.slept: list[float] = []
        self.batches: list[Batch] = []
        self.durable: list[int] = []
        """Answers of ``durable_through``; then everything."""
        self.on_their_way: set[str] = set()
        self.overlaps = 0
        self.delivery = Delivery(
            self.thread,
            self.intake,
            HttpUplink(self.exchange),
            limits,
            now_s=lambda: self.now_s,
            sleep=self.sleep,
        )

    def reopened(self) -> SqliteBuffer:
        self.buffer = SqliteBuffer(self.folder, BufferLimits(disk_reserve_bytes=0), "agent")
        return self.buffer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    async def exchange(self, _method: str, _path: str, body: bytes, _media_type: str) -> Answer:
        batch = decode_batch(body)
        self.overlaps += batch.stream_id in self.on_their_way
        self.on_their_way.add(batch.stream_id)
        for _ in range(3):
            await asyncio.sleep(0)
        self.on_their_way.discard(batch.stream_id)
        self.now_s += self.request_s
        self.batches.append(batch)
        durable = self.durable.pop(0) if self.durable else batch.last_seq
        return Answer(200, msgspec.json.encode(Receipt(batch.last_seq, durable)), "application/json", "")

    def times(self, lane: Lane | None = None) -> list[int]:
        return [
            time
            for batch in self.batches
            if lane in {None, batch.lane}
            for time in batch.block.source_time.tolist()
        ]

    @contextlib.asynccontextmanager
    async def running(self, *lanes: Lane) -> AsyncIterator[None]:
        runs = [self.intake.run()]
        runs += [self.delivery.run_live()] if not lanes or Lane.LIVE in lanes else []
        runs += [self.delivery.run_backlog()] if not lanes or Lane.BACKLOG in lanes else []
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            async with asyncio.timeout(20):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_empty(self) -> None:
        while (await self.thread.call(lambda buffer: buffer.stats())).pending_samples:
            await asyncio.sleep(0)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.buffer.close()
    rig.executor.shutdown()


def _left_by_an_earlier_life(folder: Path, count: int) -> None:
    buffer = SqliteBuffer(folder, BufferLimits(disk_reserve_bytes=0), "agent")
    buffer.append([Parcel(samples(list(range(count))))])
    buffer.close()


async def test_a_live_sample_overtakes_a_big_backlog(tmp_path: Path) -> None:
    _left_by_an_earlier_life(tmp_path, 4_000)
    rig = Rig(tmp_path)
    async with rig.running():
        while len(rig.batches) < 3:
            await asyncio.sleep(0)
        await rig.intake.put(Parcel(samples([1_000_000])))
        put_at = len(rig.batches)
        while 1_000_000 not in rig.times():
            await asyncio.sleep(0)
        # Of the thousand batches that waited before it, a few were under way; it waited for no others.
        assert len(rig.batches) - put_at < 100
        await rig.until_empty()
    assert sorted(rig.times()) == [*range(4_000), 1_000_000]
    assert rig.times(Lane.LIVE) == [1_000_000]
    rig.buffer.close()
    rig.executor.shutdown()


@pytest.mark.parametrize(("share", "pause_s"), [(0.5, 2.0), (0.25, 6.0), (1.0, 0.0), (0.8, 0.5)])
async def test_the_backlog_takes_its_share_of_the_time_and_no_more(
    tmp_path: Path, share: float, pause_s: float
) -> None:
    _left_by_an_earlier_life(tmp_path, 40)
    rig = Rig(tmp_path, DeliveryLimits(batch_samples=4, backlog_share=share))
    rig.request_s = 2.0
    async with rig.running(Lane.BACKLOG):
        await rig.until_empty()
        while len(rig.slept) < 10:
            await asyncio.sleep(0)
    assert len(rig.batches) == 10
    assert rig.slept[:10] == pytest.approx([pause_s] * 10)
    rig.buffer.close()
    rig.executor.shutdown()


async def test_one_batch_of_a_stream_is_on_its_way_and_its_order_is_kept(tmp_path: Path) -> None:
    _left_by_an_earlier_life(tmp_path, 100)
    rig = Rig(tmp_path)
    async with rig.running():
        for time in range(1_000, 1_200):
            await rig.intake.put(Parcel(samples([time])))
        await rig.until_empty()
    assert rig.overlaps == 0
    assert {batch.lane for batch in rig.batches} == {Lane.LIVE, Lane.BACKLOG}
    ends: dict[str, int] = {}
    for batch in rig.batches:
        assert batch.first_seq == ends.get(batch.stream_id, 0) + 1
        ends[batch.stream_id] = batch.last_seq
    rig.buffer.close()
    rig.executor.shutdown()


async def test_a_second_outage_begins_a_stream_though_the_first_still_drains(rig: Rig) -> None:
    rig.buffer.append([Parcel(samples(list(range(40))))])
    rig.buffer.begin_stream()
    rig.buffer.append([Parcel(samples(list(range(100, 140))))])
    async with rig.running(Lane.LIVE):
        while (await rig.thread.call(lambda buffer: buffer.stats())).live_samples:
            await asyncio.sleep(0)
        await rig.intake.put(Parcel(samples([999])))
        # Until it is committed, not only sent: ended in between, delivery rightly sends it a second time.
        while 999 not in rig.times() or (await rig.thread.call(lambda buffer: buffer.stats())).live_samples:
            await asyncio.sleep(0)
    assert len(rig.times()) < 40, "the rest of the second outage was left to the backlog lane"
    async with rig.running():
        await rig.until_empty()
    assert sorted(rig.times()) == [*range(40), *range(100, 140), 999]


async def test_the_number_of_streams_is_bounded(rig: Rig) -> None:
    for number in range(16):
        rig.buffer.begin_stream()
        rig.buffer.append([Parcel(samples([100 * number + n for n in range(40)]))])
    async with rig.running(Lane.LIVE):
        while len(rig.times()) < 40:
            await asyncio.sleep(0)
    assert len({batch.stream_id for batch in rig.batches}) == 1
    assert rig.times() == list(range(1_500, 1_540))


async def test_what_is_received_but_not_durable_stays_and_is_sent_again_after_a_pause(rig: Rig) -> None:
    rig.buffer.append([Parcel(samples([1, 2, 3]))])
    rig.durable = [0, 0, 2]
    async with rig.running(Lane.LIVE):
        await rig.until_empty()
    assert [(batch.first_seq, batch.last_seq) for batch in rig.batches] == [(1, 3), (1, 3), (1, 3), (3, 3)]
    assert len([pause for pause in rig.slept if pause > 0]) >= 2


async def test_a_full_buffer_whose_policy_is_to_wait_makes_its_sources_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == 1.0:
            waiting.set()
        await asyncio.sleep(0)

    monkeypatch.setattr(edge_agent.intake, "asyncio", _with_sleep(sleep))
    buffer = SqliteBuffer(tmp_path, BufferLimits(5_000, 0, WhenFull.BLOCK), "agent")
    executor = ThreadPoolExecutor(1)
    thread = BufferThread(buffer, executor)
    intake = Intake(thread)
    writer = asyncio.create_task(intake.run())
    put = []
    async with asyncio.timeout(20):
        for time in range(1_000):
            one = asyncio.create_task(intake.put(Parcel(samples([time]))))
            put.append(one)
            await asyncio.wait(
                [one, asyncio.create_task(waiting.wait())], return_when=asyncio.FIRST_COMPLETED
            )
            if waiting.is_set():
                break
        assert not put[-1].done(), "unacknowledged, so that the source goes no further"
        assert all(one.done() for one in put[:-1])
        delivered = await thread.call(times_of)
        await put[-1]
    rest = await thread.call(times_of)
    assert delivered + rest == list(range(len(put)))
    assert await thread.call(lambda buffer: buffer.spans(10)) == []
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    buffer.close()
    executor.shutdown()


async def test_a_least_interval_between_commits_makes_acknowledgements_wait_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    go_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await go_on.wait()

    monkeypatch.setattr(edge_agent.intake, "asyncio", _with_sleep(sleep))
    buffer = SqliteBuffer(tmp_path, BufferLimits(disk_reserve_bytes=0), "agent")
    executor = ThreadPoolExecutor(1)
    intake = Intake(BufferThread(buffer, executor), min_commit_interval_s=60.0)
    writer = asyncio.create_task(intake.run())
    async with asyncio.timeout(20):
        await intake.put(Parcel(samples([1])))
        rest = [asyncio.create_task(intake.put(Parcel(samples([time])))) for time in range(2, 30)]
        while not pauses:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not any(one.done() for one in rest)
        assert intake.commits_total == 1
        assert 0.0 < pauses[0] <= 60.0
        go_on.set()
        await asyncio.gather(*rest)
    assert intake.commits_total <= 2
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert times_of(buffer) == list(range(1, 30))
    buffer.close()
    executor.shutdown()


async def test_an_error_of_the_disk_in_making_room_does_not_take_back_what_is_durable(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(rig.buffer._bounds, "trim", refuse)
    for time in range(300):
        rig.buffer.append([Parcel(samples([time]))])
    assert times_of(rig.buffer) == list(range(300))


def _with_sleep(sleep: object) -> SimpleNamespace:
    """Stand for asyncio in a module, with another sleep."""
    return SimpleNamespace(Event=asyncio.Event, get_running_loop=asyncio.get_running_loop, sleep=sleep)
