"""What is in the service's way on its machine is said with what to do, and the service manager hears how it goes."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_service import premises
from tests.integration.ingest_server import running
from tests.integration.systemd_manager import Manager
from tests.ports import free_port

NOBODY = 65_534


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_named_with_how_to_find_who_has_it(taken_port: int) -> None:
    with pytest.raises(
        OSError, match=f"127.0.0.1:{taken_port}: another process listens there already"
    ) as met:
        premises.take_addresses("127.0.0.1", taken_port)
    assert f"sport = :{taken_port}" in str(met.value)
    assert "`listen`" in str(met.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(OSError, match=f"{re.escape(host)}:8080: this machine has no such address"):
        premises.take_addresses(host, 8080)


def test_a_privileged_port(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(OSError, match=r"127.0.0.1:443: user .* below 1024.*CAP_NET_BIND_SERVICE"):
        premises.take_addresses("127.0.0.1", 443)


def test_each_address_of_a_name_is_taken_and_nobody_listens_yet() -> None:
    port = free_port()
    taken = premises.take_addresses("localhost", port)
    try:
        assert "127.0.0.1" in {each.getsockname()[0] for each in taken}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    finally:
        for each in taken:
            each.close()


def test_a_file_in_the_folders_place_and_one_above_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(OSError, match=f"data folder {folder}: not a folder") as met:
            premises.open_folder(folder)
        assert "`data`" in str(met.value)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "file system is read-only.*ReadWritePaths="),
        (errno.ENOSPC, "No space left on device: make room there"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_folder_on_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match=f"data folder {tmp_path}: .*{said}"):
        premises.open_folder(tmp_path)


def open_as_nobody(folder: Path) -> str:
    """Return what open_folder says to a user without rights, empty where it is content."""
    words = (
        "import os, sys; from pathlib import Path; from ingest_service.premises import open_folder\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: open_folder(Path(sys.argv[1]))\n"
        "except OSError as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", words, str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stdout


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody can enter from above."""
    folder = Path("/tmp") / f"shopfloor-{os.getpid()}-{tmp_path.name}"
    folder.mkdir(mode=0o755)
    yield folder
    for each in sorted(folder.rglob("*"), reverse=True):
        each.chmod(0o755)
        each.rmdir() if each.is_dir() else each.unlink()
    folder.rmdir()


def test_a_volume_without_write_permission(reachable: Path) -> None:
    user = os.geteuid() or NOBODY
    reachable.chmod(0o555)
    assert re.match(
        rf"data folder {reachable}: user \S+ \({user}\) may not write it: "
        rf"chown --recursive {user}:\d+ {reachable}",
        open_as_nobody(reachable),
    )
    reachable.chmod(0o777)
    assert open_as_nobody(reachable) == ""
    # As root's commands would leave it, if they did not go on as the folder's owner.
    (reachable / "plant.sqlite").touch(mode=0o400)
    assert re.match(rf"{reachable}/plant.sqlite: user \S+ \({user}\) may not", open_as_nobody(reachable))


async def test_the_service_manager_hears_of_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    try:
        heard: list[dict[str, str]] = []

        async def hear(wanted: str) -> None:
            while not heard or wanted not in heard[-1]:
                heard.append(await asyncio.to_thread(manager.hear))

        async with running(tmp_path) as plant:
            port = plant.client.base_url.port
            await hear("READY")
            assert f"serves at 127.0.0.1:{port}" in {each.get("STATUS") for each in heard}
            assert (await plant.client.get("/readyz")).status_code == 200
            await hear("WATCHDOG")
            heard.clear()
            await hear("WATCHDOG")
        heard.clear()
        await hear("STOPPING")
    finally:
        manager.close()
