"""Alarms by a clock of the test's own: raised once, ended when all is well for good, kept over restarts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest_service.agent_record import AgentRecord
from ingest_service.alarm_config import AlarmConfig
from ingest_service.alarm_rules import Kind
from ingest_service.alarms import AlarmBook, may_see, shown
from ingest_service.plant import alarms as kept
from ingest_service.plant.alarms import AlarmRow
from ingest_service.plant.store import PlantStore
from shopfloor.block import make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, BufferReport, Heartbeat, Lane, SourceReport, SourceState
from tests.plant_database import empty_plant

S = 1_000_000_000
T0 = 1_760_000_000 * S


def heartbeat(hours_left: float | None = None, machine_offset_ns: int | None = None) -> Heartbeat:
    return Heartbeat(
        agent_id="gateway",
        asset="acme/hk01",
        version="1",
        wire_version=1,
        config_hash="h",
        started=0,
        sent=0,
        sources=(
            SourceReport(
                name="imm",
                protocol="opcua",
                state=SourceState.RUNNING,
                since=0,
                clock_offset_ns=machine_offset_ns,
            ),
        ),
        buffer=BufferReport(
            streams=0,
            pending_samples=0,
            oldest_pending_time=None,
            used_bytes=0,
            limit_bytes=1,
            hours_left=hours_left,
        ),
    )


class World:
    def __init__(self, plant: PlantStore) -> None:
        self.plant = plant
        self.now = T0
        self.agent = AgentRecord("gateway", "acme/hk01", last_contact=T0, heartbeat=heartbeat())
        self.book = self.open()

    def open(self) -> AlarmBook:
        return AlarmBook(self.plant, AlarmConfig(), {"gateway": "acme/hk01"}.get, lambda: self.now)

    def look(self, after_s: float = 1, *, heard: bool = True) -> list[tuple[str, str, bool]]:
        """Go on in time; return (kind, subject, whether it is over) of what changed."""
        self.now += int(after_s * S)
        if heard:
            self.agent.last_contact = self.now
        changed = self.book.look_at([self.agent], T0)
        return sorted((one.kind, one.subject, one.until is not None) for one in changed.values())

    def active(self) -> list[str]:
        return sorted(one.kind for one in self.book.active.values())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(PlantStore(empty_plant(tmp_path / "plant.sqlite"))) as plant:
        yield World(plant)


def batch() -> Batch:
    return Batch("gateway", "s", Lane.LIVE, 1, make_block((), [], [], [], []))


def test_an_agent_that_goes_quiet(world: World) -> None:
    assert world.look(60, heard=False) == []
    assert world.look(1, heard=False) == [("agent_silent", "gateway", False)]
    assert world.look(3600, heard=False) == []
    assert world.look() == [("agent_silent", "gateway", True)]


def test_a_service_that_was_down_blames_nobody(world: World) -> None:
    world.agent.last_contact = T0 - 3600 * S
    assert world.look(50, heard=False) == []
    assert world.look(11, heard=False) == [("agent_silent", "gateway", False)]


def test_whoever_says_little_has_more_time(world: World) -> None:
    world.agent.quiet_ns = 300 * S
    assert world.look(299, heard=False) == []
    assert world.look(2, heard=False) == [("agent_silent", "gateway", False)]


def test_a_buffer_that_fills_does_not_flap(world: World) -> None:
    assert world.look() == []
    for hours, changed in ((24.1, []), (23.9, [False]), (24.1, []), (29.9, []), (30.1, [True]), (24.1, [])):
        world.agent.heartbeat = heartbeat(hours)
        assert world.look() == [("buffer_low", "gateway", over) for over in changed], hours
    world.agent.heartbeat = heartbeat(1)
    world.look()
    world.agent.heartbeat = heartbeat(None)
    assert world.look() == [("buffer_low", "gateway", True)]


def test_clocks(world: World) -> None:
    world.agent.clock_offset_ns = -6 * S
    world.agent.heartbeat = heartbeat(machine_offset_ns=61 * S)
    assert world.look() == [("clock_offset", "gateway", False), ("clock_offset", "gateway/imm", False)]
    messages = {one.subject: one.message for one in world.book.active.values()}
    assert messages == {
        "gateway": "the agent's clock is more than 5 s behind",
        "gateway/imm": "the machine's clock is more than 60 s ahead",
    }
    world.agent.clock_offset_ns = 0
    world.agent.heartbeat = heartbeat(machine_offset_ns=0)
    assert len(world.look()) == 2
    assert world.active() == []


def test_a_quarantine_that_grows(world: World) -> None:
    world.book.quarantined(batch(), 3)
    assert world.look() == [("quarantine_growing", "gateway", False)]
    world.book.quarantined(batch(), 3)
    assert world.look(599) == []
    assert world.look(2) == [("quarantine_growing", "gateway", True)]


def test_a_store_that_fails(world: World) -> None:
    world.book.store(StoreUnavailable("postgresql://user:secret@host"))
    world.book.reach("plant", StoreUnavailable("disk full"))
    assert world.look() == [("store_unavailable", "plant", False), ("store_unavailable", "samples", False)]
    assert all("secret" not in one.message for one in world.book.active.values())
    world.book.store(None)
    assert world.look() == [("store_unavailable", "samples", True)]


async def test_a_gap_lasts_until_somebody_has_seen_it(world: World) -> None:
    world.book.gap(batch(), (11, 20), 10)
    assert world.look() == [("gap", "s", False)]
    world.book.gap(batch(), (31, 40), 10)
    assert world.look() == [("gap", "s", False)], "it says more"
    assert world.look(10**6) == []
    (alarm,) = world.book.active.values()
    assert (alarm.asset, alarm.message) == (
        "acme/hk01",
        "agent gateway: 10 of the numbers 31 to 40 never came",
    )
    seen = await world.book.acknowledge(alarm, "anna")
    assert (seen.acknowledged_by, seen.acknowledged_at) == ("anna", world.now)
    again = await world.book.acknowledge(alarm, "bert")
    assert again.acknowledged_by == "anna"
    assert world.look() == [("gap", "s", True)]
    await world.book.save()
    (row,) = kept.history(world.plant.engine, 10, None, over=True)
    assert (row.until, row.acknowledged_by) == (world.now, "anna")


async def test_what_is_acknowledged_and_still_wrong_stays(world: World) -> None:
    world.look(61, heard=False)
    (alarm,) = world.book.active.values()
    await world.book.acknowledge(alarm, "anna")
    assert world.look(1, heard=False) == []
    (alarm,) = world.book.active.values()
    assert alarm.acknowledged_by == "anna"
    assert shown(alarm)["acknowledged_at"] is not None


async def test_alarms_survive_a_restart(world: World) -> None:
    world.look(61, heard=False)
    world.book.gap(batch(), (11, 20), 10)
    world.book.quarantined(batch(), 1)
    world.look(1, heard=False)
    await world.book.save()
    before = world.book.active
    world.book = world.open()
    assert world.book.active == before
    assert world.look() == [("agent_silent", "gateway", True)]
    assert world.active() == ["gap", "quarantine_growing"]
    await world.book.save()
    world.book = world.open()
    assert world.active() == ["gap", "quarantine_growing"]


async def test_what_another_process_meets_comes_to_the_one_that_leads(world: World) -> None:
    other = world.open()
    other.gap(batch(), (11, 20), 10)
    other.quarantined(batch(), 1)
    await other.follow(leads=False)
    assert world.look() == []
    await world.book.follow(leads=True)
    assert world.active() == ["gap", "quarantine_growing"]
    assert world.look() == []
    await other.follow(leads=False)
    assert {one.alarm_id for one in other.active.values()} == {
        one.alarm_id for one in world.book.active.values()
    }
    (gap,) = [one for one in other.active.values() if one.kind == "gap"]
    await other.acknowledge(gap, "anna")
    await world.book.follow(leads=True)
    assert world.look(601) == [("gap", "s", True), ("quarantine_growing", "gateway", True)]
    await world.book.save()
    await other.follow(leads=False)
    assert other.active == {}


async def test_a_store_that_fails_costs_no_alarm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.look(61, heard=False)

    def fail(*_: object) -> None:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(kept, "save", fail)
    with pytest.raises(StoreUnavailable):
        await world.book.save()
    monkeypatch.undo()
    await world.book.save()
    assert [one.kind for one in kept.active(world.plant.engine)] == ["agent_silent"]


async def test_history_by_pages_and_forgetting(world: World) -> None:
    rows = [
        AlarmRow(
            f"{number:032}", "gap", f"s{number}", "acme", "m", number // 2, number if number % 3 else None
        )
        for number in range(10)
    ]
    kept.save(world.plant.engine, rows)
    found: list[AlarmRow] = []
    before = None
    while page := kept.history(world.plant.engine, 3, before, over=False):
        found += page
        before = (page[-1].since, page[-1].alarm_id)
    assert [one.alarm_id for one in found] == [one.alarm_id for one in reversed(rows)]
    assert len(kept.history(world.plant.engine, 99, None, over=True)) == 6
    kept.prune(world.plant.engine, 5)
    assert len(kept.history(world.plant.engine, 99, None, over=True)) == 3


def test_who_may_see_an_alarm() -> None:
    alarm = AlarmRow("1", str(Kind.GAP), "s", "acme/hk01", "m", 0)
    assert may_see(alarm, "acme")
    assert may_see(alarm, "")
    assert not may_see(alarm, "acme/dg01", "acme/hk0")
    assert not may_see(alarm)
    assert may_see(alarm._replace(asset=""), "acme/dg01")
