"""What a check counts, on a database that answers what the test wants."""

from __future__ import annotations

from typing import Any

import pytest

from dashboards.grafana import render
from dashboards.grafana.alerts import alert_queries
from dashboards.grafana.checking.database import Database, Refused
from dashboards.grafana.checking.interpolation import Span
from dashboards.grafana.checking.run import check
from dashboards.grafana.checking.structure import panels_of
from shopfloor.errors import Permanent

SPAN = Span(1_764_000_000_000, 1_764_003_600_000)


class Pretended:
    """Answers everything with one value, but for queries in which a word stands."""

    def __init__(self, found: dict[str, list[str]] | None = None) -> None:
        self.asked: list[str] = []
        self.found = found or {}
        self.empty = self.broken = "no such word"

    def ask(self, text: str, _span: Span, _interval: int, _newest: bool) -> int:
        self.asked.append(text)
        if self.broken in text:
            raise Refused("it does not like it")
        return 0 if self.empty in text else 1

    def values(self, text: str, _: Span) -> list[str]:
        return next((values for word, values in self.found.items() if word in text), ["one"])

    @property
    def database(self) -> Database:
        return Database("influxql", self.ask, self.values, lambda: None)


def boards() -> dict[str, dict[str, Any]]:
    return render.dashboards(render.LANGUAGES["influxql"])


def test_everything_is_asked_once_and_counted() -> None:
    pretended = Pretended()
    report = check(boards(), pretended.database, SPAN)
    made = boards()
    variables = sum(one["type"] == "query" for board in made.values() for one in board["templating"]["list"])
    targets = sum(len(panel["targets"]) for board in made.values() for panel in panels_of(board))
    marks = sum(len(board["annotations"]["list"]) for board in made.values())
    alerts = len(list(alert_queries("influxql")))
    assert report.queries == variables + targets + marks + alerts
    assert len(pretended.asked) == targets + marks + alerts
    assert not any("$" in text.replace("$/", "") for text in pretended.asked), "everything is replaced"
    assert report.figures() == {
        "dashboards": 6,
        "panels": sum(len(panels_of(board)) for board in made.values()),
        "queries": report.queries,
        "failed": 0,
        "empty": 0,
        "quiet": 0,
    }


def test_an_empty_answer_is_a_problem_unless_the_panel_says_what_it_means() -> None:
    pretended = Pretended()
    pretended.empty = 'FROM "quarantine"'
    report = check(boards(), pretended.database, SPAN)
    assert (report.failed, report.empty, report.problems) == (0, 0, [])
    assert report.quiet == 2, "a panel and an alert rule"
    pretended.empty = 'FROM "line"'
    report = check(boards(), pretended.database, SPAN)
    assert report.empty == len(report.problems) >= 4
    assert {one.kind for one in report.problems} == {"empty"}
    assert any(one.where == "site: Lines A" for one in report.problems)


def test_a_query_that_fails_is_named_and_the_others_go_on() -> None:
    pretended = Pretended()
    pretended.broken = '"age_s"'
    report = check(boards(), pretended.database, SPAN)
    assert report.failed == len(report.problems) >= 4
    assert str(report.problems[0]).startswith("failed: group: Sites A: it does not like it\n    SELECT")
    assert report.empty == 0


def test_values_of_variables_are_chosen_as_grafana_does() -> None:
    many = [f"imm-{number}" for number in range(1000)]
    pretended = Pretended(
        {'KEY = "site"': ["dg01", "hk01"], 'KEY = "cell"': many, 'KEY = "line"': ["a/b", "c"]}
    )
    check(boards(), pretended.database, SPAN)
    cycles = [text for text in pretended.asked if "'cycle.cushion'" in text]
    assert len(cycles) == 1
    assert '"site" =~ /^dg01$/ AND "line" =~ /^(a\\/b|c)$/ AND "cell" =~ /^.*$/' in cycles[0]
    assert any('"cell" =~ /^imm-0$/' in text for text in pretended.asked), (
        "a repeated panel is asked for one machine"
    )
    pretended.asked.clear()
    check(boards(), pretended.database, SPAN, {"site": "hk01"})
    assert not any("/^dg01$/" in text for text in pretended.asked)


def test_a_variable_without_values_is_a_problem() -> None:
    pretended = Pretended({'KEY = "agent"': []})
    report = check(boards(), pretended.database, SPAN)
    assert [one.where for one in report.problems] == ["collector: variable agent"]


def test_a_database_that_cant_be_asked_ends_the_check() -> None:
    def probe() -> None:
        raise Permanent("the token may not read it")

    with pytest.raises(Permanent, match="token"):
        check(boards(), Pretended().database._replace(probe=probe), SPAN)
