"""How quickly a history is read, beside InfluxDB and VictoriaMetrics: ``python -m benchmarks.query [--json]``.

2,000 series over 30 days, 100 million samples (``--samples``), in the ordinary service, asked over HTTP on loopback:

- ``latest_p95_ms``: the newest values of all series of the site;
- ``day_series_p95_ms``: one series, 24 h, as 500 buckets;
- ``month_rollup_p95_ms``: ten series anywhere, 30 days by the hour;
- ``export_samples_per_s``: a share of the series, whole, as an Arrow stream, the second time it is asked for;
- ``growth``: the worst of these in relation to the same with a tenth of the samples.

Peers get ``--influxdb-share`` and ``--victoriametrics-share`` of the samples (fewer steps, the same span) and the same
questions in their own languages.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks._history import BEGIN_NS, Plan, fill, lines_of
from benchmarks._line_protocol_peers import Peer, Server, influxdb, victoriametrics
from benchmarks._service import serving
from ingest_service.auth import Role

_DAYS: Final = 30
_SERIES: Final = 2_000
_DAY_MS: Final = 86_400_000
_BEGIN_MS: Final = BEGIN_NS // 1_000_000
_LINES: Final = 10_000
_EXPORTED_LINES: Final = 4
"""Lines of a hundred series that are exported."""


class Figures(NamedTuple):
    """What one store reached."""

    latest_p95_ms: float
    day_series_p95_ms: float
    month_rollup_p95_ms: float
    export_samples_per_s: float


Ask = Callable[[str], memoryview]
"""Returns a body, which counts until the next question."""


class _Body:
    """Memory for answers that is used again: a client that pages in fresh memory for each would measure itself."""

    def __init__(self) -> None:
        self._bytes = np.empty(2**20, np.uint8)

    def read(self, answer: http.client.HTTPResponse) -> memoryview:
        size = 0
        while got := answer.readinto(self._bytes[size:].data):
            size += got
            if size == len(self._bytes):
                self._bytes = np.concatenate([self._bytes, np.zeros(size, np.uint8)])
        return self._bytes[:size].data


class Questions(NamedTuple):
    """The same questions in one store's language."""

    latest: Callable[[], str]
    day: Callable[[int, int], str]
    """Of a series number and a begin, UTC ms."""
    month: Callable[[list[int]], str]
    export: Callable[[], str]
    count: Callable[[bytes], int]
    """Counts the samples of an exported body."""


