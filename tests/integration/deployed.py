"""Servers run with the files of deploy/, as users without rights, in folders and at ports of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SECRET = "a secret of the tests"
PATIENCE_S = 60.0


def program(name: str, package: str) -> str:
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), "/usr/sbin"]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        pytest.skip(f"{package} is not installed")
    return found


@pytest.fixture(params=["nobody"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str | None]]:
    """A folder of a user without rights, and that user; None where the tests have no rights themselves."""
    user = request.param if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="shopfloor-deploy-"))
    if user:
        shutil.chown(folder, user)
    yield folder, user
    shutil.rmtree(folder, ignore_errors=True)


def adapted(name: str, to: Path, changes: Mapping[str, str]) -> Path:
    """Copy a file of deploy/ with its places and ports replaced; each has to be there."""
    text = (DEPLOY / name).read_text()
    for written, here in changes.items():
        assert written in text, written
        text = text.replace(written, here)
    file = to / Path(name).name
    file.write_text(text)
    file.chmod(0o755)
    return file


@contextmanager
def started(
    command: list[str], user: str | None, answers: Callable[[], bool], log: Path, how: signal.Signals
) -> Iterator[None]:
    log.touch()
    own(user, log)
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, user=user, cwd="/") as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not answers():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(how)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def own(user: str | None, *files: Path) -> None:
    for file in files:
        if user:
            shutil.chown(file, user)
