"""Instances of OPC UA types: every mandatory child of the type, and those optional ones that are asked for.

What the types say is read from the address space, whether it came from our tables or from nodeset files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from simulators.protocols.opcua_datatypes import null_value
from simulators.protocols.opcua_declarations import Declared, TypeReader
from simulators.protocols.opcua_types import Names, own, standard
from simulators.protocols.opcua_variable import Unit

_MANDATORY: Final = 78
_PLACEHOLDERS: Final = frozenset({11508, 11510})
_UNITS_URI: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
_READABLE: Final = ua.AccessLevel.CurrentRead.mask
_RECORDED: Final = _READABLE | ua.AccessLevel.HistoryRead.mask


@dataclass
class Item:
    """What is wanted at one place of an instance, and below it."""

    children: dict[str, Item] = field(default_factory=dict)
    """By browse name with its letter."""
    value: ua.Variant | None = None
    unit: Unit | None = None
    type_name: str | None = None
    """Instead of the type that the declaration names: one of its subtypes, or what a vendor's own node is."""
    data_type: str | None = None
    """Of a vendor's own variable."""
    description: str = ""
    number: int | None = None
    """Which live variable it is; those have history."""

    def at(self, *path: str) -> Item:
        """Return what is wanted at ``path`` below this, made where nothing was."""
        item = self
        for step in path:
            item = item.children.setdefault(step, Item())
        return item