def plan_of(samples: int) -> Plan:
    """Return so many samples over the span."""
    steps = max(_DAYS, samples // _SERIES)
    return Plan(_SERIES, steps, _DAYS * 86_400 * 10**9 // steps, 1_000)


def run(ask: Ask, questions: Questions, repeats: int) -> Figures:
    """Ask everything several times."""
    random = np.random.default_rng(3)

    def p95(make: Callable[[], str]) -> float:
        taken = []
        for number in range(repeats + 2):
            began = time.perf_counter()
            body = ask(make())
            taken.append(time.perf_counter() - began)
            if number == 0 and len(body) < 200:
                raise SystemExit(f"an answer without values: {bytes(body)!r}")
        # The first two answer with cold caches, as no second user of a page does.
        return round(float(np.quantile(taken[2:], 0.95)) * 1000, 1)

    latest = p95(questions.latest)
    day = p95(
        lambda: questions.day(
            int(random.integers(_SERIES)), _BEGIN_MS + int(random.integers(_DAYS - 1)) * _DAY_MS
        )
    )
    month = p95(
        # The same signal of ten machines anywhere.
        lambda: questions.month(
            (random.choice(_SERIES // 10, 10, replace=False) * 10 + random.integers(10)).tolist()
        )
    )
    ask(questions.export())
    began = time.perf_counter()
    body = ask(questions.export())
    seconds = time.perf_counter() - began
    return Figures(latest, day, month, round(questions.count(bytes(body)) / seconds))


def ours(folder: Path, samples: int, repeats: int) -> tuple[Figures, dict[str, float]]:
    """Fill an embedded store and ask the service on it."""
    plan = plan_of(samples)
    filled = fill(folder / "data" / "samples.duckdb", plan.blocks())
    keys = plan.keys

    def path(series: list[int], **more: object) -> str:
        query = [("asset", str(keys[number].asset)) for number in series]
        signals = sorted({keys[number].signal for number in series})
        query += [("signal", signal) for signal in signals]
        return "/v1/samples?" + urllib.parse.urlencode([*query, *((n, str(v)) for n, v in more.items())])

    def span(begin: int, end: int) -> dict[str, object]:
        return {"from": begin, "to": end}

    questions = Questions(
        lambda: "/v1/latest?asset=acme/hk01",
        lambda series, begin: path([series], points=500, **span(begin, begin + _DAY_MS)),
        lambda series: path(series, every="1h", **span(_BEGIN_MS, _BEGIN_MS + _DAYS * _DAY_MS)),
        lambda: (
            "/v1/samples?format=arrow&"
            + urllib.parse.urlencode(
                [
                    *(("asset", f"acme/hk01/moulding/line-{line:02}") for line in range(_EXPORTED_LINES)),
                    *span(_BEGIN_MS, _BEGIN_MS + (_DAYS + 1) * _DAY_MS).items(),
                ]
            )
        ),
        lambda body: sum(batch.num_rows for batch in pa.ipc.open_stream(body)),
    )
    with serving(folder, [(Role.VIEWER, "acme")]) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=600)

        memory = _Body()

        def ask(target: str) -> memoryview:
            connection.request("GET", target, headers={"Authorization": f"Bearer {service.tokens[0]}"})
            answer = connection.getresponse()
            body = memory.read(answer)
            if answer.status != 200:
                raise SystemExit(f"{target}: {answer.status} {bytes(body[:300])!r}")
            return body

        return run(ask, questions, repeats), filled


def peer(make: Peer, folder: Path, samples: int, repeats: int) -> Figures | None:
    """Fill a server with a share of the samples and ask it."""
    plan = plan_of(samples)
    with make(folder) as server:
        if server is None:
            return None
        for block in plan.blocks():
            for first in range(0, len(block), _LINES):
                rows = np.arange(first, min(first + _LINES, len(block)))
                url = f"http://127.0.0.1:{server.port}{server.path}"
                urllib.request.urlopen(url, lines_of(block.take(rows)), timeout=60).close()
        if make is victoriametrics:
            # What it took becomes visible only when it is flushed.
            flush = f"http://127.0.0.1:{server.port}/internal/force_flush"
            urllib.request.urlopen(flush, timeout=60).close()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)

        memory = _Body()

        def ask(target: str) -> memoryview:
            connection.request("GET", target)
            answer = connection.getresponse()
            body = memory.read(answer)
            if answer.status != 200:
                raise SystemExit(f"{target}: {answer.status} {bytes(body[:300])!r}")
            return body

        return run(ask, (_influxdb if make is influxdb else _victoriametrics)(plan, server), repeats)


def _influxdb(plan: Plan, _server: Server) -> Questions:
    keys = plan.keys
    end_ms = _BEGIN_MS + _DAYS * _DAY_MS

    def query(text: str) -> str:
        return "/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "ms", "q": text})

    def where(series: list[int]) -> str:
        return " OR ".join(
            f"(cell = '{keys[number].asset.name}' AND signal = '{keys[number].signal}')" for number in series
        )

    lines = " OR ".join(f"line = 'line-{line:02}'" for line in range(_EXPORTED_LINES))
    aggregates = (
        "SELECT count(value), min(value), max(value), mean(value), first(value), last(value) FROM sample"
    )
    return Questions(
        lambda: query("SELECT last(value) FROM sample WHERE site = 'hk01' GROUP BY cell, signal"),
        lambda series, begin: query(
            f"{aggregates} WHERE {where([series])} AND time >= {begin}ms "
            f"AND time < {begin + _DAY_MS}ms GROUP BY time({_DAY_MS // 500}ms)"
        ),
        lambda series: query(
            f"{aggregates} WHERE ({where(series)}) AND time >= {_BEGIN_MS}ms "
            f"AND time < {end_ms}ms GROUP BY time(1h), cell, signal"
        ),
        lambda: (
            query(f"SELECT value FROM sample WHERE {lines} GROUP BY cell, signal")  # noqa: S608 - our own names
            + "&chunked=true"
        ),
        lambda body: sum(
            len(series["values"])
            for chunk in body.splitlines()
            for result in json.loads(chunk)["results"]
            for series in result.get("series", [])
        ),
    )


def _victoriametrics(plan: Plan, _server: Server) -> Questions:
    keys = plan.keys
    end_s = _BEGIN_MS // 1000 + _DAYS * 86_400

    def chosen(series: list[int]) -> str:
        cells = "|".join(sorted({keys[number].asset.name for number in series}))
        signals = "|".join(sorted({keys[number].signal for number in series}))
        return f'sample_value{{cell=~"{cells}",signal=~"{signals}"}}'

    def ranged(series: list[int], begin_s: int, finish_s: int, step_s: float) -> str:
        what = f'label_set(rollup({chosen(series)}[{round(step_s * 1000)}ms]), "of", "min,max,avg")'
        query = {"query": what, "start": begin_s, "end": finish_s, "step": step_s, "nocache": 1}
        return "/api/v1/query_range?" + urllib.parse.urlencode(query)

    lines = "|".join(f"line-{line:02}" for line in range(_EXPORTED_LINES))
    return Questions(
        lambda: (
            "/api/v1/query?"
            + urllib.parse.urlencode(
                {"query": 'last_over_time(sample_value{site="hk01"}[1d])', "time": end_s, "nocache": 1}
            )
        ),
        lambda series, begin: ranged([series], begin // 1000, begin // 1000 + 86_400, 172.8),
        lambda series: ranged(series, _BEGIN_MS // 1000, end_s, 3600),
        lambda: "/api/v1/export?" + urllib.parse.urlencode({"match[]": f'sample_value{{line=~"{lines}"}}'}),
        lambda body: sum(len(json.loads(line)["values"]) for line in body.splitlines()),
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {"benchmark": "query", "samples": arguments.samples, "series": _SERIES}

    def inside(name: str) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix=f"shopfloor-{name}-", dir=arguments.folder)

    with inside("tenth") as folder:
        tenth, _ = ours(Path(folder), arguments.samples // 10, arguments.repeats)
    with inside("whole") as folder:
        whole, filled = ours(Path(folder), arguments.samples, arguments.repeats)
    found |= whole._asdict()
    found["growth"] = round(
        max(
            *(after / before for after, before in zip(whole[:3], tenth[:3], strict=True)),
            tenth.export_samples_per_s / whole.export_samples_per_s,
        ),
        2,
    )
    found |= {f"tenth_{name}": value for name, value in tenth._asdict().items()}
    found |= {f"fill_{name}": value for name, value in filled.items()}
    for make, share in (
        (influxdb, arguments.influxdb_share),
        (victoriametrics, arguments.victoriametrics_share),
    ):
        with inside("peer") as folder:
            figures = peer(make, Path(folder) / "peer", int(arguments.samples * share), arguments.repeats)
        if figures is not None:
            found |= {f"{make.__name__}_{name}": value for name, value in figures._asdict().items()}
            found[f"{make.__name__}_samples"] = int(arguments.samples * share)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--samples", type=int, default=100_000_000)
    parser.add_argument("--repeats", type=int, default=60, help="of each question")
    parser.add_argument("--influxdb-share", type=float, default=0.1)
    parser.add_argument("--victoriametrics-share", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="where the stores lie; default: a temporary folder")
    found = measure(arguments := parser.parse_args())
    if arguments.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:40} {figure}")


if __name__ == "__main__":
    main()
