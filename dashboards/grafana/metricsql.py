"""MetricsQL, as VictoriaMetrics speaks it, through Grafana's Prometheus data source. A field is a metric of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dashboards.grafana.ask import BAD, HELD_FOR, SAMPLE, Ask, Filter, How, Is, Like, Rows, Var
from dashboards.grafana.language import Language, Target, named, quoted
from dashboards.grafana.push_config import VICTORIAMETRICS
from shopfloor import reports

_SOURCE: Final = {"type": "prometheus", "uid": "${ds}"}
_PART: Final = "0.05i"
"""Of an interval: how often a counter is looked at, so that a long span asks for no more than a short one."""
_NOW: Final = {How.NEWEST, How.NEWEST_SUM, How.TOTAL}


def _one(condition: Filter) -> str:
    match condition:
        case Var():
            # Between backquotes nothing is an escape: the expression comes as `regex` spells it. Without a format the data
            # source would escape the values of some variables, of others not, and double quotes only since Grafana 12.
            return f"{condition.tag}=~`${{{condition.variable}:regex}}`"
        case Is():
            return f"{condition.tag}={quoted(condition.text)}"
        case Like():
            return f"{condition.tag}=~{quoted(condition.expression)}"


def _metric(measurement: str, field: str, where: Sequence[Filter]) -> str:
    return f"{measurement}_{field}{{{','.join(map(_one, where))}}}"


def _over(ask: Ask, function: str, window: str) -> str:
    """Return what a function makes of a window; nothing where a sample in it, or for ``last`` the newest one, is bad."""
    metric = _metric(ask.measurement, ask.field, ask.where)
    rolled = f"{function}_over_time({metric}[{window}])"
    if ask.measurement != SAMPLE:
        return rolled
    # Only qualities that are not good are stored.
    quality = _metric(SAMPLE, "quality", ask.where)
    if function != "last":
        return f"{rolled} unless max_over_time({quality}[{window}]) >= {BAD}"
    return (
        f"{rolled} unless (last_over_time({quality}[{window}]) >= {BAD} and "
        f"tlast_over_time({quality}[{window}]) >= tlast_over_time({metric}[{window}]))"
    )


def _counted(ask: Ask, window: str) -> str:
    """Return by how much counters rise in a window that begins at each step; what bad samples say is no reset."""
    counter = _metric(ask.measurement, ask.field, ask.where)
    if ask.measurement == SAMPLE:
        counter = f"({counter} unless {_metric(SAMPLE, 'quality', ask.where)} >= {BAD})[{window}:{_PART}]"
    else:
        counter += f"[{window}]"
    # Not `increase`: of a series that begins, or begins again, it takes the first value for a rise from zero where that is
    # small. A bar stands where its interval begins, as InfluxQL has it.
    return f"ascent_over_time({counter} offset -{window})"


def _expression(ask: Ask) -> str:
    by = f" by ({', '.join(ask.by)})"
    match ask.how:
        case How.MEAN:
            return f"avg{by} ({_over(ask, 'avg', '$__interval')})"
        case How.MOST:
            return f"max{by} ({_over(ask, 'max', '$__interval')})"
        case How.LAST:
            return f"max{by} ({_over(ask, 'last', '$__interval')})"
        case How.HELD:
            return f"max{by} ({_over(ask, 'last', HELD_FOR)})"
        case How.SUM:
            return f"sum{by} ({_over(ask, 'sum', '$__interval')})"
        case How.RATE:
            return f"sum{by} ({_over(ask, 'sum', '$__interval')}) * 1000 / $__interval_ms"
        case How.NEWEST:
            return f"max{by} ({_over(ask, 'last', ask.within)})"
        case How.NEWEST_SUM:
            return f"sum{by if ask.by else ''} ({_over(ask, 'last', ask.within)})"
        case How.TOTAL:
            return f"sum{by} ({_over(ask, 'sum', '$__range')})"
        case How.RISE:
            return f"sum{by} ({_counted(ask, '$__interval')})"
        case How.DAILY_RISE:
            # Grafana lays the steps on midnights of the dashboard's time zone, which links set to the site's.
            return f"sum{by} ({_counted(ask, '1d')})"


def _target(ask: Ask) -> Target:
    target: Target = {
        "datasource": _SOURCE,
        "expr": _expression(ask),
        "legendFormat": named(ask.legend, "{{{{{}}}}}".format),
        "editorMode": "code",
    }
    if ask.how in _NOW:
        return target | {"instant": True, "range": False}
    # The shortest interval of a day is a day, whatever the panel says.
    return target | {"range": True} | ({"interval": "1d"} if ask.how is How.DAILY_RISE else {})


def _rows(rows: Rows) -> list[Target]:
    by = ", ".join(rows.by)
    return [
        {
            "datasource": _SOURCE,
            "expr": f"max by ({by}) (last_over_time({_metric(rows.measurement, one.field, rows.where)}[{rows.within}]))",
            "format": "table",
            "instant": True,
            "range": False,
            "editorMode": "code",
        }
        for one in rows.columns
    ]


def _column(_: Rows, position: int) -> str:
    return f"Value #{chr(ord('A') + position)}"


def _values(tag: str, measurement: str, where: Sequence[Filter]) -> str:
    # The field that each measurement of ours has whatever happens.
    field = {
        reports.MACHINE: "state",
        reports.AGENT: "contact",
        reports.SOURCE: "state",
    }.get(measurement, "machines")
    return f"label_values({_metric(measurement, field, where)}, {tag})"


def _events(kinds: Sequence[str], where: Sequence[Filter]) -> Mapping[str, Any]:
    metric = _metric(reports.EVENT, "count", (*where, Like("kind", "|".join(kinds))))
    expression = f"sum by (kind, agent, site, cell) (sum_over_time({metric}[$__interval]))"
    # The longer the span, the longer Grafana's steps: each has to reach back to the one before.
    return {
        "target": {"refId": "Anno", "expr": expression, "interval": "1m", "range": True},
        "step": "1m",
        "titleFormat": "{{kind}} {{agent}}",
        "textFormat": "{{site}} {{cell}}",
        "tagKeys": "kind,agent,cell",
    }


LANGUAGE: Final = Language(
    "metricsql",
    "VictoriaMetrics",
    "prometheus",
    VICTORIAMETRICS,
    "shopfloor-vm",
    " (VictoriaMetrics)",
    _target,
    _rows,
    _column,
    _values,
    _events,
)
