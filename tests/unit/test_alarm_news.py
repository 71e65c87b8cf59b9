"""What open pages are told of alarms, whichever process noted it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_service.alarm_config import AlarmConfig
from ingest_service.alarms import AlarmBook
from ingest_service.plant.store import PlantStore
from shopfloor.errors import StoreUnavailable
from tests.plant_database import empty_plant

S = 1_000_000_000


class Clock:
    """In the test's hand."""

    now = 1_760_000_000 * S

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[PlantStore]:
    store = PlantStore(empty_plant(tmp_path / "plant.sqlite"))
    yield store
    store.close()


def book(plant: PlantStore, clock: Clock) -> AlarmBook:
    return AlarmBook(plant, AlarmConfig(), lambda _: "acme/hk01", clock)


async def test_each_change_is_told_once_and_an_acknowledgement_is_one(plant: PlantStore) -> None:
    clock = Clock()
    alarms = book(plant, clock)
    assert alarms.news() == {}
    alarms.reach("samples", StoreUnavailable("the disk is full"))
    alarms.look(())
    (raised,) = alarms.news().values()
    assert (raised.kind, raised.until, raised.acknowledged_by) == ("store_unavailable", None, "")
    alarms.look(())
    assert alarms.news() == {}

    await alarms.acknowledge(raised, "user anna")
    alarms.look(())
    (seen,) = alarms.news().values()
    assert (seen.alarm_id, seen.acknowledged_by, seen.until) == (raised.alarm_id, "user anna", None)

    alarms.reach("samples", None)
    clock.now += 5 * S
    alarms.look(())
    (over,) = alarms.news().values()
    assert (over.alarm_id, over.until) == (raised.alarm_id, clock.now)
    assert alarms.news() == {}


async def test_a_process_without_the_lead_tells_what_the_leader_noted(plant: PlantStore) -> None:
    clock = Clock()
    leader, other = book(plant, clock), book(plant, clock)
    leader.reach("samples", StoreUnavailable("gone"))
    leader.look(())
    await leader.save()
    await other.follow(leads=False)
    (raised,) = other.news().values()
    assert raised.until is None
    leader.reach("samples", None)
    leader.look(())
    await leader.save()
    await other.follow(leads=False)
    (over,) = other.news().values()
    assert over.alarm_id == raised.alarm_id
    assert over.until is not None


async def test_what_was_kept_is_no_news_after_a_restart(plant: PlantStore) -> None:
    clock = Clock()
    before = book(plant, clock)
    before.reach("samples", StoreUnavailable("gone"))
    before.look(())
    await before.save()
    assert book(plant, clock).news() == {}
