"""When outages begin and end: at their times, by night in the site's own time zone, over kills; and what is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from simulators.data_faults import makes_sense
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS
from simulators.plant.outlet import Outlet
from simulators.plant.sparkplug_outlet import SparkplugOutlet
from simulators.plant.troubles import Outages, data_faults
from simulators.protocols.sparkplug_outbox import Publish
from simulators.scenario import Scenario, SiteConfig
from simulators.scenario.cell_signals import cell_signals
from tests.unit.plant_parts import CELL, T0, FakeLog, opcua_outlet, sparkplug_outlet

H_MS = 3_600_000


class Site:
    """A site's server and edge node, and what outages did to them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opcua, self.server = opcua_outlet(FakeLog(), [])
        self.node: SparkplugOutlet = sparkplug_outlet(folder, FakeLog(), [])
        self.outlets: Sequence[Outlet] = (opcua, self.node)
        self.done: list[str] = self.server.done
        node, session = self.node.node, self.node.node.session
        monkeypatch.setattr(node, "pause", lambda: self.done.append("pause"))
        monkeypatch.setattr(node, "resume", lambda: self.done.append("resume"))
        monkeypatch.setattr(session, "skip_birth_of", lambda device: self.done.append(f"skip {device}"))
        monkeypatch.setattr(session, "swap_next_messages", lambda: self.done.append("swap"))
        monkeypatch.setattr(session, "duplicate_next", lambda: self.done.append("double"))
        monkeypatch.setattr(session, "device_down", lambda device: self.done.append(f"down {device}"))
        monkeypatch.setattr(session, "device_up", lambda device: self.done.append(f"up {device}"))

    def since(self) -> list[str]:
        done = list(self.done)
        self.done.clear()
        return done


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def config(*outages: dict[str, Any], zone: str = "Asia/Ho_Chi_Minh", **sparkplug: Any) -> SiteConfig:
    return SiteConfig.model_validate(
        {
            "asset": "acme/vn01",
            "name": "Binh Duong",
            "time_zone": zone,
            "opcua_port": 4842,
            "sparkplug": sparkplug,
            "outages": outages,
            "machines": [
                {"cell": CELL, "protocol": "sparkplug"},
                {"cell": "imm-02", "protocol": "sparkplug"},
                {"cell": "imm-09"},
            ],
        }
    )


def told(outages: Outages) -> list[tuple[str, int, int]]:
    """(kind, begin, end) of what was told since the last call, in ms after T0."""
    return [row(fact.columns) for fact in outages.take_facts()]


def row(columns: Any) -> tuple[str, int, int]:
    assert columns["severity"] == 1.0
    return columns["kind"], columns["begin_ms"] - T0, columns["end_ms"] - T0


