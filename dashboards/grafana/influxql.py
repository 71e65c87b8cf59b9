# ruff: noqa: S608 - what is put together is quoted, and is what this module is for
"""InfluxQL, as InfluxDB 1.8, 2.x and 3.x speak it: measurements without a database, no Flux, no joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dashboards.grafana.ask import BAD, HELD_FOR, SAMPLE, Ask, Filter, How, Is, Like, Rows, Var
from dashboards.grafana.language import Language, Target, named, quoted
from dashboards.grafana.push_config import INFLUXDB
from shopfloor import reports

_SOURCE: Final = {"type": "influxdb", "uid": "${ds}"}
_BY_INTERVAL: Final = {How.MEAN: "mean", How.MOST: "max", How.LAST: "last", How.SUM: "sum"}


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one(condition: Filter) -> str:
    tag = quoted(condition.tag)
    match condition:
        case Var():
            return f"{tag} =~ /^${{{condition.variable}:regex}}$/"
        case Is():
            return f"{tag} = {_text(condition.text)}"
        case Like():
            return f"{tag} =~ /^({condition.expression.replace('/', chr(92) + '/')})$/"


def _where(filters: Sequence[Filter], *more: str) -> str:
    return " AND ".join([*more, *map(_one, filters)])


def _newest(within: str) -> str:
    # By the end of what is shown, and not the whole of it: what vanished before is gone, also when one looks back.
    return f"time > ${{__to}}ms - {within} AND time <= ${{__to}}ms"


def _tags(by: Sequence[str]) -> str:
    return ", ".join(map(quoted, by))


def _select(ask: Ask) -> str:
    field, source = quoted(ask.field), f"FROM {quoted(ask.measurement)}"
    known = (f'"quality" < {BAD}',) if ask.measurement == SAMPLE else ()
    where = _where(ask.where, "$timeFilter", *known)
    tags = "".join(f", {quoted(tag)}" for tag in ask.by)
    of_interval = f"GROUP BY time($__interval){tags}"
    of_series = f" GROUP BY {_tags(ask.by)}" if ask.by else ""
    newest = _where(ask.where, _newest(ask.within), *known)
    match ask.how:
        case How.MEAN | How.MOST | How.LAST | How.SUM:
            function = _BY_INTERVAL[ask.how]
            return f"SELECT {function}({field}) {source} WHERE {where} {of_interval} fill(null)"
        case How.HELD:
            # What lies before the span is drawn into it: a line goes on from there.
            before = _where(ask.where, f"time >= ${{__from}}ms - {HELD_FOR} AND time <= ${{__to}}ms", *known)
            return f"SELECT last({field}) {source} WHERE {before} {of_interval} fill(none)"
        case How.RATE:
            return (
                f"SELECT sum({field}) * 1000 / $__interval_ms {source} WHERE {where} {of_interval} fill(null)"
            )
        case How.NEWEST:
            return f"SELECT last({field}) {source} WHERE {newest}{of_series}"
        case How.NEWEST_SUM:
            # `*` as the tags of the inner query: each series counts, also of tags that are not named here. Without its own
            # span of time the outer one would bear the time 0.
            inner = f"SELECT last({field}) {source} WHERE {newest} GROUP BY *"
            return f'SELECT sum("last") FROM ({inner}) WHERE {_newest(ask.within)}{of_series}'
        case How.TOTAL:
            return f"SELECT sum({field}) {source} WHERE {where}{of_series}"
        case How.RISE:
            return f"SELECT non_negative_difference(last({field})) {source} WHERE {where} {of_interval} fill(none)"
        case How.DAILY_RISE:
            return (
                f"SELECT non_negative_difference(last({field})) {source} WHERE {where} "
                f"GROUP BY time(1d){tags} fill(none) tz('${{tz}}')"
            )


def _target(ask: Ask) -> Target:
    return {
        "datasource": _SOURCE,
        "query": _select(ask),
        "rawQuery": True,
        "resultFormat": "time_series",
        "alias": named(ask.legend, "$tag_{}".format),
    }


def _rows(rows: Rows) -> list[Target]:
    figures = ", ".join(f"last({quoted(one.field)}) AS {quoted(one.title)}" for one in rows.columns)
    query = (
        f"SELECT {figures} FROM {quoted(rows.measurement)} WHERE {_where(rows.where, _newest(rows.within))} "
        f"GROUP BY {_tags(rows.by)}"
    )
    return [{"datasource": _SOURCE, "query": query, "rawQuery": True, "resultFormat": "table"}]


def _values(tag: str, measurement: str, where: Sequence[Filter]) -> str:
    condition = f" WHERE {_where(where)}" if where else ""
    return f"SHOW TAG VALUES FROM {quoted(measurement)} WITH KEY = {quoted(tag)}{condition}"


def _events(kinds: Sequence[str], where: Sequence[Filter]) -> Mapping[str, Any]:
    condition = _where(where, "$timeFilter", _one(Like("kind", "|".join(kinds))))
    # The tags have to be selected: an annotation reads columns only.
    query = (
        f'SELECT "count", "until_ms", "text", "agent", "kind", "site", "cell" '
        f"FROM {quoted(reports.EVENT)} WHERE {condition} ORDER BY time DESC LIMIT 1000"
    )
    return {
        "target": {
            "refId": "Anno",
            "fromAnnotations": True,
            "rawQuery": True,
            "query": query,
            "textColumn": "text",
            "tagsColumn": "kind,agent,cell",
            "timeEndColumn": "until_ms",
        }
    }


LANGUAGE: Final = Language(
    "influxql",
    "InfluxDB",
    "influxdb",
    INFLUXDB,
    "shopfloor",
    "",
    _target,
    _rows,
    lambda rows, position: rows.columns[position].title,
    _values,
    _events,
)
