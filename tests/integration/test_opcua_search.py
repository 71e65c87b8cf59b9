"""What patterns find: also later, also again, and never forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua import OpcUaSource
from shopfloor.messages import SeriesDeclaration
from tests.integration.opcua_plant import URI, MemorySink, Plant, config, running

GLOB = {"path": "/IMM_{machine}/**", "asset": "acme/hk01/{machine}", "signal": "{path}"}


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


def searching(plant: Plant, *globs: dict[str, Any], **changes: Any) -> OpcUaSource:
    return OpcUaSource(config(plant, **{"nodes": [], "globs": globs or (GLOB,), **changes}))


def series(sink: MemorySink) -> set[str]:
    return {str(sample.series) for sample in sink.samples}


def report(sink: MemorySink) -> str:
    return sink.reports[-1][1] if sink.reports else "not yet"


def newest(sink: MemorySink, signal: str) -> float:
    found = sink.series(signal)
    return found[-1][1] if found else float("nan")


async def test_what_was_found_once_is_missed_by_name_and_taken_up_again(plant: Plant) -> None:
    sink = MemorySink()
    nowhere = {"path": "/IMM_2/*", "asset": "acme/hk01/imm-2", "signal": "{name}"}
    source = searching(plant, nowhere, GLOB, rebrowse_s=1)
    async with running(source, sink):
        await sink.until(lambda: len(sink.samples) == 3)
        assert series(sink) == {"acme/hk01/1:v0", "acme/hk01/1:v1", "acme/hk01/1:v2"}
        await sink.until(lambda: report(sink) == "globs.0 (/IMM_2/*): nothing is found")
        await plant.add("late")
        await plant.write("late", 7.0)
        await sink.until(lambda: newest(sink, "late") == 7.0)
        assert plant.server is not None
        folder = await plant.server.nodes.objects.add_object(plant.index, "IMM_2")
        await folder.add_variable(plant.index, "Melt Temperature", 221.5)
        await sink.until(lambda: newest(sink, "melt_temperature") == 221.5)
        await sink.until(lambda: report(sink) == "")
        assert source.assets == ("acme/hk01/1", "acme/hk01/imm-2")
    await plant.stop()
    plant.extra_namespaces = ["urn:one:more"]
    await plant.start(["v0", "v1", "late"])
    again = searching(plant, groups={"live": {"mode": "poll", "interval_s": 0.05}})
    async with running(again, sink):
        await sink.until(lambda: "2 of 5 nodes fail: acme/hk01/1:v2 (/IMM_1/v2)" in report(sink))
        assert [each.signal for each in again.declarations()] == [
            "v0",
            "v1",
            "v2",
            "late",
            "melt_temperature",
        ]
        await plant.write("v0", 41.0)
        await sink.until(lambda: newest(sink, "v0") == 41.0)
        await plant.add("v2")
        await plant.write("v2", 42.0)
        await sink.until(lambda: newest(sink, "v2") == 42.0)
        await sink.until(lambda: report(sink).startswith("1 of 5 nodes fail"))
        await plant.remove("v1")
        await sink.until(lambda: "/IMM_1/v1" in report(sink))
        await plant.add("v1")
        await plant.write("v1", 43.0)
        await sink.until(lambda: newest(sink, "v1") == 43.0)


@pytest.mark.parametrize("mode", [{"mode": "subscribe"}, {"mode": "poll", "interval_s": 0.05}])
async def test_a_change_of_the_address_space_is_searched_at_once(plant: Plant, mode: dict[str, Any]) -> None:
    sink = MemorySink()
    source = searching(plant, groups={"live": mode}, rebrowse_s=86_400)
    async with running(source, sink):
        await sink.until(lambda: len(series(sink)) == 3)
        assert plant.server is not None
        changed = await plant.server.get_event_generator(
            ua.NodeId(ua.Int32(ObjectIds.GeneralModelChangeEventType), ua.Int16(0)),
            ua.NodeId(ua.Int32(ObjectIds.Server), ua.Int16(0)),
        )
        await plant.add("late")
        await plant.write("late", 7.0)
        await changed.trigger()
        await sink.until(lambda: newest(sink, "late") == 7.0)
    assert sink.counts["address_space_changed"] == 1


async def test_machines_are_told_apart_by_their_types(plant: Plant, tmp_path: Path) -> None:
    assert plant.server is not None
    objects, base = plant.server.nodes.objects, plant.server.nodes.base_object_type
    press = await base.add_object_type(plant.index, "PressType")
    for name, kind in (
        ("M_1", await press.add_object_type(plant.index, "BigPressType")),
        ("M_2", await base.add_object_type(plant.index, "RobotType")),
        ("M_3", press),
    ):
        machine = await objects.add_object(plant.index, name, objecttype=kind.nodeid)
        await machine.add_variable(plant.index, "Force", 1.0)
    (tmp_path / "presses.yaml").write_text(
        f"title: Presses\nnamespaces: {{p: '{URI}'}}\n"
        "machine: {path: '/p:M_{machine}', type: 'p:PressType'}\n"
        "variables: [{path: 'p:Force', signal: clamp.force}]\n"
    )
    sink = MemorySink()
    profiles = [{"profile": "presses", "asset": "acme/hk01/m{machine}"}]
    source = searching(plant, globs=(), profiles=profiles, profile_folder=str(tmp_path))
    async with running(source, sink):
        await sink.until(lambda: len(series(sink)) == 2)
    assert series(sink) == {"acme/hk01/m1:clamp.force", "acme/hk01/m3:clamp.force"}
    assert source.assets == ("acme/hk01/m1", "acme/hk01/m3")


async def test_units_ranges_and_names_of_enumerations_are_the_servers(plant: Plant) -> None:
    temperature = await plant.folder.add_variable(plant.index, "Temp", 20.0)
    await temperature.write_attribute(
        AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText("Melt temperature")))
    )
    unit = ua.EUInformation(UnitId=ua.Int32(4408652), DisplayName=ua.LocalizedText("°C"))
    await temperature.add_property(0, "EngineeringUnits", unit)
    await temperature.add_property(0, "EURange", ua.Range(0.0, 400.0))
    sink = MemorySink()
    source = searching(plant)
    wanted = SeriesDeclaration("acme/hk01/1", "temp", "Cel", "Melt temperature (0 to 400)")
    async with running(source, sink):
        await sink.until(lambda: wanted in source.declarations())
        assert source.declarations() is source.declarations()
        await sink.until(lambda: any(key.startswith("said/") for key in sink.saved))
    # Known before the server is asked again.
    await plant.stop()
    later = MemorySink()
    later.saved.update(sink.saved)
    again = searching(plant)
    async with running(again, later, again=True):
        await later.until(lambda: bool(later.reports))
        assert wanted in again.declarations()


async def test_enumerations_as_text_and_as_both(plant: Plant) -> None:
    assert plant.server is not None
    kind = await plant.server.nodes.enum_data_type.add_data_type(plant.index, "Mode")
    names = [ua.LocalizedText(name) for name in ("Off", "Automatic", "Setup")]
    await kind.add_property(0, "EnumStrings", names)
    for name in ("m1", "m2", "m3"):
        await plant.folder.add_variable(
            ua.NodeId(ua.String(name), ua.Int16(plant.index)),
            f"{plant.index}:{name}",
            1,
            varianttype=ua.VariantType.Int32,
            datatype=kind.nodeid,
        )
    nodes = [
        {"node": f"nsu={URI};s={name}", "asset": "acme/hk01", "signal": name, "enum": mode}
        for name, mode in (("m1", "value"), ("m2", "text"), ("m3", "both"))
    ]
    sink = MemorySink()
    source = searching(plant, nodes=nodes, globs=())
    async with running(source, sink):
        await sink.until(lambda: len(sink.samples) == 4)
        assert plant.server is not None
        for value in (2, 9):
            data = ua.DataValue(ua.Variant(value, ua.VariantType.Int32))
            for name in ("m2", "m3"):
                node = plant.server.get_node(ua.NodeId(ua.String(name), ua.Int16(plant.index)))
                await node.write_value(data)
        await sink.until(lambda: len(sink.samples) == 10)
        said = {
            name: [sample.text if sample.text is not None else sample.value for sample in of(sink, name)]
            for name in ("m1", "m2", "m3", "m3.text")
        }
    assert said == {
        "m1": [1.0],
        "m2": ["Automatic", "Setup", "9"],
        "m3": [1.0, 2.0, 9.0],
        "m3.text": ["Automatic", "Setup", "9"],
    }
    assert [each.signal for each in source.declarations()] == ["m1", "m2", "m3", "m3.text"]


def of(sink: MemorySink, signal: str) -> list[Any]:
    return [sample for sample in sink.samples if sample.series.signal == signal]
