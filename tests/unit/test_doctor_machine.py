"""What the doctor reads of the machine: disk, flash, clock; from files as the kernel writes them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import BufferConfig, Config
from edge_agent.doctor import disk
from edge_agent.doctor.disk import Mount, look_at_data_folder, measure_commit, mount_of
from edge_agent.doctor.holding import look_at_buffer
from shopfloor.findings import Verdict
from shopfloor.kernel_clock import KernelClock, look_at_clock, read_kernel_clock
from shopfloor.owner import nearest

MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/root rw
25 24 0:23 / {folder}/in\\040memory rw,relatime shared:3 - tmpfs tmpfs rw
30 27 8:1 / {folder}/card ro,relatime - vfat /dev/sda1 rw
31 27 8:2 / {folder}/card rw,relatime - f2fs /dev/sda2 rw
garbage
"""


def config(data: Path, token: Path) -> Config:
    token.write_text("secret")
    topics = [{"topic": "a/b", "asset": "acme/hk01/a/l/c", "signals": "all"}]
    mqtt = {"name": "m", "broker": "mqtt://127.0.0.1:1", "client_id": "x", "topics": topics}
    uplink = {"url": "http://127.0.0.1:9", "token": f"file:{token}"}
    return Config.model_validate(
        {
            "agent": {"id": "gateway", "asset": "acme/hk01"},
            "data": str(data),
            "uplink": uplink,
            "sources": [{"mqtt": mqtt}],
        }
    )


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    for name in ("in memory", "card", "card/data", "cardboard"):
        (tmp_path / name).mkdir()
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS.format(folder=tmp_path))
    return file


def test_the_nearest_mount_counts_and_of_two_at_one_place_the_later(tmp_path: Path, mounts: Path) -> None:
    assert mount_of(tmp_path / "card" / "data", mounts) == Mount(f"{tmp_path}/card", "f2fs", "8:2", False)
    assert mount_of(tmp_path / "cardboard", mounts) == Mount("/", "ext4", "254:0", False)
    memory = mount_of(tmp_path / "in memory", mounts)
    assert memory is not None
    assert (memory.kind, memory.point) == ("tmpfs", f"{tmp_path}/in memory")
    assert mount_of(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("mount", "verdict", "said"),
    [
        (Mount("/data", "ext4", "8:1", False), Verdict.OK, "ext4"),
        (Mount("/data", "ext4", "8:1", True), Verdict.FAILURE, "read-only"),
        (Mount("/tmp", "tmpfs", "0:3", False), Verdict.WARNING, "lies in memory"),
        (Mount("/", "overlay", "0:3", False), Verdict.WARNING, "inside of a container"),
        (Mount("/data", "nfs4", "0:3", False), Verdict.WARNING, "another machine"),
    ],
)
def test_file_systems_on_which_nothing_should_wait(mount: Mount, verdict: Verdict, said: str) -> None:
    found = disk._file_system(mount)
    assert (found.verdict, said in found.text, bool(found.advice)) == (
        verdict,
        True,
        verdict is not Verdict.OK,
    )


@pytest.mark.parametrize(
    ("life", "verdict", "said"),
    [
        ("0x01 0x02\n", Verdict.OK, "10 to 20 %"),
        ("0x08 0x01\n", Verdict.WARNING, "70 to 80 %"),
        ("0x0b 0x00\n", Verdict.WARNING, "worn out"),
        ("0x00 0x00\n", Verdict.OK, "does not say"),
        ("what\n", Verdict.OK, "does not say"),
    ],
)
def test_how_worn_flash_is(tmp_path: Path, life: str, verdict: Verdict, said: str) -> None:
    partition = tmp_path / "devices" / "block" / "mmcblk0" / "mmcblk0p2"
    partition.mkdir(parents=True)
    (partition.parent / "device").mkdir()
    (partition.parent / "device" / "life_time").write_text(life)
    (tmp_path / "dev" / "block").mkdir(parents=True)
    (tmp_path / "dev" / "block" / "179:2").symlink_to(partition)
    mount = Mount("/", "ext4", "179:2", False)
    (found,) = disk._wear(mount, tmp_path)
    assert (found.verdict, said in found.text) == (verdict, True)
    (partition.parent / "device" / "life_time").unlink()
    (card,) = disk._wear(mount, tmp_path)
    assert (card.verdict, card.figures["device"]) == (Verdict.WARNING, "mmcblk0")
    assert list(disk._wear(Mount("/", "ext4", "8:1", False), tmp_path)) == []


@pytest.mark.parametrize(
    ("free", "verdict"), [(10_000, Verdict.OK), (1_500, Verdict.WARNING), (400, Verdict.FAILURE)]
)
def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    monkeypatch.setattr(disk, "disk_free_bytes", lambda _folder: free)
    limits = BufferConfig(max_bytes=1_200, disk_reserve=500)
    (tmp_path / "buffer.sqlite3").write_bytes(bytes(100))
    found = disk._space(limits, tmp_path, tmp_path)
    assert (found.verdict, found.figures["file_bytes"]) == (verdict, 100)


def test_a_folder_that_is_still_to_be_made(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert disk._folder(tmp_path / "a" / "b", tmp_path).verdict is Verdict.OK
    (tmp_path / "file").write_text("")
    assert disk._folder(tmp_path / "file" / "data", tmp_path / "file").verdict is Verdict.FAILURE


def test_a_folder_that_this_user_may_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut, token = tmp_path / "shut", tmp_path / "token"
    shut.mkdir()
    stat = Path.stat

    def closed(path: Path, **words: Any) -> os.stat_result:
        if shut in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **words)

    monkeypatch.setattr(Path, "stat", closed)
    assert nearest(shut / "data") == shut
    (found,) = look_at_buffer(config(shut, token))
    assert (found.verdict, f"'{shut}/buffer.sqlite3'" in found.text) == (Verdict.FAILURE, True)
    assert "run this as the user" in found.advice
    assert look_at_data_folder(config(shut / "data", token))


def test_measuring_a_commit_leaves_no_file(tmp_path: Path) -> None:
    found = measure_commit(tmp_path)
    assert found.figures["commit_max_s"] >= found.figures["commit_median_s"] > 0
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    assert measure_commit(tmp_path / "none").verdict is Verdict.FAILURE


@pytest.mark.parametrize(
    ("clock", "daemon", "verdict", "said"),
    [
        (KernelClock(True, 0.002, 0.0), "chrony/chronyd.pid", Verdict.OK, "by chrony, to about 2.0 ms"),
        (KernelClock(True, 0.002, 0.0), "", Verdict.OK, "kept right, to"),
        (KernelClock(True, 2.0, 0.0), "ntpd.pid", Verdict.WARNING, "2000.0 ms"),
        (KernelClock(False, 16.0, 0.0), "", Verdict.WARNING, "nobody"),
        (None, "", Verdict.WARNING, "does not say"),
    ],
)
def test_the_clock(
    tmp_path: Path, clock: KernelClock | None, daemon: str, verdict: Verdict, said: str
) -> None:
    if daemon:
        (tmp_path / daemon).parent.mkdir(exist_ok=True)
        (tmp_path / daemon).write_text("")
    (found,) = look_at_clock(lambda: clock, tmp_path)
    assert (found.verdict, said in found.text) == (verdict, True)


def test_the_kernel_is_asked_without_changing_anything() -> None:
    clock = read_kernel_clock()
    if clock is not None:  # a sandbox may forbid the call
        assert clock.error_s >= 0
