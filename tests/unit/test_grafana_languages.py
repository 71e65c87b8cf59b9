"""What is asked, spelled in both languages."""

from __future__ import annotations

import pytest

from dashboards.grafana import influxql, metricsql
from dashboards.grafana.ask import Ask, Column, How, Is, Like, Rows, Var, signal

WHERE = (Var("site"), Var("cell", "machine"))
BY = ("site", "cell")
FILTER = '"site" =~ /^${site:regex}$/ AND "cell" =~ /^${machine:regex}$/'
METRIC = "machine_state{site=~`${site:regex}`,cell=~`${machine:regex}`}"
NOW = "time > ${__to}ms - 2m AND time <= ${__to}ms"


@pytest.mark.parametrize(
    ("how", "influx", "metrics"),
    [
        (
            How.MEAN,
            f'SELECT mean("state") FROM "machine" WHERE $timeFilter AND {FILTER} GROUP BY time($__interval), "site", "cell" fill(null)',
            f"avg by (site, cell) (avg_over_time({METRIC}[$__interval]))",
        ),
        (
            How.LAST,
            f'SELECT last("state") FROM "machine" WHERE $timeFilter AND {FILTER} GROUP BY time($__interval), "site", "cell" fill(null)',
            f"max by (site, cell) (last_over_time({METRIC}[$__interval]))",
        ),
        (
            How.MOST,
            f'SELECT max("state") FROM "machine" WHERE $timeFilter AND {FILTER} GROUP BY time($__interval), "site", "cell" fill(null)',
            f"max by (site, cell) (max_over_time({METRIC}[$__interval]))",
        ),
        (
            How.HELD,
            (
                'SELECT last("state") FROM "machine" WHERE time >= ${__from}ms - 2d AND time <= ${__to}ms AND '
                f'{FILTER} GROUP BY time($__interval), "site", "cell" fill(none)'
            ),
            f"max by (site, cell) (last_over_time({METRIC}[2d]))",
        ),
        (
            How.SUM,
            f'SELECT sum("state") FROM "machine" WHERE $timeFilter AND {FILTER} GROUP BY time($__interval), "site", "cell" fill(null)',
            f"sum by (site, cell) (sum_over_time({METRIC}[$__interval]))",
        ),
        (
            How.RATE,
            (
                f'SELECT sum("state") * 1000 / $__interval_ms FROM "machine" WHERE $timeFilter AND {FILTER} '
                'GROUP BY time($__interval), "site", "cell" fill(null)'
            ),
            f"sum by (site, cell) (sum_over_time({METRIC}[$__interval])) * 1000 / $__interval_ms",
        ),
        (
            How.NEWEST,
            f'SELECT last("state") FROM "machine" WHERE {NOW} AND {FILTER} GROUP BY "site", "cell"',
            f"max by (site, cell) (last_over_time({METRIC}[2m]))",
        ),
        (
            How.NEWEST_SUM,
            (
                f'SELECT sum("last") FROM (SELECT last("state") FROM "machine" WHERE {NOW} AND {FILTER} GROUP BY *) '
                f'WHERE {NOW} GROUP BY "site", "cell"'
            ),
            f"sum by (site, cell) (last_over_time({METRIC}[2m]))",
        ),
        (
            How.TOTAL,
            f'SELECT sum("state") FROM "machine" WHERE $timeFilter AND {FILTER} GROUP BY "site", "cell"',
            f"sum by (site, cell) (sum_over_time({METRIC}[$__range]))",
        ),
        (
            How.RISE,
            (
                f'SELECT non_negative_difference(last("state")) FROM "machine" WHERE $timeFilter AND {FILTER} '
                'GROUP BY time($__interval), "site", "cell" fill(none)'
            ),
            f"sum by (site, cell) (ascent_over_time({METRIC}[$__interval] offset -$__interval))",
        ),
        (
            How.DAILY_RISE,
            (
                f'SELECT non_negative_difference(last("state")) FROM "machine" WHERE $timeFilter AND {FILTER} '
                'GROUP BY time(1d), "site", "cell" fill(none) tz(\'${tz}\')'
            ),
            f"sum by (site, cell) (ascent_over_time({METRIC}[1d] offset -1d))",
        ),
    ],
)
def test_what_is_made_of_values(how: How, influx: str, metrics: str) -> None:
    ask = Ask("machine", "state", how, BY, WHERE, "{site}/{cell}")
    of_influx, of_metrics = influxql.LANGUAGE.target(ask), metricsql.LANGUAGE.target(ask)
    assert (of_influx["query"], of_influx["alias"]) == (influx, "$tag_site/$tag_cell")
    assert (of_metrics["expr"], of_metrics["legendFormat"]) == (metrics, "{{site}}/{{cell}}")
    newest = how in {How.NEWEST, How.NEWEST_SUM, How.TOTAL}
    assert (of_metrics.get("instant", False), of_metrics["range"]) == (newest, not newest)


