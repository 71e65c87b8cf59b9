"""Samples a second, durable, through HTTP into the embedded store; then every row is compared with what was sent.

::

    python -m benchmarks.ingest --json

Agents (each with its own token, stream and series) keep one batch in flight each, from one client process; the service
is the ordinary ``shopfloor ingest serve``, which rewrites rows as files meanwhile. Batches are encoded before the clock
starts, because in a plant the agents do that on their own machines. ``samples_per_s`` is over ``--seconds``,
``sustained_samples_per_s`` over ``--sustained`` seconds in a run of its own, with what had not become files at its end as
``sustained_backlog_rows``. ``influxdb_ratio`` and ``victoriametrics_ratio`` compare with Debian's servers, fed the batches of
the same agents as line protocol for ``--peers`` seconds. The baseline is the same rows inserted straight into DuckDB in
this process, 100,000 at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks._history import disk_bytes
from benchmarks._ingest_load import (
    BATCH_SAMPLES,
    SERIES,
    block_of,
    encode_agent,
    run_clients,
    series_of,
)
from benchmarks._ingest_peers import run_peer
from benchmarks._line_protocol_peers import influxdb, victoriametrics
from benchmarks._service import serving
from ingest_service.auth import Role
from ingest_service.stores import Selector, TimeSpan
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning, hots
from shopfloor.block import SampleBlock

_READ_AGENTS = 10
"""Agents whose rows are read at once: each reading looks through all rows that have not become files."""
_BASELINE_ROWS = 100_000
_ENCODERS = 2


def verify(path: Path, acknowledged: list[int]) -> tuple[int, int]:
    """Compare every stored row with what was sent; return (rows that are right, rows wrong, missing or surplus)."""
    return asyncio.run(_verify(path, acknowledged))


async def _verify(path: Path, acknowledged: list[int]) -> tuple[int, int]:
    store = DuckDBStore(path, Tuning(memory_bytes=6 * 2**30, compaction=False))
    right = wrong = 0
    try:
        for first in range(0, len(acknowledged), _READ_AGENTS):
            agents = range(first, min(first + _READ_AGENTS, len(acknowledged)))
            lines = tuple(f"acme/hk01/area/line-{agent}" for agent in agents)
            most = sum(acknowledged[agent] for agent in agents) * BATCH_SAMPLES + 1
            block = (await store.read(Selector(lines), TimeSpan(-(2**63), 2**63 - 1), most)).block
            line_of = np.array([int(key.asset.split("/")[3].removeprefix("line-")) for key in block.series])
            agent_of = line_of[block.series_index] if len(block) else np.empty(0, np.int64)
            for agent in agents:
                ours, others = _compare(
                    block.take(np.flatnonzero(agent_of == agent)), agent, acknowledged[agent]
                )
                right, wrong = right + ours, wrong + others
    finally:
        await store.close()
    return right, wrong


def _compare(found: SampleBlock, agent: int, batches: int) -> tuple[int, int]:
    expected = _expected(agent, batches)
    n = len(expected["source_time"])
    if len(found) != n:
        return 0, max(1, abs(len(found) - n))
    # The series of an agent are neighbours among those of all that were read.
    same = found.series_index - found.series_index[:1] == expected.pop("series_index")
    for name, column in expected.items():
        same &= getattr(found, name) == column
    return int(same.sum()), int(n - same.sum())


def _expected(agent: int, batches: int) -> dict[str, np.ndarray[Any, Any]]:
    series = series_of(agent)
    by_key = np.argsort(np.array([f"{key.asset} {key.signal}" for key in series]))
    place = np.empty(len(series), np.uint32)
    place[by_key] = np.arange(len(series))
    blocks = [block_of(agent, number, series) for number in range(batches)]
    columns: dict[str, np.ndarray[Any, Any]] = {"series_index": np.empty(0, np.uint32)}
    if blocks:
        columns["series_index"] = np.concatenate([place[block.series_index] for block in blocks])
    for name in ("source_time", "received_time", "value", "quality", "status"):
        columns[name] = np.concatenate(
            [np.empty(0, np.int64)] * (not blocks) + [getattr(one, name) for one in blocks]
        )
    order = np.lexsort((columns["source_time"], columns["series_index"]))
    return {name: column[order] for name, column in columns.items()}


def backlog(path: Path) -> int:
    """Return the rows of a stopped service's store that have not become files."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return sum(hot.rows for hot in hots(connection))


