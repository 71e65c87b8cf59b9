"""The stage in its place: between a source and a real buffer, with failures, cancellations and restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Never

import pytest

from edge_agent import sink as sink_module
from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.intake import BufferThread, Intake
from edge_agent.processing.config import RuleConfig
from edge_agent.processing.stage import Moment, make_stage
from edge_agent.processing.step import NOTHING
from edge_agent.sink import SourceSink
from edge_agent.sources import BlockSink
from shopfloor.block import Sample, block_of
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane, SeriesDeclaration, SourceState
from tests.unit.processing_runs import BEGIN, S, at, plain, values

DOOR: Final = {"swinging_door": {"deviation": 0.5}}
SCOPE: Final = "scope"


class Quiet:
    """A source of which only its name and protocol matter."""

    name, assets = "s", ()

    def __init__(self, protocol: str = "mqtt") -> None:
        self.protocol = protocol

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        return ()

    async def run(self, sink: BlockSink) -> Never:
        raise AssertionError(sink)


class Disk:
    """Stands for the intake: keeps parcels, or refuses them."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.full = False

    async def put(self, parcel: Parcel) -> None:
        if self.full:
            raise StoreUnavailable("full")
        self.parcels.append(parcel)


def make(
    disk: Any, *rules: Mapping[str, Any], saved: dict[str, bytes] | None = None, protocol: str = "mqtt"
) -> SourceSink:
    saved = saved or {}
    stage = make_stage([RuleConfig.model_validate(rule) for rule in rules], "s", protocol, saved)
    return SourceSink(Quiet(protocol), disk, SCOPE, saved, Counter(), stage, lambda: Moment(BEGIN, 0))


@pytest.mark.parametrize("rules", [(), ({"signal": "other", "deadband": {}, "scale": 3, "freshness_s": 9},)])
async def test_without_a_rule_for_it_the_same_block_reaches_the_buffer(rules: Any) -> None:
    disk = Disk()
    block = block_of([at(0, 1.0), at(1, 1.0)])
    await make(disk, *rules).put(block, {"mark": b"1"})
    assert disk.parcels[0].block is block
    assert disk.parcels[0].state == {"mark": b"1"}
    assert disk.parcels[0].scope == SCOPE


async def test_what_is_left_out_is_counted_and_costs_no_transaction() -> None:
    disk = Disk()
    sink = make(disk, {"deadband": {}, "to_number": {"a": 1}})
    await sink.put(block_of([at(0, 1.0)]))
    await sink.put(block_of([at(1, 1.0), at(2, 1.0)]))
    await sink.put(block_of([at(3, 1.0)]), {"mark": b"1"})
    assert [(len(parcel.block), dict(parcel.state)) for parcel in disk.parcels] == [
        (1, {}),
        (0, {"mark": b"1"}),
    ]
    await sink.put(block_of([at(4, 2.0)]))
    # The newest reading may still be needed: it counts once it is not.
    assert sink.events == {("s", "thinned"): 3}


async def test_what_the_disk_refused_is_decided_again() -> None:
    disk = Disk()
    sink = make(disk, {"deadband": {}})
    await sink.put(block_of([at(0, 1.0)]))
    disk.full = True
    with pytest.raises(StoreUnavailable):
        await sink.put(block_of([at(1, 2.0)]))
    disk.full = False
    await sink.put(block_of([at(1, 2.0)]))
    await sink.put(block_of([at(2, 2.0)]))
    assert [values(parcel.block.rows()) for parcel in disk.parcels] == [[1.0], [2.0]]


async def test_a_source_sees_its_own_state_only() -> None:
    disk = Disk()
    sink = make(disk, DOOR)
    await sink.put(block_of([at(0, 1.0), at(1, 2.0)]), {"mark": b"1"})
    assert set(disk.parcels[0].state) == {"mark", "processing.held.0", "processing.series.0"}
    assert sink.state() == {"mark": b"1"}


