"""Puts the type nodes of tables into a server's address space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols.opcua_types import RULES, Model, Names, TypeNode, standard

_CLASSES: Final = {
    "Object": ua.NodeClass.Object,
    "Property": ua.NodeClass.Variable,
    "Variable": ua.NodeClass.Variable,
    "Method": ua.NodeClass.Method,
    "ObjectType": ua.NodeClass.ObjectType,
    "VariableType": ua.NodeClass.VariableType,
    "DataType": ua.NodeClass.DataType,
}
_METADATA: Final = "NamespaceMetadataType"


async def add_types(server: Server, models: Sequence[Model], added: Sequence[Model] | None = None) -> Names:
    """Add every node of ``added`` (by default of all models); return what the models' names mean in this server."""
    spaces = {model.letter: await server.register_namespace(model.uri) for model in models}
    names = Names(spaces, models)
    builder = _Builder(server, names)
    added = models if added is None else added
    for model in added:
        for node in model.nodes:
            if node.is_type:
                builder.add_type(node)
    for model in added:
        for node in model.nodes:
            builder.add_below(model, node)
    for model in added:
        for node in model.nodes:
            builder.add_relations(node, "")
    return names


def enum_values(values: dict[int, str]) -> list[ua.EnumValueType]:
    """Return an enumeration's names as EnumValues hold them (Part 3 §8.40)."""
    return [
        ua.EnumValueType(Value=value, DisplayName=ua.LocalizedText(name)) for value, name in values.items()
    ]


class _Builder:
    def __init__(self, server: Server, names: Names) -> None:
        self._service = server.iserver.node_mgt_service
        self._names = names

    def add_type(self, node: TypeNode) -> None:
        above = self._names.type(node.words["supertype"])
        self._add(node, node.name, above, standard(ObjectIds.HasSubtype))

    def add_below(self, model: Model, node: TypeNode) -> None:
        """Add a type's children, or an object that stands for itself."""
        if not node.is_type:
            metadata = node.words.get("type_definition") == _METADATA
            above = ObjectIds.Server_Namespaces if metadata else ObjectIds.ObjectsFolder
            reference = ObjectIds.HasComponent if metadata else ObjectIds.Organizes
            self._add(node, node.name, standard(above), standard(reference))
        self._children(model, node, node.name)
        for name, number in node.extras.get("encodings", {}).items():
            item = ua.AddNodesItem(
                ParentNodeId=self._id(node, node.name),
                ReferenceTypeId=standard(ObjectIds.HasEncoding),
                RequestedNewNodeId=self._names.numbered(node.letter, number, f"{node.name}.{name}"),
                BrowseName=ua.QualifiedName(name),
                NodeClass=ua.NodeClass.Object,
                NodeAttributes=ua.ObjectAttributes(DisplayName=ua.LocalizedText(name)),
                TypeDefinition=standard(ObjectIds.DataTypeEncodingType),
            )
            self._service.add_nodes([item])[0].StatusCode.check()

    def add_relations(self, node: TypeNode, path: str) -> None:
        path = f"{path}.{node.name}" if path else node.name
        if node.relations:
            source = self._id(node, path)
            self._refer(
                source, [(getattr(ObjectIds, kind), self._names.type(name)) for kind, name in node.relations]
            )
        for child in node.children:
            self.add_relations(child, path)

    def _children(self, model: Model, node: TypeNode, path: str) -> None:
        parent = self._id(node, path)
        for child in node.children:
            usual = "HasProperty" if child.kind == "Property" else "HasComponent"
            reference = standard(getattr(ObjectIds, child.words.get("reference", usual)))
            child_path = f"{path}.{child.name}"
            value = _value(model, node, child, self._names)
            self._add(child, child_path, parent, reference, value)
            if rule := child.words.get("rule"):
                source = self._id(child, child_path)
                self._refer(source, [(ObjectIds.HasModellingRule, standard(RULES[rule]))])
            self._children(model, child, child_path)

    def _add(
        self, node: TypeNode, path: str, parent: ua.NodeId, reference: ua.NodeId, value: Any = None
    ) -> None:
        item = ua.AddNodesItem(
            ParentNodeId=parent,
            ReferenceTypeId=reference,
            RequestedNewNodeId=self._id(node, path),
            BrowseName=self._names.qualified(node.name),
            NodeClass=_CLASSES[node.kind],
            NodeAttributes=self._attributes(node, value),
        )
        default = {"Property": "PropertyType", "Variable": "BaseDataVariableType", "Object": "BaseObjectType"}
        type_name = node.words.get("type_definition") or default.get(node.kind)
        if type_name:
            item.TypeDefinition = self._names.type(type_name)
        self._service.add_nodes([item])[0].StatusCode.check()

    def _attributes(self, node: TypeNode, value: Any) -> Any:
        name = ua.LocalizedText(self._names.qualified(node.name).Name)
        abstract = "abstract" in node.words
        if node.kind == "ObjectType":
            return ua.ObjectTypeAttributes(DisplayName=name, IsAbstract=abstract)
        if node.kind == "DataType":
            definition = _definition(node, self._names)
            attributes: Any = ua.DataTypeAttributes  # its DataTypeDefinition is asyncua's own addition
            return attributes(DisplayName=name, IsAbstract=abstract, DataTypeDefinition=definition)
        if node.kind == "Method":
            return ua.MethodAttributes(DisplayName=name, Executable=True, UserExecutable=True)
        if node.kind == "Object":
            return ua.ObjectAttributes(DisplayName=name)
        data_type = self._names.type(node.words["data_type"].removesuffix("[]"))
        rank = ua.ValueRank.OneDimension if node.many else ua.ValueRank.Scalar
        held = value if value is not None else ua.Variant(None)
        if node.kind == "VariableType":
            return ua.VariableTypeAttributes(
                DisplayName=name, DataType=data_type, ValueRank=rank, Value=held, IsAbstract=abstract
            )
        return ua.VariableAttributes(DisplayName=name, DataType=data_type, ValueRank=rank, Value=held)

    def _id(self, node: TypeNode, path: str) -> ua.NodeId:
        return self._names.numbered(node.letter, node.number, path)

    def _refer(self, source: ua.NodeId, targets: list[tuple[Any, ua.NodeId]]) -> None:
        items = [
            ua.AddReferencesItem(
                SourceNodeId=source, ReferenceTypeId=standard(kind), IsForward=True, TargetNodeId=target
            )
            for kind, target in targets
        ]
        for code in self._service.add_references(items):
            code.check()


