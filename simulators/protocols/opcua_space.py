"""The address space of a site: its machines under DeviceSet, by the browse names of EUROMAP 77."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols import euromap77
from simulators.protocols.euromap77 import Kind, Unit, Variable
from simulators.scenario import SiteConfig

_READABLE: Final = ua.AccessLevel.CurrentRead.mask | ua.AccessLevel.HistoryRead.mask
_OWN: Any = 1
_UNITS_URI: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
_NULLS: Final[Mapping[Kind, bool | int | float | str]] = {
    "Boolean": False,
    "Int32": 0,
    "UInt64": 0,
    "Double": 0.0,
    "String": "",
}


async def build_machines(
    server: Server, site: SiteConfig, variables: Sequence[tuple[str, Variable]]
) -> list[ua.NodeId]:
    """Add an object for each machine below DeviceSet; return the node ids of ``variables`` (cell, variable).

    Node ids are strings in namespace 1, the server's own, whose URI is the site's: they are the same after every
    restart, whatever else changes.
    """
    spaces = {
        "own": _OWN,
        "di": await server.register_namespace(euromap77.DI_URI),
        "gen": await server.register_namespace(euromap77.GENERAL_TYPES_URI),
        "imm": await server.register_namespace(euromap77.IMM2MES_URI),
    }
    tree = _Tree(server, spaces)
    device_set = tree.object(_standard(ObjectIds.ObjectsFolder), "DeviceSet", "di:DeviceSet")
    for machine in site.machines:
        tree.object(device_set, machine.cell, f"own:IMM_Shopfloor_{machine.cell}")
    nodes = []
    for cell, variable in variables:
        parent, name = tree.id(cell), cell
        for step in variable.path[:-1]:
            name = f"{name}.{step.partition(':')[2]}"
            parent = tree.object(parent, name, step)
        nodes.append(tree.variable(parent, f"{cell}.{variable.node_name}", variable))
    return nodes


def _standard(number: Any) -> ua.NodeId:
    return ua.NodeId(number)


def _own(name: Any) -> ua.NodeId:
    return ua.NodeId(name, _OWN)


class _Tree:
    def __init__(self, server: Server, spaces: Mapping[str, int]) -> None:
        self._add = server.iserver.node_mgt_service.add_nodes
        self._spaces = spaces
        self._objects: set[str] = set()

    def id(self, name: str) -> ua.NodeId:
        return _own(name)

    def object(self, parent: ua.NodeId, name: str, browse_name: str) -> ua.NodeId:
        """Return the object of that name, made if it is not there yet."""
        if name not in self._objects:
            self._objects.add(name)
            attributes = ua.ObjectAttributes(DisplayName=ua.LocalizedText(browse_name.partition(":")[2]))
            self._node(parent, name, browse_name, attributes, ObjectIds.BaseObjectType)
        return self.id(name)

    def variable(self, parent: ua.NodeId, name: str, variable: Variable) -> ua.NodeId:
        kind = ua.VariantType[variable.kind]
        attributes = ua.VariableAttributes(
            DisplayName=ua.LocalizedText(variable.path[-1].partition(":")[2]),
            Description=ua.LocalizedText(variable.description),
            Value=ua.Variant(_NULLS[variable.kind], kind),
            DataType=_standard(kind.value),
            ValueRank=ua.ValueRank.Scalar,
            AccessLevel=_READABLE,
            UserAccessLevel=_READABLE,
            Historizing=True,
        )
        analog = variable.shown_unit is not None
        type_id = ObjectIds.AnalogItemType if analog else ObjectIds.BaseDataVariableType
        self._node(parent, name, variable.path[-1], attributes, type_id)
        if variable.shown_unit is not None:
            self._unit(name, variable.shown_unit)
        return self.id(name)

    def _unit(self, name: str, unit: Unit) -> None:
        information = ua.EUInformation(
            NamespaceUri=_UNITS_URI,
            UnitId=int.from_bytes(unit.code.encode(), "big"),
            DisplayName=ua.LocalizedText(unit.symbol),
            Description=ua.LocalizedText(unit.symbol),
        )
        attributes = ua.VariableAttributes(
            DisplayName=ua.LocalizedText("EngineeringUnits"),
            Value=ua.Variant(information, ua.VariantType.ExtensionObject),
            DataType=_standard(ObjectIds.EUInformation),
            ValueRank=ua.ValueRank.Scalar,
            AccessLevel=ua.AccessLevel.CurrentRead.mask,
            UserAccessLevel=ua.AccessLevel.CurrentRead.mask,
            Historizing=False,
        )
        item = ua.AddNodesItem(
            ParentNodeId=self.id(name),
            ReferenceTypeId=_standard(ObjectIds.HasProperty),
            RequestedNewNodeId=self.id(f"{name}.EngineeringUnits"),
            BrowseName=ua.QualifiedName("EngineeringUnits", 0),
            NodeClass=ua.NodeClass.Variable,
            NodeAttributes=attributes,
            TypeDefinition=_standard(ObjectIds.PropertyType),
        )
        self._add([item])[0].StatusCode.check()

    def _node(
        self,
        parent: ua.NodeId,
        name: str,
        browse_name: str,
        attributes: ua.ObjectAttributes | ua.VariableAttributes,
        type_id: int,
    ) -> None:
        space, _, text = browse_name.partition(":")
        variable = isinstance(attributes, ua.VariableAttributes)
        item = ua.AddNodesItem(
            ParentNodeId=parent,
            ReferenceTypeId=_standard(ObjectIds.HasComponent),
            RequestedNewNodeId=self.id(name),
            BrowseName=ua.QualifiedName(text, self._spaces[space]),
            NodeClass=ua.NodeClass.Variable if variable else ua.NodeClass.Object,
            NodeAttributes=attributes,
            TypeDefinition=_standard(type_id),
        )
        self._add([item])[0].StatusCode.check()
