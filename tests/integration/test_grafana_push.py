"""``shopfloor dashboards push`` against the stand-in of Grafana's HTTP API: what it makes, changes and leaves alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboards.grafana.alerts import alert_rules
from tests.grafana_desk import BOARD, CONFIG, Desk, Json
from tests.grafana_server import ADMIN, EDITOR, Grafana, serving


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    with serving(Grafana()) as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, grafana, capsys)


def set_unit(unit: str) -> Callable[[Json], None]:
    def change(dashboard: Json) -> None:
        dashboard["panels"][0]["fieldConfig"]["unit"] = unit

    return change


def test_everything_is_there_after_one_run_and_a_second_one_writes_nothing(desk: Desk) -> None:
    status, said = desk.push()
    assert status == 0, said
    grafana = desk.grafana
    assert grafana.folders["shopfloor"]["title"] == "Shopfloor"
    assert {uid: one["folderUid"] for uid, one in grafana.boards.items()} == {
        "shopfloor-machine": "shopfloor",
        "shopfloor-group": "shopfloor",
    }
    source = grafana.sources["shopfloor-influxdb"]
    assert source["jsonData"]["dbName"] == "shopfloor"
    assert grafana.secrets["shopfloor-influxdb"] == {"httpHeaderValue1": "Token right"}
    assert set(grafana.rules) == {rule.uid for rule in alert_rules()}
    assert not any("policies" in path for _, path in grafana.requests), "the users' policies are theirs"
    assert not any("notification_settings" in rule for rule in grafana.rules.values())

    status, said = desk.push()
    assert status == 0, said
    assert grafana.writes == []
    assert "unchanged" in said
    assert "create" not in said


def test_a_dry_run_says_what_would_be_done_and_does_nothing(desk: Desk) -> None:
    actions = desk.actions("--dry-run")
    assert set(actions.values()) == {"create"}
    assert desk.grafana.writes == []
    assert desk.actions() == actions, "a real run then does just that"
    desk.boards[0] = {**BOARD, "title": "Machine 2"}
    status, said = desk.push("--dry-run")
    assert (status, desk.grafana.writes) == (0, [])
    assert 'title: "Machine" -> "Machine 2"' in said
    assert "dry run, nothing was changed: 1 update, 14 unchanged" in said


def test_a_newer_dashboard_replaces_the_one_that_was_pushed(desk: Desk) -> None:
    desk.push()
    board = json.loads(json.dumps(BOARD))
    set_unit("ms")(board)
    desk.boards[0] = board
    # Grafana may hand out a dashboard otherwise than it was saved: migrated, for one.
    desk.grafana.boards["shopfloor-machine"]["dashboard"]["schemaVersion"] = 43
    status, said = desk.push()
    assert status == 0
    assert 'panels[Cycle time].fieldConfig.unit: "s" -> "ms"' in said
    saved = desk.grafana.boards["shopfloor-machine"]
    assert (saved["dashboard"]["version"], saved["dashboard"]["panels"][0]["fieldConfig"]["unit"]) == (
        2,
        "ms",
    )
    assert desk.push()[0] == 0
    assert desk.grafana.writes == []


def test_a_dashboard_that_a_user_changed_stays_unless_forced(desk: Desk) -> None:
    desk.push()
    desk.grafana.user_saves("shopfloor-machine", set_unit("min"))
    for _ in range(2):
        status, said = desk.push()
        assert status == 3
        assert (
            "keep       dashboard       Machine (shopfloor-machine): changed there by anna on 2026-11-20"
            in said
        )
        assert 'panels[Cycle time].fieldConfig.unit: "min" -> "s"' in said
        assert desk.grafana.writes == []
    assert desk.push("--force", "--dry-run")[0] == 0
    assert desk.grafana.boards["shopfloor-machine"]["dashboard"]["version"] == 2
    assert desk.push("--force")[0] == 0
    assert desk.grafana.boards["shopfloor-machine"]["dashboard"]["panels"] == BOARD["panels"]
    assert desk.push()[0] == 0


def test_a_user_who_saved_what_is_wanted_anyway_is_no_conflict_and_a_moved_dashboard_stays_there(
    desk: Desk,
) -> None:
    desk.push()
    desk.grafana.user_saves("shopfloor-machine", lambda _: None)
    assert desk.push()[0] == 0
    desk.grafana.folders["hall-2"] = {"uid": "hall-2", "title": "Hall 2"}
    desk.grafana.boards["shopfloor-group"]["folderUid"] = "hall-2"
    desk.boards[1] = {**desk.boards[1], "title": "Group of plants"}
    assert desk.push()[0] == 0
    assert desk.grafana.boards["shopfloor-group"]["folderUid"] == "hall-2"


def test_somebody_who_saves_between_look_and_write_is_not_overwritten(desk: Desk) -> None:
    desk.push()
    desk.boards[0] = {**BOARD, "title": "Machine 2"}

    def saves(method: str, path: str) -> None:
        if (method, path) == ("POST", "/api/dashboards/db"):
            desk.grafana.before = lambda _method, _path: None
            desk.grafana.user_saves("shopfloor-machine", set_unit("min"))

    desk.grafana.before = saves
    status, said = desk.push("--force")
    assert status == 3
    assert "somebody changed it at this moment" in said
    assert desk.grafana.boards["shopfloor-machine"]["dashboard"]["panels"][0]["fieldConfig"]["unit"] == "min"
    desk.grafana.before = saves
    assert desk.push()[0] == 3, "and is seen by the next run"


def test_what_grafana_gets_from_files_is_left_to_them(desk: Desk) -> None:
    desk.push()
    desk.grafana.boards["shopfloor-machine"]["provisioned"] = True
    desk.grafana.sources["shopfloor-influxdb"]["readOnly"] = True
    desk.grafana.rules["shopfloor-gap"]["provenance"] = "file"
    assert desk.push()[0] == 0, "as long as it is the same"
    desk.boards[0] = {**BOARD, "title": "Machine 2"}
    desk.grafana.sources["shopfloor-influxdb"]["url"] = "http://other:8086"
    desk.grafana.rules["shopfloor-gap"]["title"] = "Hole"
    status, said = desk.push("--force")
    assert status == 3
    assert said.count("it comes from a provisioning file of that server") == 2
    assert "it is provisioned there by file" in said
    assert desk.grafana.writes == []


def test_users_may_edit_pushed_rules_and_keep_what_they_edited(desk: Desk) -> None:
    desk.push()
    rules = desk.grafana.rules

    def sooner(rule: Json) -> None:
        rule["data"][-1]["model"]["conditions"][0]["evaluator"]["params"] = [5]

    assert desk.grafana.user_edits_rule("shopfloor-zone-off-setpoint", sooner)
    status, said = desk.push()
    assert status == 3
    assert "keep       alert rule      Zone temperature off setpoint" in said
    assert "data[fires].model.conditions[0].evaluator.params[0]: 5 -> 10" in said
    rules["shopfloor-zone-off-setpoint"] |= {"isPaused": True, "folderUID": "shopfloor"}
    assert desk.push("--force")[0] == 0
    rule = rules["shopfloor-zone-off-setpoint"]
    assert rule["data"][-1]["model"]["conditions"][0]["evaluator"]["params"] == [10]
    assert (rule["isPaused"], rule["folderUID"]) == (True, "shopfloor"), (
        "where it is and whether it runs is theirs"
    )
    assert desk.grafana.user_edits_rule("shopfloor-zone-off-setpoint", sooner), "it can still be edited"


def test_a_rule_that_nobody_touched_is_brought_up_to_date(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.push()
    older = alert_rules()
    newer = [one._replace(for_s=180) if one.kind == "gap" else one for one in older]
    monkeypatch.setattr("dashboards.grafana.push.alert_rules", lambda: newer)
    status, said = desk.push()
    assert status == 0
    assert 'for: "0s" -> "3m"' in said
    assert desk.grafana.rules["shopfloor-gap"]["for"] == "3m"


def test_a_contact_point_is_made_once_and_never_changed(desk: Desk) -> None:
    desk.configure("alerts:\n  contact_point: Plant\n")
    status, said = desk.push()
    assert status == 1
    assert "there is none of that name" in said
    assert "receiver Plant does not exist" in said, "Grafana's word on the rules"
    desk.configure(
        "alerts:\n  contact_point: Plant\n  email:\n    addresses: [a@example.com, b@example.com]\n"
    )
    assert desk.push()[0] == 0
    (point,) = desk.grafana.points
    assert point["settings"]["addresses"] == "a@example.com;b@example.com"
    assert "provenance" not in point, "users may edit it"
    assert desk.grafana.rules["shopfloor-gap"]["notification_settings"]["receiver"] == "Plant"
    point["type"] = "slack"
    assert desk.push()[0] == 0
    assert point["type"] == "slack"
    desk.configure("alerts:\n  enabled: false\n")
    desk.grafana.rules.clear()
    assert desk.push()[0] == 0
    assert not desk.grafana.rules


def test_a_database_that_refuses_its_token_is_named_and_mended_by_the_right_one(desk: Desk) -> None:
    desk.write("database", "wrong")
    status, said = desk.push()
    assert status == 1
    assert "fail       data source     shopfloor-influxdb: the database does not answer Grafana" in said
    assert "unauthorized access" in said
    assert len(desk.grafana.boards) == 2, "the rest is done all the same"
    desk.write("database", "right")
    status, said = desk.push()
    assert status == 0
    assert "its secrets are given again" in said
    assert desk.push()[0] == 0
    assert desk.grafana.writes == []


def test_a_data_source_gets_what_is_written_and_keeps_what_is_not(desk: Desk) -> None:
    desk.push()
    source = desk.grafana.sources["shopfloor-influxdb"]
    source["url"] = "http://old:8086"
    source["jsonData"]["tlsSkipVerify"] = True
    status, said = desk.push()
    assert status == 0
    assert 'url: "http://old:8086" -> "http://influxdb:8086"' in said
    source = desk.grafana.sources["shopfloor-influxdb"]
    assert (source["url"], source["jsonData"]["tlsSkipVerify"]) == ("http://influxdb:8086", True)


def test_an_administrator_makes_the_account_that_others_push_with(desk: Desk) -> None:
    desk.write("password", "of the first day")
    desk.grafana.login("admin", "of the first day")
    account = "\n  user: admin\n  password: file:password\n  service_account:\n    token_file: later\n"
    desk.configure(text=CONFIG.replace("\n  token: file:token\n", account))
    status, said = desk.push()
    assert status == 0, said
    assert "glsa_0" not in said
    token = desk.folder / "later"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert [one["role"] for one in desk.grafana.accounts] == [ADMIN]
    assert desk.push()[0] == 0
    assert len(desk.grafana.tokens) == 1
    desk.configure(text=CONFIG.replace("file:token", "file:later"))
    assert desk.push()[0] == 0
    token.unlink()
    desk.configure(text=CONFIG.replace("\n  token: file:token\n", account))
    assert desk.push()[0] == 0
    assert (len(desk.grafana.accounts), len(desk.grafana.tokens)) == (1, 2)


def test_a_token_that_nobody_could_write_down_is_not_made(desk: Desk) -> None:
    desk.configure(
        "", CONFIG.replace("datasource:", "  service_account:\n    token_file: none/later\ndatasource:")
    )
    status, said = desk.push()
    assert status == 1
    assert "can't write" in said
    assert desk.grafana.accounts == []
    desk.configure(
        "", CONFIG.replace("datasource:", "  service_account:\n    token_file: later\ndatasource:")
    )
    desk.grafana.credentials["Bearer of-admin"] = EDITOR
    status, said = desk.push()
    assert status == 1
    assert "service account shopfloor-dashboards: no permission" in said
    assert not (desk.folder / "later").exists()
