from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from ingest_service.agents import AgentBook
from ingest_service.config import SiteConfig
from ingest_service.floor import Floor
from ingest_service.live import LiveHub, Viewer
from ingest_service.live_events import Changes, EventWriter
from ingest_service.live_scope import effective_scope
from ingest_service.parts import CounterSample
from ingest_service.stores import Committed
from ingest_service.stores.latest import LatestTable
from ingest_service.stores.series import SeriesIndex
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.messages import BufferReport, Heartbeat, SourceReport, SourceState
from shopfloor.signal import SeriesKey

S = 1_000_000_000
NOW = 1_760_000_000 * S
IMM = "acme/hk01/moulding/cell-a/imm-01"


class Plant:
    """The parts of the pages, with a clock in hand."""

    def __init__(self) -> None:
        self.now = NOW
        self.series = SeriesIndex()
        self.newest = LatestTable()
        self.book = AgentBook()
        site = SiteConfig(asset="acme/hk01", name="Hong Kong", time_zone="Asia/Hong_Kong")
        self.floor = Floor(self.series, self.newest, self.book, [site], ["maintenance"], {})
        writer = EventWriter(self.series, self.newest, self.floor, self.book, lambda _: "u", lambda: self.now)
        self.hub = LiveHub(self.series, writer)

    def put(
        self, asset: str, signal: str, value: float | str, *, at: int | None = None, quality: int = 0
    ) -> int:
        key = SeriesKey(parse_asset(asset), signal)
        number = self.series.get(key)
        if number is None:
            self.series.restore([key])
            number = len(self.series)
        time = np.array([self.now if at is None else at], np.int64)
        text = {0: value} if isinstance(value, str) else {}
        column = np.array([np.nan if isinstance(value, str) else value])
        self.newest.update(
            Committed(np.array([number], np.uint32), time, time, column, np.array([quality], np.uint8), text)
        )
        return number

    def tick(self, *counters: CounterSample) -> set[str]:
        newest = self.newest.take_dirty()
        machines = self.floor.take(newest, counters, self.now)
        self.hub.publish(newest.series_id, machines, (), (), ping=False)
        return machines

    def heartbeat(
        self, state: SourceState = SourceState.RUNNING, agent: str = "gateway", **more: Any
    ) -> bool:
        beat = Heartbeat(
            agent_id=agent,
            asset="acme/hk01",
            version="1",
            wire_version=1,
            config_hash="h",
            started=0,
            sent=self.now + more.get("offset", 0),
            sources=(
                SourceReport(
                    name="imm",
                    protocol="opcua",
                    state=state,
                    since=0,
                    message="why",
                    assets=more.get("assets", (IMM,)),
                ),
            ),
            buffer=BufferReport(
                streams=1,
                pending_samples=0,
                oldest_pending_time=None,
                used_bytes=0,
                limit_bytes=1,
                hours_left=None,
            ),
        )
        return self.book.take_heartbeat(beat, self.now)


def events(chunk: bytes) -> list[tuple[str, Any]]:
    found = []
    *blocks, mark = chunk.decode().strip().split("\n\n")
    assert mark.startswith("id: ")
    for block in blocks:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize(
    ("asked", "reach", "scope"),
    [
        ([], "", ("",)),
        ([], "acme/hk01", ("acme/hk01",)),
        (["acme"], "acme/hk01", ("acme/hk01",)),
        (["acme/hk01/a"], "acme/hk01", ("acme/hk01/a",)),
        (["acme/dg01"], "acme/hk01", ()),
        (["acme/hk011"], "acme/hk01", ()),
        (["acme/b", "acme/a", "acme/a/x"], "", ("acme/a", "acme/b")),
    ],
)
def test_scope_is_what_is_asked_and_allowed(asked: list[str], reach: str, scope: tuple[str, ...]) -> None:
    assert effective_scope(asked, reach) == scope


async def test_a_slow_viewer_gets_the_newest_instead_of_all() -> None:
    plant = Plant()
    slow = Viewer(("",))
    plant.hub._viewers.add(slow)
    number = plant.put(IMM, "x", 1)
    for value in range(2, 1000):
        plant.tick()
        plant.put(IMM, "x", value, at=plant.now + value)
    plant.tick()
    changes = await slow.take()
    assert changes is not None
    found = events(plant.hub.encode(changes, ("",)))
    assert [name for name, _ in found] == ["series", "values"]
    assert found[1][1]["id"] == [number]
    assert found[1][1]["v"] == [999]
    assert slow._pending is None


def test_a_tick_is_encoded_once_for_all_viewers_of_a_scope() -> None:
    plant = Plant()
    plant.put(IMM, "x", 1)
    changes = Changes(1, np.array([1]), np.array([1]))
    assert plant.hub.encode(changes, ("acme",)) is plant.hub.encode(changes, ("acme",))
    # Not even that there is something new elsewhere.
    assert plant.hub.encode(changes, ("other",)) == b""


