"""The alert rules on real databases, filled with what the service reports of a plant with every trouble."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dashboards.grafana.alerts import Engine, alert_rules
from dashboards.grafana.alerts_render import rule_of_api
from ingest_service import report_points
from ingest_service.agent_record import AgentRecord
from ingest_service.plant.activity import NOTHING
from ingest_service.store_config import InfluxDBStoreConfig, VictoriaMetricsStoreConfig
from ingest_service.stores.influxdb import InfluxDB
from ingest_service.stores.own_points import Point
from ingest_service.stores.victoriametrics import VictoriaMetrics
from shopfloor import reports
from shopfloor.messages import BufferReport, Heartbeat, SourceReport, SourceState
from tests import grafana_alerting, store_servers
from tests.grafana_alerting import Ask, firing

S = 1_000_000_000
EVERY = 10
OFF = {"acme/sz/moulding/a/imm-off", "acme/cd/moulding/a/imm-01"}


class Plant:
    """What the service knows at one moment; told as it would tell it."""

    def __init__(self) -> None:
        self.activity = NOTHING
        self.agents: dict[str, dict[str, Any]] = {}
        self.machines: dict[str, dict[str, Any]] = {}
        self.sites: dict[str, int | None] = {}
        self.zones: dict[str, float] = {}

    def agent(self, name: str, site: str, *, silent_s: float = 0.0, **more: Any) -> None:
        self.agents[name] = {"asset": f"acme/{site}", "silent_s": silent_s, **more}

    def machine(self, path: str, state: str, *, contact: bool = True) -> None:
        self.machines[f"acme/{path}"] = {"state": state, "contact": contact}

    def points(self, at: int) -> Iterator[Point]:
        for name, one in self.agents.items():
            buffer = BufferReport(
                streams=1,
                pending_samples=0,
                oldest_pending_time=None,
                used_bytes=0,
                limit_bytes=1,
                hours_left=one.get("hours"),
            )
            source = SourceReport(
                name='press "1"',
                protocol="opcua",
                state=SourceState.RUNNING,
                since=0,
                clock_offset_ns=int(one.get("machine_clock_s", 0) * S),
            )
            heartbeat = Heartbeat(
                agent_id=name,
                asset=one["asset"],
                version="1",
                wire_version=1,
                config_hash="h",
                started=0,
                sent=at,
                sources=(source,),
                buffer=buffer,
            )
            record = AgentRecord(name, one["asset"], int(at - one["silent_s"] * S), heartbeat)
            record.clock_offset_ns = int(one.get("clock_s", 0) * S)
            yield from report_points.agent_points(record, self.activity, at)
        filled = {"since": at // 10**6, "newest": at // 10**6, "parts_today": None}
        machines = {path: {**filled, **one} for path, one in self.machines.items()}
        sites = {
            f"acme/{site}": {
                "time_zone": "UTC",
                "parts_today": 0,
                "power_kw": None,
                "newest": None if age_s is None else (at - age_s * S) // 10**6,
            }
            for site, age_s in self.sites.items()
        }
        yield from report_points.machine_points(machines, at, OFF, self.zones)
        yield from report_points.site_points(sites, machines, at, OFF)
        yield Point(reports.SERVICE, {}, {"agents": len(self.agents)}, at)


def well() -> Plant:
    plant = Plant()
    plant.agent("gw.hk", "hk")
    plant.agent("gw.sz", "sz", hours=300.0)
    plant.machine("hk/moulding/a/imm-01", "running")
    plant.machine("sz/moulding/a/imm-off", "unknown", contact=False)
    plant.zones = {"acme/hk/moulding/a/imm-01": 2.0}
    plant.sites = {"hk": 3, "sz": 4, "cd": 90_000}
    plant.machine("cd/moulding/a/imm-01", "unknown", contact=False)
    return plant


def troubled() -> Plant:
    plant = well()
    plant.agent("gw.hk", "hk", silent_s=600)
    plant.agent("gw.sz", "sz", hours=5.0, clock_s=-9, machine_clock_s=3600)
    plant.machine("hk/moulding/a/imm-01", "unknown", contact=False)
    plant.machine("sz/moulding/a/imm-02", "running")
    plant.zones = {"acme/sz/moulding/a/imm-02": 31.0, "acme/hk/moulding/a/imm-01": 90.0}
    plant.sites["hk"] = 600
    plant.activity = NOTHING._replace(gaps={"gw.sz": 1}, reasons={("gw.sz", "future"): 7})
    return plant


class Database:
    """A real one, with a way in and a way to ask."""

    def __init__(self, engine: Engine, store: InfluxDB | VictoriaMetrics, ask: Ask, flush: str = "") -> None:
        self.engine, self._store, self._ask, self._flush = engine, store, ask, flush

    def tell(self, plant: Plant, now: int, *ages_s: int) -> None:
        self._store.report([point for age_s in ages_s for point in plant.points(now - age_s * S)])
        if self._flush:
            urllib.request.urlopen(self._flush, timeout=30).close()

    def fire(self, now: int) -> dict[str, set[str]]:
        """Return what fires: the rule's kind, and whom it is about, by its most precise label."""
        found: dict[str, set[str]] = {}
        for rule in alert_rules():
            body = rule_of_api(rule, self.engine, "any")
            for labels in firing(body, self._ask, now // 10**6):
                texts = dict(labels)
                who = next((texts[tag] for tag in ("source", "agent", "cell", "site") if tag in texts), "")
                found.setdefault(rule.kind, set()).add(who)
        return found


@contextmanager
def filled_influxdb() -> Iterator[Database]:
    with store_servers.influxdb() as server:
        store = InfluxDB(InfluxDBStoreConfig(kind="influxdb", url=server.url, version=1))
        store.check()
        try:
            yield Database("influxql", store, grafana_alerting.influxdb(server.url, "shopfloor"))
        finally:
            store.close()


@contextmanager
def filled_victoriametrics() -> Iterator[Database]:
    with store_servers.victoriametrics() as server:
        store = VictoriaMetrics(VictoriaMetricsStoreConfig(kind="victoriametrics", url=server.url))
        try:
            yield Database(
                "metricsql",
                store,
                grafana_alerting.victoriametrics(server.url),
                f"{server.url}/internal/force_flush",
            )
        finally:
            store.close()


DATABASES = {"influxql": filled_influxdb, "metricsql": filled_victoriametrics}


def eventually(database: Database, now: int, wanted: dict[str, set[str]]) -> None:
    """What was written shows after a moment."""
    deadline = time.monotonic() + 30
    while (found := database.fire(now)) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == wanted


@pytest.mark.parametrize("engine", DATABASES)
def test_every_trouble_fires_for_whom_it_concerns_and_nothing_else_does(engine: str) -> None:
    now = (time.time_ns() // (EVERY * S) - 2) * EVERY * S
    with DATABASES[engine]() as database:
        database.tell(well(), now, *range(EVERY, 1200, EVERY))
        eventually(database, now, {})
        database.tell(troubled(), now, 0)
        troubles = {
            "agent_silent": {"gw.hk"},
            "site_without_data": {"hk"},
            "machine_missing": {"imm-01"},
            "buffer_low": {"gw.sz"},
            "gap": {"gw.sz"},
            "quarantine_growing": {"gw.sz"},
            "agent_clock": {"gw.sz"},
            "machine_clock": {'press "1"'},
            "zone_off_setpoint": {"imm-02"},
        }
        eventually(database, now, troubles)
        later = now + 400 * S
        found = database.fire(later)
        assert found.pop("no_reports") == {""}, "the service went silent"
        assert found["agent_silent"] == {"gw.hk"}, "what was known is not forgotten at once"
        assert "agent_clock" not in found, "a figure of a contact is, with it"
        assert set(database.fire(now + 3600 * S)) == {"no_reports"}, "one alert, not ten"