def test_of_samples_only_those_are_shown_that_are_not_bad() -> None:
    def spelled(how: How) -> str:
        return str(metricsql.LANGUAGE.target(signal("clamp.force", how, ("cell",), (), ""))["expr"])

    value, quality = 'sample_value{signal="clamp.force"}', 'sample_quality{signal="clamp.force"}'
    assert spelled(How.MEAN) == (
        f"avg by (cell) (avg_over_time({value}[$__interval]) unless max_over_time({quality}[$__interval]) >= 2)"
    )
    assert spelled(How.NEWEST) == (
        f"max by (cell) (last_over_time({value}[15m]) unless (last_over_time({quality}[15m]) >= 2 and "
        f"tlast_over_time({quality}[15m]) >= tlast_over_time({value}[15m])))"
    )
    assert spelled(How.RISE) == (
        f"sum by (cell) (ascent_over_time(({value} unless {quality} >= 2)[$__interval:0.05i] offset -$__interval))"
    )


def test_intervals_without_a_sample_are_said_so_that_long_ones_are_holes() -> None:
    ask = signal("status.mode", How.LAST, ("cell",), (), "mode")
    assert influxql.LANGUAGE.target(ask)["query"] == (
        'SELECT last("value") FROM "sample" WHERE $timeFilter AND "quality" < 2 AND "signal" = \'status.mode\' '
        'GROUP BY time($__interval), "cell" fill(null)'
    )


@pytest.mark.parametrize(
    ("where", "influx", "metrics"),
    [
        (Is("cell", 'it\'s \\ "x"'), '"cell" = \'it\\\'s \\\\ "x"\'', 'cell="it\'s \\\\ \\"x\\""'),
        (Like("cell", "a/b|c"), '"cell" =~ /^(a\\/b|c)$/', 'cell=~"a/b|c"'),
        (
            Like("signal", "barrel[.]zone_[^.]+"),
            '"signal" =~ /^(barrel[.]zone_[^.]+)$/',
            'signal=~"barrel[.]zone_[^.]+"',
        ),
    ],
)
def test_filters_are_quoted(where: Is | Like, influx: str, metrics: str) -> None:
    ask = Ask("machine", "state", How.NEWEST, (), (where,))
    assert (
        influxql.LANGUAGE.target(ask)["query"]
        == f'SELECT last("state") FROM "machine" WHERE {NOW} AND {influx}'
    )
    assert (
        metricsql.LANGUAGE.target(ask)["expr"]
        == f"max by () (last_over_time(machine_state{{{metrics}}}[2m]))"
    )


def test_a_table_is_one_query_or_one_a_figure() -> None:
    rows = Rows(
        "line",
        (Column("running", "Running", "count"), Column("off", "Off", "off")),
        ("site", "line"),
        (Var("site"),),
    )
    (one,) = influxql.LANGUAGE.rows(rows)
    assert one["query"] == (
        'SELECT last("running") AS "Running", last("off") AS "Off" FROM "line" '
        f'WHERE {NOW} AND "site" =~ /^${{site:regex}}$/ GROUP BY "site", "line"'
    )
    assert [each["expr"] for each in metricsql.LANGUAGE.rows(rows)] == [
        f"max by (site, line) (last_over_time(line_{field}{{site=~`${{site:regex}}`}}[2m]))"
        for field in ("running", "off")
    ]
    assert [metricsql.LANGUAGE.column(rows, place) for place in (0, 1)] == ["Value #A", "Value #B"]
    assert influxql.LANGUAGE.column(rows, 1) == "Off"


def test_variables_and_marks() -> None:
    assert influxql.LANGUAGE.values("cell", "machine", (Var("site"),)) == (
        'SHOW TAG VALUES FROM "machine" WITH KEY = "cell" WHERE "site" =~ /^${site:regex}$/'
    )
    assert metricsql.LANGUAGE.values("cell", "machine", (Var("site"),)) == (
        "label_values(machine_state{site=~`${site:regex}`}, cell)"
    )
    kinds = ("dropped", "quarantined")
    marks = influxql.LANGUAGE.events(kinds, ())["target"]["query"]
    assert '"kind" =~ /^(dropped|quarantined)$/' in marks
    assert marks.endswith("ORDER BY time DESC LIMIT 1000"), "where there are too many, the newest ones show"
    assert metricsql.LANGUAGE.events(kinds, ())["target"]["expr"] == (
        'sum by (kind, agent, site, cell) (sum_over_time(event_count{kind=~"dropped|quarantined"}[$__interval]))'
    )
