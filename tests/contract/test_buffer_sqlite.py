"""SqliteBuffer keeps the contract, and what only a file can show: damage, a full disk."""

import sqlite3
from pathlib import Path

import pytest

from edge_agent.buffer import Buffer, Parcel, WhenFull
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane, SpanKind
from tests.contract.buffer_contract import BufferContract, samples, times_of


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
    limits = BufferLimits(disk_reserve_bytes=1000)
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
