"""SqliteBuffer keeps the contract, and what only a file can show: damage, a full disk."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from edge_agent.buffer import Buffer, Parcel, WhenFull
from edge_agent.buffer.reading import BufferReader
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor import wire
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane
from tests.contract.buffer_contract import BufferContract, samples, texts, times_of

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


def test_a_full_disk_acknowledges_nothing_and_loses_nothing(tmp_path: Path) -> None:
    buffer = _open(tmp_path)
    buffer.append([Parcel(samples([1]))])
    pages = buffer._holding.file._db.execute("PRAGMA page_count").fetchone()[0]
    buffer._holding.file._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        for time in range(2, 5000):
            buffer.append([Parcel(samples([time]))])
    taken = buffer.stats().appended_samples_total
    buffer._holding.file._db.execute("PRAGMA max_page_count = 1000000")
    # The one that failed is not called a repeat now.
    buffer.append([Parcel(samples([taken + 1]))])
    assert times_of(buffer) == list(range(1, taken + 2))
    assert buffer.stats().repeats_total == 0
    buffer.close()


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        _open(tmp_path / "file")


def test_a_commit_is_on_the_disk_and_readers_wait_for_nobody(tmp_path: Path) -> None:
    buffer = _open(tmp_path)
    for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2)):
        assert buffer._holding.file._db.execute(f"PRAGMA {pragma}").fetchone()[0] == expected
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
    monkeypatch.setattr("edge_agent.buffer.holding._IDLE_COMMIT_S", 0.0)
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
    monkeypatch.setattr("edge_agent.buffer.bounds._MAINTENANCE_APPENDS", 32)
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
    rows = list(buffer._holding.rows.newest_first())
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
    monkeypatch.setattr("edge_agent.buffer.bounds._MAINTENANCE_APPENDS", 32)
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
