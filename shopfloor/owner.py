"""Root may read and write what a service may not: what looks at its folder, or writes there, does it as its owner."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from contextlib import suppress
from pathlib import Path


def become_owner(folder: Path) -> bool:
    """Where root runs this process, go on as the user to whom a folder belongs, for good.

    Args:
        folder: its data; where it is still to be made, the nearest one above it that exists counts.

    Returns:
        Whether this process is somebody else now.
    """
    if os.geteuid() != 0:
        return False
    there = nearest(folder)
    status = there.stat()
    if not status.st_uid:
        return False
    if not may_read(Path(os.__file__), status.st_uid, status.st_gid):
        # What is loaded only when it is needed would be out of reach then.
        print(  # noqa: T201  for whoever is root
            f"going on as root: the user to whom {there} belongs can't read this Python, {sys.prefix}",
            file=sys.stderr,
        )
        return False
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
        os.initgroups(name, status.st_gid)
    except KeyError:
        name = str(status.st_uid)
        os.setgroups([])
    os.setgid(status.st_gid)
    os.setuid(status.st_uid)
    print(f"going on as user {name}, to whom {there} belongs", file=sys.stderr)  # noqa: T201  for whoever is root
    return True


def may_read(file: Path, user: int, group: int) -> bool:
    """Tell whether a user of one group may read a file, by the modes of all that leads there."""

    def may(path: Path, as_owner: int, as_group: int, as_other: int) -> bool:
        status = path.stat()
        wanted = as_owner if status.st_uid == user else as_group if status.st_gid == group else as_other
        return bool(status.st_mode & wanted)

    real = file.resolve()
    return may(real, stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH) and all(
        may(folder, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH) for folder in real.parents
    )


def nearest(folder: Path) -> Path:
    """Return a folder, or where it is still to be made or hidden from us the nearest one above it that we see."""
    for each in (folder, *folder.absolute().parents):
        with suppress(PermissionError):
            if each.exists():
                return each
    return Path("/")
