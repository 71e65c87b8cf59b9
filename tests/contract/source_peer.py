"""The other side of a source under contract: what a subclass supplies, what may be left open, who else may answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

import psutil

from edge_agent.sources import Source
from shopfloor.signal import SeriesKey
from tests.ports import free_port


class Said(NamedTuple):
    """What the machine said: the sample that it has to become."""

    series: SeriesKey
    source_time: int
    value: float


class Peer(Protocol):
    """A real server or broker that keeps for an absent source what machines say, and machines that speak there."""

    port: int
    units: Mapping[SeriesKey, str]
    """Every series that the configuration names, with its unit."""

    def source(self, port: int | None = None, *, patient: bool = True) -> Source:
        """Return a new source for this peer, or for whatever listens on another port.

        ``patient`` is false where nobody is there who could be slow: no answer need be waited for long.
        """
        ...

    async def start(self) -> None:
        """Start again after `stop`, on the same port."""
        ...

    async def stop(self) -> None:
        """Stop as an operator would."""
        ...

    async def say(self, numbers: Iterable[int]) -> list[Said]:
        """Have machines say each of the numbers once (never 0), over several series, each with a time of its own."""
        ...

    async def say_nonsense(self) -> None:
        """Have a machine say what no sample, or no good one, can be made of."""
        ...


class Traces(NamedTuple):
    """What a source may hold open, as sets to compare."""

    tasks: frozenset[asyncio.Task[Any]]
    threads: frozenset[threading.Thread]
    sockets: frozenset[tuple[int, int]]

    @classmethod
    def now(cls, port: int) -> Traces:
        """Look for tasks, threads, and sockets of this process that are connected to ``port``."""
        connections = psutil.Process().net_connections("tcp")
        return cls(
            frozenset(asyncio.all_tasks()),
            # The loop's own executor belongs to the loop.
            frozenset(each for each in threading.enumerate() if not each.name.startswith("asyncio_")),
            frozenset(
                (each.fd, each.laddr.port) for each in connections if each.raddr and each.raddr.port == port
            ),
        )


def expect_no_more(before: Traces, port: int, when: str = "") -> None:
    """Check that nothing is open that was not open before."""
    left = [now - then for now, then in zip(Traces.now(port), before, strict=True)]
    assert not any(left), f"left behind {when}: {left}"


class _Stranger(asyncio.Protocol):
    """Somebody else on the peer's port."""

    def __init__(self, who: str, opened: list[asyncio.Transport]) -> None:
        self._who = who
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._opened.append(transport)
        if self._who == "one_who_hangs_up":
            transport.abort()
        elif self._who == "a_web_server":
            transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@asynccontextmanager
async def somebody_else(who: str) -> AsyncIterator[int]:
    """Yield a port on 127.0.0.1 where something other than the peer is, or nothing."""
    port = free_port()
    if who == "nobody":
        yield port
        return
    opened: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: _Stranger(who, opened), "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        for transport in opened:
            transport.abort()
        await server.wait_closed()
