"""Every query of every dashboard and alert rule on real databases that our own service filled from simulated plants."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboards.grafana import render
from dashboards.grafana.ask import Ask, How, Is
from dashboards.grafana.checking.database import Access, Database, influxdb, victoriametrics
from dashboards.grafana.checking.interpolation import Everything, Span, filled, macros
from dashboards.grafana.checking.run import Report, check, queries_of
from dashboards.grafana.checking.structure import query_of
from ingest_service.store_config import InfluxDBStoreConfig, VictoriaMetricsStoreConfig
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.influxdb_client import InfluxClient
from ingest_service.stores.own_points import Point
from ingest_service.stores.server_points import PointStore
from ingest_service.stores.victoriametrics import VictoriaMetrics
from shopfloor import reports
from shopfloor.__main__ import main
from shopfloor.errors import Permanent
from tests import store_servers
from tests.grafana_plants import BEGIN, END, fill
from tests.ports import free_port
from tests.store_servers import StoreServer

MS = 1_000_000
SPAN = Span(BEGIN // MS, END // MS)
CHOSEN = {"site": "dg01"}
S = 1_000_000_000
GONE = "vanished"
HOSTILE = ["plain", "a b", "it's", 'say "x"', "1/2", "a.b|c", "(x)[y]{2}", "$n^", "back\\slash!", "压铸机-1"]


@pytest.fixture(scope="module")
def influx() -> Iterator[StoreServer]:
    with store_servers.influxdb() as running:
        yield running


@pytest.fixture(scope="module")
def victoria() -> Iterator[StoreServer]:
    with store_servers.victoriametrics() as running:
        yield running


def influx_config(url: str, database: str) -> InfluxDBStoreConfig:
    words = {"kind": "influxdb", "version": 1, "url": url, "database": database}
    return InfluxDBStoreConfig.model_validate(words)


def checked(language: str, database: Database, chosen: dict[str, str] | None = None) -> Report:
    return check(render.dashboards(render.LANGUAGES[language]), database, SPAN, chosen)


async def test_every_query_of_influxql_answers(
    influx: StoreServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(tmp_path, {"kind": "influxdb", "version": 1, "url": influx.url})
    report = checked("influxql", influxdb(Access(influx.url, "shopfloor")), CHOSEN)
    assert [str(one) for one in report.problems] == []
    assert report.queries >= 100
    assert (report.failed, report.empty, report.quiet) == (0, 0, 0)
    # One of the three machines has no contact: it counts as neither running nor standing, and its agent has no lag.
    board = render.dashboards(render.LANGUAGES["influxql"])["group"]
    queries = {one.where: one.text for one in queries_of("group", board, SPAN, {})}
    client = InfluxClient(influx_config(influx.url, "shopfloor"))
    counts = [
        client.query(queries[f"group: Machines by state {ref}"])[0].values[0][1]
        for ref, _ in zip("ABCDEFG", reports.MACHINE_STATES, strict=True)
    ]
    assert (counts[0], sum(counts)) == (1, 3)
    lag = client.query('SELECT last("lag_s") FROM "agent" GROUP BY "agent"')
    newest = {one.tags["agent"]: one.values[0][0] // MS for one in lag}
    assert newest["gw.dg01"] == SPAN.to_ms
    assert newest["gw.vn01"] < SPAN.to_ms - 60_000
    client.close()
    # The command says the same, and that there is nothing where nothing was written.
    words = ["dashboards", "check", "--influxdb", influx.url, "--json", "--hours", "0.12"]
    assert main([*words, "--to", "2025-11-24T16:03:00+00:00", "--var", "site=dg01"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        **{key: report.figures()[key] for key in ("dashboards", "panels", "queries", "failed", "empty")},
        "influxql": report.figures(),
    }
    assert main([*words, "--var", "tz=it's"]) == 1
    assert "needs a format" in capsys.readouterr().err
    assert main([*words, "--to", "2024-11-24T16:03:00+00:00"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["empty"] > 50
    assert "empty: group: Machines by state A: no value" in captured.err


async def test_every_query_of_metricsql_answers(victoria: StoreServer, tmp_path: Path) -> None:
    await fill(tmp_path, {"kind": "victoriametrics", "url": victoria.url, "retention_days": 30_000})
    urllib.request.urlopen(f"{victoria.url}/internal/force_flush").close()
    report = checked("metricsql", victoriametrics(Access(victoria.url)), CHOSEN)
    assert [str(one) for one in report.problems] == []
    assert report.queries >= 100
    assert (report.failed, report.empty, report.quiet) == (0, 0, 0)


def machines_named(store: PointStore, names: list[str]) -> None:
    store.check()
    tags = {"site": "s", "line": "l"}
    store.report([Point("machine", {**tags, "cell": name}, {"state": 1}, END) for name in names])
    store.report([Point("machine", {**tags, "cell": GONE}, {"state": 1}, END - 150 * S)])
    store.close()


def selected(language: str, database: Database, value: object) -> int:
    """How many machines the query of the states' bands finds."""
    query = {
        "influxql": 'SELECT last("state") FROM "machine" WHERE $timeFilter AND "cell" =~ /^${machine:regex}$/ GROUP BY "cell"',
        "metricsql": "last_over_time(machine_state{cell=~`${machine:regex}`}[10m])",
    }[language]
    span = Everything(f"time >= {SPAN.from_ms}ms and time <= {SPAN.to_ms}ms")
    return database.ask(filled(query, {"machine": value, "timeFilter": span}), SPAN, 1000, True)  # type: ignore[dict-item]


