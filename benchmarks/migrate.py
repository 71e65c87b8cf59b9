"""The embedded store moves to a server and is killed in the middle: ``python -m benchmarks.migrate [--json]``.

Real commands in processes of their own; the first one is killed by SIGKILL once 40 % of the samples are there, the second one
ends. The samples have jitter in their times; one in a thousand is a text, one in a thousand BAD and null.

- ``samples_per_s``: all samples by the seconds of both commands, starting Python, reading back and comparing included.
- ``write_samples_per_s``, ``compare_samples_per_s``: of the second command.
- ``exact``: the command says so, and so does a comparison of its own of every fiftieth series, bit by bit, and of the ledger.
- ``killed_and_resumed``: whether the first command was killed before its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._history import Plan, disk_bytes, fill
from benchmarks._line_protocol_peers import Server, influxdb, victoriametrics
from ingest_service.config import IngestConfig
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Run, SampleStore, Selector, TimeSpan
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from ingest_service.stores.opening import open_store
from shopfloor.block import Quality, SampleBlock
from shopfloor.configfile import load

_ALWAYS: Final = TimeSpan(-(2**63), 2**63 - 1)
_KILLED_AT: Final = 0.4
_EVERY: Final = 50
_POLL_S: Final = 0.2


def history(plan: Plan) -> Iterator[SampleBlock]:
    """Yield the plan's samples, some of them texts and nulls."""
    for block in plan.blocks():
        rows = np.arange(len(block))
        texts = rows[rows % 1000 == 17]
        nulls = rows[rows % 1000 == 618]
        value, quality, status = block.value.copy(), block.quality.copy(), block.status.copy()
        value[texts] = value[nulls] = np.nan
        quality[nulls], status[nulls] = Quality.BAD, 0x8000_0000
        text = {row: f"lot {row // 1000} 模具" for row in texts.tolist()}
        yield SampleBlock(
            block.series,
            block.series_index,
            block.source_time,
            block.received_time,
            value,
            quality,
            status,
            text,
        )


def measure(plan: Plan, kind: str, folder: Path | None) -> dict[str, Any]:
    """Return all figures; those of a server that is not installed are left out."""
    found: dict[str, Any] = {"benchmark": "migrate", "to": kind, "series": plan.series}
    with tempfile.TemporaryDirectory(prefix="shopfloor-bench-", dir=folder) as name:
        root = Path(name)
        found["samples"] = int(fill(root / "data" / "samples.duckdb", history(plan))["samples"])
        with _server(kind, root / "server") as server:
            if server is None:
                return found | {"skipped": f"{kind} is not installed"}
            old, new = _configure(root, kind, server.port)
            words = [sys.executable, "-m", "shopfloor", "ingest", "migrate", str(old), str(new)]
            began = time.perf_counter()
            found["killed_at_samples"], found["killed_and_resumed"] = _killed(words, root, found["samples"])
            done = subprocess.run([*words, "--json"], stdout=subprocess.PIPE, check=False)
            seconds = time.perf_counter() - began
            said = json.loads(done.stdout) if done.returncode == 0 else {}
            found["samples_per_s"] = round(found["samples"] / seconds)
            for figure in ("write", "compare"):
                amount = said.get("written" if figure == "write" else "compared", 0)
                found[f"{figure}_samples_per_s"] = round(amount / said.get(f"{figure}_s", 1))
            found["series_days_compared"] = said.get("series_days", 0)
            found["kept_in_plant_store"] = said.get("kept", 0)
            found["exact"] = done.returncode == 0 and asyncio.run(_is_same(root, new, found["samples"]))
        for place in ("data", "server"):
            found[f"{place}_bytes_per_sample"] = round(disk_bytes(root / place) / found["samples"], 2)
    return found


def _server(kind: str, folder: Path) -> AbstractContextManager[Server | None]:
    if kind == "influxdb":
        return influxdb(folder)
    return victoriametrics(folder, "-dedup.minScrapeInterval=1ms", "-search.latencyOffset=0s")


def _configure(root: Path, kind: str, port: int) -> tuple[Path, Path]:
    old, new = root / "ingest.yaml", root / "new.yaml"
    more = "version: 1, database: bench" if kind == "influxdb" else "retention_days: 36500"
    old.write_text(f"data: {root / 'data'}\n", encoding="utf-8")
    new.write_text(
        f"data: {root / 'data'}\nstore: {{kind: {kind}, url: 'http://127.0.0.1:{port}', {more}}}\n",
        encoding="utf-8",
    )
    return old, new


def _killed(words: list[str], root: Path, samples: int) -> tuple[int, bool]:
    """Run the command until enough is there, kill it; return how much that was, and whether it was in the middle."""
    there = 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and there < _KILLED_AT * samples:
            time.sleep(_POLL_S)
            there = _there(root / "data" / "plant.sqlite")
        process.send_signal(signal.SIGKILL)
    return there, process.returncode == -signal.SIGKILL


def _there(plant: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{plant}?mode=ro", uri=True)) as connection:
            total = connection.execute("SELECT coalesce(sum(samples), 0) FROM moved_chunk").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    return int(total)


async def _is_same(root: Path, new: Path, samples: int) -> bool:
    """Compare some series bit by bit, and the ledger, as readers of the two stores get them."""
    config = load(new, IngestConfig)
    embedded = DuckDBStore(root / "data" / "samples.duckdb", Tuning(compaction=False))
    plant = PlantStore(config.plant_address)
    store = open_store(config, plant, frozenset(), lambda _seconds, _rows: None)
    try:
        if await _ledger(embedded) != await _ledger(store):
            return False
        for one in (await embedded.series(Selector()))[::_EVERY]:
            selector = Selector((str(one.key.asset),), (one.key.signal,))
            here = (await embedded.read(selector, _ALWAYS, samples)).block
            there = (await store.read(selector, _ALWAYS, samples)).block
            same = all(
                np.array_equal(getattr(here, name).view(np.uint8), getattr(there, name).view(np.uint8))
                for name in ("source_time", "received_time", "value", "quality", "status")
            )
            if not same or dict(here.text) != dict(there.text) or here.series != there.series:
                return False
    finally:
        await store.close()
        await embedded.close()
        plant.close()
    return True


async def _ledger(store: SampleStore) -> list[Run]:
    return list(await store.ledger(None, _ALWAYS))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--to", choices=["influxdb", "victoriametrics"], default="influxdb")
    parser.add_argument("--folder", type=Path, help="where everything lies; default: a temporary folder")
    arguments = parser.parse_args()
    plan = Plan(arguments.series, max(1, arguments.samples // arguments.series), 10 * 10**9, 1000)
    found = measure(plan, arguments.to, arguments.folder)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:28} {figure}")


if __name__ == "__main__":
    main()
