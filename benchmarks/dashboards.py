"""How quickly Grafana's boards of the group and of machines are answered: ``python -m benchmarks.dashboards [--json]``.

300 machines (``--machines``) on six sites, 24 h (``--hours``), in Debian's InfluxDB, written by our own store: 21 signals a
machine every 30 s (``--step-s``; setpoints and states of the controller every two hours), and what the service reports of
machines, lines, sites and agents every 10 s (``--report-s``). Then every query of every panel, variable and annotation of
the two boards over the whole span, as ``shopfloor dashboards check`` executes them, for machines anywhere.

- ``query_p95_ms``, ``query_max_ms``: from sending a query to having read the figures of its answer;
- ``group_p95_ms``, ``machine_p95_ms``: the same, by board; ``slowest``: the panel.

Filling the whole takes some ten minutes; ``--hours 2`` some tens of seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._line_protocol_peers import influxdb as influxd
from dashboards.grafana import render
from dashboards.grafana.checking.database import Access, Database, influxdb
from dashboards.grafana.checking.interpolation import Span, filled
from dashboards.grafana.checking.run import queries_of
from ingest_service import report_points
from ingest_service.agent_record import AgentRecord
from ingest_service.alarm_rules import Kind
from ingest_service.plant.activity import NOTHING
from ingest_service.store_config import InfluxDBStoreConfig
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.own_points import Point
from shopfloor import reports
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock
from shopfloor.messages import BufferReport, Heartbeat
from shopfloor.signal import SeriesKey

_S: Final = 1_000_000_000
_END_NS: Final = 1_764_000_000 * _S
_SITES: Final = 6
_LINES: Final = 5
_ZONES: Final = 6
_HELD_S: Final = 7_200
_OFTEN: Final = (
    names.CYCLE_TIME,
    names.CYCLE_COUNTER,
    names.PARTS_COUNTER,
    names.GOOD_PARTS_COUNTER,
    names.BAD_PARTS_COUNTER,
    names.ACTIVE_POWER,
    names.ACTIVE_ENERGY,
    *(f"barrel.zone_{zone}.temperature" for zone in range(1, _ZONES + 1)),
    *(f"barrel.zone_{zone}.heater_output" for zone in range(1, _ZONES + 1)),
    "mould.zone_1.temperature",
    "mould.zone_2.temperature",
)
_HELD: Final = (
    names.MACHINE_MODE,
    names.PRODUCTION_STATUS,
    names.EXPECTED_CYCLE_TIME,
    *(f"barrel.zone_{zone}.setpoint" for zone in range(1, _ZONES + 1)),
    "mould.zone_1.setpoint",
    "mould.zone_2.setpoint",
)
_ROWS: Final = 200_000
_REPORTS: Final = 50_000
_STATES: Final = ("running", "running", "running", "idle", "down_unplanned", "unknown")


def assets_of(machines: int) -> list[str]:
    """Return machines on lines of sites."""
    return [
        f"acme/site-{number % _SITES}/moulding/line-{number // _SITES % _LINES}/imm-{number:03}"
        for number in range(machines)
    ]


def blocks(assets: list[str], signals: tuple[str, ...], begin_ns: int, step_s: int) -> Iterator[SampleBlock]:
    """Yield samples of some signals of all machines, every ``step_s`` seconds to the end, in order of time."""
    keys = tuple(SeriesKey(parse_asset(asset), signal) for asset in assets for signal in signals)
    steps = (_END_NS - begin_ns) // (step_s * _S)
    at_once = max(1, _ROWS // len(keys))
    random = np.random.default_rng(1)
    for first in range(0, steps, at_once):
        n = min(at_once, steps - first)
        step = np.repeat(np.arange(first, first + n, dtype=np.int64), len(keys))
        jitter = random.integers(0, step_s * 900, len(step)) * 1_000_000
        times = begin_ns + step * step_s * _S + jitter
        # Counters rise; what is measured moves a little.
        values = step + np.round(random.normal(200.0, 1.0, len(step)), 1)
        index = np.tile(np.arange(len(keys), dtype=np.uint32), n)
        yield SampleBlock(
            keys,
            index,
            times,
            times + 50_000_000,
            values,
            np.zeros(len(times), np.uint8),
            np.zeros(len(times), np.uint32),
        )


def fill(store: InfluxDB, assets: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Write everything; return how many samples and reports, and the seconds that each took."""
    begin_ns = _END_NS - int(arguments.hours * 3600) * _S
    began = time.perf_counter()
    samples = 0
    every: list[SeriesKey] = []
    for signals, step_s in ((_OFTEN, arguments.step_s), (_HELD, _HELD_S)):
        offset = len(every)
        for block in blocks(assets, signals, begin_ns, step_s):
            if len(every) == offset:
                every += block.series
            store.write(every, block.series_index + np.uint32(offset + 1), block)
            samples += len(block)
    written = time.perf_counter()
    points: list[Point] = []
    count = 0
    for at_s in range(arguments.report_s, int(arguments.hours * 3600) + 1, arguments.report_s):
        points += reported(assets, begin_ns + at_s * _S)
        if len(points) >= _REPORTS:
            store.report(points)
            count += len(points)
            points = []
    store.report(points)
    return {
        "samples": samples,
        "reports": count + len(points),
        "samples_s": round(written - began, 1),
        "reports_s": round(time.perf_counter() - written, 1),
    }


