"""The size of a buffer and the reserve of its disk: what gives way, and what comes back to the disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.buffer import Buffer, Parcel, WhenFull
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from tests.contract.buffer_contract import SERIES, samples, times_of


def test_the_disk_reserve_counts_as_full(tmp_path: Path) -> None:
    limits = BufferLimits(disk_reserve_bytes=1000, floor_bytes=0)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1", free_bytes=lambda _: 999)
    for time in range(20):
        buffer.append([Parcel(samples([time]))])
    spans = buffer.spans(100)
    assert {span.reason for span in spans} == {"disk reserve reached"}
    buffer.close()


def _disk(folder: Path, size: int) -> Callable[[Path], int]:
    """A disk of ``size`` bytes on which nothing but the buffer lies."""
    return lambda _: size - sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the buffer look at the disk with every append."""
    monkeypatch.setattr("edge_agent.buffer.room._DISK_CHECK_INTERVAL_S", 0.0)


def _noise(first: int, count: int) -> SampleBlock:
    """Samples that can't be compressed, at times from ``first`` on."""
    values = np.random.default_rng(first).random(count)
    return make_block(SERIES, np.zeros(count, int), np.arange(first, first + count), first, values)


def _deliver_all(buffer: Buffer) -> list[int]:
    times: list[int] = []
    while (batch := buffer.peek(10_000)) is not None:
        times += batch.block.source_time.tolist()
        buffer.commit(batch.stream_id, batch.last_seq)
    return times


def test_nothing_is_dropped_for_space_that_delivered_rows_give_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unhurried(monkeypatch)
    size = 12_000_000
    limits = BufferLimits(disk_reserve_bytes=100_000)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1", free_bytes=_disk(tmp_path, size))
    delivered: list[int] = []
    for number in range(100):
        buffer.append([Parcel(_noise(20_000 * number, 20_000))])
        delivered += _deliver_all(buffer)
    assert buffer.stats().appended_bytes_total > size, "more came than the disk has room for"
    assert buffer.stats().dropped_samples_total == 0
    assert delivered == list(range(2_000_000))
    buffer.close()


def test_what_is_on_its_way_has_a_place_though_others_have_filled_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unhurried(monkeypatch)
    buffer = SqliteBuffer(tmp_path, BufferLimits(), "agent-1", free_bytes=lambda _: 0)
    for number in range(20):
        buffer.append([Parcel(samples([number]))])
    assert times_of(buffer) == list(range(20))
    assert buffer.spans(10) == []
    buffer.close()


@pytest.mark.parametrize("policy", WhenFull)
def test_the_reserve_of_the_disk_stays_free_whatever_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: WhenFull
) -> None:
    _unhurried(monkeypatch)
    reserve = 2_000_000
    free = _disk(tmp_path, 12_000_000)
    limits = BufferLimits(disk_reserve_bytes=reserve, when_full=policy, floor_bytes=0)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1", free_bytes=free)
    taken, waits = 0, []
    for number in range(80):
        try:
            taken = buffer.append([Parcel(_noise(20_000 * number, 20_000))]).seq
        except StoreUnavailable as error:
            waits.append(error.retry_after_s)
            break
    assert waits == ([1.0] if policy is WhenFull.BLOCK else [])
    # Until the reserve is found touched, one transaction and its log may go beyond.
    assert free(tmp_path) > reserve - 5_000_000
    spans = buffer.spans(9999)
    left = _deliver_all(buffer)
    gone = {seq - 1 for span in spans for seq in range(span.first_seq, span.last_seq + 1)}
    assert bool(gone) is (policy is not WhenFull.BLOCK)
    assert {span.reason for span in spans} <= {"disk reserve reached"}
    assert gone | set(left) == set(range(taken))
    assert gone.isdisjoint(left)
    assert max(left) == taken - 1 if policy is not WhenFull.DROP_NEWEST else min(left) == 0
    buffer.close()


def test_free_pages_go_back_to_a_disk_that_is_short(tmp_path: Path) -> None:
    free = 10**9
    limits = BufferLimits(disk_reserve_bytes=10**6, repeat_window_samples=1_000)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1", free_bytes=lambda _: free)
    buffer.append([Parcel(_noise(0, 100_000))])
    assert len(_deliver_all(buffer)) == 100_000
    buffer._bounds.trim()
    buffer._holding.file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = (tmp_path / FILE_NAME).stat().st_size
    free = 0
    buffer._bounds.trim()
    assert (tmp_path / FILE_NAME).stat().st_size < before / 4
    buffer.close()


def test_what_is_left_counts_what_gives_way_and_the_disks_reserve(tmp_path: Path) -> None:
    limits = BufferLimits(max_bytes=1_000_000, disk_reserve_bytes=5_000)
    free = 10**9
    buffer = SqliteBuffer(tmp_path, limits, "agent-1", free_bytes=lambda _: free)
    buffer.append([Parcel(samples(list(range(100))))])
    stats = buffer.stats()
    assert stats.pending_bytes == stats.used_bytes > 0
    assert stats.left_bytes == 1_000_000 - stats.pending_bytes
    times_of(buffer)
    stats = buffer.stats()
    assert (stats.pending_bytes, stats.left_bytes) == (0, 1_000_000)
    assert stats.used_bytes > 0, "kept for the repeats"
    free = 6_000
    inside = buffer._holding.file.free_bytes()
    assert buffer.stats().left_bytes == 1_000 + inside + stats.used_bytes
    buffer.close()
