"""Holds the address space of one OPC UA server against another's, and instances against types; says every difference.

Nothing here knows how either was made: both are read as references and attributes, nodes are named by URI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds as Attribute
from asyncua.ua.object_ids import ObjectIds

BASE: Final = "http://opcfoundation.org/UA/"
TYPE_CLASSES: Final = (ua.NodeClass.ObjectType, ua.NodeClass.VariableType, ua.NodeClass.DataType)
CHILD_REFERENCES: Final = {
    ObjectIds.HasComponent,
    ObjectIds.HasProperty,
    ObjectIds.Organizes,
    ObjectIds.HasAddIn,
}
MANDATORY, PLACEHOLDERS = 78, {11508, 11510}

Key = tuple[str, Any]
"""A node or a browse name: namespace URI, and identifier or name."""


class Facts(NamedTuple):
    """What is compared of a node."""

    browse_name: Key
    node_class: int
    data_type: Key | None
    value_rank: int | None
    type_definition: Key | None
    modelling_rule: Any
    is_abstract: Any


class Space:
    """A server's address space, its nodes by URI."""

    def __init__(self, server: Server, uris: Sequence[str]) -> None:
        self.uris = list(uris)
        self.nodes: dict[Key, Any] = {}
        aspace = server.iserver.aspace
        for node_id in list(aspace.keys()):
            self.nodes[self.key(node_id)] = aspace[node_id]

    @classmethod
    async def of(cls, server: Server) -> Space:
        return cls(server, await server.get_namespace_array())

    def key(self, node_id: Any) -> Key:
        return self.uris[node_id.NamespaceIndex], node_id.Identifier

    def attribute(self, node: Key, attribute: Attribute) -> Any:
        held = self.nodes[node].attributes.get(attribute)
        return (
            None if held is None or held.value is None or held.value.Value is None else held.value.Value.Value
        )

    def name(self, node: Key) -> Key:
        name = self.attribute(node, Attribute.BrowseName)
        return self.uris[name.NamespaceIndex], name.Name

    def targets(self, node: Key, reference: int, *, forward: bool = True) -> list[Key]:
        return [
            self.key(found.NodeId)
            for found in self.nodes[node].references
            if found.ReferenceTypeId == ua.NodeId(reference) and found.IsForward == forward  # type: ignore[arg-type]
        ]

    def children(self, node: Key) -> dict[Key, tuple[int, Key]]:
        """Return reference and node of each child, by browse name."""
        found: dict[Key, tuple[int, Key]] = {}
        for reference in self.nodes[node].references:
            kind = reference.ReferenceTypeId
            if reference.IsForward and kind.NamespaceIndex == 0 and kind.Identifier in CHILD_REFERENCES:
                key = self.key(reference.NodeId)
                found[self.name(key)] = kind.Identifier, key
        return found

    def supertypes(self, node: Key) -> Iterator[Key]:
        current: Key | None = node
        while current is not None:
            yield current
            current = next(iter(self.targets(current, ObjectIds.HasSubtype, forward=False)), None)

    def data_type(self, node_id: Any) -> Key:
        # A nodeset leaves out what is BaseDataType (UANodeSet.xsd); asyncua leaves it null.
        return self.key(node_id) if node_id.Identifier else (BASE, ObjectIds.BaseDataType)

    def facts(self, node: Key) -> Facts:
        data_type = self.attribute(node, Attribute.DataType)
        definition = self.targets(node, ObjectIds.HasTypeDefinition)
        rule = self.targets(node, ObjectIds.HasModellingRule)
        return Facts(
            browse_name=self.name(node),
            node_class=int(self.attribute(node, Attribute.NodeClass)),
            data_type=None if data_type is None else self.data_type(data_type),
            value_rank=self.attribute(node, Attribute.ValueRank),
            type_definition=definition[0] if definition else None,
            modelling_rule=rule[0][1] if rule else None,
            is_abstract=self.attribute(node, Attribute.IsAbstract),
        )

    def texts(self, node: Key) -> Any:
        """Return what a value of the type itself says: enumeration values, arguments; None of other variables."""
        name, value = self.name(node)[1], self.attribute(node, Attribute.Value)
        if value is None or name not in {"EnumValues", "EnumStrings", "InputArguments", "OutputArguments"}:
            return None
        if name == "EnumValues":
            return [(int(item.Value), item.DisplayName.Text) for item in value]
        if name == "EnumStrings":
            return [item.Text for item in value]
        return [(item.Name, self.key(item.DataType), int(item.ValueRank)) for item in value]

    def definition(self, node: Key) -> Any:
        """Return the fields of a data type."""
        held = self.attribute(node, Attribute.DataTypeDefinition)
        if isinstance(held, ua.EnumDefinition):
            return [(field.Name, int(field.Value)) for field in held.Fields]
        if isinstance(held, ua.StructureDefinition):
            return [(field.Name, self.key(field.DataType), int(field.ValueRank)) for field in held.Fields]
        return None


