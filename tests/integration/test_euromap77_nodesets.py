"""Our EUROMAP 77 types and machines against the published nodesets, loaded into a second server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from asyncua.server.server import Server

from shopfloor.errors import ConfigError
from simulators.protocols.euromap77_events import CYCLE_TYPE
from simulators.protocols.euromap77_extract import extract
from simulators.protocols.opcua_nodesets import find_nodesets
from simulators.protocols.opcua_standard import SharingServer
from simulators.protocols.opcua_types import NAMESPACES, TYPES_FILE
from tests.integration.euromap77_servers import TCU, URI, at, connected, serving
from tests.integration.nodeset_comparison import (
    Space,
    check_instance,
    compare_types,
    types_of,
    undeliberate,
    used_types,
    written,
)

FOLDER: Final = Path(
    os.environ.get("SHOPFLOOR_NODESETS") or Path(__file__).parents[2] / ".." / "shared" / "nodesets"
)
URIS: Final = [NAMESPACES[letter] for letter in ("di", "gen", "imm")]
MACHINE_TYPE: Final = NAMESPACES["imm"], 1007
TCD: Final = NAMESPACES["tcd"]
DELIBERATE: Final[dict[str, str]] = {}
"""Browse paths at which our types differ from the published ones on purpose, and why."""

if not FOLDER.is_dir():
    # Of the whole module: no package that CI could install holds them, so this is no failure even there.
    pytest.skip(f"no nodesets in {FOLDER}; SHOPFLOOR_NODESETS names their folder", allow_module_level=True)

_LOADED: list[Space] = []


@pytest.fixture
async def theirs() -> Space:
    """The nodesets as asyncua reads them: loaded once, since nothing here changes them."""
    if not _LOADED:
        server = Server(SharingServer())
        await server.init()
        await server.set_application_uri("urn:of:the:nodesets")
        for nodeset in find_nodesets(FOLDER):
            await server.import_xml(str(nodeset.file))
        _LOADED.append(await Space.of(server))
    return _LOADED[0]


async def test_types_and_machines_are_those_of_the_nodesets(theirs: Space) -> None:
    async with serving(tcus=[TCU], standstill_reasons={"E07": "Heater"}) as server:
        assert server._server is not None
        ours = await Space.of(server._server)
    assert len(types_of(ours, URIS)) > 70
    differences = compare_types(ours, theirs, URIS)
    missing = used_types(theirs, MACHINE_TYPE, URIS) - set(types_of(ours, URIS))
    differences += [
        f"{written(theirs.name(node))}: a machine needs it, and it is missing" for node in missing
    ]
    for cell in ("imm-01", "imm-02"):
        differences += check_instance(ours, theirs, (URI, cell), [MACHINE_TYPE], URIS)
    nested = f"{CYCLE_TYPE}.InjectionUnitCycleParameters_1"
    differences += check_instance(ours, theirs, (URI, nested), [(NAMESPACES["imm"], 1039)], URIS)
    nested = f"{CYCLE_TYPE}.MouldCycleParameters_1"
    differences += check_instance(ours, theirs, (URI, nested), [(NAMESPACES["gen"], 1005)], URIS)
    # No nodeset of OPC 40082-1 is at hand: its instances are held against our own table of it.
    differences += check_instance(ours, ours, (URI, TCU.name), [(TCD, 1012)], [*URIS, TCD])
    assert not (left := undeliberate(differences, DELIBERATE)), "\n".join(left)


def test_the_committed_table_is_what_the_nodesets_say() -> None:
    again = "python -m simulators.protocols.euromap77_extract FOLDER"
    assert extract(FOLDER) == TYPES_FILE.read_text(encoding="utf-8"), f"to be made again: {again}"


async def test_each_departure_is_reported_by_its_browse_path(theirs: Space) -> None:
    async with serving("cell: imm-01, zones: 3") as server:
        assert server._server is not None
        ours = await Space.of(server._server)
    machine = (URI, "imm-01")
    mode = (URI, "imm-01.MachineStatus.MachineMode")
    status = (URI, "imm-01.MachineStatus")
    ours.nodes[status].references = [
        reference for reference in ours.nodes[status].references if ours.key(reference.NodeId) != mode
    ]
    zone = (NAMESPACES["gen"], 1030)
    ours.nodes[zone].references = [
        reference for reference in ours.nodes[zone].references if reference.BrowseName.Name != "Name"
    ]
    found = check_instance(ours, theirs, machine, [MACHINE_TYPE], URIS)
    found += compare_types(ours, theirs, URIS)
    assert found == [
        f"{URI}:IMM_Shopfloor_imm-01/IMM2MES:MachineStatus/GeneralTypes:MachineMode: mandatory, and missing",
        "GeneralTypes:TemperatureZoneType/GeneralTypes:Name: only theirs",
    ]


async def test_the_nodesets_themselves_can_be_served(theirs: Space) -> None:
    async with serving("cell: imm-01, zones: 3", nodeset_dir=FOLDER, tcus=[TCU]) as server:
        assert server._server is not None
        ours = await Space.of(server._server)
        async with connected(server) as client:
            assert NAMESPACES["tcd"] in await client.get_namespace_array()
            machine = ("di:DeviceSet", "own:IMM_Shopfloor_imm-01")
            zone = (
                "imm:InjectionUnits",
                "imm:InjectionUnit_1",
                "imm:TemperatureZones",
                "gen:TemperatureZone_3",
            )
            name = await at(client, *machine, *zone, "gen:Name")
            assert await name.read_value() == "Barrel zone 3"
            # A type that our tables leave out.
            drives = client.get_node(f"ns={await client.get_namespace_index(NAMESPACES['gen'])};i=1069")
            assert (await drives.read_browse_name()).Name == "DrivesType"
            tcu = await at(
                client, "di:DeviceSet", f"own:TCD_Shopfloor_{TCU.name}", "tcd:DeviceZone", "tcd:Temperature"
            )
            assert len(await tcu.get_children()) == 2
    found = check_instance(ours, theirs, (URI, "imm-01"), [MACHINE_TYPE], URIS)
    assert not found, "\n".join(found)
    assert set(types_of(theirs, URIS)) == set(types_of(ours, URIS))


async def test_a_nodeset_of_other_types_is_refused_before_anything_listens(tmp_path: Path) -> None:
    for nodeset in find_nodesets(FOLDER):
        text = nodeset.file.read_text(encoding="utf-8")
        text = text.replace(
            'NodeId="ns=1;i=1007" BrowseName="1:IMM_MES', 'NodeId="ns=1;i=9007" BrowseName="1:IMM_MES'
        )
        (tmp_path / nodeset.file.name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"IMM2MES.NodeSet2.xml: (does not load|ns=\d+;i=1007 is not)"):
        async with serving(nodeset_dir=tmp_path):
            pass
