"""Many live pages open at once, while samples arrive: how late a change is at them, and what it costs.

    python -m benchmarks.fanout [--viewers 500] [--seconds 30] [--json]

Every machine of a site changes one value a second, spread over the second, and all viewers watch that site. Meanwhile
20,000 samples a second arrive for the other site, which nobody looks at. ``p99_ms`` is how long after a change it, or
a newer value of its series, is at a viewer: over all changes and viewers. The baseline is a bare asyncio server that
writes as many bytes as often to as many connections, and does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._service import Running, serving
from ingest_service.auth import Role
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, concat, make_block
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch

WATCHED: Final = "acme/hk01"
_OTHER: Final = "acme/dg01"
_MACHINES: Final = 300
_STEP_S: Final = 0.05
_AT_ONCE: Final = 100
_BESIDE_PER_S: Final = 20_000
_SETTLE_S: Final = 3.0
_BASELINE_S: Final = 5.0
_BASELINE_CHUNK: Final = 900
"""About what thirty changes take as an event."""


async def _post(port: int, token: str, agent: str, steps: Any, stop: asyncio.Event) -> int:
    """Send what ``steps`` gives, each at its time or with what is due by then; return how many samples were acknowledged."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {BATCH_MEDIA_TYPE}\r\nContent-Length: "
    )
    through = 0
    coming = steps()
    due_s, block = next(coming)
    while not stop.is_set():
        await asyncio.sleep(max(0.0, due_s - time.time()))
        due: list[SampleBlock] = []
        # Like an agent: what became due while the last batch was on its way goes with the next one.
        while due_s <= time.time() and len(due) < _AT_ONCE:
            due.append(block)
            due_s, block = next(coming)
        joined = concat(due)
        if not len(joined):
            continue
        body = encode_batch(Batch(agent, f"{agent}-stream", Lane.LIVE, through + 1, joined))
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        receipt = await reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the service answered {answer!r} {receipt!r}")
        through += len(joined)
    writer.close()
    return through


def _counters(begin_s: float) -> Any:
    """Yield (due UTC s, block) for ever: machine ``m`` counts one up at ``begin_s`` + ``m`` / machines + every second."""
    series = tuple(
        SeriesKey(parse_asset(f"{WATCHED}/moulding/cell-{number // 10}/imm-{number:03}"), "counter")
        for number in range(_MACHINES)
    )
    phase = np.arange(_MACHINES) / _MACHINES
    for step in range(1, 10**9):
        now = step * _STEP_S
        # Machines whose next change lies in the step that ends now.
        count = np.floor(now - phase)
        due = np.flatnonzero((count > np.floor(now - _STEP_S - phase)) & (count >= 0))
        at_ns = ((begin_s + count[due] + phase[due]) * 1e9).astype(np.int64)
        yield begin_s + now, make_block(series, due, at_ns, at_ns, count[due] + 1)


def _beside(begin_s: float) -> Any:
    """Yield (due UTC s, block) for ever: a second's worth in twenty batches."""
    keys = 2_000
    series = tuple(
        SeriesKey(
            parse_asset(f"{_OTHER}/moulding/cell-{number // 100}/imm-{number // 10:03}"), f"s{number % 10}"
        )
        for number in range(keys)
    )
    rows = round(_BESIDE_PER_S * _STEP_S)
    for step in range(1, 10**9):
        at = np.full(rows, int((begin_s + step * _STEP_S) * 1e9))
        index = (np.arange(rows) + step * rows) % keys
        yield begin_s + step * _STEP_S, _block(series, index, at, step)


def _block(series: tuple[SeriesKey, ...], index: Any, at: Any, step: int) -> SampleBlock:
    return make_block(series, index, at, at, index + step / 100)


async def _measure(service: Running, viewers: int, seconds: float) -> dict[str, Any]:
    begin_s = time.time() + 1.0
    stop = asyncio.Event()
    hong_kong, dongguan, reader = service.tokens
    senders = [
        asyncio.create_task(_post(service.port, hong_kong, "hk", lambda: _counters(begin_s), stop)),
        asyncio.create_task(_post(service.port, dongguan, "dg", lambda: _beside(begin_s), stop)),
    ]
    await asyncio.sleep(_SETTLE_S)
    pages = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._fanout_viewers", str(service.port), reader, WATCHED),
        *(str(viewers), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert pages.stdout is not None
    if (await pages.stdout.readline()).strip() != b"ready":
        raise SystemExit("the viewers did not get ready")
    cpu_s, began_s = service.cpu_s(), time.perf_counter()
    figures: dict[str, Any] = json.loads(await pages.stdout.read())
    took_s = time.perf_counter() - began_s
    cpu_s = service.cpu_s() - cpu_s
    await pages.wait()
    stop.set()
    sent = await asyncio.gather(*senders)
    total_s = time.time() - begin_s
    return {
        **figures,
        "server_cpu_cores": round(cpu_s / took_s, 3),
        "beside_samples_per_s": round(sent[1] / total_s),
        "rss_mb": service.peak_rss_mb(),
    }


def _bare(viewers: int) -> float:
    """Return the cores that a bare server needs for as many connections."""
    code = (
        "import asyncio, sys, time\n"
        "async def main():\n"
        "    writers = []\n"
        "    server = await asyncio.start_server(lambda _, w: writers.append(w), '127.0.0.1', 0)\n"
        "    print(server.sockets[0].getsockname()[1], flush=True)\n"
        f"    while len(writers) < {viewers}: await asyncio.sleep(0.05)\n"
        f"    chunk, cpu, end = b'x' * {_BASELINE_CHUNK}, time.process_time(), time.monotonic() + {_BASELINE_S}\n"
        "    while time.monotonic() < end:\n"
        "        for w in writers: w.write(chunk)\n"
        "        await asyncio.sleep(0.1)\n"
        f"    print((time.process_time() - cpu) / {_BASELINE_S}, flush=True)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())

        async def read() -> float:
            connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(viewers)]

            async def drain(reader: asyncio.StreamReader) -> None:
                while await reader.read(65536):
                    pass

            tasks = [asyncio.create_task(drain(reader)) for reader, _ in connections]
            assert server.stdout is not None
            cores = float(await asyncio.to_thread(server.stdout.readline))
            for task in tasks:
                task.cancel()
            for _, writer in connections:
                writer.close()
            return cores

        cores = asyncio.run(read())
        server.kill()
        return cores


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing else")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--viewers", type=int, default=500)
    given = parser.parse_args()
    tokens = [(Role.AGENT, WATCHED), (Role.AGENT, _OTHER), (Role.VIEWER, "acme")]
    with (
        tempfile.TemporaryDirectory(prefix="shopfloor-bench-") as folder,
        serving(Path(folder), tokens) as service,
    ):
        result = asyncio.run(_measure(service, given.viewers, given.seconds))
    result |= {
        "machines": _MACHINES,
        "seconds": given.seconds,
        "bare_cpu_cores": round(_bare(given.viewers), 3),
    }
    if given.json:
        print(json.dumps(result))
    else:
        for name, figure in result.items():
            print(f"{name:28} {figure}")
    sys.exit(1 if result["lost_viewers"] else 0)


if __name__ == "__main__":
    main()