def baseline(folder: Path, seconds: float) -> float:
    """Return rows a second inserted straight into DuckDB, in the same table and 100,000 at a time."""
    connection = duckdb.connect(
        str(folder / "baseline.duckdb"), config={"threads": "2", "checkpoint_threshold": "256MB"}
    )
    connection.execute(
        "CREATE TABLE sample (series_id UINTEGER, source_time BIGINT, received_time BIGINT, value DOUBLE, "
        "quality UTINYINT, status UINTEGER, text VARCHAR)"
    )
    groups = [_baseline_rows(number) for number in range(8)]
    rows = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        columns = groups[rows // _BASELINE_ROWS % len(groups)]
        connection.execute("INSERT INTO sample SELECT *, NULL FROM columns")
        rows += len(columns["series_id"])
    elapsed = time.perf_counter() - started
    connection.close()
    return rows / elapsed


def _baseline_rows(number: int) -> dict[str, np.ndarray[Any, Any]]:
    count = _BASELINE_ROWS // BATCH_SAMPLES
    blocks = [block_of(agent, number, series_of(agent)) for agent in range(count)]
    return {
        "series_id": np.concatenate(
            [block.series_index + agent * SERIES for agent, block in enumerate(blocks)]
        ),
        "source_time": np.concatenate([block.source_time for block in blocks]),
        "received_time": np.concatenate([block.received_time for block in blocks]),
        "value": np.concatenate([block.value for block in blocks]),
        "quality": np.concatenate([block.quality for block in blocks]),
        "status": np.concatenate([block.status for block in blocks]),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing else")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--sustained", type=float, default=300.0, help="seconds of the long run; 0: none")
    parser.add_argument("--peers", type=float, default=60.0, help="seconds for each peer; 0: none")
    parser.add_argument(
        "--prepare",
        type=int,
        default=3_600_000,
        help="samples/s to prepare batches for; five sixths of it for the long run",
    )
    parser.add_argument("--folder", type=Path, help="where the databases lie; default: a temporary folder")
    arguments = parser.parse_args()
    result = run(arguments)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, figure in result.items():
            print(f"{name:32} {figure}")
    sys.exit(1 if result["wrong_rows"] else 0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""

    def once(seconds: float, prepare: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="shopfloor-bench-", dir=arguments.folder) as folder:
            return measure(Path(folder), arguments.agents, seconds, prepare)

    result = once(arguments.seconds, arguments.prepare)
    if arguments.sustained:
        long = once(arguments.sustained, arguments.prepare * 5 // 6)
        result["sustained_samples_per_s"] = long["samples_per_s"]
        result["wrong_rows"] += long["wrong_rows"]
        for name in ("backlog_rows", "verified_rows", "rss_mb", "seconds", "commit_p99_ms", "ran_dry"):
            result[f"sustained_{name}"] = long[name]
    if arguments.peers:
        for make in (influxdb, victoriametrics):
            with tempfile.TemporaryDirectory(prefix="shopfloor-bench-", dir=arguments.folder) as folder:
                peer = run_peer(make, Path(folder) / "peer", arguments.agents, arguments.peers)
            if peer is not None:
                result[f"{make.__name__}_samples_per_s"] = peer.samples_per_s
                result[f"{make.__name__}_seconds"] = peer.seconds
                result[f"{make.__name__}_ratio"] = round(result["samples_per_s"] / peer.samples_per_s, 2)
    return result


def measure(folder: Path, agents: int, seconds: float, prepare: int) -> dict[str, Any]:
    """Prepare, run, stop, verify; return the figures."""
    straight = baseline(folder, min(10.0, seconds))
    per_agent = int(prepare * seconds / agents / BATCH_SAMPLES) + 2
    with multiprocessing.get_context("spawn").Pool(_ENCODERS) as pool:
        prepared = pool.map(encode_agent, [(agent, per_agent) for agent in range(agents)], chunksize=4)
    batch_bytes = sum(map(len, prepared[0])) / len(prepared[0])
    roles = [(Role.AGENT, f"acme/hk01/area/line-{agent}") for agent in range(agents)]
    with serving(folder, [*roles, (Role.ADMIN, "acme")]) as service:
        cpu_before, own_before = service.cpu_s(), time.process_time()
        load = asyncio.run(run_clients(service.port, service.tokens[:-1], prepared, seconds))
        cpu, own = service.cpu_s() - cpu_before, time.process_time() - own_before
        rss_mb = service.peak_rss_mb()
        metrics = _metrics(service.port, service.tokens[-1])
    data = folder / "data"
    del prepared
    left = backlog(data / "samples.duckdb")
    rows, wrong = verify(data / "samples.duckdb", load.acknowledged)
    samples = sum(load.acknowledged) * BATCH_SAMPLES
    return {
        "samples_per_s": round(samples / load.seconds),
        "batches_per_s": round(sum(load.acknowledged) / load.seconds, 1),
        "commit_p50_ms": _quantile(metrics, 0.5),
        "commit_p99_ms": _quantile(metrics, 0.99),
        "verified_rows": rows,
        "wrong_rows": wrong,
        "acknowledged_rows": samples,
        "backlog_rows": left,
        "server_cpu_cores": round(cpu / load.seconds, 2),
        "client_cpu_cores": round(own / load.seconds, 2),
        "rss_mb": rss_mb,
        "seconds": round(load.seconds, 2),
        "agents": agents,
        "batch_samples": BATCH_SAMPLES,
        "bytes_per_sample": round(batch_bytes / BATCH_SAMPLES, 2),
        "disk_bytes_per_sample": round(disk_bytes(data) / max(1, samples), 2),
        "ran_dry": load.ran_dry,
        "duckdb_direct_samples_per_s": round(straight),
        "share_of_duckdb_direct": round(samples / load.seconds / straight, 3),
    }


def _metrics(port: int, token: str) -> str:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
        text: str = answer.read().decode()
    return text


def _quantile(metrics: str, share: float) -> float | None:
    """Return an upper bound of a quantile of the commits' milliseconds, interpolated inside its bucket."""
    pairs = re.findall(r'shopfloor_ingest_commit_seconds_bucket\{le="([^"]+)"\} (\S+)', metrics)
    buckets = [(float(bound), float(count)) for bound, count in pairs]
    if not buckets or not buckets[-1][1]:
        return None
    wanted = share * buckets[-1][1]
    low, before = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            inside = (wanted - before) / (count - before) if count > before else 1.0
            return round(1000 * (low if bound == float("inf") else low + inside * (bound - low)), 1)
        low, before = bound, count
    return None


if __name__ == "__main__":
    main()
