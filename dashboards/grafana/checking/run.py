"""Executes every query of every panel, variable, annotation and alert rule on a real database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from dashboards.grafana.alerts import alert_queries
from dashboards.grafana.checking.database import Database, Refused
from dashboards.grafana.checking.interpolation import Everything, Span, Value, filled, interval_ms, macros
from dashboards.grafana.checking.structure import panels_of, query_of
from dashboards.grafana.panels import NO_REPORT

_FINEST: Final = "10s"
_ANNOTATION_MS: Final = 60_000
_MOST_CHOSEN: Final = 100
"""Values of a variable that are all chosen one by one; of more than these all are, by the one expression for that."""
_INSTANT: Final = frozenset({"stat", "bargauge", "table"})


class Asked(NamedTuple):
    """One query, ready to be executed."""

    where: str
    """Dashboard, panel and query, for people."""
    text: str
    span: Span
    interval: int
    newest: bool
    must: bool
    """Whether an empty answer tells of something wrong."""


class Problem(NamedTuple):
    """A query that failed, or whose answer is empty and should not be."""

    kind: Literal["failed", "empty"]
    where: str
    text: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.message}\n    {self.text}"


class Report(NamedTuple):
    """What came of a check."""

    dashboards: int
    panels: int
    queries: int
    failed: int
    empty: int
    quiet: int
    """Empty answers that are none the worse: nothing was lost, nothing refused."""
    problems: list[Problem]

    def figures(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, int)}


def check(
    dashboards: Mapping[str, Mapping[str, Any]],
    database: Database,
    span: Span,
    chosen: Mapping[str, str] | None = None,
) -> Report:
    """Execute everything.

    Args:
        dashboards: by name; all of the database's language.
        database: where to.
        span: what the dashboards show.
        chosen: values of variables; the others are read from the database.

    Raises:
        Permanent: the database can't be asked as it was told to.
        Transient: it does not answer.
    """
    database.probe()
    problems: list[Problem] = []
    queries = 0
    for name, dashboard in dashboards.items():
        values: dict[str, Value] = dict(chosen or {})
        for asked in _variables(name, dashboard, database, span, values):
            queries += 1
            if isinstance(asked, Problem):
                problems.append(asked)
        for query in queries_of(name, dashboard, span, values):
            queries += 1
            problem = _problem(database, query)
            if problem is not None:
                problems.append(problem)
    for query in _alerts(database, span):
        queries += 1
        problem = _problem(database, query)
        if problem is not None:
            problems.append(problem)
    loud = [one for one in problems if one.message != _QUIET]
    quiet = len(problems) - len(loud)
    return Report(
        len(dashboards),
        sum(len(panels_of(one)) for one in dashboards.values()),
        queries,
        sum(one.kind == "failed" for one in loud),
        sum(one.kind == "empty" for one in loud),
        quiet,
        loud,
    )


_QUIET: Final = "nothing, as it may be"


def _problem(database: Database, asked: Asked) -> Problem | None:
    try:
        count = database.ask(asked.text, asked.span, asked.interval, asked.newest)
    except Refused as error:
        return Problem("failed", asked.where, asked.text, str(error))
    if count:
        return None
    return Problem("empty", asked.where, asked.text, "no value" if asked.must else _QUIET)


def _variables(
    name: str,
    dashboard: Mapping[str, Any],
    database: Database,
    span: Span,
    values: dict[str, Value],
) -> Iterator[Problem | None]:
    """Read the values of variables into ``values``, each with those before it; yield for each query what is wrong."""
    for variable in dashboard.get("templating", {}).get("list", []):
        key = variable["name"]
        if variable["type"] != "query":
            values.setdefault(key, str(variable.get("query", "")))
            continue
        where = f"{name}: variable {key}"
        text = str(variable["query"])
        try:
            text = filled(text, values)
            found = database.values(text, span)
        except (Refused, KeyError, ValueError) as error:
            values.setdefault(key, "")
            yield Problem("failed", where, text, str(error))
            continue
        if key not in values:
            values[key] = _chosen(variable, found)
        yield None if found else Problem("empty", where, text, "no value")


def _chosen(variable: Mapping[str, Any], found: list[str]) -> Value:
    if not found:
        return ""
    if not variable.get("multi") or not variable.get("includeAll"):
        return found[0]
    if len(found) > _MOST_CHOSEN:
        return Everything(str(variable.get("allValue", ".*")))
    return found


def queries_of(
    name: str, dashboard: Mapping[str, Any], span: Span, values: Mapping[str, Value]
) -> Iterator[Asked]:
    """Yield every query of the panels and annotations of a dashboard.

    Args:
        name: the dashboard's, for people.
        dashboard: its JSON.
        span: what it shows.
        values: of its variables.
    """
    for panel in panels_of(dashboard):
        nothing = panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "")
        for position, target in enumerate(panel["targets"]):
            finest = target.get("interval") or panel.get("interval") or _FINEST
            interval = interval_ms(span, finest)
            # The first query of a table says whether there are rows; a figure of them may be unknown.
            may = position > 0 if panel["type"] == "table" else nothing not in {"", NO_REPORT}
            yield Asked(
                f"{name}: {panel['title']} {target['refId']}",
                filled(query_of(target), {**values, **macros(span, interval)}),
                span,
                interval,
                bool(target.get("instant")) or panel["type"] in _INSTANT,
                not may,
            )
    for annotation in dashboard.get("annotations", {}).get("list", []):
        text = filled(query_of(annotation["target"]), {**values, **macros(span, _ANNOTATION_MS)})
        yield Asked(f"{name}: annotation {annotation['name']}", text, span, _ANNOTATION_MS, False, False)


def _alerts(database: Database, span: Span) -> Iterable[Asked]:
    for one in alert_queries("influxql" if database.language == "influxql" else "metricsql"):
        within = Span(span.to_ms - one.range_s * 1000, span.to_ms)
        text = filled(one.query, macros(within, 1000)) if database.language == "influxql" else one.query
        yield Asked(f"alert {one.rule} {one.name}", text, within, 1000, True, not one.may_be_empty)