def types_of(space: Space, uris: Sequence[str]) -> list[Key]:
    """Return the type nodes of namespaces."""
    return sorted(
        node
        for node in space.nodes
        if node[0] in uris and space.attribute(node, Attribute.NodeClass) in TYPE_CLASSES
    )


def used_types(space: Space, root: Key, uris: Sequence[str]) -> set[Key]:
    """Return every type of these namespaces that one type needs: of its children, data types, events, and supertypes."""
    found: set[Key] = set()
    todo = [root]
    visited: set[Key] = set()
    while todo:
        node = todo.pop()
        if node in visited or node not in space.nodes:
            continue
        visited.add(node)
        if node[0] in uris and space.attribute(node, Attribute.NodeClass) in TYPE_CLASSES:
            found.add(node)
        if node[0] not in uris:
            continue
        todo += [child for _, child in space.children(node).values()]
        for reference in (ObjectIds.HasTypeDefinition, ObjectIds.GeneratesEvent, ObjectIds.HasInterface):
            todo += space.targets(node, reference)
        todo += space.targets(node, ObjectIds.HasSubtype, forward=False)
        data_type = space.attribute(node, Attribute.DataType)
        if data_type is not None:
            todo.append(space.key(data_type))
        fields = space.definition(node) or []
        todo += [field[1] for field in fields if isinstance(field[1], tuple)]
    return found


def compare_types(ours: Space, theirs: Space, uris: Sequence[str]) -> list[str]:
    """Return each difference of our types of these namespaces to theirs, by browse path."""
    differences: list[str] = []
    for node in types_of(ours, uris):
        path = written(ours.name(node))
        if node not in theirs.nodes:
            differences.append(f"{path}: only ours has a type {node[1]}")
            continue
        differences += _compare_node(ours, theirs, node, path)
        for reference, what in (
            (ObjectIds.GeneratesEvent, "generates events"),
            (ObjectIds.HasInterface, "has interfaces"),
        ):
            differences += _unequal(
                path, what, set(ours.targets(node, reference)), set(theirs.targets(node, reference))
            )
        for what, forward, reference in (
            ("supertype", False, ObjectIds.HasSubtype),
            ("encodings", True, ObjectIds.HasEncoding),
        ):
            differences += _unequal(
                path,
                what,
                set(ours.targets(node, reference, forward=forward)),
                set(theirs.targets(node, reference, forward=forward)),
            )
        differences += _unequal(path, "definition", ours.definition(node), theirs.definition(node))
    return differences


def _compare_node(ours: Space, theirs: Space, node: Key, path: str) -> Iterator[str]:
    mine, other = ours.facts(node), theirs.facts(node)
    for field in Facts._fields:
        yield from _unequal(path, field, getattr(mine, field), getattr(other, field))
    yield from _unequal(path, "value", ours.texts(node), theirs.texts(node))
    children, expected = ours.children(node), theirs.children(node)
    for name in sorted(children.keys() | expected.keys()):
        below = f"{path}/{written(name)}"
        if name not in children:
            yield f"{below}: only theirs"
        elif name not in expected:
            yield f"{below}: only ours"
        elif children[name] != expected[name]:
            yield f"{below}: {children[name]} instead of {expected[name]}"
        else:
            generated = ObjectIds.GeneratesEvent
            child = children[name][1]
            events = set(ours.targets(child, generated)), set(theirs.targets(child, generated))
            yield from _unequal(below, "generates events", *events)
            yield from _compare_node(ours, theirs, child, below)


def check_instance(
    ours: Space, theirs: Space, instance: Key, declared: Sequence[Key], uris: Sequence[str]
) -> list[str]:
    """Return how an instance of ours departs from their type, by browse path.

    Every mandatory child is there, with its class, reference, data type, rank and type definition (or a subtype); no
    child in a standard's namespace is there that the type does not declare.
    """
    return list(_instance(ours, theirs, instance, declared, uris, written(ours.name(instance))))


