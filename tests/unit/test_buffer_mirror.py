"""The second copy of the newest rows: what it gives back, and what a disk may do to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.buffer.mirror import Copy, Mirror
from shopfloor import wire
from tests.contract.buffer_contract import samples

ROWS = [
    Copy(1, "stream-a", seq - 1, seq, 3, wire.encode_block(samples([seq, seq + 1, seq + 2])))
    for seq in range(1, 91, 3)
]


def _checkpoint() -> bytes:
    return b"checkpoint"


def _mirror(folder: Path, generation_bytes: int = 2**20) -> Mirror:
    return Mirror(folder / "buffer", generation_bytes)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("buffer.recent*"))


def test_it_gives_back_what_was_written_also_to_a_later_life(tmp_path: Path) -> None:
    mirror = _mirror(tmp_path)
    mirror.write(ROWS[:10], _checkpoint)
    mirror.close()
    again = _mirror(tmp_path)
    again.write(ROWS[10:], _checkpoint)
    assert again.copies().rows == ROWS
    assert again.copies().checkpoint == b"checkpoint"
    found = again.find("stream-a", 4, 6)
    assert found is not None
    assert found.source_time.tolist() == [4, 5, 6, 7, 8, 9]
    for stream, first, count in (("stream-a", 4, 5), ("stream-a", 5, 3), ("stream-a", 89, 6), ("b", 4, 6)):
        assert again.find(stream, first, count) is None
    again.close()


def test_it_is_bounded_and_each_file_begins_with_all_series(tmp_path: Path) -> None:
    mirror = _mirror(tmp_path, 500)
    made = []
    for number, row in enumerate(ROWS):
        mirror.write([row], lambda: made.append(number) or b"%d" % number)  # type: ignore[func-returns-value]  # noqa: B023
    assert len(made) > 3
    assert [file.name for file in _files(tmp_path)] == ["buffer.recent", "buffer.recent-old"]
    assert all(file.stat().st_size < 1_000 for file in _files(tmp_path))
    found = mirror.copies()
    assert found.rows == ROWS[-len(found.rows) :]
    assert found.checkpoint == b"%d" % made[-1]
    mirror.shrink()
    assert [file.name for file in _files(tmp_path)] == ["buffer.recent"]
    mirror.clear()
    assert _files(tmp_path) == []
    mirror.close()


def test_a_row_that_was_dropped_is_not_given_back(tmp_path: Path) -> None:
    mirror = _mirror(tmp_path)
    mirror.write(ROWS, _checkpoint)
    mirror.write([Copy(0, "stream-a", 0, 4, 6, b""), Copy(0, "stream-b", 0, 13, 6, b"")], _checkpoint)
    assert mirror.copies().rows == [ROWS[0], *ROWS[3:]]
    mirror.close()


@given(st.integers(0, 4_000), st.integers(1, 300))
def test_what_is_overwritten_costs_what_lies_there_alone(
    tmp_path_factory: pytest.TempPathFactory, place: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("mirror")
    mirror = _mirror(folder)
    mirror.write(ROWS, _checkpoint)
    mirror.close()
    (path,) = _files(folder)
    data = path.read_bytes()
    record = len(data) // (len(ROWS) + 1)
    path.write_bytes(data[:place] + b"\xa5" * size + data[place + size :])
    found = _mirror(folder).copies().rows
    assert [row for row in ROWS if row in found] == found
    assert len(ROWS) - len(found) <= size // record + 2


def test_a_record_that_was_cut_off_does_not_hide_those_behind_it(tmp_path: Path) -> None:
    mirror = _mirror(tmp_path)
    mirror.write(ROWS[:2], _checkpoint)
    mirror.close()
    (path,) = _files(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    mirror.write(ROWS[2:4], _checkpoint)
    assert mirror.copies().rows == [ROWS[0], *ROWS[2:4]]
    mirror.close()


def test_what_a_full_disk_refuses_goes_with_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = _mirror(tmp_path)
    mirror.write(ROWS[:3], _checkpoint)
    with monkeypatch.context() as patches:
        real = os.write

        def half(file: int, data: memoryview) -> int:
            if len(data) < 20:
                raise OSError("No space left on device")
            return real(file, data[:10])

        patches.setattr(os, "write", half)
        for row in ROWS[3:6]:
            mirror.write([row], _checkpoint)
        assert mirror.copies().rows == ROWS[:3]
    mirror.write([ROWS[6]], _checkpoint)
    assert mirror.copies().rows == ROWS[:7]
    mirror.close()


def test_a_disk_that_stays_full_leaves_no_copy_rather_than_one_with_a_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.buffer.mirror._MAX_UNWRITTEN_BYTES", 500)
    mirror = _mirror(tmp_path)
    mirror.write(ROWS[:3], _checkpoint)
    with monkeypatch.context() as patches:

        def refuse(*_: object) -> int:
            raise OSError("No space left on device")

        patches.setattr(os, "write", refuse)
        for row in ROWS[3:20]:
            mirror.write([row], _checkpoint)
    assert mirror.copies().rows == []
    mirror.write(ROWS[20:], _checkpoint)
    assert mirror.copies().rows[-10:] == ROWS[20:]
    mirror.close()