def test_names_with_quotes_slashes_and_expressions_and_a_thousand_of_them(
    influx: StoreServer, victoria: StoreServer
) -> None:
    thousand = HOSTILE + [f"imm-{number}" for number in range(1000 - len(HOSTILE))]
    machines_named(InfluxDB(influx_config(influx.url, "names")), thousand)
    config = {"kind": "victoriametrics", "url": victoria.url, "retention_days": 30_000}
    machines_named(VictoriaMetrics(VictoriaMetricsStoreConfig.model_validate(config)), thousand)
    urllib.request.urlopen(f"{victoria.url}/internal/force_flush").close()
    for language, database in (
        ("influxql", influxdb(Access(influx.url, "names"))),
        ("metricsql", victoriametrics(Access(victoria.url))),
    ):
        board = render.LANGUAGES[language]
        found = database.values(board.values("cell", "machine", ()), SPAN)
        assert set(found) >= set(thousand), language
        for name in HOSTILE:
            assert selected(language, database, name) == 1, f"{language}: {name}"
        assert selected(language, database, HOSTILE) == len(HOSTILE)
        assert selected(language, database, thousand) == 1000
        assert selected(language, database, Everything(".*")) >= 1001
        newest = board.target(Ask(reports.MACHINE, "state", How.NEWEST, ("cell",), (Is("site", "s"),)))
        for span, found_of in ((SPAN, 1000), (SPAN._replace(to_ms=SPAN.to_ms - 60_000), 1)):
            text = filled(query_of(newest), macros(span, 1000))
            assert database.ask(text, span, 1000, True) == found_of, (
                "what vanished is gone, but when one looks back"
            )


def test_a_database_that_is_not_there_or_refuses_is_said_once(
    influx: StoreServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dashboards", "check", "--json"]
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert main([*words, "--influxdb", nowhere]) == 1
    assert f"{nowhere}/query does not answer" in capsys.readouterr().err
    assert main([*words, "--victoriametrics", nowhere]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main([*words, "--influxdb", influx.url, "--database", "typo"]) == 1
    assert "name the database that the service writes" in capsys.readouterr().err
    assert main([*words, "--influxdb", "localhost"]) == 2
    assert main([*words, "--influxdb", influx.url, "--token-file", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_a_wrong_token_is_named_and_the_right_password_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUXDB_HTTP_AUTH_ENABLED", "true")
    secret = tmp_path / "secret"
    secret.write_text("of the tests\n")
    with store_servers.influxdb() as server:
        admin = b"q=CREATE USER reader WITH PASSWORD 'of the tests' WITH ALL PRIVILEGES"
        urllib.request.urlopen(f"{server.url}/query", admin).close()
        database = influxdb(Access(server.url, "shopfloor", "reader", "of the tests"))
        with pytest.raises(Permanent, match="database not found: shopfloor; name the database"):
            database.probe()
        words = ["dashboards", "check", "--influxdb", server.url]
        assert main([*words, "--token-file", str(secret)]) == 1
        assert "the token may not read it: give one that may" in capsys.readouterr().err
        assert main([*words, "--user", "somebody", "--password-file", str(secret)]) == 1
        assert "the user and password may not read it" in capsys.readouterr().err
        assert main(words) == 1
        assert "(missing) token or user may not read it" in capsys.readouterr().err
