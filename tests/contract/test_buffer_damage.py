"""What a damaged file costs: nothing where there is a second copy, and else what lay there, which is recorded."""

import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.buffer import Parcel, WhenFull
from edge_agent.buffer.file import BufferFile
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane, SpanKind
from tests.contract.buffer_contract import samples, times_of


def _open(folder: Path) -> SqliteBuffer:
    return SqliteBuffer(folder, BufferLimits(disk_reserve_bytes=0), "agent-1")


def _filled(folder: Path, count: int = 400) -> None:
    buffer = _open(folder)
    for time in range(count):
        buffer.append([Parcel(samples([time], series=time % 4), "scope", {"k": b"%d" % time})])
    buffer.close()


def _without_copy(folder: Path) -> None:
    """Leave what an agent without a mirror leaves, or one whose mirror has gone on to newer rows."""
    for file in folder.glob("*.recent*"):
        file.unlink()


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


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_damaged_page_costs_what_lay_in_it_and_no_more(tmp_path: Path, mirrored: bool) -> None:
    _filled(tmp_path)
    if not mirrored:
        _without_copy(tmp_path)
    path = tmp_path / FILE_NAME
    page = 4096
    assert path.stat().st_size > 15 * page
    _overwrite(path, 12 * page, b"\xa5" * page)
    buffer = _open(tmp_path)
    left = times_of(buffer, Lane.BACKLOG)
    spans = [span for span in buffer.spans(100) if span.count]
    gone = [seq - 1 for span in spans for seq in range(span.first_seq, span.last_seq + 1)]
    assert bool(gone) is not mirrored
    assert len(left) > 300
    assert sorted(left + gone) == list(range(400)), "each sample is either readable or accounted for"
    assert list(tmp_path.glob("*.damaged-*"))
    assert not list(tmp_path.glob("*.repaired*"))
    buffer.close()


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_row_whose_bytes_changed_is_restored_or_given_up_and_recorded(
    tmp_path: Path, mirrored: bool
) -> None:
    _filled(tmp_path, 10)
    if not mirrored:
        _without_copy(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute(
            "UPDATE block SET payload = CAST(zeroblob(length(payload)) AS BLOB) WHERE first_seq = 4"
        )
    database.close()
    buffer = _open(tmp_path)
    left = times_of(buffer, Lane.BACKLOG)
    spans = [(span.first_seq, span.last_seq, span.count) for span in buffer.spans(10)]
    assert buffer.stats().damaged_rows_total == 1
    if mirrored:
        assert (left, spans) == (list(range(10)), [])
    else:
        assert (left, spans) == ([0, 1, 2, 4, 5, 6, 7, 8, 9], [(4, 4, 1)])
        assert len(list(tmp_path.glob("damaged-*.bin"))) == 1
    buffer.close()


@pytest.mark.parametrize("whole_page", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_what_a_damaged_page_held_of_the_past_is_a_repeat_all_the_same(
    tmp_path: Path, running: bool, whole_page: bool
) -> None:
    _filled(tmp_path)
    buffer = _open(tmp_path)
    assert times_of(buffer, Lane.BACKLOG) == list(range(400))
    buffer.append([Parcel(samples([400]))])
    if not running:
        buffer.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    _overwrite(
        tmp_path / FILE_NAME, 12 * 4096 + (0 if whole_page else 3000), b"\xa5" * (4096 if whole_page else 200)
    )
    if not running:
        buffer = _open(tmp_path)
    elif whole_page:
        # As a checkpoint or a backup would find it.
        buffer._holding.file.close()
        buffer._holding._repair("the page was read")
        buffer._holding.new_stream()
    again = [Parcel(samples([time], series=time % 4)) for time in range(400)]
    buffer.append([*again, Parcel(samples([500]))])
    assert buffer.stats().repeats_total == 400
    left = [time for lane in (Lane.BACKLOG, Lane.LIVE) for time in times_of(buffer, lane)]
    assert left == [400, 500]
    buffer.close()


def test_what_was_dropped_does_not_come_back_with_a_repair(tmp_path: Path) -> None:
    limits = BufferLimits(10_000, 0, WhenFull.DROP_NEWEST, 10)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1")
    for time in range(200):
        buffer.append([Parcel(samples([time], series=time % 4))])
    buffer.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'block'").fetchone()
    database.close()
    _overwrite(tmp_path / FILE_NAME, (root - 1) * 4096, b"\xa5" * 4096)
    buffer = SqliteBuffer(tmp_path, limits, "agent-1")
    left = set(times_of(buffer, Lane.BACKLOG))
    spans = [span for span in buffer.spans(1_000) if span.reason == "buffer full"]
    gone = {seq - 1 for span in spans for seq in range(span.first_seq, span.last_seq + 1)}
    assert 199 in gone, "the newest goes, and the newest is what a copy is kept of"
    assert left.isdisjoint(gone)
    buffer.close()


def test_a_span_record_that_can_not_be_read_hinders_no_repair(tmp_path: Path) -> None:
    _filled(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute(
            "INSERT INTO span(record_id, body) VALUES ('a', CAST('\xa5' AS BLOB)), ('b', 'text')"
        )
    database.close()
    _overwrite(tmp_path / FILE_NAME, 12 * 4096, b"\xa5" * 4096)
    buffer = _open(tmp_path)
    assert times_of(buffer, Lane.BACKLOG) == list(range(400))
    (span,) = buffer.spans(10)
    assert span.at_least
    buffer.close()


def test_a_repair_that_finds_no_room_leaves_the_file_for_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _filled(tmp_path)
    _overwrite(tmp_path / FILE_NAME, 12 * 4096, b"\xa5" * 4096)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patches:
        patches.setattr(BufferFile, "take_over", full)
        with pytest.raises(StoreUnavailable, match="full"):
            _open(tmp_path)
    buffer = _open(tmp_path)
    assert times_of(buffer, Lane.BACKLOG) == list(range(400))
    buffer.close()


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_a_kill_amid_a_repair_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    _filled(tmp_path)
    _overwrite(tmp_path / FILE_NAME, 12 * 4096, b"\xa5" * 4096)
    real, done = Path.rename, 0

    class Killed(BaseException):
        pass

    def rename(path: Path, to: Path) -> Path:
        nonlocal done
        if done == moved - 1:
            raise Killed
        done += 1
        return real(path, to)

    with monkeypatch.context() as patches:
        patches.setattr(Path, "rename", rename)
        with suppress(Killed):
            _open(tmp_path).close()
    buffer = _open(tmp_path)
    assert times_of(buffer, Lane.BACKLOG) == list(range(400))
    buffer.append([Parcel(samples([time], series=time % 4)) for time in range(400)])
    assert buffer.stats().repeats_total == 400
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
