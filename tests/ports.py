"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket
from typing import Final

_RANGE: Final = range(12_000, 20_000)
"""Below what outgoing connections are given (from 32768 on Linux), which take a port while its server is away, and below
what demos choose from."""
_DICE: Final = random.SystemRandom()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens; raises OSError where there is none."""
    for port in _DICE.sample(_RANGE, 1_000):
        with socket.socket() as probe:
            # As servers do: the last connections of an earlier one are no reason to look further.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 12000 and 19999")
