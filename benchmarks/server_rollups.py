"""A month of ten series by the hour from InfluxDB: from rollups, and from the samples themselves as the baseline.

::

    python -m benchmarks.server_rollups --json

The samples are written through the store, which then rolls up every hour (``rolled_samples_per_s``). ``times_faster`` is how many
times longer the answer takes from samples. Skips, with exit status 1, where Debian's influxdb is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._history import BEGIN_NS, Plan
from benchmarks._line_protocol_peers import influxdb
from ingest_service.plant.engine import connect
from ingest_service.store_config import InfluxDBStoreConfig
from ingest_service.stores import Admitted, Buckets, Outcome, Selector, TimeSpan, regular_grid
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.server_roller import SETTLED_NS
from ingest_service.stores.server_store import ServerStore
from shopfloor.messages import Batch, Lane

_HOUR_NS = 3600 * 10**9
_SERIES = 10
_ASKED = 5


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing else")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two samples of a series")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shopfloor-bench-") as name:
        folder = Path(name)
        with influxdb(folder / "influxdb") as server:
            if server is None:
                sys.exit("influxdb is not installed")
            url = f"http://127.0.0.1:{server.port}"
            result = asyncio.run(measure(folder, url, arguments.days, arguments.every))
    if arguments.json:
        print(json.dumps(result))
    else:
        for figure, value in result.items():
            print(f"{figure:32} {value}")


async def measure(folder: Path, url: str, days: int, every_s: float) -> dict[str, Any]:
    """Return all figures."""
    plan = Plan(_SERIES, round(days * 86_400 / every_s), round(every_s * 1e9), 0)
    end = BEGIN_NS + days * 24 * _HOUR_NS
    engine = connect(folder / "plant.sqlite")
    config = InfluxDBStoreConfig(kind="influxdb", url=url, version=1, database="bench", timeout_s=120)
    store = ServerStore(InfluxDB(config), engine)
    try:
        seq = 1
        for block in plan.blocks():
            (outcome,) = await store.write([Admitted(Batch("bench", "bench", Lane.LIVE, seq, block))])
            if not isinstance(outcome, Outcome):
                raise SystemExit(f"the store refused: {outcome}")
            seq += len(block)
        grid = regular_grid(TimeSpan(BEGIN_NS, end), _HOUR_NS)

        async def ask() -> Buckets:
            return await store.downsample(Selector(), grid, 10**6)

        # No hour is rolled up yet.
        samples_ms, by_samples = await _time(ask, 1)
        began = time.perf_counter()
        while await store.roll_up(end + SETTLED_NS):
            pass
        rolled_s = time.perf_counter() - began
        rollups_ms, by_rollups = await _time(ask, _ASKED)
        if not np.array_equal(by_samples.partials.count, by_rollups.partials.count):
            raise SystemExit("rollups do not say what the samples say")
        return {
            "samples": plan.samples,
            "series": _SERIES,
            "days": days,
            "month_from_rollups_ms": rollups_ms,
            "month_from_samples_ms": samples_ms,
            "times_faster": round(samples_ms / rollups_ms, 1),
            "rolled_samples_per_s": round(plan.samples / rolled_s),
        }
    finally:
        await store.close()
        engine.dispose()


async def _time(ask: Callable[[], Awaitable[Buckets]], times: int) -> tuple[float, Buckets]:
    """Return the median of some answers' milliseconds, and the last one."""
    taken: list[float] = []
    answers: list[Buckets] = []
    for _ in range(times):
        began = time.perf_counter()
        answers.append(await ask())
        taken.append(time.perf_counter() - began)
    return round(1000 * sorted(taken)[len(taken) // 2], 1), answers[-1]


if __name__ == "__main__":
    main()