async def test_an_interruption_writes_what_was_held_and_keeps_what_comes_first() -> None:
    disk = Disk()
    sink = make(disk, DOOR)
    sink.report(SourceState.RUNNING)
    await sink.put(block_of([at(0, 1.0), at(1, 1.0)]))
    sink.report(SourceState.UNAVAILABLE, "gone")
    await sink.look()
    sink.report(SourceState.RUNNING)
    await sink.put(block_of([at(60, 1.0), at(61, 1.0)]))
    kept = [row.source_time for parcel in disk.parcels for row in parcel.block.rows()]
    assert [(time - BEGIN) // S for time in kept] == [0, 1, 60]


@pytest.mark.parametrize(("protocol", "verdict"), [("opcua", "unchanged"), ("mqtt", "stale")])
async def test_a_keep_alive_of_opc_ua_confirms(protocol: str, verdict: str) -> None:
    disk = Disk()
    sink = make(disk, {"freshness_s": 10}, protocol=protocol)
    sink.report(SourceState.RUNNING)
    await sink.put(block_of([at(0, 1.0)]))
    sink.moment = lambda: Moment(BEGIN + 11 * S, 11 * S)
    await sink.put(NOTHING, {"mark": b"1"})
    await sink.look()
    assert values(disk.parcels[-1].block.rows()) == [verdict]


async def test_looking_goes_on_while_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "LOOK_EVERY_S", 0.0)
    disk = Disk()
    disk.full = True
    sink = make(disk, {"min_interval_s": 1})
    disk.full = False
    await sink.put(block_of([at(0, 1.0), at(0.5, 2.0)]))
    disk.full = True
    sink.moment = lambda: Moment(BEGIN, 2 * S)
    looking = asyncio.create_task(sink.keep_looking())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not looking.done()
    disk.full = False
    while len(disk.parcels) < 2:
        await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait([looking])
    assert values(disk.parcels[1].block.rows()) == [2.0]


class Folder:
    """An agent's disk, over several lives of its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stored: list[Sample] = []
        self.repeats = 0

    @asynccontextmanager
    async def life(self, *rules: Mapping[str, Any]) -> AsyncIterator[SourceSink]:
        """One life; leaving the context is a kill."""
        with ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            limits = BufferLimits(disk_reserve_bytes=0)
            buffer = await loop.run_in_executor(executor, SqliteBuffer, self._folder, limits, "a")
            thread = BufferThread(buffer, executor)
            intake = Intake(thread)
            saved = await thread.call(lambda buffer: buffer.state(SCOPE))
            writing = asyncio.create_task(intake.run())
            try:
                yield make(intake, *rules, saved=saved)
            finally:
                writing.cancel()
                await asyncio.wait([writing])
                await loop.run_in_executor(executor, self._drain, buffer)

    def _drain(self, buffer: SqliteBuffer) -> None:
        for lane in Lane:
            while (batch := buffer.peek(1_000, lane)) is not None:
                self.stored += map(plain, batch.block.rows())
                buffer.commit(batch.stream_id, batch.last_seq)
        self.repeats += buffer.stats().repeats_total
        buffer.close()


async def test_a_held_reading_survives_a_kill_and_is_stored_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    async with folder.life(DOOR) as sink:
        await sink.put(block_of(at(second, 2.0 * second) for second in range(10)))
    assert [(row.source_time - BEGIN) // S for row in folder.stored] == [0]
    async with folder.life(DOOR) as sink:
        # The source is not sure of the last one, and hands it over again.
        await sink.put(block_of(at(second, 5.0) for second in range(20, 30)))
        await sink.put(block_of([at(9, 18.0)]))
    async with folder.life(DOOR) as sink:
        await sink.look()
    assert [(row.source_time - BEGIN) // S for row in folder.stored] == [0, 9, 20, 29]
    assert folder.repeats == 1
    async with folder.life() as sink:
        assert not [key for key in sink.saved if "held" in key]


@pytest.mark.parametrize("rules", [(), ({"signal": "other", "deadband": {}},)])
async def test_a_rule_that_is_gone_leaves_nothing_behind(tmp_path: Path, rules: Any) -> None:
    folder = Folder(tmp_path)
    async with folder.life(DOOR) as sink:
        await sink.put(block_of([at(0, 1.0), at(1, 2.0)]))
    async with folder.life(*rules) as sink:
        await sink.put(block_of([at(2, 3.0)]))
        assert sink.saved == {}
    assert values(folder.stored) == [1.0, 2.0, 3.0]


async def test_a_put_that_was_cancelled_and_stored_is_handed_over_again_and_stored_once(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    samples = [at(second, float(second % 7)) for second in range(50)]
    async with folder.life({"deadband": {"absolute": 2}}) as sink:
        await sink.put(block_of(samples[:20]))
        cancelled = asyncio.create_task(sink.put(block_of(samples[20:35])))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await sink.put(block_of(samples[20:]))
    assert cancelled.cancelled()
    whole = Folder(tmp_path / "whole")
    async with whole.life({"deadband": {"absolute": 2}}) as sink:
        await sink.put(block_of(samples))
    assert folder.stored == whole.stored
