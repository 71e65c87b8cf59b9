"""Searching an address space that is played, and what is kept of what was found."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from edge_agent.sources.opcua import browsing
from edge_agent.sources.opcua import walk as walking
from edge_agent.sources.opcua.browsing import Child
from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig
from edge_agent.sources.opcua.discovery import Discovery
from edge_agent.sources.opcua.event_config import EventConfig
from edge_agent.sources.opcua.machine_events import machine_events
from edge_agent.sources.opcua.patterns import Rule
from edge_agent.sources.opcua.session import Session
from edge_agent.sources.opcua.walk import Walk, walk
from tests.unit.opcua_address_space import URI, Played, Tree, node

PLANT = {
    "DeviceSet": {
        "IMM_A_1": {
            "Status": {".Mode": 1, ".0:NodeVersion": "1"},
            "Zones": {"Zone_1": {"Temp": 1}, "Zone_2": {"Temp": 2}},
        },
        "IMM_A_2": {"Status": {".Mode": 1}, "Zones": {"Zone_1": {"Temp": 1}}},
    }
}


def rules(*globs: Mapping[str, Any], **more: Any) -> tuple[Rule, ...]:
    return OpcUaConfig.model_validate({"name": "a", "endpoint": "opc.tcp://h", "globs": globs, **more}).rules


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def run(wanted: Sequence[Rule], tree: Tree = PLANT) -> Walk:
        played = Played(tree)
        monkeypatch.setattr(browsing, "children_of", played.children_of)
        return await walk(cast("Session", played), wanted)

    return run


def names(found: Sequence[NodeConfig]) -> list[str]:
    return [f"{each.asset}:{each.signal}" for each in found]


EVERYTHING = {"path": "/DeviceSet/IMM_A_{machine}/**", "asset": "acme/hk/imm-{machine}"}


async def test_variables_are_found_in_the_servers_order_and_looked_for_level_by_level(search: Any) -> None:
    wanted = rules(EVERYTHING)
    found = Discovery(wanted, ()).learn(await search(wanted))
    assert names(found) == [
        "acme/hk/imm-1:status.mode",
        "acme/hk/imm-2:status.mode",
        "acme/hk/imm-1:zones.zone_1.temp",
        "acme/hk/imm-1:zones.zone_2.temp",
        "acme/hk/imm-2:zones.zone_1.temp",
    ]
    assert found[0].node == f"/nsu={URI};DeviceSet/nsu={URI};IMM_A_1/nsu={URI};Status/nsu={URI};Mode"


async def test_properties_of_variables_and_of_opc_ua_itself_need_their_names(search: Any) -> None:
    tree = {"Temp": 1, "Folder": {".0:NodeVersion": "1"}}
    wanted = rules(
        {"path": "/**", "asset": "acme/hk"},
        {"path": "/Folder/0:NodeVersion", "asset": "acme/hk", "signal": "version"},
    )
    assert names(Discovery(wanted, ()).learn(await search(wanted, tree))) == [
        "acme/hk:temp",
        "acme/hk:version",
    ]


async def test_the_first_pattern_has_a_variable_and_what_others_name_is_left_to_them(search: Any) -> None:
    wanted = rules(
        {"path": "/DeviceSet/*/Status/Mode", "asset": "acme/hk", "signal": "mode_{1}"},
        {**EVERYTHING, "exclude": ["/**/Zone_2/*"]},
    )
    known = [node("/DeviceSet/IMM_A_2/Status/.Mode")]
    discovery = Discovery(wanted, ())
    assert names(discovery.learn(await search(wanted), known)) == [
        "acme/hk:mode_imm_a_1",
        "acme/hk/imm-1:zones.zone_1.temp",
        "acme/hk/imm-2:zones.zone_1.temp",
    ]
    assert list(discovery.summary()) == []


async def test_what_cannot_be_had_is_said(search: Any) -> None:
    wanted = rules(
        {"path": "/DeviceSet/*/Status/Mode", "asset": "acme/hk", "signal": "mode"},
        {
            "path": "/**/Temp",
            "asset": "acme/hk",
            "signal": "{path}",
            "max_nodes": 2,
        },
        {"path": "/nsu=urn:none;X/*", "asset": "acme/hk"},
        {"path": "/Nothing/*", "asset": "acme/hk"},
        {"path": "/**/Zone_1/**", "asset": "acme/{path}"},
    )
    discovery = Discovery(wanted, [("acme/hk", "device_set.imm_a_1.zones.zone_1.temp")])
    assert names(discovery.learn(await search(wanted))) == [
        "acme/hk:mode",
        "acme/hk:device_set.imm_a_1.zones.zone_2.temp",
    ]
    said = "; ".join(discovery.summary())
    assert "globs.1 (/**/Temp): more than 2 variables (max_nodes); the rest is not read" in said
    assert "globs.2 (/nsu=urn:none;X/*): the server has no namespace urn:none" in said
    assert "globs.3 (/Nothing/*): nothing is found" in said
    assert "/DeviceSet/IMM_A_2/Status/Mode: acme/hk:mode is already /DeviceSet/IMM_A_1/Status/Mode" in said
    assert "/DeviceSet/IMM_A_2/Zones/Zone_1/Temp: asset path" in said
    assert "has 6 levels" in said
    assert discovery.searching


async def test_circles_and_great_numbers_come_to_an_end(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = rules({"path": "/**", "asset": "acme/hk"})
    played = Played({"A": {"B": {}}})
    played.below[node("/A/B")] = [Child(node("/A"), "A", 2, is_variable=False, is_property=False)]
    monkeypatch.setattr(browsing, "children_of", played.children_of)
    assert (await walk(cast("Session", played), wanted)).hits == []
    monkeypatch.setattr(walking, "MAX_LOOKED_INTO", 5)
    wide: Tree = {f"F{number}": {} for number in range(10)}
    assert (await search(wanted, wide)).problems == ["the search ended after 1 folders: narrow the patterns"]


async def test_what_was_found_is_wanted_again_under_the_rules_of_now(search: Any) -> None:
    wanted = rules(EVERYTHING)
    first = Discovery(wanted, ())
    first.learn(await search(wanted))
    state = first.unsaved({})
    first.saved()
    assert first.unsaved(state) == {}
    assert list(state) == ["found/0"]
    again = Discovery(wanted, ())
    assert len(again.restore(state)) == 5
    assert again.learn(await search(wanted)) == []
    assert not again.unsaved(state)
    renamed = rules({"path": "/DeviceSet/IMM_A_{n}/Status/*", "asset": "acme/vn/{n}", "signal": "s.{name}"})
    other = Discovery(renamed, ())
    assert names(other.restore(state)) == ["acme/vn/1:s.mode", "acme/vn/2:s.mode"]
    shrunk = other.unsaved(state)
    assert set(shrunk) == {"found/0"}
    assert len(Discovery(wanted, ()).restore(shrunk)) == 2


async def test_many_are_saved_in_pieces_and_only_the_last_is_written_anew(search: Any) -> None:
    wanted = rules({"path": "/*", "asset": "acme/hk", "max_nodes": 10_000})
    discovery = Discovery(wanted, ())
    discovery.learn(await search(wanted, {f"v{number}": 1 for number in range(2_500)}))
    state = discovery.unsaved({})
    discovery.saved()
    assert sorted(state) == ["found/0", "found/1", "found/2"]
    discovery.learn(await search(wanted, {f"v{number}": 1 for number in range(2_501)}))
    assert sorted(discovery.unsaved(state)) == ["found/2"]
    assert len(Discovery(wanted, ()).restore(state)) == 2_500


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"5", b"[1]", b'[["", "x"]]', b'[["", "/", false]]', b'[["", "i=5", false]]']
)
def test_what_was_saved_otherwise_is_ignored(raw: bytes) -> None:
    discovery = Discovery(rules(EVERYTHING), ())
    for saved in (raw, zlib.compress(raw)):
        assert discovery.restore({"found/0": saved, "imm/nodes": b"{}"}) == []


PROFILE = """
title: Test
namespaces: {t: "urn:test"}
machine: {path: "/t:DeviceSet/IMM_{maker}_{machine}"}
variables:
  - {path: "t:Status/t:Mode", signal: status.mode, required: true}
  - {path: "t:Status/t:Error", signal: status.error, required: true}
  - {path: "t:Zones/t:Zone_{zone}/t:Temp", signal: "zone_{zone}.temperature", unit: Cel}