class InstanceBuilder:
    """Makes instances in one server."""

    def __init__(self, server: Server, names: Names) -> None:
        self.nodes: dict[int, ua.NodeId] = {}
        """The node of each live variable."""
        self._service = server.iserver.node_mgt_service
        self._session = server.iserver.isession
        self._space = server.iserver.aspace
        self._names = names
        self._types = TypeReader(self._space, names)
        self._declaring = False

    def add(self, parent: ua.NodeId, node_name: str, browse_name: str, wanted: Item) -> ua.NodeId:
        """Add an object of the type ``wanted.type_name`` with all that belongs to it; return its id.

        The node ids are strings in the server's own namespace: ``node_name`` and the browse names below it, joined by
        dots. They are the same after every restart.

        Raises:
            ValueError: something is wanted in a standard's namespace that the type does not declare there.
        """
        assert wanted.type_name is not None
        type_id = self._names.type(wanted.type_name)
        name = self._names.qualified(browse_name)
        reference = standard(ObjectIds.HasComponent)
        self._object(parent, reference, node_name, name, type_id, wanted)
        self._below(node_name, (type_id,), wanted)
        return own(node_name)

    def declare(self, parent: ua.NodeId, node_name: str, browse_name: str, wanted: Item) -> None:
        """Add the same below a type of our own, as a declaration: all of it mandatory."""
        self._declaring = True
        try:
            self.add(parent, node_name, browse_name, wanted)
        finally:
            self._declaring = False

    def _below(self, node_name: str, sources: Sequence[ua.NodeId], wanted: Item) -> None:
        left = dict(wanted.children)
        for written, declared in self._types.children(sources).items():
            if declared.rule in _PLACEHOLDERS:
                pattern = re.compile(re.sub(r"<.*>", "[0-9A-Za-z_-]+", re.escape(written)))
                for step in [step for step in left if pattern.fullmatch(step)]:
                    self._declared(node_name, self._names.qualified(step), declared, left.pop(step))
                continue
            item = left.pop(written, None)
            if item is None and declared.rule == _MANDATORY:
                item = Item()
            if item is not None:
                self._declared(node_name, declared.name, declared, item)
        for step, item in left.items():
            if not step.startswith("own:"):
                raise ValueError(f"{node_name}: the type declares no {step}")
            self._own(node_name, step, item)

    def _declared(self, parent: str, name: ua.QualifiedName, declared: Declared, item: Item) -> None:
        node_name = f"{parent}.{name.Name}"
        first = declared.nodes[0]
        kind = self._types.attribute(first, AttributeIds.NodeClass)
        if kind == ua.NodeClass.Method:
            self._method(parent, node_name, name, declared)
            return
        type_id = next(self._types.related(first, ObjectIds.HasTypeDefinition))
        if item.type_name:
            type_id = self._names.type(item.type_name)
        sources = (*declared.nodes, type_id)
        if kind == ua.NodeClass.Object:
            self._object(own(parent), declared.reference, node_name, name, type_id, item)
        else:
            data_type = self._types.attribute(first, AttributeIds.DataType)
            rank = self._types.attribute(first, AttributeIds.ValueRank)
            if item.value is None:
                held = self._types.attribute(first, AttributeIds.Value)
                if name.Name in {"InputArguments", "OutputArguments"}:
                    item = Item(value=ua.Variant(held, ua.VariantType.ExtensionObject, is_array=True))
            self._variable(parent, declared.reference, node_name, name, type_id, data_type, rank, item)
        self._below(node_name, sources, self._analog(item, sources))

    def _own(self, parent: str, step: str, item: Item) -> None:
        name = self._names.qualified(step)
        node_name = f"{parent}.{name.Name}"
        reference = standard(ObjectIds.HasComponent)
        if item.data_type is None:
            type_id = self._names.type(item.type_name or "BaseObjectType")
            self._object(own(parent), reference, node_name, name, type_id, item)
        else:
            type_id = self._names.type("AnalogItemType" if item.unit else "BaseDataVariableType")
            data_type = self._names.type(item.data_type)
            self._variable(parent, reference, node_name, name, type_id, data_type, ua.ValueRank.Scalar, item)
        self._below(node_name, (type_id,), self._analog(item, (type_id,)))

    def _analog(self, item: Item, sources: Sequence[ua.NodeId]) -> Item:
        """Return what is wanted below a variable, with its unit and range, where its type knows of such."""
        if item.unit is None or "EngineeringUnits" not in self._types.children(sources):
            return item
        unit = item.unit
        information = ua.EUInformation(
            NamespaceUri=_UNITS_URI,
            UnitId=int.from_bytes(unit.code.encode(), "big"),
            DisplayName=ua.LocalizedText(unit.symbol),
            Description=ua.LocalizedText(unit.symbol),
        )
        span = ua.Range(Low=unit.low, High=unit.high)
        known = {
            "EngineeringUnits": Item(value=ua.Variant(information, ua.VariantType.ExtensionObject)),
            "EURange": Item(value=ua.Variant(span, ua.VariantType.ExtensionObject)),
        }
        return Item(children={**known, **item.children})

    def _object(
        self,
        parent: ua.NodeId,
        reference: ua.NodeId,
        node_name: str,
        name: ua.QualifiedName,
        type_id: ua.NodeId,
        item: Item,
    ) -> None:
        attributes = ua.ObjectAttributes(
            DisplayName=ua.LocalizedText(name.Name), Description=ua.LocalizedText(item.description or None)
        )
        self._add(parent, reference, node_name, name, ua.NodeClass.Object, attributes, type_id)

    def _variable(
        self,
        parent: str,
        reference: ua.NodeId,
        node_name: str,
        name: ua.QualifiedName,
        type_id: ua.NodeId,
        data_type: ua.NodeId,
        rank: int,
        item: Item,
    ) -> None:
        access = _READABLE if item.number is None else _RECORDED
        value = item.value if item.value is not None else null_value(self._types, data_type, rank)
        attributes = ua.VariableAttributes(
            DisplayName=ua.LocalizedText(name.Name),
            Description=ua.LocalizedText(item.description or None),
            Value=value,
            DataType=data_type,
            ValueRank=rank,
            AccessLevel=access,
            UserAccessLevel=access,
            Historizing=item.number is not None,
        )
        self._add(own(parent), reference, node_name, name, ua.NodeClass.Variable, attributes, type_id)
        if item.number is not None:
            self.nodes[item.number] = own(node_name)

    def _method(self, parent: str, node_name: str, name: ua.QualifiedName, declared: Declared) -> None:
        attributes = ua.MethodAttributes(
            DisplayName=ua.LocalizedText(name.Name), Executable=True, UserExecutable=True
        )
        self._add(own(parent), declared.reference, node_name, name, ua.NodeClass.Method, attributes, None)
        self._session.add_method_callback(own(node_name), _refused)
        self._below(node_name, declared.nodes, Item())

    def _add(
        self,
        parent: ua.NodeId,
        reference: ua.NodeId,
        node_name: str,
        name: ua.QualifiedName,
        kind: ua.NodeClass,
        attributes: Any,
        type_id: ua.NodeId | None,
    ) -> None:
        item = ua.AddNodesItem(
            ParentNodeId=parent,
            ReferenceTypeId=reference,
            RequestedNewNodeId=own(node_name),
            BrowseName=name,
            NodeClass=kind,
            NodeAttributes=attributes,
        )
        if type_id is not None:
            item.TypeDefinition = type_id
        self._service.add_nodes([item])[0].StatusCode.check()
        if self._declaring:
            rule = ua.AddReferencesItem(
                SourceNodeId=item.RequestedNewNodeId,
                ReferenceTypeId=standard(ObjectIds.HasModellingRule),
                IsForward=True,
                TargetNodeId=standard(ObjectIds.ModellingRule_Mandatory),
            )
            self._service.add_references([rule])[0].check()


async def _refused(_parent: ua.NodeId, *_arguments: Any) -> ua.StatusCode:
    """Answer a call: the simulated machines are not to be commanded."""
    return ua.StatusCode(StatusCodes.BadNotImplemented)  # type: ignore[arg-type]


def texts(values: Sequence[str]) -> ua.Variant:
    """Return an array of strings."""
    return ua.Variant(list(values), ua.VariantType.String, is_array=True)


def place(root: Item, values: Mapping[tuple[str, ...], ua.Variant]) -> None:
    """Put static values into what is wanted."""
    for path, value in values.items():
        root.at(*path).value = value
