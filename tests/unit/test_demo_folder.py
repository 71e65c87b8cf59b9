"""The demo's data folder: what survives a restart, and what is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.demo.folder import MARKER, FolderRefused, data_folder


def test_a_new_folder_is_made_and_marked(tmp_path: Path) -> None:
    with data_folder(tmp_path / "deep" / "data", fresh=False) as folder:
        assert (folder / MARKER).is_file()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, *, fresh: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderRefused, match="holds something that no demo put there"):
        data_folder(tmp_path, fresh=fresh).__enter__()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_an_earlier_demo_left_survives_a_restart_and_not_a_fresh_start(tmp_path: Path) -> None:
    with data_folder(tmp_path / "data", fresh=False) as folder:
        (folder / "store").mkdir()
        (folder / "store" / "rows").write_text("1")
        (folder / "ports.json").write_text("{}")
    with data_folder(tmp_path / "data", fresh=False) as folder:
        assert (folder / "store" / "rows").read_text() == "1"
    with data_folder(tmp_path / "data", fresh=True) as folder:
        assert {entry.name for entry in folder.iterdir()} == {MARKER, ".lock"}


def test_a_fresh_start_follows_no_link_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    with data_folder(tmp_path / "data", fresh=False) as folder:
        (folder / "link").symlink_to(outside)
    with data_folder(tmp_path / "data", fresh=True) as folder:
        assert not (folder / "link").exists()
    assert (outside / "thesis.txt").read_text() == "years of work"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with data_folder(tmp_path / "data", fresh=False) as folder:
        (folder / "rows").write_text("1")
        with pytest.raises(FolderRefused, match="another demo is running in"):
            data_folder(tmp_path / "data", fresh=True).__enter__()
        assert (folder / "rows").exists()
    with data_folder(tmp_path / "data", fresh=False):
        pass


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(FolderRefused, match="can't be used"):
        data_folder(tmp_path / "data", fresh=False).__enter__()
