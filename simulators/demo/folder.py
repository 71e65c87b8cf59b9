"""The demo's data folder: made, marked, locked and, only if it is ours, wiped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shopfloor.errors import Permanent

MARKER: Final = ".shopfloor-demo"
_MARKER_TEXT: Final = "This folder belongs to `shopfloor demo`; `--fresh` deletes everything in it.\n"
_LOCK: Final = ".lock"


class FolderRefused(Permanent):
    """The data folder is not the demo's to use: it holds something else, or another demo is running in it."""


@contextlib.contextmanager
def data_folder(path: Path, *, fresh: bool) -> Iterator[Path]:
    """Make or reopen the folder ``path`` and hold its lock; ``fresh`` first deletes what an earlier demo left.

    A folder with content but without our marker is never used, so that nothing of anybody else's is deleted or
    mixed up.

    Raises:
        FolderRefused: it is not ours, is in use, or can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        marker = path / MARKER
        if not marker.is_file() and any(path.iterdir()):
            raise FolderRefused(
                f"{path} holds something that no demo put there (there is no {MARKER} in it): "
                "name another folder with --data"
            )
        marker.write_text(_MARKER_TEXT, encoding="utf-8")
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderRefused(f"{path} can't be used: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderRefused(f"another demo is running in {path}") from None
        if fresh:
            _wipe(path)
        yield path.resolve()
    finally:
        os.close(descriptor)


def _wipe(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name in {MARKER, _LOCK}:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