def _definition(node: TypeNode, names: Names) -> Any:
    if values := node.extras.get("values"):
        fields = [
            ua.EnumField(Value=value, DisplayName=ua.LocalizedText(name), Name=name)
            for value, name in values.items()
        ]
        return ua.EnumDefinition(Fields=fields)
    if listed := node.extras.get("fields"):
        encoding = node.extras["encodings"]["Default Binary"]
        return ua.StructureDefinition(
            DefaultEncodingId=names.numbered(node.letter, encoding, ""),
            BaseDataType=names.type(node.words["supertype"]),
            StructureType=ua.StructureType.Structure,
            Fields=[
                ua.StructureField(Name=name, DataType=kind, ValueRank=rank, IsOptional=False)
                for name, kind, rank in _typed(listed, names)
            ],
        )
    return ua.ExtensionObject()


def _typed(listed: dict[str, str], names: Names) -> Iterator[tuple[str, ua.NodeId, int]]:
    for name, kind in listed.items():
        yield name, names.type(kind.removesuffix("[]")), 1 if kind.endswith("[]") else -1


def _value(model: Model, parent: TypeNode, child: TypeNode, names: Names) -> ua.Variant | None:
    """Return the value of a child that carries one already in the type: enumeration texts, arguments, metadata."""
    held: Any = None
    kind = ua.VariantType.ExtensionObject
    if child.name == "EnumValues" and "values" in parent.extras:
        held = enum_values(parent.extras["values"])
    elif child.name == "EnumStrings" and "values" in parent.extras:
        held, kind = (
            [ua.LocalizedText(text) for text in parent.extras["values"].values()],
            ua.VariantType.LocalizedText,
        )
    elif "arguments" in child.extras:
        held = [
            ua.Argument(Name=name, DataType=kind_id, ValueRank=rank)
            for name, kind_id, rank in _typed(child.extras["arguments"], names)
        ]
    elif parent.words.get("type_definition") == _METADATA:
        return _metadata(model).get(child.name)
    return None if held is None else ua.Variant(held, kind, is_array=True)


def _metadata(model: Model) -> dict[str, ua.Variant]:
    """Return what a NamespaceMetadata object says (Part 5 §6.3.13)."""
    published = datetime.fromisoformat(model.published).astimezone(UTC)
    # All node ids of the namespace are the same in every server: numbers, of IdType 0.
    return {
        "NamespaceUri": ua.Variant(model.uri, ua.VariantType.String),
        "NamespaceVersion": ua.Variant(model.version, ua.VariantType.String),
        "NamespacePublicationDate": ua.Variant(published, ua.VariantType.DateTime),
        "IsNamespaceSubset": ua.Variant(True, ua.VariantType.Boolean),
        "StaticNodeIdTypes": ua.Variant([0], ua.VariantType.Int32, is_array=True),
        "StaticNumericNodeIdRange": ua.Variant([], ua.VariantType.String, is_array=True),
        "StaticStringNodeIdPattern": ua.Variant("", ua.VariantType.String),
    }
