"""Root may read and write what a service may not: what looks at its folder, or writes there, does it as its owner."""

from __future__ import annotations

import os
import pwd
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


def nearest(folder: Path) -> Path:
    """Return a folder, or where it is still to be made or hidden from us the nearest one above it that we see."""
    for each in (folder, *folder.absolute().parents):
        with suppress(PermissionError):
            if each.exists():
                return each
    return Path("/")
