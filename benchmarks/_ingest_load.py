"""What 200 agents send to the service: batches prepared as they travel, and one client process that sends them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import NamedTuple

import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch

BATCH_SAMPLES = 5_000
SERIES = 1_000
_STEP_NS = 100_000_000
_BEGIN_NS = 1_760_000_000_000_000_000


class Load(NamedTuple):
    """What the clients did."""

    acknowledged: list[int]
    """For each agent the number of batches that got a Receipt."""
    seconds: float
    ran_dry: bool
    """An agent had no prepared batch left: the figure is a lower bound."""


def series_of(agent: int) -> tuple[SeriesKey, ...]:
    """Return the series of an agent: ten machines with a hundred signals each."""
    return tuple(
        SeriesKey(parse_asset(f"acme/hk01/area/line-{agent}/imm-{number // 100}"), f"signal.s{number % 100}")
        for number in range(SERIES)
    )


def block_of(agent: int, batch: int, series: tuple[SeriesKey, ...]) -> SampleBlock:
    """Return a batch's samples, the same for the same numbers: sensors in turn, times with jitter, values that walk."""
    random = np.random.default_rng((agent, batch))
    rounds = BATCH_SAMPLES // SERIES
    index = np.tile(np.arange(SERIES, dtype=np.uint32), rounds)
    step = np.repeat(np.arange(rounds, dtype=np.int64) + batch * rounds, SERIES)
    source = _BEGIN_NS + step * _STEP_NS + random.integers(0, 20, BATCH_SAMPLES) * 1_000_000
    moves = random.integers(-9, 10, (rounds, SERIES))
    # A tenth of the values is what the one before was.
    moves[random.random((rounds, SERIES)) < 0.1] = 0
    walk = np.cumsum(moves, axis=0).ravel()
    value = (20_000 + walk + 10 * index.astype(np.int64)) / 100
    received = _BEGIN_NS + step * _STEP_NS + 50_000_000
    quality = np.zeros(BATCH_SAMPLES, np.uint8)
    return SampleBlock(series, index, source, received, value, quality, np.zeros(BATCH_SAMPLES, np.uint32))


def encode_agent(arguments: tuple[int, int]) -> list[bytes]:
    """Return an agent's batches as they travel."""
    agent, batches = arguments
    series = series_of(agent)
    return [
        encode_batch(
            Batch(
                f"agent-{agent}",
                f"stream-{agent}",
                Lane.LIVE,
                1 + number * BATCH_SAMPLES,
                block_of(agent, number, series),
            )
        )
        for number in range(batches)
    ]


async def run_clients(port: int, tokens: list[str], prepared: list[list[bytes]], seconds: float) -> Load:
    """Let all agents send until the time is up; what is in flight then is waited for."""
    deadline = time.perf_counter() + seconds
    started = time.perf_counter()
    sent = await asyncio.gather(
        *(_agent(port, token, batches, deadline) for token, batches in zip(tokens, prepared, strict=True))
    )
    return Load(
        list(sent),
        time.perf_counter() - started,
        any(count == len(batches) for count, batches in zip(sent, prepared, strict=True)),
    )


async def _agent(port: int, token: str, batches: list[bytes], deadline: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {BATCH_MEDIA_TYPE}\r\nContent-Length: "
    ).encode()
    acknowledged = 0
    for batch in batches:
        if time.perf_counter() >= deadline:
            break
        writer.write(head + str(len(batch)).encode() + b"\r\n\r\n" + batch)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the service answered {answer!r} {body!r}")
        acknowledged += 1
        if json.loads(body)["durable_through"] != acknowledged * BATCH_SAMPLES:
            raise SystemExit(f"unexpected receipt {body!r}")
    writer.close()
    return acknowledged
