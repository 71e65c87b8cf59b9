"""Machines that vanish, machines that are off, and zones off their setpoints: what alert rules are given."""

from __future__ import annotations

import numpy as np
import pytest

from ingest_service import report_points
from ingest_service.agents import AgentBook
from ingest_service.config import SiteConfig
from ingest_service.floor import Floor
from ingest_service.stores import Committed
from ingest_service.stores.latest import LatestTable
from ingest_service.stores.own_points import Field
from ingest_service.stores.series import SeriesIndex
from shopfloor import reports
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.messages import BufferReport, Heartbeat, SourceReport, SourceState
from shopfloor.signal import SeriesKey

S = 1_000_000_000
NOW = 1_760_000_000 * S
IMM = "acme/hk01/moulding/cell-a/imm-01"
BUFFER = BufferReport(
    streams=1, pending_samples=0, oldest_pending_time=None, used_bytes=0, limit_bytes=1, hours_left=None
)


class Shop:
    """One machine, its agent, and a clock in hand."""

    def __init__(self) -> None:
        self.series, self.newest, self.book = SeriesIndex(), LatestTable(), AgentBook()
        site = SiteConfig(asset="acme/hk01", time_zone="Asia/Hong_Kong")
        self.floor = Floor(self.series, self.newest, self.book, [site], ["maintenance"], {})
        self.book.take_heartbeat(self.heartbeat(), NOW)

    def heartbeat(self) -> Heartbeat:
        source = SourceReport(name="imm", protocol="opcua", state=SourceState.RUNNING, since=0, assets=(IMM,))
        return Heartbeat(
            agent_id="gw",
            asset="acme/hk01",
            version="1",
            wire_version=1,
            config_hash="h",
            started=0,
            sent=NOW,
            sources=(source,),
            buffer=BUFFER,
        )

    def put(self, signal: str, value: float | str, quality: int = 0) -> None:
        key = SeriesKey(parse_asset(IMM), signal)
        number = self.series.get(key)
        if number is None:
            self.series.restore([key])
            number = len(self.series)
        time = np.array([NOW], np.int64)
        column = np.array([np.nan if isinstance(value, str) else value])
        text = {0: value} if isinstance(value, str) else {}
        quality_column = np.array([quality], np.uint8)
        self.newest.update(Committed(np.array([number], np.uint32), time, time, column, quality_column, text))

    def points(self, after_s: float) -> tuple[dict[str, Field | None], dict[str, Field | None]]:
        """Return the machine's and the site's fields so many seconds later."""
        at = NOW + int(after_s * S)
        self.floor.take(self.newest.take_dirty(), [], at)
        self.floor.refresh(at)
        floor = self.floor
        machines = report_points.machine_points(floor.machines, at, floor.unmissed, floor.zone_deviations_k())
        (machine,) = [one for one in machines if one.measurement == reports.MACHINE]
        (site,) = report_points.site_points(floor.sites, floor.machines, at, floor.unmissed)
        return dict(machine.fields), dict(site.fields)


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    shop.put(names.MACHINE_MODE, 1)
    shop.put(names.PRODUCTION_STATUS, 4)
    return shop


def test_a_machine_that_vanishes_while_it_works_is_missing(shop: Shop) -> None:
    machine, site = shop.points(1)
    assert (machine["missing"], site["expected"], site["missing"]) == (0, 1, 0)
    machine, site = shop.points(60)
    assert (machine["contact"], machine["missing"]) == (0, 1)
    assert (site["expected"], site["missing"]) == (1, 1)


@pytest.mark.parametrize("last", [(names.POWER_ON, 0.0), (names.STANDSTILL_REASON, "maintenance")])
def test_nobody_misses_a_machine_that_was_off_or_stood_as_planned(
    shop: Shop, last: tuple[str, float | str]
) -> None:
    shop.put(*last)
    machine, site = shop.points(60)
    assert (machine["state"], machine["contact"], machine["missing"]) == (0, 0, 0)
    assert (site["expected"], site["missing"]) == (0, 0)
    shop.put(names.POWER_ON, 1.0)
    shop.put(names.STANDSTILL_REASON, "no material")
    machine, _ = shop.points(61)
    assert machine["missing"] == 1, "it was not off when it was last heard of"


def test_a_machine_whose_agent_was_retired_is_gone_for_good(shop: Shop) -> None:
    assert shop.points(60)[0]["missing"] == 1
    shop.book.retire("gw", NOW)
    machine, site = shop.points(61)
    assert (machine["missing"], site["expected"], site["missing"]) == (0, 0, 0)


def test_the_worst_zone_counts_while_the_machine_runs(shop: Shop) -> None:
    for zone, temperature, setpoint in ((1, 221.0, 220.0), (2, 205.5, 220.0), (3, 25.0, 0.0)):
        shop.put(f"barrel.zone_{zone}.temperature", temperature)
        shop.put(f"barrel.zone_{zone}.setpoint", setpoint)
    shop.put("mould.zone_1.setpoint", 60.0)
    shop.put("mould.zone_1.temperature", 900.0, quality=2)
    shop.put("barrel.zone_4.temperature", 900.0)
    machine, _ = shop.points(1)
    assert machine["zone_off_k"] == 14.5, "neither unheated zones nor bad or lonely values"
    shop.put("barrel_2.zone_1.setpoint", 200.0)
    shop.put("barrel_2.zone_1.temperature", 230.0)
    assert shop.points(2)[0]["zone_off_k"] == 30.0, "series that come later are found"
    shop.put(names.MACHINE_MODE, 4)
    assert shop.points(3)[0]["zone_off_k"] is None, "a machine that is set up heats"
