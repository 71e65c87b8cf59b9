"""Machines of several makers on one server, told apart by the types that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from edge_agent.sources.opcua import browsing
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.discovery import Discovery
from edge_agent.sources.opcua.session import Session
from edge_agent.sources.opcua.walk import Walk, walk
from tests.unit.opcua_address_space import Played, Tree

TYPES = {
    "PressType": "MachineType",
    "BigPressType": "PressType",
    "RobotType": "MachineType",
    "MachineType": "",
}
PLANT: Tree = {
    "DeviceSet": {
        "M1": {"^": "BigPressType", "Force": 1, "Speed": 1},
        "M2": {"^": "RobotType", "Force": 2, "Speed": 2},
        "M3": {"^": "Spoiling", "Force": 3, "Speed": 3},
        "M4": {"Force": 4, "Speed": 4},
    }
}
PRESS = """
title: Presses
namespaces: {t: "urn:test"}
machine: {path: "/DeviceSet/M{machine}", type: "t:PressType"}
variables:
  - {path: Force, signal: press.force, required: true}
  - {path: Speed, signal: press.speed, type: BigPressType}
"""
ROBOT = """
title: Robots
machine: {path: "/DeviceSet/M{machine}", type: RobotType}
variables:
  - {path: Force, signal: robot.force}
  - {path: Speed, signal: robot.speed, type: BigPressType}
"""


def configured(folder: Path, **files: str) -> OpcUaConfig:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    profiles = [{"profile": name, "asset": "acme/hk/m{machine}"} for name in files]
    return OpcUaConfig.model_validate(
        {"name": "a", "endpoint": "opc.tcp://h", "profiles": profiles, "profile_folder": folder}
    )


async def searched(config: OpcUaConfig, monkeypatch: pytest.MonkeyPatch, played: Played) -> Walk:
    monkeypatch.setattr(browsing, "children_of", played.children_of)
    return await walk(cast("Session", played), config.rules)


def found_by(discovery: Discovery, result: Walk) -> list[str]:
    return [f"{each.asset}:{each.signal}" for each in discovery.learn(result)]


async def test_each_profile_has_the_machines_of_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, press=PRESS, robot=ROBOT)
    played = Played(PLANT, TYPES)
    discovery = Discovery(config.rules, ())
    found = found_by(discovery, await searched(config, monkeypatch, played))
    assert found == ["acme/hk/m1:press.force", "acme/hk/m1:press.speed", "acme/hk/m2:robot.force"]
    assert [(each.profile, each.asset) for each in discovery.machines] == [
        ("profiles.0 (press)", "acme/hk/m1"),
        ("profiles.1 (robot)", "acme/hk/m2"),
    ]
    assert played.asked_types[0] == 3, "all at once, each once"
    assert list(discovery.summary()) == []
    # After a restart every machine is again what it was, though the paths are alike.
    again = Discovery(config.rules, ())
    state = discovery.unsaved({})
    assert [f"{each.asset}:{each.signal}" for each in again.restore(state)] == found
    assert again.machines == discovery.machines
    # What was found without a type may be of any: it has to be found again.
    other = configured(tmp_path, press=PRESS.replace(', type: "t:PressType"', ""))
    untyped = Discovery(other.rules, ())
    assert untyped.restore(state) == []
    any_type = found_by(untyped, await searched(other, monkeypatch, played))
    assert any_type == [
        *(f"acme/hk/m{number}:press.force" for number in range(1, 5)),
        "acme/hk/m1:press.speed",
    ]
    assert Discovery(config.rules, ()).restore(untyped.unsaved({})) == []


async def test_a_server_without_types_is_not_asked_for_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "title: x\nmachine: {path: '/DeviceSet/M{machine}'}\nvariables: [{path: Force, signal: force}]"
    config = configured(tmp_path, plain=plain)
    played = Played(PLANT, TYPES)
    assert len((await searched(config, monkeypatch, played)).hits) == 8
    assert played.asked_types == []


async def test_a_type_that_nobody_is_of_finds_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, press=PRESS.replace("t:PressType", "t:CraneType"))
    discovery = Discovery(config.rules, ())
    assert found_by(discovery, await searched(config, monkeypatch, Played(PLANT, TYPES))) == []
    assert list(discovery.summary()) == [
        "profiles.0 (press) (/DeviceSet/M{machine}, CraneType): nothing is found"
    ]
    elsewhere = configured(tmp_path, press=PRESS.replace("urn:test", "urn:nowhere"))
    result: Any = await searched(elsewhere, monkeypatch, Played(PLANT, TYPES))
    assert result.problems == ["profiles.0 (press): the server has no namespace urn:nowhere"]