async def test_what_late_viewers_have_missed_is_encoded_once_for_all_of_them() -> None:
    plant = Plant()
    plant.put(IMM, "x", 0)
    streams = [plant.hub.watch(("acme",)) for _ in range(3)]
    for stream in streams[:2]:
        await anext(stream)
    for value in (1, 2):
        plant.put(IMM, "x", value)
        plant.tick()
    await anext(streams[2])
    plant.put(IMM, "x", 3)
    plant.tick()
    first, second, third = [await anext(stream) for stream in streams]
    assert first is second
    assert dict(events(first))["values"]["v"] == [3]
    assert dict(events(third))["values"]["v"] == [3]
    for stream in streams:
        await stream.aclose()


async def test_the_start_of_a_viewer_and_its_end() -> None:
    plant = Plant()
    plant.heartbeat()
    plant.put(IMM, names.MACHINE_MODE, 1)
    plant.put(IMM, "note", "Grüße")
    plant.put("acme/dg01/a/b/c", "x", float("nan"))
    plant.tick()
    plant.floor.refresh(plant.now)
    stream = plant.hub.watch(("acme/hk01",))
    start = events(await anext(stream))
    assert [name for name, _ in start] == [
        "hello",
        "series",
        "values",
        "machines",
        "sites",
        "alarms",
        "agents",
    ]
    assert start[1][1]["signal"] == [names.MACHINE_MODE, "note"]
    assert start[2][1]["v"] == [1.0, "Grüße"]
    assert start[3][1]["machines"][0]["asset"] == IMM
    assert start[4][1]["sites"][0]["name"] == "Hong Kong"
    assert start[6][1]["agents"][0]["id"] == "gateway"
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    plant.hub.close()
    assert await waiting is None
    assert len(plant.hub) == 0


def test_text_is_replaced_by_a_number_and_back() -> None:
    table = LatestTable()
    for step, value in enumerate(["a", 2.0, "b"]):
        text = {0: value} if isinstance(value, str) else {}
        time = np.array([step], np.int64)
        number = np.array([np.nan if isinstance(value, str) else value])
        table.update(Committed(np.array([3000], np.uint32), time, time, number, np.zeros(1, np.uint8), text))
        newest = table.of(np.array([3000, 1, 9999]))
        assert newest.series_id.tolist() == [3000]
        assert newest.text == ({3000: value} if isinstance(value, str) else {})


def test_newest_inside_one_commit() -> None:
    table = LatestTable()
    ids = np.array([1, 2, 1, 2, 1], np.uint32)
    times = np.array([5, 1, 9, 1, 7], np.int64)
    table.update(Committed(ids, times, times, np.arange(5.0), np.zeros(5, np.uint8), {}))
    newest = table.take_dirty()
    assert newest.series_id.tolist() == [1, 2]
    assert newest.value.tolist() == [2.0, 3.0]
    assert table.take_dirty().series_id.tolist() == []


def test_contact_needs_the_agent_and_the_source_that_speaks_for_the_asset() -> None:
    plant = Plant()
    assert plant.book.contact(IMM, plant.now) == (False, "no agent serves it", 0, False)
    plant.heartbeat()
    assert plant.book.contact(IMM, plant.now).ok
    assert plant.book.contact(IMM + "/x", plant.now).ok
    plant.heartbeat(SourceState.UNAVAILABLE)
    assert plant.book.contact(IMM, plant.now)[:2] == (False, "imm unavailable: why")
    plant.heartbeat()
    plant.now += 10 * S
    assert plant.book.contact(IMM, plant.now)[:2] == (False, "no contact with agent gateway")


def test_without_a_source_the_last_writer_counts() -> None:
    plant = Plant()
    series = (SeriesKey(parse_asset("acme/hk01/meter"), "x"),)
    plant.heartbeat(agent="one")
    plant.heartbeat(agent="two", assets=())
    plant.book.take_batch("two", series, "acme/hk01")
    plant.now += 5 * S
    plant.heartbeat(agent="two", assets=())
    plant.now += 6 * S
    assert plant.book.contact("acme/hk01/meter", plant.now).ok
    plant.book.take_batch("one", series, "acme/hk01")
    assert not plant.book.contact("acme/hk01/meter", plant.now).ok


def test_declarations_are_wanted_once_a_configuration() -> None:
    plant = Plant()
    assert plant.heartbeat()
    plant.book.set_declared("gateway", "h", "acme/hk01")
    assert not plant.heartbeat()


