"""``shopfloor dashboards push`` where a Grafana is none, refuses, goes away, or stands behind something."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboards.grafana.alerts import alert_rules
from tests.grafana_desk import BOARD, CONFIG, Desk
from tests.grafana_server import EDITOR, VIEWER, Grafana, serving
from tests.integration.tls_files import Authority


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    with serving(Grafana()) as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, grafana, capsys)


def test_without_permission_each_thing_says_so_and_an_editor_gets_far(desk: Desk) -> None:
    desk.grafana.credentials["Bearer of-admin"] = VIEWER
    status, said = desk.push()
    assert status == 1
    assert said.count("no permission: You'll need additional permissions") == 4
    assert said.count("its folder is not there") == 2
    assert "alert rules     all: no permission" in said
    desk.grafana.credentials["Bearer of-admin"] = EDITOR
    actions = desk.actions()
    assert actions.pop("shopfloor-influxdb") == "fail"
    assert set(actions.values()) == {"create"}


def test_a_wrong_token_ends_the_run_at_once(desk: Desk) -> None:
    desk.write("token", "of-nobody")
    status, said = desk.push()
    assert status == 1
    assert "does not take the credential (grafana.token or user): Invalid API key" in said
    assert len(desk.grafana.requests) == 2


@pytest.mark.parametrize(
    ("set_up", "words"),
    [
        (lambda one: setattr(one, "version", "10.4.2"), "is Grafana 10.4.2; 11.0 or newer is needed"),
        (
            lambda one: setattr(one, "redirect_to", "https://g.example.com/"),
            "redirects to https://g.example.com/",
        ),
        (lambda one: setattr(one, "page", True), "not as Grafana does"),
    ],
)
def test_what_is_no_grafana_of_today_is_left_alone(
    desk: Desk, set_up: Callable[[Grafana], None], words: str
) -> None:
    set_up(desk.grafana)
    status, said = desk.push()
    assert status == 1
    assert words in said
    assert desk.grafana.writes == []


def test_a_version_that_is_hidden_or_odd_is_no_obstacle(desk: Desk) -> None:
    for version in ("", "13.0.1-security-01", "11.6.0+patch"):
        desk.grafana.version = version
        assert desk.push()[0] == 0
    assert desk.grafana.writes == []


def test_nobody_listens(desk: Desk) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        desk.configure("", CONFIG.replace("{url}", f"http://127.0.0.1:{probe.getsockname()[1]}"))
        status, said = desk.push()
    assert status == 1
    assert "can't be reached" in said


def test_a_grafana_that_goes_away_in_the_middle_is_gone_on_with_later(desk: Desk) -> None:
    def goes(method: str, path: str) -> None:
        if method == "POST" and path.endswith("alert-rules") and len(desk.grafana.rules) == 3:
            raise ConnectionResetError

    desk.grafana.before = goes
    status, said = desk.push()
    assert status == 1
    assert "what is listed above is done; pushing again goes on from there" in said
    desk.grafana.before = lambda _method, _path: None
    status, said = desk.push()
    assert status == 0
    assert f"{len(alert_rules()) - 3} create, 8 unchanged" in said


def test_a_dashboard_of_a_newer_format_is_kept_unless_forced(desk: Desk) -> None:
    desk.push()
    desk.grafana.boards["shopfloor-machine"]["v2"] = True
    status, said = desk.push()
    assert status == 3
    assert "somebody saved it in a newer format" in said
    assert desk.push("--force")[0] == 0
    assert desk.push()[0] == 0


def test_dashboards_open_on_the_data_source_that_was_pushed_with_them(desk: Desk) -> None:
    variables = [{"name": "ds", "type": "datasource"}, {"name": "site", "type": "query"}]
    desk.boards = [{**BOARD, "templating": {"list": variables}}]
    desk.configure("live_url: https://live.example.com\n")
    assert desk.push()[0] == 0
    saved = desk.grafana.boards["shopfloor-machine"]["dashboard"]["templating"]["list"]
    current = {"text": "Shopfloor InfluxDB", "value": "shopfloor-influxdb"}
    assert saved == [{**variables[0], "current": current}, variables[1]]
    assert desk.asked == ("influxql", "https://live.example.com")


def test_it_may_be_served_below_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Grafana(), "/grafana") as grafana:
        assert Desk(tmp_path, grafana, capsys).push()[0] == 0
        assert len(grafana.boards) == 2


def test_a_certificate_is_believed_if_its_authority_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path)
    with serving(Grafana(), certificate=authority.certificate("grafana", server=True)) as grafana:
        desk = Desk(tmp_path, grafana, capsys)
        status, said = desk.push()
        assert status == 1
        assert "the certificate is not trusted (grafana.ca names a private authority's)" in said
        desk.configure(
            "", CONFIG.replace("  token: file:token\n", "  token: file:token\n  ca: authority.pem\n")
        )
        assert desk.push()[0] == 0
        desk.configure("", CONFIG.replace("  token: file:token\n", "  token: file:token\n  ca: none.pem\n"))
        status, said = desk.push()
        assert status == 1
        assert "none.pem" in said


def test_mistakes_in_the_file_are_named_where_they_are(desk: Desk) -> None:
    desk.configure("alerts:\n  email:\n    addresses: []\n  contact_piont: x\n")
    status, said = desk.push()
    assert status == 2
    assert "grafana.yaml:12:16: alerts.email.addresses" in said
    assert "did you mean contact_point?" in said
    assert desk.grafana.requests == []