def reported(assets: list[str], at_ns: int) -> Iterator[Point]:
    """Yield what the service reports at a moment; a machine's state lasts some minutes."""
    minutes = at_ns // (600 * _S)
    ms = at_ns // 1_000_000
    machines: dict[str, dict[str, Any]] = {
        asset: {
            "state": _STATES[(minutes + number) % len(_STATES)],
            "since": minutes * 600_000,
            "contact": (minutes + number) % len(_STATES) != len(_STATES) - 1,
            "newest": ms - 2_000,
            "parts_today": ms // 60_000 % 1440,
        }
        for number, asset in enumerate(assets)
    }
    sites = {
        f"acme/site-{number}": {
            "time_zone": "Asia/Shanghai",
            "parts_today": ms // 60_000 % 1440,
            "power_kw": 250.0,
            "newest": ms - 1_000,
        }
        for number in range(_SITES)
    }
    zones = dict.fromkeys(assets, 0.4)
    yield from report_points.machine_points(machines, at_ns, zones_off_k=zones)
    yield from report_points.site_points(sites, machines, at_ns)
    for site in sites:
        yield from report_points.agent_points(_agent(site, at_ns), NOTHING, at_ns)
    if at_ns % (60 * _S) == 0:
        yield from report_points.alarm_points((), sites, tuple(map(str, Kind)), at_ns)
    fields = {"agents": _SITES, "agents_contact": _SITES, "series": 9_000, "quarantine": 0}
    yield Point(reports.SERVICE, {}, fields, at_ns)


def _agent(site: str, at_ns: int) -> AgentRecord:
    buffer = BufferReport(
        streams=1,
        pending_samples=0,
        oldest_pending_time=None,
        used_bytes=1,
        limit_bytes=2,
        hours_left=None,
    )
    said = Heartbeat(
        agent_id=site[-6:],
        asset=site,
        version="1",
        wire_version=1,
        config_hash="h",
        started=0,
        sent=at_ns,
        buffer=buffer,
    )
    return AgentRecord(said.agent_id, site, last_contact=at_ns, heartbeat=said)


def measure(database: Database, assets: list[str], span: Span, repeats: int) -> dict[str, Any]:
    """Execute every query of both boards several times, each time for another machine."""
    made = render.dashboards(render.LANGUAGES["influxql"])
    random = np.random.default_rng(5)
    taken: dict[str, list[float]] = {"group": [], "machine": []}
    slowest: tuple[float, str] = (0.0, "")
    empty: set[str] = set()
    for repeat in range(repeats + 1):
        _, site, _, line, cell = assets[int(random.integers(len(assets)))].split("/")
        values: dict[str, Any] = {"ds": "", "live": "", "site": site, "line": [line], "machine": [cell]}
        values["tz"] = "Asia/Shanghai"
        for board, seconds in taken.items():
            for where, run in _runs(made[board], board, database, span, values):
                began = time.perf_counter()
                found = run()
                if repeat == 0:
                    # The first round answers with cold caches, as no second user does.
                    empty |= set() if found else {where}
                    continue
                seconds.append(time.perf_counter() - began)
                slowest = max(slowest, (seconds[-1], where))
    every = [one for seconds in taken.values() for one in seconds]
    return {
        "queries": len(every),
        "empty": len(empty),
        "query_p95_ms": _p95(every),
        "query_max_ms": round(max(every) * 1000, 1),
        **{f"{board}_p95_ms": _p95(seconds) for board, seconds in taken.items()},
        "slowest": slowest[1],
    }


def _runs(
    dashboard: Mapping[str, Any], board: str, database: Database, span: Span, values: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            text = filled(variable["query"], values)
            yield f"{board}: {variable['name']}", lambda text=text: len(database.values(text, span))
    for one in queries_of(board, dashboard, span, values):
        yield one.where, lambda one=one: database.ask(one.text, one.span, one.interval, one.newest)


def _p95(seconds: list[float]) -> float:
    return round(float(np.quantile(seconds, 0.95)) * 1000, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--machines", type=int, default=300)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--step-s", type=int, default=30, help="between two samples of a signal")
    parser.add_argument("--report-s", type=int, default=10, help="between two reports of the service")
    parser.add_argument("--repeats", type=int, default=10, help="rounds of all queries")
    parser.add_argument("--folder", type=Path, help="where the database lies; default: a temporary folder")
    arguments = parser.parse_args()
    assets = assets_of(arguments.machines)
    found: dict[str, Any] = {"benchmark": "dashboards", "machines": len(assets), "hours": arguments.hours}
    with (
        tempfile.TemporaryDirectory(prefix="shopfloor-dashboards-", dir=arguments.folder) as folder,
        influxd(Path(folder) / "influxdb") as server,
    ):
        if server is None:
            raise SystemExit("influxdb is not installed")
        url = f"http://127.0.0.1:{server.port}"
        config = {"kind": "influxdb", "version": 1, "url": url, "database": "bench"}
        store = InfluxDB(InfluxDBStoreConfig.model_validate(config))
        found |= {f"fill_{name}": value for name, value in fill(store, assets, arguments).items()}
        store.close()
        span = Span((_END_NS - int(arguments.hours * 3600) * _S) // 1_000_000, _END_NS // 1_000_000)
        found |= measure(influxdb(Access(url, "bench")), assets, span, arguments.repeats)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:24} {figure}")


if __name__ == "__main__":
    main()
