"""What dashboards show of samples whose quality is bad, on real databases: nothing, and never their value, often zero."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from dashboards.grafana import render
from dashboards.grafana.ask import MACHINE_TAGS, How, signal
from dashboards.grafana.checking.interpolation import Span, filled, macros
from dashboards.grafana.checking.structure import query_of
from ingest_service.store_config import InfluxDBStoreConfig, VictoriaMetricsStoreConfig
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.victoriametrics import VictoriaMetrics
from shopfloor.asset import parse_asset
from shopfloor.block import Quality, make_block
from shopfloor.signal import SeriesKey
from tests import store_servers

S = 1_000_000_000
HOUR_S = 3600
HOUR = time.time_ns() // S // HOUR_S * HOUR_S - HOUR_S
"""When the last whole hour began, in seconds; samples stand every minute of half of it."""
READINGS = (100.0, 110.0, 0.0, 0.0, 120.0, 130.0)
BAD = (2, 3)
SPAN = Span(HOUR * 1000, (HOUR + 360) * 1000)

Fill = Callable[[InfluxDB | VictoriaMetrics], None]
Figures = Callable[[str, Span, int, bool], list[float]]


def fill(store: InfluxDB | VictoriaMetrics) -> None:
    keys = [SeriesKey(parse_asset(f"acme/s/a/l/{cell}"), "counter.parts") for cell in ("lives", "ends-badly")]
    store.check()
    for number, (key, values, bad) in enumerate(
        ((keys[0], READINGS, BAD), (keys[1], (*READINGS[:2], 0.0), BAD[:1])), 1
    ):
        times = (HOUR + 60 * np.arange(len(values)) + 1) * S
        quality = np.where(np.isin(np.arange(len(values)), bad), Quality.BAD, Quality.GOOD)
        block = make_block((key,), np.zeros(len(values)), times, times, values, quality)
        store.write(keys, np.full(len(values), number, np.uint32), block)


def fetched(url: str, fields: dict[str, Any]) -> Any:
    with urllib.request.urlopen(url, urllib.parse.urlencode(fields).encode(), timeout=30) as answer:
        return json.load(answer)


@contextmanager
def influxdb() -> Iterator[Figures]:
    with store_servers.influxdb() as server:
        store = InfluxDB(InfluxDBStoreConfig(kind="influxdb", url=server.url, version=1))
        fill(store)
        store.close()

        def figures(text: str, _span: Span, _interval: int, _newest: bool) -> list[float]:
            answer = fetched(f"{server.url}/query", {"q": text, "db": "shopfloor", "epoch": "ms"})
            (result,) = answer["results"]
            rows = [row for one in result.get("series", ()) for row in one["values"]]
            return [row[1] for row in rows if row[1] is not None]

        yield figures


@contextmanager
def victoriametrics() -> Iterator[Figures]:
    with store_servers.victoriametrics() as server:
        store = VictoriaMetrics(VictoriaMetricsStoreConfig(kind="victoriametrics", url=server.url))
        fill(store)
        store.close()
        urllib.request.urlopen(f"{server.url}/internal/force_flush", timeout=30).close()

        def figures(text: str, span: Span, interval: int, newest: bool) -> list[float]:
            fields: dict[str, Any] = {"query": text, "nocache": 1, "time": span.to_ms / 1000}
            if not newest:
                fields |= {"start": span.from_ms / 1000, "end": span.to_ms / 1000, "step": interval / 1000}
            answer = fetched(f"{server.url}/api/v1/{'query' if newest else 'query_range'}", fields)
            assert answer["status"] == "success", answer
            found = answer["data"]["result"]
            values = (
                [one["value"] for one in found] if newest else [row for one in found for row in one["values"]]
            )
            return [float(value) for _, value in values]

        yield figures


@pytest.mark.parametrize(
    ("name", "filled_database"), [("influxql", influxdb), ("metricsql", victoriametrics)]
)
def test_a_bad_sample_is_neither_zero_nor_a_reset(name: str, filled_database: Any) -> None:
    language = render.LANGUAGES[name]
    with filled_database() as figures:

        def shown(cell: str, how: How, span: Span, interval_s: int) -> list[float]:
            ask = signal("counter.parts", how, MACHINE_TAGS, (), "")
            text = query_of(language.target(ask)).replace(
                '"signal" = ', f'"cell" = \'{cell}\' AND "signal" = '
            )
            text = text.replace("{signal=", f'{{cell="{cell}",signal=')
            text = filled(text, macros(span, interval_s * 1000))
            found: list[float] = figures(text, span, interval_s * 1000, how is How.NEWEST)
            return found

        for how in (How.MEAN, How.MOST, How.LAST):
            assert shown("lives", how, SPAN, 60) == [100.0, 110.0, 120.0, 130.0], how
        assert set(shown("ends-badly", How.HELD, SPAN, 60)) == {100.0, 110.0}
        assert shown("lives", How.NEWEST, SPAN, 60) == [130.0]
        assert 0.0 not in shown("ends-badly", How.NEWEST, SPAN, 60)
        rises = shown("lives", How.RISE, SPAN, 180)
        assert 20.0 <= sum(rises) <= 30.0, "neither from zero to 100, nor from a zero between to 120"
