"""The dashboards as they are rendered: the files of the repository, their structure, and what they promise."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.grafana import look, provisioning, render
from dashboards.grafana.checking.structure import panels_of, problems, query_of
from shopfloor import reports
from shopfloor.__main__ import main

LANGUAGES = sorted(render.LANGUAGES)


def boards(language: str) -> dict[str, dict[str, Any]]:
    return render.dashboards(render.LANGUAGES[language])


def panel(board: dict[str, Any], title: str) -> dict[str, Any]:
    (found,) = [one for one in panels_of(board) if one["title"] == title]
    return found


def test_the_files_of_the_repository_are_what_the_builders_make() -> None:
    assert render.stale(render.FOLDER) == []


def test_rendering_says_which_files_changed_and_names_strangers(tmp_path: Path) -> None:
    assert len(render.write(tmp_path)) == 12
    assert render.write(tmp_path) == []
    assert render.stale(tmp_path) == []
    group = tmp_path / "influxql" / "group.json"
    group.write_text(group.read_text().replace('"10s"', '"1s"'))
    (tmp_path / "metricsql" / "old.json").write_text("{}")
    (tmp_path / "metricsql" / "site.json").unlink()
    assert [one.partition(": ")[2] for one in render.stale(tmp_path)] == [
        "differs from what the builders make; render it",
        "is missing; render it",
        "no builder makes it",
    ]
    assert render.write(tmp_path) == [group, tmp_path / "metricsql" / "site.json"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_structure_is_sound(language: str) -> None:
    assert problems(boards(language)) == []


def test_both_sets_fit_into_one_grafana() -> None:
    every = [one for language in LANGUAGES for one in boards(language).values()]
    for field in ("uid", "title"):
        assert len({one[field] for one in every}) == len(every) == 12


def test_numbers_of_panels_stay_when_others_come() -> None:
    numbers = {
        language: {one["title"]: one["id"] for one in panels_of(boards(language)["group"])}
        for language in LANGUAGES
    }
    assert numbers["influxql"] == numbers["metricsql"], "a link to a panel means the same one in both"
    assert {title: numbers["influxql"][title] for title in ("Machines by state", "Sites")} == {
        "Machines by state": 797_303,
        "Sites": 490_438,
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_contact_has_a_colour_of_its_own_and_absence_none(language: str) -> None:
    bands = panel(boards(language)["site"], "States of the machines")
    words = bands["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert [words[str(code)]["text"] for code in range(len(reports.MACHINE_STATES))] == [
        look.MACHINE_STATES[name][0] for name in reports.MACHINE_STATES
    ]
    colors = [one["color"] for one in words.values()]
    assert words["0"]["text"] == "No contact"
    assert colors.count(words["0"]["color"]) == 1
    assert bands["fieldConfig"]["defaults"]["custom"]["spanNulls"] == 120_000, (
        "reports that are missing are a hole"
    )
    for board in boards(language).values():
        for one in panels_of(board):
            custom = one["fieldConfig"]["defaults"].get("custom", {})
            assert custom.get("spanNulls") is not True or one["type"] == "state-timeline", one["title"]
            assert "fill(previous)" not in str(one)
            assert "fill(0)" not in str(one)
            if one["type"] == "stat":
                assert one["fieldConfig"]["defaults"]["noValue"], one["title"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_newest_figure_is_new_whatever_span_is_shown(language: str) -> None:
    old = re.compile(r"> \$\{__to\}ms - (2|15)m AND" if language == "influxql" else r"\[(2|15)m\]")
    for board in boards(language).values():
        for one in panels_of(board):
            assert "timeFrom" not in one, f"{one['title']}: what lies back would show what is true now"
            if one["type"] in {"stat", "table"}:
                assert all(old.search(query_of(target)) for target in one["targets"]), one["title"]


def test_lines_have_holes_where_reports_or_samples_stayed_away() -> None:
    for board in boards("influxql").values():
        for one in panels_of(board):
            if one["type"] != "timeseries":
                continue
            queries = [query_of(target) for target in one["targets"]]
            samples = any('FROM "sample"' in query for query in queries)
            assert one["fieldConfig"]["defaults"]["custom"]["spanNulls"] == (900_000 if samples else 120_000)
            for query in queries:
                # Without an empty row where nothing came, a line would lead over any time.
                assert "fill(null)" in query or "difference(" in query or "- 2d AND" in query, one["title"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_boards_open_on_our_own_data_source_among_others_of_its_type(language: str) -> None:
    sources = {
        one["uid"]: one
        for path, text in provisioning.files()
        if path.parts[0] == "datasources"
        for one in yaml.safe_load(text)["datasources"]
    }
    for board in boards(language).values():
        source = board["templating"]["list"][0]
        there = sources[source["current"]["value"]]
        assert (source["query"], source["current"]["text"]) == (there["type"], there["name"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_links_carry_the_database_the_site_and_its_time_zone(language: str) -> None:
    group = boards(language)["group"]
    (column,) = [
        one
        for one in panel(group, "Sites")["fieldConfig"]["overrides"]
        if one["matcher"]["options"] == "site"
    ]
    (links,) = [one["value"] for one in column["properties"] if one["id"] == "links"]
    assert [one["title"] for one in links] == ["Site and lines", "Collector", "Live page"]
    assert "var-ds=${ds}" in links[0]["url"]
    assert "var-site=${__data.fields.site:percentencode}" in links[0]["url"]
    assert "timezone=${__data.fields.time_zone:percentencode}" in links[0]["url"]
    assert links[2]["url"] == "/live/#/site/${__data.fields.enterprise}/${__data.fields.site}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_variables_follow_one_another_and_marks_stand_on_every_board(language: str) -> None:
    made = boards(language)
    names = [one["name"] for one in made["machine"]["templating"]["list"]]
    assert names == ["ds", "site", "tz", "line", "machine"]
    queries = {one["name"]: one["query"] for one in made["machine"]["templating"]["list"]}
    assert "site" in queries["line"]
    assert "line" in queries["machine"]
    for board in made.values():
        assert [one["name"] for one in board["annotations"]["list"]] == ["Gaps", "Losses", "Restarts"]
    repeated = [one for one in made["machine"]["panels"] if one.get("repeat")]
    assert [one["repeat"] for one in repeated] == ["machine"]


def test_days_of_energy_begin_at_the_sites_midnight() -> None:
    target = panel(boards("influxql")["energy"], "Energy per day of the site")["targets"][0]
    assert target["query"].endswith("tz('${tz}')")


def test_the_live_page_is_where_it_is_said_to_be() -> None:
    made = render.dashboards(render.LANGUAGES["influxql"], "https://plant.example.com/")
    (live,) = [one for one in made["group"]["links"] if one["title"] == "Live page"]
    assert live["url"] == "https://plant.example.com/"
    links = re.findall(r'"([^"]*/#/(?:site|machine)/)', json.dumps(made))
    assert len(links) > 10
    assert {one.partition("/#/")[0] for one in links} == {"https://plant.example.com"}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda one: one.update(schemaVersion=41), "schemaVersion is 41"),
        (lambda one: one.update(uid="no uid"), "uid 'no uid' is none"),
        (lambda one: one["panels"][1].update(id=one["panels"][2]["id"]), "ids of panels"),
        (lambda one: one["panels"][1]["gridPos"].update(x=20), "does not fit"),
        (lambda one: one["panels"][2]["gridPos"].update(one["panels"][1]["gridPos"]), "lies on"),
        (lambda one: one["panels"][0].update(repeat="nobody"), "repeats by $nobody"),
        (lambda one: one["panels"][1]["targets"][0].update(query=""), "is empty"),
        (lambda one: one["panels"][1]["targets"][0].update(query="$nobody"), "there is no variable $nobody"),
        (lambda one: one["panels"][1]["targets"].append(one["panels"][1]["targets"][0]), "the same refId"),
        (lambda one: one["panels"][1].update(targets=[]), "asks nothing"),
        (lambda one: one["panels"][1].update(type="graph"), "'graph' is no type that is known here"),
        (lambda one: one["panels"][1]["targets"].pop(), "overrides the looks of query 'G'"),
        (lambda one: one["panels"][1].update(transformations=[{"id": "calculateField"}]), "calculateField"),
        (lambda one: one["templating"]["list"].reverse(), "does not stand before it"),
        (lambda one: one["annotations"]["list"][0]["target"].update(query=""), "asks nothing"),
        (lambda one: one["links"].append({"url": "/d/elsewhere"}), "leads to 'elsewhere'"),
        (lambda one: one["links"].append({"url": "LIVE-PAGE/"}), "an address should stand"),
        (
            lambda one: one["panels"][1]["targets"][0]["datasource"].update(uid="abc"),
            "does not ask the database",
        ),
    ],
)
def test_what_is_wrong_is_named(spoil: Any, problem: str) -> None:
    made = copy.deepcopy(boards("influxql"))
    spoil(made["site"])
    assert any(problem in one for one in problems(made)), problems(made)


def test_every_target_has_a_query_and_json_is_plain() -> None:
    for language in LANGUAGES:
        for board in boards(language).values():
            assert json.loads(json.dumps(board)) == board
            assert all(query_of(target) for one in panels_of(board) for target in one["targets"])


def test_the_command_renders_and_tells_what_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "dashboards",
        "render",
        "--to",
        str(tmp_path / "boards"),
        "--provisioning",
        str(tmp_path / "files"),
    ]
    assert main([*words, "--check"]) == 1
    assert "boards/influxql/group.json: is missing; render it" in capsys.readouterr().err
    assert main(words) == 0
    assert "files/dashboards/shopfloor.yaml" in capsys.readouterr().out
    assert main([*words, "--check"]) == 0
    (tmp_path / "occupied").write_text("")
    assert main(["dashboards", "render", "--to", str(tmp_path / "occupied")]) == 1
    assert "occupied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--hours", "0"], "--hours"),
        (["--to", "2026-11-26T08:00:00"], "needs its offset from UTC"),
        (["--to", "yesterday"], "yesterday"),
        (["--var", "site"], "is not NAME=VALUE"),
        (["--victoriametrics", "localhost:8428"], "is no address such as"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboards", "check", *words]) == 2
    assert problem in capsys.readouterr().err


def test_without_a_database_the_structure_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "check"]) == 0
    assert "structure: 0 problems" in capsys.readouterr().out
