"""Evaluates alert rules as Grafana does, as far as ours go: queries, then reduce, mathematics and threshold by labels."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

Labels = frozenset[tuple[str, str]]
Figures = dict[Labels, float]
Ask = Callable[[dict[str, Any], int, int], Figures]
"""Model of a query, from and to in UTC ms: a figure for each combination of labels."""


def influxdb(url: str, database: str) -> Ask:
    """Ask as Grafana's InfluxDB data source does (InfluxQL); a series is its newest value."""

    def ask(model: dict[str, Any], from_ms: int, to_ms: int) -> Figures:
        text = model["query"].replace("$timeFilter", f"time >= {from_ms}ms and time <= {to_ms}ms")
        answer = _fetch(f"{url}/query", {"q": text, "db": database, "epoch": "ms"})
        (result,) = answer["results"]
        assert "error" not in result, f"{text}: {result}"
        return {_labels(one.get("tags", {})): float(one["values"][-1][1]) for one in result.get("series", ())}

    return ask


def victoriametrics(url: str) -> Ask:
    """Ask as Grafana's Prometheus data source does, for an instant."""

    def ask(model: dict[str, Any], _from_ms: int, to_ms: int) -> Figures:
        assert model["instant"]
        fields = {"query": model["expr"], "time": f"{to_ms / 1000:.3f}", "nocache": "1"}
        answer = _fetch(f"{url}/api/v1/query", fields)
        assert answer["status"] == "success", answer
        return {_labels(one["metric"]): float(one["value"][1]) for one in answer["data"]["result"]}

    return ask


def firing(rule: dict[str, Any], ask: Ask, now_ms: int) -> set[Labels]:
    """Return the labels for which a rule of the API fires; a rule without any data fires as its noDataState says."""
    known: dict[str, Figures] = {}
    for one in rule["data"]:
        model = one["model"]
        match model.get("type"):
            case None:
                span_ms = one["relativeTimeRange"]["from"] * 1000
                known[one["refId"]] = ask(model, now_ms - span_ms, now_ms)
            case "reduce":
                assert model["reducer"] == "last"
                known[one["refId"]] = known[model["expression"]]
            case "math":
                known[one["refId"]] = _computed(model["expression"], known)
            case "threshold":
                known[one["refId"]] = {
                    labels: float(_beyond(model["conditions"][0]["evaluator"], value))
                    for labels, value in known[model["expression"]].items()
                }
    answered = known[rule["condition"]]
    if not answered:
        return {frozenset()} if rule["noDataState"] == "Alerting" else set()
    return {labels for labels, value in answered.items() if value}


def _computed(expression: str, known: dict[str, Figures]) -> Figures:
    names = re.findall(r"\$(\w+)", expression)
    # Only what has all figures, by equal labels, is computed.
    shared = set.intersection(*(set(known[name]) for name in names))
    words = re.sub(r"\$(\w+)", r"\1", expression)
    return {
        labels: float(eval(words, {"__builtins__": {}}, {name: known[name][labels] for name in names}))
        for labels in shared
    }


def _beyond(evaluator: dict[str, Any], value: float) -> bool:
    low, *high = evaluator["params"]
    match evaluator["type"]:
        case "gt":
            return bool(value > low)
        case "lt":
            return bool(value < low)
        case "outside_range":
            return bool(value < low or value > high[0])
    raise AssertionError(evaluator)


def _labels(tags: dict[str, str]) -> Labels:
    return frozenset((name, text) for name, text in tags.items() if text)


def _fetch(url: str, fields: dict[str, str]) -> dict[str, Any]:
    with urllib.request.urlopen(url, urllib.parse.urlencode(fields).encode(), timeout=30) as answer:
        decoded: dict[str, Any] = json.load(answer)
    return decoded
