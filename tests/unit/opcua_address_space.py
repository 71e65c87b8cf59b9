"""An address space that is a mapping, to be searched without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.browsing import Child, Problem
from edge_agent.sources.opcua.session import ServiceFault

URI: Final = "urn:test"
OBJECTS: Final = ua.NodeId(ua.Int32(85))
KIND: Final = "^"
"""Key of an object's type."""
Tree = Mapping[str, Any]
"""Name to what lies below: a mapping for an object, anything else for a variable; ``.`` begins a property's name."""


def node(path: str) -> ua.NodeId:
    return ua.NodeId(ua.String(path), ua.Int16(2))


class Played:
    """A server whose address space is a mapping, and whose types come from one another as another one says."""

    limits = SimpleNamespace(browse=100)

    def __init__(self, tree: Tree, types: Mapping[str, str] | None = None) -> None:
        self.namespaces = {"http://opcfoundation.org/UA/": 0, URI: 2}
        self.below: dict[ua.NodeId, list[Child] | Problem] = {}
        self.asked: list[int] = []
        self.types = types or {}
        self.asked_types: list[int] = []
        """How many were asked for at once, by their names and by what they come from."""
        self._place(OBJECTS, "", tree)

    def _place(self, parent: ua.NodeId, path: str, tree: Tree) -> None:
        children: list[Child] = []
        for name, content in tree.items():
            if name == KIND:
                continue
            here = f"{path}/{name}"
            shown = name.lstrip(".")
            space, _, plain = shown.rpartition(":")
            is_object = isinstance(content, dict)
            kind = node(str(content[KIND])) if is_object and KIND in content else None
            children.append(
                Child(node(here), plain, int(space or 2), not is_object, name.startswith("."), kind)
            )
            self._place(node(here), here, content if is_object else {})
        self.below[parent] = children

    async def children_of(self, _session: Any, nodes: Sequence[ua.NodeId]) -> list[list[Child] | Problem]:
        await asyncio.sleep(0)
        self.asked.append(len(nodes))
        return [self.below.get(each, []) for each in nodes]

    async def read_attributes(
        self, nodes: Sequence[ua.NodeId], attribute: AttributeIds
    ) -> list[ua.DataValue]:
        """Return the browse names of types."""
        assert attribute == AttributeIds.BrowseName
        self.asked_types.append(len(nodes))
        named = [str(each.Identifier) for each in nodes]
        return [
            ua.DataValue(ua.Variant(ua.QualifiedName(name, ua.UInt16(2)), ua.VariantType.QualifiedName))
            if name in self.types
            else ua.DataValue()
            for name in named
        ]

    async def ask(self, request: Any, _response: Any) -> Any:
        """Answer what types come from; one that nobody knows spoils the request."""
        wanted = [str(each.NodeId.Identifier) for each in request.Parameters.NodesToBrowse]
        self.asked_types.append(len(wanted))
        results = []
        for name in wanted:
            if name == "Spoiling":
                raise ServiceFault("Browse", StatusCodes.BadNodeIdUnknown)
            above = self.types.get(name)
            target = ua.ExpandedNodeId(ua.String(above), ua.Int16(2))
            references = [
                ua.ReferenceDescription(NodeId=target, BrowseName=ua.QualifiedName(above, ua.UInt16(2)))
            ]
            results.append(ua.BrowseResult(References=references if above else []))
        return SimpleNamespace(Results=results)
