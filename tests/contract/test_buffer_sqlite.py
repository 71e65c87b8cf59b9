"""SqliteBuffer keeps the contract, and what only a file can show: damage, a full disk."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.buffer import Buffer, Parcel, WhenFull
from edge_agent.buffer.reading import BufferReader
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor import wire
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane, SpanKind
from tests.contract.buffer_contract import SERIES, BufferContract, samples, texts, times_of

CASES = Path(__file__).parents[1] / "cases" / "buffer"


class TestSqliteBuffer(BufferContract):
    def open(
        self,
        folder: Path,
        *,
        max_bytes: int = 2**30,
        when_full: WhenFull = WhenFull.DROP_OLDEST,
        window: int = 1000,
    ) -> Buffer:
        limits = BufferLimits(max_bytes, 0, when_full, window)
        return SqliteBuffer(folder, limits, "agent-1")


def _open(folder: Path) -> SqliteBuffer:
    return SqliteBuffer(folder, BufferLimits(disk_reserve_bytes=0), "agent-1")


def _filled(folder: Path, count: int = 400) -> None:
    buffer = _open(folder)
    for time in range(count):
        buffer.append([Parcel(samples([time], series=time % 4), "scope", {"k": b"%d" % time})])
    buffer.close()


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 1000)
    buffer = _open(tmp_path)
    buffer.append([Parcel(samples([1]))])
    assert times_of(buffer) == [1]
    (span,) = buffer.spans(10)
    assert (span.kind, span.at_least, span.count) == (SpanKind.DROPPED, True, 0)
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")
    buffer.close()


def test_a_damaged_page_costs_what_lay_in_it_and_no_more(tmp_path: Path) -> None:
    _filled(tmp_path)
    path = tmp_path / FILE_NAME
    page = 4096
    assert path.stat().st_size > 15 * page
    _overwrite(path, 12 * page, b"\xa5" * page)
    buffer = _open(tmp_path)
    left = times_of(buffer, Lane.BACKLOG)
    spans = [span for span in buffer.spans(100) if span.count]
    gone = [seq - 1 for span in spans for seq in range(span.first_seq, span.last_seq + 1)]
    assert gone
    assert len(left) > 300
    assert sorted(left + gone) == list(range(400)), "each sample is either readable or accounted for"
    assert list(tmp_path.glob("*.damaged-*"))
    buffer.close()


def test_a_row_whose_bytes_changed_is_given_up_and_recorded(tmp_path: Path) -> None:
    _filled(tmp_path, 10)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute(
            "UPDATE block SET payload = CAST(zeroblob(length(payload)) AS BLOB) WHERE first_seq = 4"
        )
    database.close()
    buffer = _open(tmp_path)
    assert times_of(buffer, Lane.BACKLOG) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    (span,) = buffer.spans(10)
    assert (span.first_seq, span.last_seq, span.count) == (4, 4, 1)
    assert len(list(tmp_path.glob("damaged-*.bin"))) == 1
    buffer.close()


def test_a_cut_off_file_is_repaired(tmp_path: Path) -> None:
    _filled(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    buffer = _open(tmp_path)
    buffer.append([Parcel(samples([10_000]))])
    assert times_of(buffer) == [10_000]
    assert any(span.kind is SpanKind.DROPPED for span in buffer.spans(10))
    buffer.close()


def test_a_full_disk_acknowledges_nothing_and_loses_nothing(tmp_path: Path) -> None:
    buffer = _open(tmp_path)
    buffer.append([Parcel(samples([1]))])
    pages = buffer._file._db.execute("PRAGMA page_count").fetchone()[0]
    buffer._file._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        for time in range(2, 5000):
            buffer.append([Parcel(samples([time]))])
    taken = buffer.stats().appended_samples_total
    buffer._file._db.execute("PRAGMA max_page_count = 1000000")
    # The one that failed is not called a repeat now.
    buffer.append([Parcel(samples([taken + 1]))])
    assert times_of(buffer) == list(range(1, taken + 2))
    assert buffer.stats().repeats_total == 0
    buffer.close()


def test_the_disk_reserve_counts_as_full(tmp_path: Path) -> None:
    limits = BufferLimits(disk_reserve_bytes=1000, floor_bytes=0)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1", free_bytes=lambda _: 999)
    for time in range(20):
        buffer.append([Parcel(samples([time]))])
    spans = buffer.spans(100)
    assert {span.reason for span in spans} == {"disk reserve reached"}
    buffer.close()


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        _open(tmp_path / "file")


def test_a_commit_is_on_the_disk_and_readers_wait_for_nobody(tmp_path: Path) -> None:
    buffer = _open(tmp_path)
    for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2)):
        assert buffer._file._db.execute(f"PRAGMA {pragma}").fetchone()[0] == expected
    buffer.close()


def test_a_stream_whose_row_is_damaged_keeps_its_name_and_its_numbers(tmp_path: Path) -> None:
    _filled(tmp_path)
    path = tmp_path / FILE_NAME
    with sqlite3.connect(path) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'stream'").fetchone()
        (name,) = database.execute("SELECT stream_id FROM stream").fetchone()
    database.close()
    _overwrite(path, (root - 1) * 4096, b"\xa5" * 4096)
    buffer = _open(tmp_path)
    batch = buffer.peek(1000, Lane.BACKLOG)
    assert batch is not None
    assert (batch.stream_id, batch.first_seq, len(batch.block)) == (name, 1, 400)
    (span,) = buffer.spans(10)
    assert (span.count, span.at_least) == (0, True)
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
    buffer._trim()
    buffer._file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = (tmp_path / FILE_NAME).stat().st_size
    free = 0
    buffer._trim()
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
    inside = buffer._file.free_bytes()
    assert buffer.stats().left_bytes == 1_000 + inside + stats.used_bytes
    buffer.close()


def test_a_file_of_this_schema_opens_in_all_later_code(tmp_path: Path) -> None:
    shutil.copy(CASES / "schema-1.sqlite3", tmp_path / FILE_NAME)
    buffer = SqliteBuffer(tmp_path, BufferLimits(disk_reserve_bytes=0, repeat_window_samples=100), "agent")
    assert buffer.state("opcua press") == {"read_through": b"1002"}
    (span,) = buffer.spans(10)
    assert (span.record_id, span.source, span.at_least) == ("gap-1", "press", True)
    first = buffer.peek(100, Lane.BACKLOG)
    assert first is not None
    assert (first.first_seq, first.block.source_time.tolist()) == (302, [1001, 1002])
    buffer.commit(first.stream_id, first.last_seq)
    second = buffer.peek(100, Lane.BACKLOG)
    assert second is not None
    assert second.stream_id != first.stream_id
    assert (second.first_seq, second.block.source_time.tolist()) == (1, [2000, 2001])
    assert dict(second.block.text) == {0: "Werkzeugwechsel", 1: "läuft"}
    # The newest of the second series stands in the checkpoint alone, if at all in a row.
    buffer.append([Parcel(samples([299], series=1)), Parcel(samples([1002])), Parcel(texts({2001: "läuft"}))])
    assert buffer.stats().repeats_total == 3
    assert list(tmp_path.glob("*damaged*")) == []
    buffer.close()


def test_a_file_of_a_later_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    _filled(tmp_path, 10)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreUnavailable, match=r"buffer\.sqlite3: .*later version \(schema 99"):
        _open(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if "damaged" in path.name] == []
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    buffer = _open(tmp_path)
    assert len(times_of(buffer, Lane.BACKLOG)) == 10
    buffer.close()


def test_numbers_of_rows_given_out_again_do_not_hide_rows_from_the_index(tmp_path: Path) -> None:
    limits = BufferLimits(20_000, 0, WhenFull.DROP_NEWEST, 20)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1")
    for time in range(400):
        buffer.append([Parcel(samples([time]))])
    times_of(buffer)
    buffer.append([Parcel(samples([7], series=1))])
    for time in range(1000, 1100):
        buffer.append([Parcel(samples([time]))])
    buffer.close()
    again = SqliteBuffer(tmp_path, limits, "agent-1")
    again.append([Parcel(samples([7], series=1))])
    assert again.stats().repeats_total == 1
    again.close()


def test_what_was_delivered_is_written_down_also_when_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.buffer.sqlite._IDLE_COMMIT_S", 0.0)
    buffer = _open(tmp_path)
    buffer.append([Parcel(samples([1, 2, 3]))])
    assert times_of(buffer) == [1, 2, 3]
    with BufferReader(tmp_path / FILE_NAME) as reader:
        (stream,) = reader.streams()
    assert (stream.committed, stream.pending_samples) == (3, 0)
    buffer.close()


def test_a_long_outage_in_small_commits_leaves_few_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.buffer.sqlite._MAINTENANCE_APPENDS", 32)
    buffer = _open(tmp_path)
    for time in range(330):
        buffer.append(
            [Parcel(texts({time: f"text {time}"}) if time % 5 else samples([time], series=time % 4))]
        )
        if time == 100:
            batch = buffer.peek(40)
            assert batch is not None
            buffer.commit(batch.stream_id, 20)
            batch = buffer.peek(40)
    rows = list(buffer._held.newest_first())
    assert len(rows) < 110
    assert sum(row.size for row in rows) == buffer.stats().used_bytes
    assert buffer.stats().pending_samples == 310
    with BufferReader(tmp_path / FILE_NAME) as reader:
        (stream,) = reader.streams()
        assert (stream.pending_samples, stream.used_bytes) == (310, buffer.stats().used_bytes)
        assert [
            n for row in reader.pending() for n in range(row.first_seq, row.first_seq + row.count)
        ] == list(range(21, 331))
    buffer.close()
    again = _open(tmp_path)
    assert again.stats().used_bytes == sum(row.size for row in rows)
    assert times_of(again, Lane.BACKLOG) == list(range(20, 330))
    again.append([Parcel(samples([time], series=time % 4)) for time in range(0, 330, 5)])
    assert again.stats().repeats_total == 66
    again.close()


def test_an_export_is_not_confused_by_rows_that_are_merged_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.buffer.sqlite._MAINTENANCE_APPENDS", 32)
    buffer = _open(tmp_path)
    for time in range(30):
        buffer.append([Parcel(samples([time]))])
    with BufferReader(tmp_path / FILE_NAME) as reader:
        rows = reader.pending()
        seen = [next(rows) for _ in range(10)]
        for time in range(30, 40):
            buffer.append([Parcel(samples([time]))])
        seen += rows
    assert len(seen) < 30
    assert [time for row in seen if row.block is not None for time in row.block.source_time.tolist()] == list(
        range(40)
    )
    buffer.close()


def test_a_crash_after_a_refusal_does_not_bring_the_batch_back(tmp_path: Path) -> None:
    buffer = _open(tmp_path / "before")
    buffer.append([Parcel(samples([1, 2, 3]))])
    batch = buffer.peek(2)
    assert batch is not None
    buffer.quarantine(batch, "because")
    # What a SIGKILL leaves: nothing is written on the way out.
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    buffer.close()
    again = _open(tmp_path / "after")
    assert times_of(again, Lane.BACKLOG) == [3]
    (span,) = again.spans(10)
    assert (span.first_seq, span.last_seq) == (1, 2)
    (file,) = (tmp_path / "after" / "quarantine").iterdir()
    assert wire.decode_batch(file.read_bytes()).block.source_time.tolist() == [1, 2]
    again.close()