events:
  - type: t:CycleType
    fields: {"t:Unit/t:Time": {signal: cycle.time, unit: s, scale: 0.001}, Id: cycle.id}
alarms: [{prefix: trouble}]
"""


async def test_a_profile_finds_machines_and_says_what_they_lack(search: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PROFILE)
    used = {"profile": "mine", "asset": "acme/hk/{machine}", "assets": {"2": "acme/vn/other"}, "enum": "both"}
    wanted = rules(profiles=[used], profile_folder=tmp_path)
    discovery = Discovery(wanted, ())
    assert list(discovery.summary()) == [
        "profiles.0 (mine) (/t:DeviceSet/IMM_{maker}_{machine}): nothing is found"
    ]
    found = discovery.learn(await search(wanted))
    assert names(found) == [
        "acme/hk/1:status.mode",
        "acme/vn/other:status.mode",
        "acme/hk/1:zone_1.temperature",
        "acme/hk/1:zone_2.temperature",
        "acme/vn/other:zone_1.temperature",
    ]
    assert {each.enum for each in found} == {"both"}
    assert [machine.asset for machine in discovery.machines] == ["acme/hk/1", "acme/vn/other"]
    assert list(discovery.summary()) == [
        "acme/hk/1: the machine has no t:Status/t:Error",
        "acme/vn/other: the machine has no t:Status/t:Error",
    ]
    elsewhere = Discovery(rules(profiles=[{"profile": "euromap77", "asset": "acme/hk/{machine}"}]), ())
    elsewhere.learn(await search(rules(profiles=[{"profile": "euromap77", "asset": "acme/hk/{machine}"}])))
    nothing, missing = elsewhere.summary()
    assert nothing.endswith("nothing is found")
    assert missing == "profiles.0 (euromap77): the server has no namespace http://opcfoundation.org/UA/DI/"
    again = Discovery(wanted, ())
    assert names(again.restore(discovery.unsaved({}))) == names(found)
    assert again.machines == discovery.machines
    settings = {"name": "a", "endpoint": "opc.tcp://h", "profiles": [used], "profile_folder": str(tmp_path)}
    config = OpcUaConfig.model_validate(settings)
    first, alarms, *others = machine_events(config, discovery.machines)
    assert isinstance(first, EventConfig)
    assert first.notifier == f"/nsu={URI};DeviceSet/nsu={URI};IMM_A_1"
    assert (first.asset, first.type) == ("acme/hk/1", f"nsu={URI};CycleType")
    assert {path: (field.signal, field.scale) for path, field in first.named.items()} == {
        f"nsu={URI};Unit/nsu={URI};Time": ("cycle.time", 0.001),
        "Id": ("cycle.id", 1.0),
    }
    assert (alarms.asset, alarms.prefix) == ("acme/hk/1", "trouble")
    assert [each.asset for each in others] == ["acme/vn/other"] * 2
    quiet = OpcUaConfig.model_validate({**settings, "profiles": [{**used, "events": False}]})
    assert machine_events(quiet, discovery.machines) == []
