"""The stage in its place: between a source and a real buffer, with failures, cancellations and restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from edge_agent import sink as sink_module
from edge_agent.buffer import Parcel
from edge_agent.processing.stage import Moment
from edge_agent.processing.step import NOTHING
from shopfloor.block import SampleBlock, block_of
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SourceState
from shopfloor.signal import SeriesKey
from tests.unit.processing_folder import SCOPE, Folder, make
from tests.unit.processing_runs import ASSET, BEGIN, S, at, values

DOOR: Final = {"swinging_door": {"deviation": 0.5}}


class Disk:
    """Stands for the intake: keeps parcels, or refuses them."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.full = False

    async def put(self, parcel: Parcel) -> None:
        if self.full:
            raise StoreUnavailable("full")
        self.parcels.append(parcel)


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


@pytest.mark.parametrize("block", [NOTHING, block_of([at(11, 1.0, key=SeriesKey(ASSET, "w"))])])
@pytest.mark.parametrize(("protocol", "verdict"), [("opcua", "unchanged"), ("mqtt", "stale")])
async def test_a_notification_of_opc_ua_confirms_what_it_does_not_change(
    protocol: str, verdict: str, block: SampleBlock
) -> None:
    disk = Disk()
    sink = make(disk, {"signal": "v", "freshness_s": 10}, protocol=protocol)
    sink.report(SourceState.RUNNING)
    await sink.put(block_of([at(0, 1.0)]))
    sink.moment = lambda: Moment(BEGIN + 11 * S, 11 * S)
    await sink.put(block, {"mark": b"1"})
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
