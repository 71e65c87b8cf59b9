"""Hot files: whatever goes in comes out, whatever a commit left that failed does not count, damage costs its frame alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.stores.duckdb_hot import HotFiles, hot_folder, name_of
from ingest_service.stores.duckdb_hot_file import Hot
from ingest_service.stores.duckdb_hot_frame import HEADER_BYTES, encode, header_of, is_sound
from ingest_service.stores.duckdb_hot_wanted import ALWAYS
from ingest_service.stores.duckdb_rows import Rows, concat_rows
from ingest_service.stores.shapes import TimeSpan
from shopfloor.errors import StoreUnavailable

BEGIN = Hot(1, 0, 0)
LARGE = 5000


def some_rows(seed: int, n: int, *, texts: bool = False, same: bool = True) -> Rows:
    rng = np.random.default_rng(seed)
    text = None
    if texts:
        text = np.array([f"job {row} äöü" if row % 3 else None for row in range(n)], object)
    return Rows(
        rng.integers(1, 50, n).astype(np.uint32),
        rng.integers(-(10**6), 10**6, n),
        rng.integers(0, 10**6, n),
        rng.normal(size=n),
        np.zeros(n, np.uint8) if same else rng.integers(0, 3, n).astype(np.uint8),
        np.full(n, 7, np.uint32) if same else rng.integers(0, 2**32, n).astype(np.uint32),
        text,
    )


def assert_same(got: Rows, expected: Rows) -> None:
    for name in Rows._fields[:6]:
        assert getattr(got, name).tobytes() == getattr(expected, name).tobytes(), name
        assert getattr(got, name).dtype == getattr(expected, name).dtype
    texts = [None] * got.n if got.text is None else got.text.tolist()
    assert texts == ([None] * expected.n if expected.text is None else expected.text.tolist())


@pytest.fixture
def files(tmp_path: Path) -> Iterator[HotFiles]:
    made = HotFiles(tmp_path / "samples")
    made.begin(1)
    yield made
    made.close()


def path_of(tmp_path: Path, number: int = 1) -> Path:
    return hot_folder(tmp_path / "samples") / name_of(number)


def append_all(files: HotFiles, groups: list[Rows], end: Hot = BEGIN) -> Hot:
    for rows in groups:
        end = files.append(end, rows)
    return end


MIXED = [
    some_rows(1, 3),
    some_rows(2, LARGE, same=False),
    some_rows(3, 10, texts=True),
    some_rows(4, 1, same=False),
    some_rows(5, LARGE, texts=True),
    some_rows(6, 7),
]


@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans(), st.booleans())
def test_a_frame_says_what_went_in(seed: int, n: int, texts: bool, same: bool) -> None:
    header, pieces = encode(some_rows(seed, n, texts=texts, same=same))
    frame = b"".join(pieces)
    assert len(frame) == header.bytes
    assert header.bytes % 8 == 0
    assert header_of(frame[:HEADER_BYTES]) == header
    assert is_sound(frame, header)
    spoilt = bytearray(frame)
    spoilt[8 + seed % (len(frame) - 8)] ^= 1
    assert not is_sound(bytes(spoilt), header)


def test_what_goes_in_comes_out_in_this_process_and_in_the_next(files: HotFiles, tmp_path: Path) -> None:
    end = append_all(files, MIXED)
    assert end == Hot(1, path_of(tmp_path).stat().st_size, sum(rows.n for rows in MIXED))
    assert_same(files.rows([end]), concat_rows(MIXED))
    again = HotFiles(tmp_path / "samples")
    assert_same(again.rows([end]), concat_rows(MIXED))
    more = again.append(end, some_rows(9, 5))
    assert_same(again.rows([more]), concat_rows([*MIXED, some_rows(9, 5)]))
    again.close()


@pytest.mark.parametrize("ids", [[3], [3, 7, 11, 49], list(range(1, 30)), [48, 60, 5000]])
@pytest.mark.parametrize("span", [ALWAYS, TimeSpan(-1000, 500_000), TimeSpan(2 * 10**6, 3 * 10**6)])
def test_some_series_and_a_span(files: HotFiles, ids: list[int], span: TimeSpan) -> None:
    end = append_all(files, MIXED)
    everything = concat_rows(MIXED)
    expected = np.isin(everything.series_id, ids)
    expected &= (everything.source_time >= span.from_ns) & (everything.source_time < span.to_ns)
    assert_same(files.rows([end], np.array(ids, np.uint32), span), everything.take(np.flatnonzero(expected)))
    inside = (everything.source_time >= span.from_ns) & (everything.source_time < span.to_ns)
    counted = np.concatenate([np.empty(0, np.uint32), *files.series_of([end], span)])
    assert counted.tolist() == everything.series_id[inside].tolist()


@pytest.mark.parametrize("failed", [some_rows(20, 6), some_rows(20, LARGE), some_rows(20, 6, texts=True)])
def test_a_commit_that_failed_does_not_count(files: HotFiles, tmp_path: Path, failed: Rows) -> None:
    end = append_all(files, MIXED[:2] + MIXED[5:])
    files.append(end, failed)
    assert_same(files.rows([end]), concat_rows(MIXED[:2] + MIXED[5:]))
    after = append_all(files, [some_rows(21, 4)], end)
    expected = concat_rows([*MIXED[:2], *MIXED[5:], some_rows(21, 4)])
    assert_same(files.rows([after]), expected)
    again = HotFiles(tmp_path / "samples")
    assert_same(again.rows([after]), expected)
    assert again.problems([after]) == []
    again.close()


def test_a_reader_keeps_its_moment(files: HotFiles) -> None:
    first = append_all(files, MIXED[:1])
    second = append_all(files, [some_rows(3, 2000, texts=True)], first)
    assert_same(files.rows([first]), MIXED[0])
    assert files.rows([second]).n == 2003


@pytest.mark.parametrize(
    "byte", [0, 5, 8, 19, HEADER_BYTES + 2], ids=["magic", "crc", "length", "rows", "column"]
)
@pytest.mark.parametrize("damaged", range(len(MIXED)))
def test_damage_costs_its_frame_alone(
    files: HotFiles, tmp_path: Path, damaged: int, byte: int, caplog: pytest.LogCaptureFixture
) -> None:
    begin = append_all(files, MIXED[:damaged])
    append_all(files, MIXED[damaged:], begin)
    end = Hot(1, path_of(tmp_path).stat().st_size, sum(rows.n for rows in MIXED))
    with path_of(tmp_path).open("r+b") as file:
        file.seek(begin.bytes + byte)
        sound = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([sound ^ 16]))
    again = HotFiles(tmp_path / "samples")
    left = concat_rows(MIXED[:damaged] + MIXED[damaged + 1 :])
    assert_same(again.rows([end]), left)
    assert again.count([end]) == left.n
    (problem,) = again.problems([end])
    assert f"damaged between byte {begin.bytes} and" in problem
    assert "its rows are lost" in caplog.text
    # Evidence is kept.
    again.forget(1)
    again.close()
    assert [path.suffix for path in path_of(tmp_path).parent.iterdir()] == [".damaged"]


def test_a_file_that_ends_early_gives_what_is_there(files: HotFiles, tmp_path: Path) -> None:
    first = append_all(files, MIXED[:1])
    end = append_all(files, MIXED[1:2], first)
    os.truncate(path_of(tmp_path), end.bytes - 1)
    again = HotFiles(tmp_path / "samples")
    assert_same(again.rows([end]), MIXED[0])
    assert len(again.problems([end])) == 1
    again.close()


def test_a_file_that_is_gone_is_said_and_one_that_cannot_be_read_is_not_taken_for_empty(
    files: HotFiles, tmp_path: Path
) -> None:
    end = append_all(files, MIXED[:1])
    path_of(tmp_path).unlink()
    again = HotFiles(tmp_path / "samples")
    assert again.rows([end]).n == 0
    assert again.problems([end]) == [f"{path_of(tmp_path)}: is gone"]
    again.forget(1)
    path_of(tmp_path).mkdir()
    with pytest.raises(StoreUnavailable, match=name_of(1)):
        again.rows([end])
    again.close()


def test_a_file_that_fails_while_it_is_read_is_named(
    files: HotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = append_all(files, MIXED[:2])

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(StoreUnavailable, match=rf"{name_of(1)}: .*Input/output"):
        files.rows([end])


def test_a_file_that_cannot_be_written_whole_is_removed(
    files: HotFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space left"):
        files.put(-12, MIXED[0])
    assert [path.name for path in path_of(tmp_path).parent.iterdir()] == [name_of(1)]


def test_strays_go_and_what_counts_stays(files: HotFiles, tmp_path: Path) -> None:
    end = append_all(files, MIXED[:1])
    stayed = files.put(-12, some_rows(8, LARGE))
    files.put(-13, some_rows(8, 1))
    files.begin(2)
    files.remove_strays([end, stayed])
    assert sorted(path.name for path in path_of(tmp_path).parent.iterdir()) == [
        "00000001.rows",
        "00000012.stayed",
    ]
    assert_same(files.rows([stayed, end]), concat_rows([some_rows(8, LARGE), MIXED[0]]))
    files.forget(-12)
    assert [path.name for path in path_of(tmp_path).parent.iterdir()] == ["00000001.rows"]


def test_a_full_disk_leaves_what_counts(
    files: HotFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = append_all(files, MIXED[:2])
    real = os.pwritev

    def torn(descriptor: int, pieces: list[memoryview], at: int) -> int:
        if at > end.bytes:
            raise OSError(28, "No space left on device")
        return real(descriptor, [pieces[0], pieces[1][:5]], at)

    monkeypatch.setattr(os, "pwritev", torn)
    with pytest.raises(OSError, match="No space left"):
        files.append(end, MIXED[2])
    monkeypatch.undo()
    assert_same(files.rows([end]), concat_rows(MIXED[:2]))
    after = files.append(end, MIXED[2])
    again = HotFiles(tmp_path / "samples")
    assert_same(again.rows([after]), concat_rows(MIXED[:3]))
    again.close()


def test_a_write_that_is_cut_short_goes_on(
    files: HotFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev

    def short(descriptor: int, pieces: list[memoryview], at: int) -> int:
        return real(descriptor, [pieces[0][:37]], at)

    monkeypatch.setattr(os, "pwritev", short)
    end = append_all(files, MIXED[2:4])
    monkeypatch.undo()
    again = HotFiles(tmp_path / "samples")
    assert_same(again.rows([end]), concat_rows(MIXED[2:4]))
    again.close()
