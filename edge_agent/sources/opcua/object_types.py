"""Types of objects and events, and what they come from (HasSubtype, Part 3 §7.10)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.session import NO, YES, ServiceFault, Session, standard_node, status_name

_HAS_SUBTYPE: Final = standard_node(ObjectIds.HasSubtype)
_MAX_TYPES: Final = 1_000
_MAX_ANCESTORS: Final = 32


class TypeNode(NamedTuple):
    """A type beside another one."""

    node: ua.NodeId
    name: str
    namespace: int


class TypeName(NamedTuple):
    """The browse name of a type; a namespace of None is any."""

    name: str
    namespace: int | None


class ObjectTypes:
    """Of which types objects are, for one search: each type is asked for once, and what it comes from with it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines: dict[ua.NodeId, list[TypeNode]] = {}
        """A type and those that it comes from, the nearest first; empty where the server does not tell."""

    async def learn(self, types: Iterable[ua.NodeId]) -> None:
        """Find out what types come from; raises SourceUnavailable."""
        new = [each for each in dict.fromkeys(types) if each not in self._lines][:_MAX_TYPES]
        if not new:
            return
        names = await self._session.read_attributes(new, AttributeIds.BrowseName)
        ends: dict[ua.NodeId, ua.NodeId] = {}
        for node, value in zip(new, names, strict=True):
            name = value.Value.Value if value.Value is not None else None
            self._lines[node] = []
            if isinstance(name, ua.QualifiedName):
                self._lines[node].append(TypeNode(node, str(name.Name), int(name.NamespaceIndex)))
                ends[node] = node
        for _ in range(_MAX_ANCESTORS):
            if not ends:
                return
            above = await self._above(list(dict.fromkeys(ends.values())))
            for node, end in list(ends.items()):
                if (parent := above.get(end)) is None:
                    del ends[node]
                else:
                    self._lines[node].append(parent)
                    ends[node] = parent.node

    def is_of(self, kind: ua.NodeId | None, wanted: TypeName) -> bool:
        """Tell whether a type that was learned is called so, or comes from one that is."""
        return any(
            each.name == wanted.name and wanted.namespace in {None, each.namespace}
            for each in (self._lines.get(kind, ()) if kind is not None else ())
        )

    async def _above(self, types: Sequence[ua.NodeId]) -> dict[ua.NodeId, TypeNode]:
        """Return what each type is a subtype of, where the server tells."""
        try:
            found = await types_beside(self._session, types, inverse=True)
        except ServiceFault:
            if len(types) == 1:
                return {}
            # One of them is none: the others are not to suffer from it.
            alone: dict[ua.NodeId, TypeNode] = {}
            for each in types:
                alone |= await self._above([each])
            return alone
        return {node: parents[0] for node, parents in zip(types, found, strict=True) if parents}


async def types_beside(
    session: Session, nodes: Sequence[ua.NodeId], *, inverse: bool
) -> list[list[TypeNode]]:
    """Return the subtypes of each type, or with ``inverse`` what it is a subtype of.

    Raises:
        ServiceFault: one of them is no type of this server, or it does not browse.
        SourceUnavailable: it does not answer.
    """
    found: list[list[TypeNode]] = []
    size = min(session.limits.browse, 100)
    for start in range(0, len(nodes), size):
        request = ua.BrowseRequest()
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Inverse if inverse else ua.BrowseDirection.Forward,
                ReferenceTypeId=_HAS_SUBTYPE,
                IncludeSubtypes=YES,
                NodeClassMask=ua.UInt32(ua.NodeClass.ObjectType),
                ResultMask=ua.UInt32(ua.BrowseResultMask.BrowseName),
            )
            for node in nodes[start : start + size]
        ]
        results = (await session.ask(request, ua.BrowseResponse)).Results
        found += [await _all_references(session, result) for result in results]
    return found


async def _all_references(session: Session, result: ua.BrowseResult) -> list[TypeNode]:
    types: list[TypeNode] = []
    while result.StatusCode.is_good():
        types.extend(
            TypeNode(
                ua.NodeId(each.NodeId.Identifier, each.NodeId.NamespaceIndex, each.NodeId.NodeIdType),
                str(each.BrowseName.Name),
                int(each.BrowseName.NamespaceIndex),
            )
            for each in result.References or ()
        )
        if not result.ContinuationPoint:
            return types
        more = ua.BrowseNextRequest()
        more.Parameters.ReleaseContinuationPoints = YES if len(types) > _MAX_TYPES else NO
        more.Parameters.ContinuationPoints = [result.ContinuationPoint]
        (result,) = (await session.ask(more, ua.BrowseNextResponse)).Parameters.Results
        if len(types) > _MAX_TYPES:
            return types
    if result.StatusCode.value == StatusCodes.BadNodeIdUnknown:
        raise ServiceFault("Browse", result.StatusCode.value)
    raise ServiceFault(f"Browse: {status_name(result.StatusCode.value)}", result.StatusCode.value)
