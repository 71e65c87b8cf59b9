"""What the service occupies while many series live: memory, CPU, and whether it keeps up.

    python -m benchmarks.footprint [--seconds 60] [--series 100000] [--rate 200000] [--json]

A hundred agents send one batch a second each, with equal shares of the series and of the samples. Times are real, so that
nothing is prepared: the client encodes as it goes, on the same cores. ``bytes_per_series`` is the resident size
beyond that of the service before the first batch; the baseline is that empty service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._service import Running, serving
from ingest_service.auth import Role
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch

_AGENTS: Final = 100


class _Agent:
    """One connection; keeps one batch in flight, and sends what became due meanwhile with the next."""

    def __init__(self, number: int, token: str, series: int, rate: float) -> None:
        self._name, self._token, self._rate = f"agent-{number}", token, rate
        self._series = tuple(
            SeriesKey(parse_asset(f"acme/hk01/area-{number}/line/imm-{one // 50}"), f"signal.s{one % 50}")
            for one in range(series)
        )
        self._random = np.random.default_rng(number)
        self._phase = number / _AGENTS
        self.acknowledged = 0
        self.late_s = 0.0

    async def run(self, port: int, until_s: float) -> None:
        """Send until the time is up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: {BATCH_MEDIA_TYPE}\r\nContent-Length: "
        )
        began_s = time.time() + self._phase
        while (now_s := time.time()) < until_s:
            due = int((now_s - began_s) * self._rate) - self.acknowledged if now_s > began_s else 0
            if due < self._rate:
                await asyncio.sleep(max(0.0, (self._rate - due) / self._rate))
                continue
            body = self._batch(min(due, round(3 * self._rate)))
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            sent_s = time.time()
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            receipt = json.loads(await reader.readexactly(length))
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the service answered {answer!r} {receipt!r}")
            self.acknowledged = receipt["durable_through"]
            self.late_s = max(self.late_s, time.time() - sent_s)
        writer.close()

    def _batch(self, rows: int) -> bytes:
        now_ns = time.time_ns()
        index = (np.arange(rows) + self.acknowledged) % len(self._series)
        at = now_ns - (rows - np.arange(rows)) * round(1e9 / self._rate)
        value = self._random.integers(0, 10_000, rows) / 100
        block = make_block(self._series, index, at, now_ns, value)
        return encode_batch(
            Batch(self._name, f"{self._name}-stream", Lane.LIVE, self.acknowledged + 1, block)
        )


async def _measure(service: Running, series: int, rate: float, seconds: float) -> dict[str, Any]:
    empty_mb = service.peak_rss_mb()
    agents = [
        _Agent(number, token, series // _AGENTS, rate / _AGENTS)
        for number, token in enumerate(service.tokens[:_AGENTS])
    ]
    cpu_s, began_s = service.cpu_s(), time.perf_counter()
    until_s = time.time() + seconds
    await asyncio.gather(*(agent.run(service.port, until_s) for agent in agents))
    took_s = time.perf_counter() - began_s
    samples = sum(agent.acknowledged for agent in agents)
    rss_mb = service.peak_rss_mb()
    return {
        "series": series,
        "samples_per_s": round(samples / took_s),
        "offered_samples_per_s": rate,
        "rss_mb": rss_mb,
        "empty_rss_mb": empty_mb,
        "bytes_per_series": round((rss_mb - empty_mb) * 2**20 / series),
        "server_cpu_cores": round((service.cpu_s() - cpu_s) / took_s, 3),
        "slowest_receipt_s": round(max(agent.late_s for agent in agents), 2),
        "seconds": round(took_s, 1),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing else")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200_000.0, help="samples a second, of all agents")
    given = parser.parse_args()
    tokens = [(Role.AGENT, f"acme/hk01/area-{number}") for number in range(_AGENTS)]
    with (
        tempfile.TemporaryDirectory(prefix="shopfloor-bench-") as folder,
        serving(Path(folder), tokens) as service,
    ):
        result = asyncio.run(_measure(service, given.series, given.rate, given.seconds))
    if given.json:
        print(json.dumps(result))
    else:
        for name, figure in result.items():
            print(f"{name:28} {figure}")
    sys.exit(0)


if __name__ == "__main__":
    main()
