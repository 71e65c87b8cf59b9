"""What the service needs of its machine: a folder that it may write, and an address at which it may listen.

Whoever reads the error has to put it right: it says what is in the way, for whom, and what to do.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import tempfile
from pathlib import Path
from typing import Final

_DATABASES: Final = ("plant.sqlite*", "samples.duckdb*", "samples.hot/*")
_PRIVILEGED: Final = 1024
"""Ports below it need a capability on Linux, unless the machine says otherwise."""


def open_folder(folder: Path) -> None:
    """Make the data folder where it is missing, and make sure that this process may write it.

    Raises:
        OSError: it may not; the text says what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(_no_folder(folder, error)) from error
    for file in sorted(each for pattern in _DATABASES for each in folder.glob(pattern)):
        if not os.access(file, os.R_OK | os.W_OK):
            raise OSError(
                f"{file}: {_user()} may not write it, although it may write the folder; some other user has made it: "
                f"chown --recursive {os.geteuid()}:{os.getegid()} {folder}"
            )


def take_addresses(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host, bound and not yet listening: nobody waits while stores are opened.

    Raises:
        OSError: an address can't be had; the text says what to do.
    """
    taken: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, address in dict.fromkeys(found):
            taken.append(socket.socket(family, socket.SOCK_STREAM))
            # The last connections of an earlier process are no obstacle; one that listens is.
            taken[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                taken[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken[-1].bind(address)
    except OSError as error:
        for each in taken:
            each.close()
        raise OSError(_no_address(host, port, error)) from error
    return taken


def _no_folder(folder: Path, error: OSError) -> str:
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return (
            f"data folder {folder}: not a folder, or something above it is none: let `data` name another one"
        )
    if error.errno == errno.EROFS:
        return (
            f"data folder {folder}: its file system is read-only: mount it writable; a container needs a volume there, "
            "a systemd unit StateDirectory= or ReadWritePaths="
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"data folder {folder}: {error.strerror}: make room there, or let `data` name another file system"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"data folder {folder}: {_user()} may not write it: "
            f"chown --recursive {os.geteuid()}:{os.getegid()} {folder}, and let everybody enter what is above it"
        )
    return f"data folder {folder}: {error.strerror or error}"


def _no_address(host: str, port: int, error: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: another process listens there already (ss --listening --tcp --processes 'sport = :{port}' says "
            "which): stop that one, or let `listen` name another port"
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return (
            f"{where}: this machine has no such address (ip address shows those that it has): "
            f"let `listen` name one of them, or 0.0.0.0:{port} for all"
        )
    if error.errno in {errno.EACCES, errno.EPERM} and port < _PRIVILEGED:
        return (
            f"{where}: {_user()} may not listen at a port below {_PRIVILEGED}: let `listen` name a higher one, or give "
            "the systemd unit AmbientCapabilities=CAP_NET_BIND_SERVICE"
        )
    return f"{where}: {error.strerror or error}"


def _user() -> str:
    number = os.geteuid()
    try:
        return f"user {pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return f"user {number}"
