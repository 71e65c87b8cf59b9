"""From the names in a configuration to the NodeIds of the server as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.address import NodeAddress, Step
from edge_agent.sources.opcua.session import NO, YES, ServiceFault, Session, standard_node, status_name

_MAX_CHILDREN: Final = 100_000
_HIERARCHICAL: Final = standard_node(ObjectIds.HierarchicalReferences)
_OBJECTS: Final = standard_node(ObjectIds.ObjectsFolder)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a node can't be had now."""

    reason: str


async def resolve(session: Session, addresses: Sequence[NodeAddress]) -> list[ua.NodeId | Problem]:
    """Return for each address the NodeId in the session's namespace table, or why there is none."""
    found: list[ua.NodeId | Problem] = [Problem("not looked up")] * len(addresses)
    walk: list[int] = []
    translate: list[tuple[int, list[ua.QualifiedName]]] = []
    for number, address in enumerate(addresses):
        if address.identifier:
            found[number] = _node_id(session, address)
        else:
            names = [_qualified(session, step) for step in address.path]
            qualified = [name for name in names if isinstance(name, ua.QualifiedName)]
            unknown = next((name for name in names if isinstance(name, Problem)), None)
            if unknown is not None:
                found[number] = unknown
            elif len(qualified) == len(names):
                translate.append((number, qualified))
            else:
                walk.append(number)
    limit = session.limits.translate
    for start in range(0, len(translate), limit):
        part = translate[start : start + limit]
        for (number, _), result in zip(
            part, await _translate(session, [names for _, names in part]), strict=True
        ):
            found[number] = result
    browser = Browser(session)
    for number in walk:
        found[number] = await browser.follow(addresses[number].path)
    return found


def _node_id(session: Session, address: NodeAddress) -> ua.NodeId | Problem:
    index = _namespace(session, address.namespace)
    if isinstance(index, Problem):
        return index
    return ua.NodeId.from_string(f"ns={index};{address.identifier}")


def _namespace(session: Session, namespace: str | int) -> int | Problem:
    if isinstance(namespace, int):
        return namespace
    index = session.namespaces.get(namespace)
    return Problem(f"the server has no namespace {namespace}") if index is None else index


def _qualified(session: Session, step: Step) -> ua.QualifiedName | Problem | None:
    if step.namespace is None:
        return None
    index = _namespace(session, step.namespace)
    return index if isinstance(index, Problem) else ua.QualifiedName(step.name, index)


async def _translate(
    session: Session, paths: Sequence[Sequence[ua.QualifiedName]]
) -> list[ua.NodeId | Problem]:
    request = ua.TranslateBrowsePathsToNodeIdsRequest()
    request.Parameters.BrowsePaths = [
        ua.BrowsePath(
            StartingNode=_OBJECTS,
            RelativePath=ua.RelativePath(
                Elements=[
                    ua.RelativePathElement(
                        ReferenceTypeId=_HIERARCHICAL, IsInverse=NO, IncludeSubtypes=YES, TargetName=name
                    )
                    for name in names
                ]
            ),
        )
        for names in paths
    ]
    try:
        answer = await session.ask(request, ua.TranslateBrowsePathsToNodeIdsResponse)
    except ServiceFault as fault:
        return [Problem(str(fault))] * len(paths)
    found: list[ua.NodeId | Problem] = []
    for result in answer.Results:
        targets = {str(target.TargetId): target.TargetId for target in result.Targets or ()}
        if not result.StatusCode.is_good() or not targets:
            found.append(Problem(f"the path leads nowhere ({status_name(result.StatusCode.value)})"))
        elif len(targets) > 1:
            found.append(Problem(f"the path leads to {len(targets)} nodes: name one by its NodeId"))
        else:
            found.append(_plain(next(iter(targets.values()))))
    return found


class Browser:
    """Walks the address space by browsing, each folder once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._children: dict[ua.NodeId, list[ua.ReferenceDescription]] = {}

    async def follow(self, path: Sequence[Step]) -> ua.NodeId | Problem:
        """Return where a path from Objects leads; steps without a namespace match in any."""
        here = _OBJECTS
        for depth, step in enumerate(path):
            namespace = None if step.namespace is None else _namespace(self._session, step.namespace)
            try:
                children = await self.children(here)
            except ServiceFault as fault:
                return Problem(str(fault))
            matches = {
                _plain(child.NodeId): child.BrowseName
                for child in children
                if child.BrowseName.Name == step.name and namespace in {None, child.BrowseName.NamespaceIndex}
            }
            walked = "/".join(["", *(known.name for known in path[:depth])]) or "/"
            if not matches:
                return Problem(f"there is no {step.name!r} below {walked}")
            if len(matches) > 1:
                ways = ", ".join(f"{name.NamespaceIndex}:{name.Name}" for name in matches.values())
                return Problem(f"{step.name!r} below {walked} is ambiguous: {ways}")
            here = next(iter(matches))
        return here

    async def children(self, node: ua.NodeId) -> list[ua.ReferenceDescription]:
        """Return a node's hierarchical children; raises ServiceFault where it can't be browsed."""
        known = self._children.get(node)
        if known is None:
            known = self._children[node] = await self._browse(node)
        return known

    async def _browse(self, node: ua.NodeId) -> list[ua.ReferenceDescription]:
        request = ua.BrowseRequest()
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=_HIERARCHICAL,
                IncludeSubtypes=True,
                NodeClassMask=ua.NodeClass.Object | ua.NodeClass.Variable,
                ResultMask=ua.BrowseResultMask.All,
            )
        ]
        result = (await self._session.ask(request, ua.BrowseResponse)).Results[0]
        children: list[ua.ReferenceDescription] = []
        while True:
            if not result.StatusCode.is_good():
                raise ServiceFault("Browse", result.StatusCode.value)
            children.extend(result.References or ())
            if not result.ContinuationPoint or len(children) > _MAX_CHILDREN:
                return children
            more = ua.BrowseNextRequest()
            more.Parameters.ReleaseContinuationPoints = False
            more.Parameters.ContinuationPoints = [result.ContinuationPoint]
            result = (await self._session.ask(more, ua.BrowseNextResponse)).Parameters.Results[0]


def _plain(node: ua.NodeId) -> ua.NodeId:
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