async def test_outages_begin_and_end_when_they_are_to(site: Site) -> None:
    outages = Outages(
        config(
            {"kind": "server_restart", "after_h": 2, "for_h": 1},
            {"kind": "wan_cut", "after_h": 1, "for_h": 1.5},
            {"kind": "reordered_seq", "after_h": 1},
            {"kind": "doubled_message", "after_h": 1},
            {"kind": "missed_birth", "after_h": 1, "device": CELL},
        ),
        T0,
        T0,
        0,
        T0,
    )
    seen = []
    for quarter in range(14):
        await outages.advance(site.outlets, T0 + quarter * H_MS // 4)
        seen += [(quarter / 4, what) for what in site.since()]
    assert seen == [
        (1.0, "pause"),
        (1.0, "swap"),
        (1.0, "double"),
        (1.0, f"skip {CELL}"),
        (2.0, "stop"),
        (2.5, "resume"),
        (3.0, "start"),
    ]
    assert sorted(told(outages)) == [
        ("outage.doubled_message", H_MS, H_MS + 36_000),
        ("outage.missed_birth", H_MS, H_MS + 36_000),
        ("outage.reordered_seq", H_MS, H_MS + 36_000),
        ("outage.server_restart", 2 * H_MS, 3 * H_MS),
        ("outage.wan_cut", H_MS, 5 * H_MS // 2),
    ]
    assert told(outages) == []


async def test_an_outage_within_another_one_of_its_kind_does_not_end_it(site: Site) -> None:
    outages = Outages(
        config(
            {"kind": "wan_cut", "after_h": 1, "for_h": 2},
            {"kind": "wan_cut", "after_h": 1.5, "for_h": 0.25},
        ),
        T0,
        T0,
        0,
        T0,
    )
    for quarter in range(12):
        await outages.advance(site.outlets, T0 + quarter * H_MS // 4)
    assert site.since() == ["pause"]
    await outages.advance(site.outlets, T0 + 3 * H_MS)
    assert site.since() == ["resume"]
    assert len(told(outages)) == 2


async def test_a_device_is_back_when_the_last_of_its_own_outages_ends(site: Site) -> None:
    outages = Outages(
        config(
            {"kind": "device_down", "after_h": 1, "for_h": 2, "device": CELL},
            {"kind": "device_down", "after_h": 1.5, "for_h": 1, "device": "imm-02"},
            {"kind": "device_down", "after_h": 1.5, "for_h": 1, "device": CELL},
        ),
        T0,
        T0,
        0,
        T0,
    )
    seen = []
    for quarter in range(14):
        await outages.advance(site.outlets, T0 + quarter * H_MS // 4)
        seen += [(quarter / 4, what) for what in site.since()]
    assert seen == [(1.0, f"down {CELL}"), (1.5, "down imm-02"), (2.5, "up imm-02"), (3.0, f"up {CELL}")]
    rows = [fact.columns for fact in outages.take_facts()]
    assert sorted((str(row["place"]), row["begin_ms"]) for row in rows) == [
        (CELL, T0 + H_MS),
        (CELL, T0 + 3 * H_MS // 2),
        ("imm-02", T0 + 3 * H_MS // 2),
    ]
    assert {row["kind"] for row in rows} == {"outage.device_down"}


async def test_a_lost_device_dies_and_what_it_measured_comes_with_its_return(tmp_path: Path) -> None:
    node = sparkplug_outlet(tmp_path, FakeLog(), [])
    session = node.node.session
    session.begin(0)
    session.connected()
    down = config({"kind": "device_down", "after_h": 1, "for_h": 1, "device": CELL})
    outages = Outages(down, T0, T0, 0, T0)
    topics = []
    for hour in range(3):
        await outages.advance([node], T0 + hour * H_MS)
        node.take_reading(
            CELL, MeterReading((T0 + hour * H_MS) * MS, 1.0 + hour, 2.0 + hour, 400.0, 3.0, 0.9)
        )
        await node.expose(past=False)
        session.tick()
        topics.append([each.topic.split("/")[2] for each in session.outbox if isinstance(each, Publish)])
        session.outbox.clear()
    assert topics == [["NBIRTH", "DBIRTH", "DDATA"], ["DDEATH"], ["DBIRTH", "DDATA", "DDATA"]]
    assert session.waiting == 0


async def test_one_that_was_slept_through_begins_and_ends_at_once(site: Site) -> None:
    outages = Outages(config({"kind": "server_restart", "after_h": 1, "for_h": 0.1}), T0, T0, 0, T0)
    await outages.advance(site.outlets, T0 + 9 * H_MS)
    assert site.since() == ["stop", "start"]


async def test_frozen_machines_have_no_outage(site: Site) -> None:
    outages = Outages(config({"kind": "wan_cut", "after_h": 1, "for_h": 2}), T0, T0, 0, T0)
    await outages.advance(site.outlets, T0 + H_MS)
    assert [row(fact.columns) for fact in outages.unfinished(T0 + H_MS + 5)] == [
        ("outage.wan_cut", H_MS, H_MS + 5)
    ]
    await outages.end_all(site.outlets, T0 + H_MS + 7)
    await outages.end_all(site.outlets, T0 + H_MS + 8)
    assert site.since() == ["pause", "resume"]
    assert told(outages) == [("outage.wan_cut", H_MS, H_MS + 7)]
    assert outages.unfinished(T0 + 9 * H_MS) == []


def local_ms(zone: str, *moment: int) -> int:
    return round(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("zone", "start", "minutes", "began", "first", "last"),
    [
        # 02:00 in Viet Nam is 19:00 UTC of the day before.
        ("Asia/Ho_Chi_Minh", "02:00", 20, (2026, 3, 1), (2026, 3, 2, 2, 0), (2026, 3, 2, 2, 20)),
        ("Asia/Ho_Chi_Minh", "23:50", 20, (2026, 3, 1), (2026, 3, 1, 23, 50), (2026, 3, 2, 0, 10)),
        # The clocks go on from 2 to 3 at night: the cut lasts as long as ever.
        ("Europe/Berlin", "01:50", 20, (2026, 3, 28, 12), (2026, 3, 29, 1, 50), (2026, 3, 29, 3, 10)),
    ],
)
async def test_the_link_is_cut_every_night_by_the_site_s_own_clock(
    site: Site, zone: str, start: str, minutes: int, began: tuple[int, ...], first: Any, last: Any
) -> None:
    begin_ms = local_ms(zone, *(*began, 12)[:4])
    outages = Outages(
        config(zone=zone, wan_cut={"start": start, "minutes": minutes}), begin_ms, begin_ms, 0, begin_ms
    )
    seen = []
    for minute in range(24 * 60):
        await outages.advance(site.outlets, begin_ms + minute * 60_000)
        seen += [(what, begin_ms + minute * 60_000) for what in site.since()]
    assert seen == [("pause", local_ms(zone, *first)), ("resume", local_ms(zone, *last))]
    (fact,) = outages.take_facts()
    assert (fact.columns["begin_ms"], fact.columns["end_ms"]) == (
        local_ms(zone, *first),
        local_ms(zone, *last),
    )
    tomorrow = begin_ms + 24 * H_MS
    for minute in range(24 * 60):
        await outages.advance(site.outlets, tomorrow + minute * 60_000)
    assert site.since() == ["pause", "resume"], "and the next night as well"


async def test_a_site_that_starts_while_its_link_would_be_cut_has_it(site: Site) -> None:
    now_ms = local_ms("Asia/Ho_Chi_Minh", 2026, 3, 2, 2, 10)
    outages = Outages(config(wan_cut={"start": "02:00", "minutes": 20}), now_ms, now_ms, 0, now_ms)
    await outages.advance(site.outlets, now_ms + 1_000)
    assert site.since() == []


async def test_a_kill_ends_an_outage_and_its_label_is_not_lost(site: Site) -> None:
    planned = config(
        {"kind": "wan_cut", "after_h": 1, "for_h": 1},
        {"kind": "wan_cut", "after_h": 3, "for_h": 2},
        {"kind": "server_restart", "after_h": 5, "for_h": 1},
        {"kind": "server_restart", "after_h": 8, "for_h": 1},
    )
    outages = Outages(planned, T0, T0 + 2 * H_MS, T0 + 4 * H_MS, T0 + 7 * H_MS)
    assert told(outages) == [("outage.wan_cut", 3 * H_MS, 4 * H_MS)], "the first one was told before"
    await outages.advance(site.outlets, T0 + 7 * H_MS)
    assert site.since() == [], "what nobody was there for did not happen"
    await outages.advance(site.outlets, T0 + 8 * H_MS)
    assert site.since() == ["stop"]
    night = config(wan_cut={"start": "02:00", "minutes": 20})
    begin_ms = local_ms("Asia/Ho_Chi_Minh", 2026, 3, 1, 12)
    killed_ms = local_ms("Asia/Ho_Chi_Minh", 2026, 3, 2, 2, 5)
    again = Outages(night, begin_ms, begin_ms, killed_ms, killed_ms + 1_000)
    (fact,) = again.take_facts()
    assert fact.columns["end_ms"] == killed_ms


def test_data_faults_are_those_written_down_and_those_by_chance() -> None:
    machines = [
        {"cell": CELL, "protocol": "sparkplug"},
        {"cell": "imm-02", "meter": "tasmota"},
        {"cell": "imm-03", "meter": "none"},
        {"cell": "imm-04", "protocol": "gateway", "meter": "none"},
    ]
    stations = [{"cell": "u1", "cycle_s": 25}, {"cell": "u2", "cycle_s": 22}]
    line = {"cell": "u-line", "products": [{"name": "A"}, {"name": "B"}], "stations": stations}
    site = config().model_dump() | {
        "machines": machines,
        "lines": [line],
        "tcus": [{"cell": "tcu-01"}],
        "data_faults": [
            {"kind": "data.nan", "cell": CELL, "signal": "cycle", "after_h": 1, "for_h": 1},
            {"kind": "data.clock_behind", "cell": "imm-02", "after_h": 1, "for_h": 1},
        ],
        "data_faults_per_day": 84,
    }
    scenario = Scenario.model_validate({"sites": [site]})
    (one,) = scenario.sites
    faults, again = data_faults(scenario, one, T0), data_faults(scenario, one, T0)
    known = cell_signals(one)
    kinds: dict[str, Counter[str]] = {}
    for cell in one.cells:
        facts = [fact.columns for fact in faults.facts(cell, T0, T0 + 10 * 24 * H_MS)]
        assert facts == [fact.columns for fact in again.facts(cell, T0, T0 + 10 * 24 * H_MS)]
        found: list[tuple[Any, Any]] = [
            pair
            for columns in facts
            for pair in zip(columns["kind"], columns["place"], strict=True)  # type: ignore[arg-type]
        ]
        kinds[cell] = Counter(kind for kind, _ in found)
        for kind, place in found:
            if kind in {"data.clock_behind", "data.duplicate"}:
                assert place is None
            elif (kind, place) != ("data.nan", "cycle"):
                assert place in known[cell]
                assert makes_sense(kind, place), (kind, place)
                assert kind != "data.counter_wrap" or place == "cycle.counter"
        for drawn in ("data.stuck", "data.nan"):
            # A draw hits any signal: 120 of them hit most of what a cell measures.
            measured = [name for name in known.get(cell, ()) if makes_sense("data.stuck", name)]
            assert (
                len({place for kind, place in found if kind == drawn}) > 0.7 * len(measured) or not measured
            )
    counted = {"data.stuck", "data.nan", "data.counter_reset"}
    # Only what a cell can have: clocks and doubled messages over MQTT, pressures and counters where there are some.
    assert {cell: set(own) for cell, own in kinds.items()} == {
        CELL: {*counted, "data.counter_wrap", "data.unit_change"},
        "imm-02": {*counted, "data.counter_wrap", "data.unit_change", "data.duplicate", "data.clock_behind"},
        "imm-03": {*counted, "data.counter_wrap", "data.unit_change"},
        "imm-04": {*counted, "data.unit_change", "data.duplicate"},
        "u1": {*counted, "data.duplicate", "data.clock_behind"},
        "u2": {*counted, "data.duplicate", "data.clock_behind"},
        "tcu-01": {"data.stuck", "data.nan", "data.unit_change"},
        "u-line": set(),
    }
    # None beside one that is written down.
    assert kinds["imm-02"]["data.clock_behind"] == 1
    assert all(
        count > 60 for own in kinds.values() for kind, count in own.items() if kind != "data.clock_behind"
    )
    (unfinished,) = (fact.columns for fact in faults.unfinished("imm-02", T0 + H_MS + 5))
    assert set(unfinished["end_ms"]) == {T0 + H_MS + 5}  # type: ignore[arg-type]
    assert "data.clock_behind" in unfinished["kind"]  # type: ignore[operator]
