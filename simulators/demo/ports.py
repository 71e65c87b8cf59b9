"""Free ports of this computer: chosen once, kept in the data folder, chosen again only where one is taken."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from shopfloor.errors import Permanent

HOST: Final = "127.0.0.1"
_FILE: Final = "ports.json"
# Below what Linux, macOS and Windows give to outgoing connections (from 32768 or 49152). There, while a server is down, a
# client of its own computer can be given the very port it calls: it then talks to itself, and the server can't start.
_RANGE: Final = range(20_000, 32_000)
_ATTEMPTS: Final = 1_000
_decoder: Final = msgspec.json.Decoder(dict[str, int])


class NoPort(Permanent):
    """The computer has no free port left, or does not let us listen."""


def assign_ports(folder: Path, names: Iterable[str], wanted: Mapping[str, int]) -> dict[str, int]:
    """Return a free port of 127.0.0.1 for every name, and keep them in ``folder`` for the next start.

    A name keeps the port that it had last time; ``wanted`` names a first choice. Where that one is taken by
    another program, chance decides.

    Raises:
        NoPort: no port can be had.
    """
    file = folder / _FILE
    earlier = _read(file)
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as held:  # all held until the last is chosen, so that none is given twice
        for name in names:
            choices = [port for port in (wanted.get(name), earlier.get(name)) if port]
            for port in (*choices, *random.sample(_RANGE, _ATTEMPTS)):
                bound = _bind(port)
                if bound is not None:
                    held.enter_context(bound)
                    ports[name] = bound.getsockname()[1]
                    break
            else:
                raise NoPort(f"no free port on {HOST} for {name}")
    file.write_bytes(msgspec.json.format(msgspec.json.encode({**earlier, **ports}), indent=1))
    return ports


def _read(file: Path) -> dict[str, int]:
    try:
        ports = _decoder.decode(file.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):  # a torn file costs nothing but other ports
        return {}
    return {name: port for name, port in ports.items() if 0 < port < 65_536}


def _bind(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As servers do: a port whose last connections are still dying down counts as free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError:
        listener.close()
        return None
    return listener


def listens(port: int, host: str = HOST) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True
