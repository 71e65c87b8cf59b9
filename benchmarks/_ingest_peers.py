"""The agents' batches of `benchmarks.ingest` as line protocol into Debian's servers: same samples, series and time."""

from __future__ import annotations

import gzip
import http.client
import itertools
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks._history import lines_of
from benchmarks._ingest_load import BATCH_SAMPLES, block_of, series_of
from benchmarks._line_protocol_peers import Peer, influxdb, victoriametrics

_ENCODERS: Final = 2


class _Feed(NamedTuple):
    """How a peer takes most, of what was tried: 1 to 8 connections, 5,000 to 20,000 lines a request, plain and packed."""

    connections: int
    """Each has one request in flight."""
    batches: int
    """Joined in a request."""
    compressed: bool
    prepare: int
    """Samples/s to prepare requests for."""


_FEEDS: Final[dict[Peer, _Feed]] = {
    influxdb: _Feed(2, 2, compressed=False, prepare=350_000),
    victoriametrics: _Feed(4, 1, compressed=True, prepare=1_200_000),
}


class PeerRun(NamedTuple):
    """What a peer took."""

    samples_per_s: int
    seconds: float
    """Shorter than asked for where what was prepared ran out."""


def run_peer(make: Peer, folder: Path, agents: int, seconds: float) -> PeerRun | None:
    """Feed a server from its start with the batches of all agents in turn; None where it is not installed."""
    feed = _FEEDS[make]
    requests_each = int(feed.prepare * seconds / agents / BATCH_SAMPLES / feed.batches) + 1
    with make(folder) as server:
        if server is None:
            return None
        with multiprocessing.get_context("spawn").Pool(_ENCODERS) as pool:
            encode = partial(_requests_of_agent, count=requests_each, feed=feed)
            prepared = pool.map(encode, range(agents), chunksize=4)
        requests = itertools.chain.from_iterable(zip(*prepared, strict=True))
        head = {"Content-Encoding": "gzip"} if feed.compressed else {}
        began = time.perf_counter()
        with ThreadPoolExecutor(feed.connections) as threads:
            clients = [
                threads.submit(_client, server.port, server.path, head, requests, began + seconds)
                for _ in range(feed.connections)
            ]
            sent = sum(client.result() for client in clients)
        elapsed = time.perf_counter() - began
    return PeerRun(round(sent * feed.batches * BATCH_SAMPLES / elapsed), round(elapsed, 1))


def _requests_of_agent(agent: int, *, count: int, feed: _Feed) -> list[bytes]:
    series = series_of(agent)
    requests = []
    for first in range(0, count * feed.batches, feed.batches):
        blocks = (block_of(agent, number, series) for number in range(first, first + feed.batches))
        body = b"\n".join(map(lines_of, blocks))
        requests.append(gzip.compress(body, 1) if feed.compressed else body)
    return requests


def _client(port: int, path: str, head: dict[str, str], requests: Iterator[bytes], deadline: float) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = 0
    for body in requests:
        if time.perf_counter() >= deadline:
            break
        connection.request("POST", path, body, head)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 204:
            raise SystemExit(f"a peer answered {answer.status}")
        sent += 1
    connection.close()
    return sent
