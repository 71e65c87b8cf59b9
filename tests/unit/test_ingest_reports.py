"""What the service reports of machines and agents into a store on a server, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from ingest_service import report_points
from ingest_service.agents import AgentBook
from ingest_service.alarm_config import AlarmConfig
from ingest_service.alarms import AlarmBook
from ingest_service.config import SiteConfig
from ingest_service.floor import Floor
from ingest_service.plant.schema import quarantine
from ingest_service.plant.server_schema import ledger
from ingest_service.plant.store import PlantStore
from ingest_service.reporting import Reporter
from ingest_service.stores.latest import LatestTable
from ingest_service.stores.own_points import Point
from ingest_service.stores.series import SeriesIndex
from shopfloor import reports
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import (
    BufferReport,
    Heartbeat,
    SourceReport,
    SourceState,
    SpanKind,
    SpanRecord,
)
from tests.plant_database import empty_plant

S = 1_000_000_000
T0 = 1_760_000_000 * S
HEARTBEAT = Heartbeat(
    agent_id="gw.1",
    asset="acme/hk01",
    version="1.2",
    wire_version=1,
    config_hash="h",
    started=T0 - 100 * S,
    sent=T0 + S,
    sources=(
        SourceReport(
            name='press 1/"a"',
            protocol="opcua",
            state=SourceState.RUNNING,
            since=T0 - 50 * S,
            clock_offset_ns=-420 * S,
        ),
        SourceReport(name="meter", protocol="mqtt", state=SourceState.UNAVAILABLE, since=T0),
    ),
    buffer=BufferReport(
        streams=1,
        pending_samples=7,
        oldest_pending_time=T0 - 2 * S,
        used_bytes=10,
        limit_bytes=100,
        hours_left=None,
    ),
)
SPAN = SpanRecord(
    record_id="r1",
    stream_id="",
    kind=SpanKind.SOURCE_GAP,
    reason="server restarted",
    asset="acme/hk01/moulding/cell-a/imm-01",
    from_time=T0 - 60 * S,
    to_time=T0 - 30 * S,
    count=12,
    at_least=True,
)


class World:
    """A service without its web part."""

    def __init__(self, plant: PlantStore) -> None:
        self.now = T0
        self.leads = True
        self.broken = self.odd = False
        self.points: list[Point] = []
        self.tries: asyncio.Queue[int] = asyncio.Queue()
        self.plant = plant
        self.book = AgentBook((), lambda: self.now)
        site = SiteConfig(asset="acme/hk01", time_zone="Asia/Hong_Kong")
        self.floor = Floor(SeriesIndex(), LatestTable(), self.book, [site], (), {})
        self.reporter = Reporter(
            self.write,
            10.0,
            plant=plant,
            book=self.book,
            floor=self.floor,
            alarms=AlarmBook(plant, AlarmConfig(), self.book.asset_of, lambda: self.now),
            leads=lambda: self.leads,
            series=lambda: 3,
            clock_ns=lambda: self.now,
        )

    async def write(self, points: Sequence[Point]) -> None:
        self.tries.put_nowait(points[0].time_ns)
        if self.broken:
            raise StoreUnavailable("no server")
        if self.odd:
            raise ValueError("nobody thought of this")
        self.points += points

    async def report(self, after_s: float) -> dict[str, list[Point]]:
        """Return what is reported so many seconds after T0, by measurement."""
        self.points.clear()
        self.floor.refresh(T0 + int(after_s * S))
        await self.reporter.report(T0 + int(after_s * S))
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.measurement, []).append(point)
        return found

    def store(self, at_s: float, stored: int, rejected: int) -> None:
        row = {"stream_id": "s", "first_seq": int(at_s), "last_seq": 0, "agent_id": "gw.1"}
        with self.plant.engine.begin() as connection:
            connection.execute(
                sa.insert(ledger),
                [{**row, "stored": stored, "rejected": rejected, "received_at": T0 + int(at_s * S)}],
            )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(PlantStore(empty_plant(tmp_path / "plant.sqlite"))) as plant:
        yield World(plant)


async def test_an_agent_without_contact_has_no_figures_that_look_measured(world: World) -> None:
    world.book.take_heartbeat(HEARTBEAT, T0)
    found = await world.report(1)
    (agent,) = found[reports.AGENT]
    assert agent.tags == {"enterprise": "acme", "site": "hk01", "agent": "gw.1"}
    assert agent.fields["contact"] == 1
    assert agent.fields["lag_s"] == 3.0
    assert agent.fields["pending_samples"] == 7
    assert agent.fields["buffer_hours"] is None, "it does not fill"
    assert agent.fields["uptime_s"] == 101.0
    press, meter = found[reports.SOURCE]
    assert press.fields == {"state": 1, "state_s": 51.0, "clock_offset_s": -420.0}
    assert meter.fields["state"] == reports.SOURCE_STATES.index("unavailable")
    found = await world.report(60)
    (agent,) = found[reports.AGENT]
    assert agent.fields == {"contact": 0, "silent_s": 60.0, "stored": 0, "refused": 0, "gaps": 0}
    assert [one.fields for one in found[reports.SOURCE]] == [{"state": 0}, {"state": 0}]
    (service,) = found[reports.SERVICE]
    assert (service.fields["agents"], service.fields["agents_contact"]) == (1, 0)


async def test_counts_are_of_spans_that_follow_one_another_also_over_a_failure(world: World) -> None:
    world.book.take_heartbeat(HEARTBEAT, T0)
    for at_s in (-6, 2, 4, 5, 12, 26):
        world.store(at_s, 10, 1)

    def counts(found: dict[str, list[Point]]) -> tuple[object, object]:
        (agent,) = found[reports.AGENT]
        return agent.fields["stored"], agent.fields["refused"]

    assert counts(await world.report(10)) == (20, 2), "from -5 to 5"
    world.broken = True
    with pytest.raises(StoreUnavailable):
        await world.report(20)
    world.broken = False
    assert counts(await world.report(30)) == (20, 2), "from 5 to 25"
    assert counts(await world.report(40)) == (10, 1)
    assert counts(await world.report(50)) == (0, 0)


async def test_losses_and_starts_are_events_at_their_own_time(world: World) -> None:
    world.book.take_heartbeat(HEARTBEAT, T0)
    world.plant.put_spans(
        "gw.1", [SPAN, msgspec.structs.replace(SPAN, record_id="r2", asset="", from_time=5, to_time=9)]
    )
    with world.plant.engine.begin() as connection:
        connection.execute(sa.text("UPDATE span SET recorded_at = :at"), {"at": T0})
    events = (await world.report(10))[reports.EVENT]
    start, *losses = sorted(events, key=lambda one: one.time_ns)
    assert start.time_ns == HEARTBEAT.started
    assert start.tags["kind"] == "restart"
    dated, undated = losses
    assert dated.tags == {**report_points.tags_of(SPAN.asset), "agent": "gw.1", "kind": "source_gap"}
    assert (dated.time_ns, dated.fields["until_ms"]) == (SPAN.from_time, SPAN.to_time // 1_000_000)
    assert dated.fields["text"] == "at least 12 samples: server restarted"
    assert (undated.time_ns, undated.tags["site"]) == (T0, "hk01"), (
        "where nobody knows when, it was when it was told"
    )
    assert reports.EVENT not in await world.report(20), "once in 30 s is enough"


async def test_sites_and_alarms_are_reported_also_where_all_is_well(world: World) -> None:
    found = await world.report(0)
    (site,) = found[reports.SITE]
    assert site.tags == {"enterprise": "acme", "site": "hk01", "time_zone": "Asia/Hong_Kong"}
    assert site.fields["utc_offset_s"] == 8 * 3600
    assert site.fields["machines"] == 0
    assert site.fields["age_s"] is None
    alarms = {(one.tags.get("site"), one.tags["kind"]): one.fields["active"] for one in found[reports.ALARM]}
    assert alarms["hk01", "agent_silent"] == 0
    assert alarms[None, "store_unavailable"] == 0
    assert reports.ALARM not in await world.report(50), "they are many by few"
    assert len((await world.report(60))[reports.ALARM]) == len(alarms)


async def test_what_is_refused_is_counted_by_reason_without_details(world: World) -> None:
    world.book.take_heartbeat(HEARTBEAT, T0)
    row = {
        "stream_id": "s",
        "agent_id": "gw.1",
        "quarantined_at": T0 + 1,
        "asset": "a",
        "signal": "b",
        "source_time": 0,
        "received_time": 0,
        "quality": 0,
        "status": 0,
    }
    reasons = ["store_refused: a", "store_refused: b", "future"]
    with world.plant.engine.begin() as connection:
        rows = [{**row, "seq": seq, "reason": reason} for seq, reason in enumerate(reasons)]
        connection.execute(sa.insert(quarantine), rows)
    found = (await world.report(10))[reports.QUARANTINE]
    assert {one.tags["reason"]: one.fields["count"] for one in found} == {"store_refused": 2, "future": 1}
    assert reports.QUARANTINE not in await world.report(20)


async def test_loss_records_are_counted_once_and_refusals_are_not_among_them(world: World) -> None:
    world.book.take_heartbeat(HEARTBEAT, T0)
    refused = msgspec.structs.replace(SPAN, record_id="r2", kind=SpanKind.QUARANTINED)
    world.plant.put_spans("gw.1", [SPAN, refused])
    with world.plant.engine.begin() as connection:
        connection.execute(sa.text("UPDATE span SET recorded_at = :at"), {"at": T0 + 2 * S})
    gaps = [(await world.report(after_s))[reports.AGENT][0].fields["gaps"] for after_s in (10, 20)]
    assert gaps == [1, 0]


async def test_the_process_that_leads_reports_at_whole_multiples_and_goes_on_after_failures(
    world: World,
) -> None:
    world.now = T0 + 10 * S - 1
    world.leads = False
    world.reporter.start()
    # One who does not lead asks for nothing; the next moment is there as soon as the clock of the test says so.
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.tries.empty()
    world.leads = world.broken = True
    tried = [await asyncio.wait_for(world.tries.get(), 60) for _ in range(2)]
    assert tried == [T0 + 10 * S] * 2, "the clock stands, and a whole multiple is next"
    assert world.points == []
    world.broken = False
    while not world.points:
        await asyncio.wait_for(world.tries.get(), 60)
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.tries.empty(), "a moment is reported once, though the clock still stands before it"
    await world.reporter.stop()
    assert {one.time_ns for one in world.points} == {T0 + 10 * S}


async def test_an_odd_failure_is_logged_once_and_ends_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.odd = True
    world.reporter.start()
    world.now = T0 + 10 * S - 1
    for _ in range(3):
        await asyncio.wait_for(world.tries.get(), 60)
    world.odd = False
    while not world.points:
        await asyncio.wait_for(world.tries.get(), 60)
    await world.reporter.stop()
    assert [one.message for one in caplog.records if one.exc_info] == [
        "a report on machines and agents failed; trying on"
    ]