def _instance(
    ours: Space, theirs: Space, node: Key, declared: Sequence[Key], uris: Sequence[str], path: str
) -> Iterator[str]:
    expected = _declarations(theirs, declared)
    children = ours.children(node)
    for name, (reference, nodes) in expected.items():
        rule = theirs.facts(nodes[0]).modelling_rule
        if rule not in PLACEHOLDERS and name in children:
            yield from _child(ours, theirs, children[name], reference, nodes, uris, f"{path}/{written(name)}")
        elif rule == MANDATORY:
            yield f"{path}/{written(name)}: mandatory, and missing"
    holders = {
        name: item
        for name, item in expected.items()
        if theirs.facts(item[1][0]).modelling_rule in PLACEHOLDERS
    }
    for name, child in children.items():
        if name in expected or name[0] not in {*uris, BASE}:
            continue
        below = f"{path}/{written(name)}"
        fitting = [item for holder, item in holders.items() if holder[0] == name[0]]
        if not fitting:
            yield f"{below}: the type declares no such child"
        else:
            yield from _child(ours, theirs, child, fitting[0][0], fitting[0][1], uris, below)


def _child(
    ours: Space,
    theirs: Space,
    child: tuple[int, Key],
    reference: int,
    declared: Sequence[Key],
    uris: Sequence[str],
    path: str,
) -> Iterator[str]:
    mine, other = ours.facts(child[1]), theirs.facts(declared[0])
    yield from _unequal(path, "reference", child[0], reference)
    for field in ("node_class", "value_rank"):
        yield from _unequal(path, field, getattr(mine, field), getattr(other, field))
    for field in ("data_type", "type_definition"):
        actual, wanted = getattr(mine, field), getattr(other, field)
        if actual != wanted and (actual is None or wanted not in set(ours.supertypes(actual))):
            yield f"{path}: {field} {actual} is not {wanted} or below it"
    yield from _value(ours, child[1], path)
    definition = [] if mine.type_definition is None else [mine.type_definition]
    yield from _instance(ours, theirs, child[1], [*declared, *definition], uris, path)


def _value(ours: Space, node: Key, path: str) -> Iterator[str]:
    """Say where a variable has no value, or one that is no value of its data type."""
    if ours.attribute(node, Attribute.NodeClass) != ua.NodeClass.Variable:
        return
    held = ours.nodes[node].attributes[Attribute.Value].value.Value
    value = None if held is None else held.Value
    if value is None or (isinstance(value, str) and value != value.strip()):
        yield f"{path}: shows {value!r}"
        return
    data_type = ours.attribute(node, Attribute.DataType)
    numbers = [above[1] for above in ours.supertypes(ours.key(data_type)) if above[0] == BASE]
    travels = ua.VariantType.Int32.value if ObjectIds.Enumeration in numbers else None
    built_in = travels or next((number for number in numbers if number <= 25), None)
    if ObjectIds.Structure in numbers:
        built_in = ua.VariantType.ExtensionObject.value
    if built_in is not None and held.VariantType.value != built_in:
        yield f"{path}: a {held.VariantType.name} is no {ua.VariantType(built_in).name}"
    rank = ours.attribute(node, Attribute.ValueRank)
    if isinstance(value, list) != (rank >= 0):
        yield f"{path}: {value!r} does not fit the value rank {rank}"


def _declarations(space: Space, declared: Sequence[Key]) -> dict[Key, tuple[int, list[Key]]]:
    """Return the children that declarations, their types and all supertypes ask for: reference and nodes, by name."""
    sources: dict[Key, None] = {}
    for node in declared:
        sources[node] = None
        if space.attribute(node, Attribute.NodeClass) in TYPE_CLASSES:
            sources.update(dict.fromkeys(space.supertypes(node)))
        for definition in space.targets(node, ObjectIds.HasTypeDefinition):
            sources.update(dict.fromkeys(space.supertypes(definition)))
    found: dict[Key, tuple[int, list[Key]]] = {}
    for source in sources:
        for name, (reference, child) in space.children(source).items():
            if space.targets(child, ObjectIds.HasModellingRule):
                found.setdefault(name, (reference, []))[1].append(child)
    return found


def _unequal(path: str, what: str, mine: Any, other: Any) -> Iterator[str]:
    if mine != other:
        yield f"{path}: {what} {mine} instead of {other}"


def written(name: Key) -> str:
    """Return a browse name with the last part of its namespace."""
    uri = name[0].rstrip("/").rpartition("/")[2]
    return str(name[1]) if name[0] == BASE else f"{uri}:{name[1]}"


def undeliberate(differences: Sequence[str], allowed: Mapping[str, str]) -> list[str]:
    """Return the differences whose path is in no list of deliberate ones; a list's entry that matches none is one too."""
    left = [text for text in differences if text.partition(": ")[0] not in allowed]
    paths = {text.partition(": ")[0] for text in differences}
    return left + [f"{path}: allowed, and no difference" for path in allowed if path not in paths]
