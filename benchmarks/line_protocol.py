"""Lines of line protocol a second, durable, through HTTP into the embedded store; every row is compared afterwards.

::

    python -m benchmarks.line_protocol --json

Writers (each with its own token and 1,000 series of injection moulding machines, one field a line, millisecond jitter) keep
one request of 10,000 lines in flight each, from one client process; the service is the ordinary ``shopfloor ingest serve``
with a mapping file. Bodies are written before the clock starts. All of a writer's have their series in one order, as a
gateway sends them, which we make use of; with ``--shuffled`` each has an order of its own. The same bodies then go to Debian's InfluxDB (1.6.7) and
VictoriaMetrics, where they are installed; those two answer before anything is on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import _line_protocol_peers as peers
from benchmarks._service import serving
from ingest_service.auth import Role
from ingest_service.stores import Selector, TimeSpan
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning

WRITERS = 16
LINES = 10_000
_MACHINES = 100
_SIGNALS = 10
_SERIES = _MACHINES * _SIGNALS
_STEP_NS = 100_000_000
_BEGIN_NS = 1_760_000_000_000_000_000
_MAPPING = """\
rules:
  - measurement: imm
    asset: acme/{site}/moulding/{line}/{machine}
    signal: "{field}"
"""


class Load(NamedTuple):
    """What the clients did with one server."""

    acknowledged: list[int]
    """For each writer the number of bodies that were answered with 204."""
    seconds: float
    ran_dry: bool
    """A writer had no prepared body left: the figure is a lower bound."""
    client_cpu_s: float

    @property
    def lines(self) -> int:
        """Return the acknowledged lines."""
        return sum(self.acknowledged) * LINES

    @property
    def lines_per_s(self) -> int:
        """Return the acknowledged lines a second."""
        return round(self.lines / self.seconds)


def columns(writer: int, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return times (UTC ns) and values (tenths) of a body, in the order of its lines: series in turn."""
    random = np.random.default_rng((writer, number))
    rounds = LINES // _SERIES
    step = np.repeat(np.arange(rounds, dtype=np.int64) + number * rounds, _SERIES)
    jitter = random.integers(0, _STEP_NS // 1_000_000, LINES) * 1_000_000
    walk = np.cumsum(random.integers(-9, 10, (rounds, _SERIES)), axis=0).ravel()
    return _BEGIN_NS + step * _STEP_NS + jitter, 2_000 + walk + np.tile(np.arange(_SERIES), rounds)


def bodies(arguments: tuple[int, int, bool]) -> list[bytes]:
    """Return a writer's first bodies."""
    writer, count, shuffled = arguments
    keys = [
        f"imm,site=hk01,line=line-{writer},machine=imm-{number // _SIGNALS:03} zone_{number % _SIGNALS}_temp="
        for number in range(_SERIES)
    ]
    made = []
    for body in range(count):
        times, tenths = columns(writer, body)
        rows = zip(keys * (LINES // _SERIES), tenths.tolist(), times.tolist(), strict=True)
        lines = [f"{key}{value // 10}.{value % 10} {at}\n" for key, value, at in rows]
        if shuffled:
            order = np.random.default_rng((writer, body, 1)).permutation(LINES)
            lines = [lines[place] for place in order.tolist()]
        made.append("".join(lines).encode())
    return made


async def run_clients(
    port: int, path: str, tokens: list[str], prepared: list[list[bytes]], seconds: float
) -> Load:
    """Let all writers send until the time is up; what is in flight then is waited for."""
    started, used = time.perf_counter(), _own_cpu_s()
    deadline = started + seconds
    sent = await asyncio.gather(
        *(_writer(port, path, token, own, deadline) for token, own in zip(tokens, prepared, strict=True))
    )
    dry = any(count == len(own) for count, own in zip(sent, prepared, strict=True))
    return Load(list(sent), time.perf_counter() - started, dry, _own_cpu_s() - used)


async def _writer(port: int, path: str, token: str, prepared: list[bytes], deadline: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Token {token}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Length: "
    ).encode()
    acknowledged = 0
    for body in prepared:
        if time.perf_counter() >= deadline:
            break
        writer.write(head + str(len(body)).encode() + b"\r\n\r\n")
        writer.write(body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 204"):
            raise SystemExit(f"{path} answered {answer!r} {await reader.read(1000)!r}")
        acknowledged += 1
    writer.close()
    return acknowledged


async def verify(data: Path, acknowledged: list[int]) -> tuple[int, int]:
    """Compare every stored row with what was sent; return (rows that are right, rows wrong, missing or surplus)."""
    store = DuckDBStore(data / "samples.duckdb", Tuning(memory_bytes=4 * 2**30))
    right = wrong = total = 0
    try:
        for writer, count in enumerate(acknowledged):
            selector = Selector((f"acme/hk01/moulding/line-{writer}",))
            found = await store.read(selector, TimeSpan(0, 2**63 - 1), 2**31)
            total += len(found.block)
            right += _same(found.block, writer, count)
        expected = sum(acknowledged) * LINES
        wrong = max(total, expected) - right
    finally:
        await store.close()
    return right, wrong


def _same(block: Any, writer: int, count: int) -> int:
    """Return how many rows of a block, sorted by (asset, signal, time), are those of a writer's first bodies."""
    if not count:
        return 0
    parts = [columns(writer, number) for number in range(count)]
    times = np.concatenate([part[0] for part in parts])
    value = np.concatenate([part[1] for part in parts]) / 10
    # Names of three and one digits sort as their numbers do.
    series = np.tile(np.arange(_SERIES), len(times) // _SERIES)
    order = np.lexsort((times, series))
    names = [
        (f"acme/hk01/moulding/line-{writer}/imm-{number // _SIGNALS:03}", f"zone_{number % _SIGNALS}_temp")
        for number in range(_SERIES)
    ]
    if len(block) != len(order) or [(str(key.asset), key.signal) for key in block.series] != names:
        return 0
    good = (block.series_index == series[order]) & (block.source_time == times[order])
    good &= (block.value == value[order]) & (block.quality == 0) & (block.status == 0)
    return int(np.count_nonzero(good))


def measure(
    folder: Path, seconds: float, peer_seconds: float, prepare: int, *, shuffled: bool = False
) -> dict[str, Any]:
    """Prepare, run, stop, verify; then the same for the peers."""
    per_writer = int(prepare * seconds / WRITERS / LINES) + 2
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        prepared = pool.map(
            bodies, [(writer, per_writer, shuffled) for writer in range(WRITERS)], chunksize=1
        )
    (folder / "mapping.yaml").write_text(_MAPPING, encoding="utf-8")
    tokens = [(Role.AGENT, f"acme/hk01/moulding/line-{writer}") for writer in range(WRITERS)]
    more = "line_protocol:\n  mapping: mapping.yaml\n"
    with serving(folder, tokens, more) as service:
        before = cpu_s(service.pid)
        path = "/api/v2/write?org=acme&bucket=plant"
        load = asyncio.run(run_clients(service.port, path, service.tokens, prepared, seconds))
        cpu, rss = cpu_s(service.pid) - before, service.peak_rss_mb()
    right, wrong = asyncio.run(verify(folder / "data", load.acknowledged))
    result: dict[str, Any] = {
        "lines_per_s": load.lines_per_s,
        "verified_rows": right,
        "wrong_rows": wrong,
        "acknowledged_lines": load.lines,
        "server_cpu_cores": round(cpu / load.seconds, 2),
        "server_cpu_s_per_million": round(cpu / load.lines * 1e6, 2),
        "client_cpu_cores": round(load.client_cpu_s / load.seconds, 2),
        "rss_mb": rss,
        "seconds": round(load.seconds, 2),
        "writers": WRITERS,
        "lines_per_request": LINES,
        "bytes_per_line": round(len(prepared[0][0]) / LINES, 1),
        "shuffled": shuffled,
        "ran_dry": load.ran_dry,
    }
    for name, peer in (("influxdb", peers.influxdb), ("victoriametrics", peers.victoriametrics)):
        result |= _peer(name, peer, folder, prepared, peer_seconds, load.lines_per_s)
    return result


def _peer(
    name: str, peer: peers.Peer, folder: Path, prepared: list[list[bytes]], seconds: float, ours: int
) -> dict[str, Any]:
    figures: dict[str, Any] = dict.fromkeys(
        f"{name}_{one}" for one in ("lines_per_s", "ratio", "missing_rows", "cpu_cores")
    )
    with peer(folder / name) as server:
        if server is None:
            return figures
        used = cpu_s(server.pid)
        load = asyncio.run(run_clients(server.port, server.path, [""] * WRITERS, prepared, seconds))
        figures[f"{name}_cpu_cores"] = round((cpu_s(server.pid) - used) / load.seconds, 2)
        figures[f"{name}_lines_per_s"] = load.lines_per_s
        figures[f"{name}_ratio"] = round(ours / load.lines_per_s, 2)
        figures[f"{name}_missing_rows"] = load.lines - server.rows()
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing else")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--peer-seconds", type=float, default=10.0)
    parser.add_argument("--prepare", type=int, default=1_600_000, help="lines/s to prepare bodies for")
    parser.add_argument("--shuffled", action="store_true", help="no two bodies have their lines in one order")
    parser.add_argument("--folder", type=Path, help="where the databases lie; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shopfloor-bench-", dir=arguments.folder) as folder:
        result = measure(
            Path(folder),
            arguments.seconds,
            arguments.peer_seconds,
            arguments.prepare,
            shuffled=arguments.shuffled,
        )
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, figure in result.items():
            print(f"{name:32} {figure}")
    sys.exit(1 if result["wrong_rows"] else 0)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
