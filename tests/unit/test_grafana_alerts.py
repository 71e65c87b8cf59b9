"""Alert rules and provisioning files: what Grafana would refuse, replace or misread is not in them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.grafana import provisioning, render
from dashboards.grafana.alerts import Engine, alert_queries, alert_rules
from dashboards.grafana.alerts_render import REVISION_KEY, revision, rule_of_api
from dashboards.grafana.datasources import data_source
from dashboards.grafana.push_config import InfluxDBSource, VictoriaMetricsSource
from dashboards.grafana.push_difference import differences
from ingest_service.alarm_config import AlarmConfig
from shopfloor import reports

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "provisioning"
ENGINES: tuple[Engine, ...] = ("influxql", "metricsql")
FILES = {str(path): yaml.safe_load(text) for path, text in provisioning.files()}
KINDS = {
    "agent_silent",
    "site_without_data",
    "machine_missing",
    "buffer_low",
    "gap",
    "quarantine_growing",
    "agent_clock",
    "machine_clock",
    "zone_off_setpoint",
    "no_reports",
}


def rules_of(engine: Engine) -> list[dict[str, Any]]:
    (group,) = FILES[f"alerting/{engine}/rules.yaml"]["groups"]
    return list(group["rules"])


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield where texts stand, and the texts."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from texts(one, f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from texts(one, path)


def test_the_files_in_the_repository_are_those_that_the_code_makes(tmp_path: Path) -> None:
    assert provisioning.stale(FOLDER) == [], (
        "run: shopfloor dashboards render --provisioning deploy/grafana/provisioning"
    )
    written = provisioning.write(tmp_path)
    assert len(written) == len(FILES)
    assert provisioning.write(tmp_path) == []
    written[0].write_text("other")
    written[1].unlink()
    (tmp_path / "alerting" / "own.yaml").write_text("")
    found = "\n".join(provisioning.stale(tmp_path))
    assert f"{written[0]}: differs" in found
    assert f"{written[1]}: is missing" in found
    assert "own.yaml: nothing makes it" in found


def test_no_file_touches_policies_or_takes_anything_away() -> None:
    allowed = {"apiVersion", "groups", "contactPoints", "datasources", "providers"}
    assert {key for document in FILES.values() for key in document} == allowed


@pytest.mark.parametrize("engine", ENGINES)
def test_each_rule_is_one_that_grafana_takes(engine: Engine) -> None:
    rules = rules_of(engine)
    assert {rule["labels"]["shopfloor"] for rule in rules} == KINDS
    assert len({rule["uid"] for rule in rules}) == len({rule["title"] for rule in rules}) == len(KINDS)
    sources = {
        one["uid"] for name, file in FILES.items() if "datasources" in name for one in file["datasources"]
    }
    boards = render.dashboards(render.LANGUAGES[engine]).values()
    panels = {(board["uid"], str(one["id"])) for board in boards for one in board["panels"]}
    for rule in rules:
        assert re.fullmatch(r"[a-z0-9-]{1,40}", rule["uid"])
        known: set[str] = set()
        for one in rule["data"]:
            model = one["model"]
            assert one["refId"] == model["refId"]
            assert one["refId"] not in known
            expression = model.get("expression", "")
            needed = re.findall(r"\$(\w+)", expression) if model.get("type") == "math" else [expression]
            assert not expression or set(needed) <= known, "expressions follow what they name"
            if one["datasourceUid"] != "__expr__":
                assert one["datasourceUid"] in sources
                assert one["relativeTimeRange"]["from"] >= 300 + 10, (
                    "the longest report_every_s, and one to spare"
                )
            known.add(one["refId"])
        assert rule["condition"] in known
        shown = (rule["dashboardUid"], str(rule["panelId"]))
        assert shown == (rule["annotations"]["__dashboardUid__"], rule["annotations"]["__panelId__"])
        assert shown in panels, "notifications link to a panel that there is"
        assert rule["notification_settings"]["receiver"] == "Shopfloor"
        assert {"alertname", "grafana_folder"} <= set(rule["notification_settings"]["group_by"])


@pytest.mark.parametrize("engine", ENGINES)
def test_only_one_rule_is_about_silence(engine: Engine) -> None:
    for rule in rules_of(engine):
        alone = rule["labels"]["shopfloor"] == "no_reports"
        assert rule["noDataState"] == ("Alerting" if alone else "OK")
        assert rule["execErrState"] == ("Alerting" if alone else "KeepLast")


def test_dollar_signs_stand_only_where_grafana_leaves_them_or_replaces_what_is_meant() -> None:
    for name, document in FILES.items():
        for path, text in texts(document):
            if "$" not in text:
                continue
            if ".model." in path:
                assert "$$" not in text, "a model is taken as it is written"
            else:
                kept = re.sub(r"\$\{SHOPFLOOR_[A-Z_]+\}|\$__file\{/run/secrets/[a-z_]+\}", "", text)
                assert "$" not in kept, f"{name}: {path}"


def test_no_secret_has_a_default() -> None:
    secrets = [
        text
        for document in FILES.values()
        for path, text in texts(document)
        if ".secureJsonData." in path or "assword" in path
    ]
    assert secrets
    assert all(re.fullmatch(r"(Token )?\$__file\{/run/secrets/[a-z_]+\}", text) for text in secrets)
    names = [name for name in FILES if name.startswith("datasources/")]
    assert len(names) == 5
    assert all(FILES[name]["datasources"][0]["editable"] is False for name in names)


@pytest.mark.parametrize("engine", ENGINES)
def test_queries_ask_for_what_the_service_reports(engine: Engine) -> None:
    queries = list(alert_queries(engine))
    assert len(queries) == 11
    source = Path(reports.__file__).read_text()
    for one in queries:
        fields = re.findall(r'\("(\w+)"\)' if engine == "influxql" else r"_over_time\((\w+)\[", one.query)
        assert len(fields) == 1, one.query
        name = fields[0] if engine == "influxql" else fields[0].partition("_")[2]
        assert f"``{name}``" in source, f"{name} is no field that shopfloor.reports names"


def test_thresholds_are_those_of_the_services_own_alarms() -> None:
    rules = {rule.kind: rule for rule in alert_rules()}
    own = AlarmConfig()
    assert rules["agent_silent"].fires == ("gt", own.silent_after_s, 0)
    assert rules["buffer_low"].fires == ("lt", own.buffer_hours, 0)
    assert rules["agent_clock"].fires == ("outside_range", -own.clock_offset_s, own.clock_offset_s)
    assert rules["machine_clock"].fires == (
        "outside_range",
        -own.machine_clock_offset_s,
        own.machine_clock_offset_s,
    )
    assert rules["quarantine_growing"].inputs[0].range_s == own.quarantine_quiet_s


def test_a_revision_is_of_what_a_rule_warns_of_and_not_of_whom_it_tells() -> None:
    rule = alert_rules()[0]
    body = rule_of_api(rule, "influxql", "ds")
    assert body["data"][0]["model"][REVISION_KEY] == revision(body)
    assert "notification_settings" not in body
    told = rule_of_api(rule, "influxql", "ds", "Plant")
    assert told["notification_settings"]["receiver"] == "Plant"
    assert revision(told) == revision(body)
    moved = {
        **copy.deepcopy(body),
        "folderUID": "other",
        "isPaused": True,
        "updated": "2026",
        "provenance": "api",
    }
    moved["data"][0]["model"]["intervalMs"] = 15_000
    assert revision(moved) == revision(body), "Grafana's own additions are no change"
    for change in (
        rule._replace(fires=("gt", 61, 0)),
        rule._replace(for_s=120),
        rule._replace(title="Other"),
        rule._replace(inputs=(rule.inputs[0]._replace(range_s=1000),)),
    ):
        assert revision(rule_of_api(change, "influxql", "ds")) != revision(body)
    assert revision(rule_of_api(rule, "metricsql", "ds")) != revision(body)


def test_a_data_source_carries_its_secrets_apart() -> None:
    first = data_source(
        InfluxDBSource.model_validate(
            {"kind": "influxdb", "url": "http://x", "version": 1, "user": "u", "password": "file:/dev/null"}
        )
    )
    assert (first["user"], first["secureJsonData"]) == ("u", {"password": ""})
    assert "httpHeaderName1" not in first["jsonData"]
    open_one = data_source(InfluxDBSource(kind="influxdb", url="http://x", version=1))
    assert "secureJsonData" not in open_one
    victoria = data_source(
        VictoriaMetricsSource.model_validate(
            {"kind": "victoriametrics", "url": "http://x", "token": "file:/dev/null"}
        )
    )
    assert victoria["type"] == "prometheus"
    assert victoria["basicAuth"] is False


def test_differences_are_named_by_what_people_call_things() -> None:
    there = {
        "panels": [{"id": 2, "title": "B", "unit": "s"}, {"id": 1, "title": "A", "on": True}],
        "tags": ["a", "b"],
        "only": 1,
        "n": 1.0,
    }
    ours = {"panels": [{"id": 1, "title": "A", "on": 1}, {"id": 3, "title": "C"}], "tags": ["a"], "n": 1}
    assert [str(one) for one in differences(there, ours)] == [
        "panels[A].on: true -> 1",
        "panels[C]: nothing -> 'C' with 2 keys",
        "panels[B]: 'B' with 3 keys -> nothing",
        'tags[1]: "b" -> nothing',
        "only: 1 -> nothing",
    ]
    assert [one.path for one in differences({"a": 1, "b": {"c": 1}}, {"b": {"c": 2}}, only_ours=True)] == [
        "b.c"
    ]
    assert differences([1, 2], [1, 2]) == []
    assert str(differences("x" * 500, "y")[0]).endswith('… -> "y"')