def test_random_agent_ids_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingest_service import agents

    monkeypatch.setattr(agents, "_MAX_AGENTS", 10)
    plant = Plant()
    plant.heartbeat()
    for number in range(100):
        plant.book.take_batch(f"random-{number}", (), "acme")
    assert len(plant.book) == 10
    assert plant.book.asset_of("gateway") == "acme/hk01"
    assert len(plant.book.changed_rows()) <= 10


def test_a_machine_runs_stops_and_loses_contact() -> None:
    plant = Plant()
    plant.heartbeat()
    plant.put(IMM, names.MACHINE_MODE, 1)
    plant.put(IMM, names.PRODUCTION_STATUS, 4)
    plant.put(IMM, names.CYCLE_COUNTER, 100)
    plant.put(IMM, names.ACTIVE_POWER, 11.5)
    assert plant.tick() == {IMM}
    machine = plant.floor.machines[IMM]
    assert (machine["state"], machine["since"], machine["power_kw"]) == ("running", NOW // 1_000_000, 11.5)
    assert plant.tick() == set()

    plant.now += 5 * S
    plant.heartbeat()
    plant.put(IMM, names.STANDSTILL_REASON, "no material")
    assert plant.tick() == {IMM}
    machine = plant.floor.machines[IMM]
    assert (machine["state"], machine["reason"]) == ("down_unplanned", "no material")
    assert machine["since"] == plant.now // 1_000_000

    plant.now += 20 * S
    machines, sites = plant.floor.refresh(plant.now)
    assert machines == {IMM}
    assert sites == {"acme/hk01"}
    machine = plant.floor.machines[IMM]
    assert (machine["state"], machine["contact"], machine["power_kw"]) == ("unknown", False, None)
    site = plant.floor.sites["acme/hk01"]
    assert site["machines"] == {"running": 0, "stopped": 0, "no_contact": 1}
    assert site["power_kw"] is None


def test_a_machine_names_who_speaks_for_it() -> None:
    plant = Plant()
    plant.put(IMM, names.MACHINE_MODE, 1)
    plant.tick()
    assert plant.floor.machines[IMM]["served_by"] == []
    plant.book.take_assets("meter", [IMM])
    plant.floor.refresh(plant.now)
    assert plant.floor.machines[IMM]["served_by"] == ["meter"]
    # A source that speaks for the machine counts more than one that speaks for its line, and than who only writes.
    plant.heartbeat(agent="of-the-line", assets=("acme/hk01/moulding/cell-a",))
    plant.heartbeat(agent="gateway-b")
    plant.heartbeat(agent="gateway-a")
    machines, _ = plant.floor.refresh(plant.now)
    assert machines == {IMM}
    assert plant.floor.machines[IMM]["served_by"] == ["gateway-a/imm", "gateway-b/imm"]


def test_cycles_that_stay_away_stop_a_machine_whatever_the_agents_clock_says() -> None:
    plant = Plant()
    offset = -3600 * S
    plant.put(IMM, names.MACHINE_MODE, 1)
    plant.put(IMM, names.PRODUCTION_STATUS, 4)
    plant.put(IMM, names.CYCLE_COUNTER, 100, at=plant.now + offset)
    plant.heartbeat(offset=offset)
    plant.tick()
    states = []
    for seconds in (0, 29, 31, 299, 301):
        plant.now = NOW + seconds * S
        plant.heartbeat(offset=offset)
        plant.floor.refresh(plant.now)
        states.append(plant.floor.machines[IMM]["state"])
    assert states == ["running", "running", "idle", "idle", "down_unplanned"]


def test_sites_sum_parts_and_power_with_contact() -> None:
    plant = Plant()
    plant.heartbeat(assets=("acme/hk01",))
    counter = plant.put(IMM, names.GOOD_PARTS_COUNTER, 7)
    plant.put(IMM, names.MACHINE_MODE, 1)
    plant.put(IMM, names.ACTIVE_POWER, 2.5)
    plant.put("acme/hk01/utilities/meter", names.ACTIVE_POWER, 40.0)
    plant.tick(
        CounterSample(counter, plant.now - 60 * S, 3.0, None), CounterSample(counter, plant.now, 7.0, None)
    )
    plant.floor.refresh(plant.now)
    site = plant.floor.sites["acme/hk01"]
    assert (site["parts_today"], site["power_kw"], site["newest"]) == (4, 42.5, NOW // 1_000_000)


def test_bad_quality_is_unknown_and_the_time_of_a_state_outlives_a_restart() -> None:
    plant = Plant()
    plant.heartbeat()
    plant.floor.states[IMM] = ("unknown", 123 * S)
    plant.put(IMM, names.MACHINE_MODE, 1, quality=2)
    plant.tick()
    machine = plant.floor.machines[IMM]
    assert (machine["state"], machine["since"]) == ("unknown", 123_000)
