"""What lies below nodes, asked for many of them at once, within what the server takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.session import (
    NO,
    YES,
    ServiceFault,
    Session,
    standard_node,
    status_name,
)

HIERARCHICAL: Final = standard_node(ObjectIds.HierarchicalReferences)
_HAS_PROPERTY: Final = standard_node(ObjectIds.HasProperty)
_MAX_CHILDREN: Final = 100_000
_NODES_A_REQUEST: Final = 100
"""At most: the answer to more holds up everything else while it is decoded."""
_RESULT_MASK: Final = (
    ua.BrowseResultMask.ReferenceTypeId
    | ua.BrowseResultMask.BrowseName
    | ua.BrowseResultMask.NodeClass
    | ua.BrowseResultMask.TypeDefinition
)


class Problem(NamedTuple):
    """Why a node can't be had now."""

    reason: str


class Child(NamedTuple):
    """A node below another one."""

    node: ua.NodeId
    name: str
    namespace: int
    """Of the browse name: an index of the server's table."""
    is_variable: bool
    """Else it is an object."""
    is_property: bool
    """Whether a HasProperty reference leads to it."""
    kind: ua.NodeId | None = None
    """TypeDefinition of an object, None of variables."""


async def children_of(session: Session, nodes: Sequence[ua.NodeId]) -> list[list[Child] | Problem]:
    """Return the objects and variables below each node, by any hierarchical reference, in the server's order.

    Raises:
        ServiceFault: the server does not browse.
        SourceUnavailable: it does not answer.
    """

    async def browse(part: Sequence[ua.NodeId]) -> Sequence[list[Child] | Problem]:
        return await _browse(session, part)

    return await session.in_batches("browse", nodes, browse, _NODES_A_REQUEST)


async def _browse(session: Session, nodes: Sequence[ua.NodeId]) -> list[list[Child] | Problem]:
    request = ua.BrowseRequest()
    request.Parameters.NodesToBrowse = [
        ua.BrowseDescription(
            NodeId=node,
            BrowseDirection=ua.BrowseDirection.Forward,
            ReferenceTypeId=HIERARCHICAL,
            IncludeSubtypes=True,
            NodeClassMask=ua.NodeClass.Object | ua.NodeClass.Variable,
            ResultMask=_RESULT_MASK,
        )
        for node in nodes
    ]
    results = _of_size((await session.ask(request, ua.BrowseResponse)).Results, len(nodes))
    found: list[list[Child] | Problem] = []
    without_point: list[int] = []
    for number, result in enumerate(results):
        if result.StatusCode.value == StatusCodes.BadNoContinuationPoints and len(nodes) > 1:
            without_point.append(number)
        found.append(await _collect(session, result))
    for number in without_point:
        # The server could not remember where so many answers go on: one at a time then.
        found[number] = (await _browse(session, [nodes[number]]))[0]
    return found


async def _collect(session: Session, result: Any) -> list[Child] | Problem:
    """Return the children of one result, whatever number of answers they come in."""
    children: dict[tuple[ua.NodeId, str, int], Child] = {}
    while result.StatusCode.is_good():
        for child in map(_child, result.References or ()):
            children.setdefault((child.node, child.name, child.namespace), child)
        if not result.ContinuationPoint:
            return list(children.values())
        more = ua.BrowseNextRequest()
        more.Parameters.ReleaseContinuationPoints = YES if len(children) >= _MAX_CHILDREN else NO
        more.Parameters.ContinuationPoints = [result.ContinuationPoint]
        answer = await session.ask(more, ua.BrowseNextResponse)
        if len(children) >= _MAX_CHILDREN:
            return Problem(f"more than {_MAX_CHILDREN} nodes in one folder")
        (result,) = _of_size(answer.Parameters.Results, 1)
    return Problem(f"it can't be browsed ({status_name(result.StatusCode.value)})")


def _of_size(results: Sequence[Any], size: int) -> Sequence[Any]:
    if len(results) != size:
        raise ServiceFault("Browse", StatusCodes.BadUnexpectedError)
    return results


def _child(reference: ua.ReferenceDescription) -> Child:
    is_variable = reference.NodeClass == ua.NodeClass.Variable
    return Child(
        plain(reference.NodeId),
        str(reference.BrowseName.Name),
        int(reference.BrowseName.NamespaceIndex),
        is_variable,
        reference.ReferenceTypeId == _HAS_PROPERTY,
        None if is_variable else plain(reference.TypeDefinition),
    )


def plain(node: ua.NodeId) -> ua.NodeId:
    """Return an ExpandedNodeId of this server as the NodeId that requests take."""
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)


class Browser:
    """What was seen of the address space: each folder is browsed once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[ua.NodeId, list[Child] | Problem] = {}

    @property
    def nodes(self) -> int:
        """How many nodes were looked into."""
        return len(self._seen)

    async def look(self, nodes: Iterable[ua.NodeId]) -> None:
        """Look into nodes that were not looked into before; raises as `children_of`."""
        unknown = [node for node in dict.fromkeys(nodes) if node not in self._seen]
        found = await children_of(self._session, unknown)
        self._seen.update(zip(unknown, found, strict=True))

    def children(self, node: ua.NodeId) -> list[Child] | Problem:
        """Return what lies below a node that was looked into."""
        return self._seen[node]
