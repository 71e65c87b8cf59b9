"""What the types of an address space declare, whether they came from our tables or from nodeset files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.server.address_space import AddressSpace
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols.opcua_types import Names, standard

_HIERARCHICAL: Final = frozenset(
    {ObjectIds.HasComponent, ObjectIds.HasProperty, ObjectIds.Organizes, ObjectIds.HasAddIn}
)


class Declared(NamedTuple):
    """A child that a type declares: its nodes in the type and its supertypes, the nearest first."""

    name: ua.QualifiedName
    reference: ua.NodeId
    nodes: tuple[ua.NodeId, ...]
    rule: int | None


class TypeReader:
    """What the types of an address space say."""

    def __init__(self, space: AddressSpace, names: Names) -> None:
        self._space = space
        self._names = names
        self._known: dict[tuple[ua.NodeId, ...], dict[str, Declared]] = {}

    def attribute(self, node: ua.NodeId, attribute: AttributeIds) -> Any:
        """Return an attribute's value; None where the node has none."""
        held = self._space[node].attributes.get(attribute)
        value: Any = held.value if held else None
        return value.Value.Value if value is not None and value.Value is not None else None

    def related(self, node: ua.NodeId, reference: Any, *, forward: bool = True) -> Iterator[ua.NodeId]:
        """Yield where references of a kind lead to."""
        kind = standard(reference)
        for described in self._space[node].references:
            if described.ReferenceTypeId == kind and described.IsForward == forward:
                yield described.NodeId

    def supertypes(self, type_id: ua.NodeId) -> Iterator[ua.NodeId]:
        """Yield a type and all above it, the nearest first."""
        current: ua.NodeId | None = type_id
        while current is not None:
            yield current
            current = next(self.related(current, ObjectIds.HasSubtype, forward=False), None)

    def children(self, sources: Sequence[ua.NodeId]) -> dict[str, Declared]:
        """Return the children that an instance of these declarations has, by browse name with its letter."""
        key = tuple(sources)
        if key not in self._known:
            self._known[key] = self._children(self._expanded(sources))
        return self._known[key]

    def _expanded(self, sources: Sequence[ua.NodeId]) -> list[ua.NodeId]:
        """Return the declarations, and of each the type with its supertypes."""
        found: dict[ua.NodeId, None] = {}
        for source in sources:
            found[source] = None
            if self.attribute(source, AttributeIds.NodeClass) in {
                ua.NodeClass.ObjectType,
                ua.NodeClass.VariableType,
            }:
                found.update(dict.fromkeys(self.supertypes(source)))
            for type_id in self.related(source, ObjectIds.HasTypeDefinition):
                found.update(dict.fromkeys(self.supertypes(type_id)))
        return list(found)

    def _children(self, sources: Sequence[ua.NodeId]) -> dict[str, Declared]:
        found: dict[str, Declared] = {}
        for source in sources:
            for described in self._space[source].references:
                kind = described.ReferenceTypeId
                if not described.IsForward or kind.NamespaceIndex or kind.Identifier not in _HIERARCHICAL:
                    continue
                node = described.NodeId
                rule = next(self.related(node, ObjectIds.HasModellingRule), None)
                if rule is None:
                    continue
                name = self.attribute(node, AttributeIds.BrowseName)
                written = self._names.letter(name)
                if written in found:
                    found[written] = found[written]._replace(nodes=(*found[written].nodes, node))
                else:
                    number: Any = rule.Identifier
                    found[written] = Declared(name, kind, (node,), number)
        return found
