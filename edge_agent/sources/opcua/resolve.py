"""From the names in a configuration to the NodeIds of the server as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.address import NodeAddress, Step
from edge_agent.sources.opcua.browsing import HIERARCHICAL, Browser, Child, Problem, plain
from edge_agent.sources.opcua.limits import LARGEST_LIMIT
from edge_agent.sources.opcua.session import NO, YES, ServiceFault, Session, standard_node, status_name

OBJECTS: Final = standard_node(ObjectIds.ObjectsFolder)


async def resolve(session: Session, addresses: Sequence[NodeAddress]) -> list[ua.NodeId | Problem]:
    """Return for each address the NodeId in the session's namespace table, or why there is none."""
    found: list[ua.NodeId | Problem] = [Problem("not looked up")] * len(addresses)
    walk: dict[int, tuple[ua.NodeId, tuple[Step, ...]]] = {}
    translate: list[tuple[int, ua.NodeId, list[ua.QualifiedName]]] = []
    for number, address in enumerate(addresses):
        start = node_id(session, address)
        if isinstance(start, Problem) or not address.path:
            found[number] = start
            continue
        names = [_qualified(session, step) for step in address.path]
        qualified = [name for name in names if isinstance(name, ua.QualifiedName)]
        unknown = next((name for name in names if isinstance(name, Problem)), None)
        if unknown is not None:
            found[number] = unknown
        elif len(qualified) == len(names):
            translate.append((number, start, qualified))
        else:
            walk[number] = start, address.path
    for (number, _, _), result in zip(translate, await _translate_all(session, translate), strict=True):
        found[number] = result
    if walk:
        for number, result in (await _follow(session, walk)).items():
            found[number] = result
    return found


def node_id(session: Session, address: NodeAddress) -> ua.NodeId | Problem:
    """Return the node where an address begins: its NodeId, else the Objects folder."""
    if not address.identifier:
        return OBJECTS
    index = namespace_index(session, address.namespace)
    if isinstance(index, Problem):
        return index
    found = ua.NodeId.from_string(f"ns={index};{address.identifier}")
    if not isinstance(found.Identifier, str):
        return found
    # Its strings are of a class of their own, with a dict each: twice the size, for ten thousand nodes.
    plain: Any = str(found.Identifier)
    return ua.NodeId(plain, found.NamespaceIndex)


def namespace_index(session: Session, namespace: str | int) -> int | Problem:
    """Return the index of a namespace in the session's table."""
    if isinstance(namespace, int):
        return namespace
    index = session.namespaces.get(namespace)
    return Problem(f"the server has no namespace {namespace}") if index is None else index


def _qualified(session: Session, step: Step) -> ua.QualifiedName | Problem | None:
    if step.namespace is None:
        return None
    index = namespace_index(session, step.namespace)
    return index if isinstance(index, Problem) else ua.QualifiedName(step.name, index)


async def _translate_all(
    session: Session, paths: Sequence[tuple[int, ua.NodeId, Sequence[ua.QualifiedName]]]
) -> list[ua.NodeId | Problem]:
    async def send(
        part: Sequence[tuple[int, ua.NodeId, Sequence[ua.QualifiedName]]],
    ) -> Sequence[ua.NodeId | Problem]:
        return await _translate(session, [(start, names) for _, start, names in part])

    try:
        return await session.in_batches("translate", paths, send, LARGEST_LIMIT)
    except ServiceFault as fault:
        return [Problem(str(fault))] * len(paths)


async def _translate(
    session: Session, paths: Sequence[tuple[ua.NodeId, Sequence[ua.QualifiedName]]]
) -> list[ua.NodeId | Problem]:
    request = ua.TranslateBrowsePathsToNodeIdsRequest()
    request.Parameters.BrowsePaths = [
        ua.BrowsePath(
            StartingNode=start,
            RelativePath=ua.RelativePath(
                Elements=[
                    ua.RelativePathElement(
                        ReferenceTypeId=HIERARCHICAL, IsInverse=NO, IncludeSubtypes=YES, TargetName=name
                    )
                    for name in names
                ]
            ),
        )
        for start, names in paths
    ]
    answer = await session.ask(request, ua.TranslateBrowsePathsToNodeIdsResponse)
    found: list[ua.NodeId | Problem] = []
    for result in answer.Results:
        targets = {str(target.TargetId): target.TargetId for target in result.Targets or ()}
        if not result.StatusCode.is_good() or not targets:
            found.append(Problem(f"the path leads nowhere ({status_name(result.StatusCode.value)})"))
        elif len(targets) > 1:
            found.append(Problem(f"the path leads to {len(targets)} nodes: name one by its NodeId"))
        else:
            found.append(plain(next(iter(targets.values()))))
    return found


async def _follow(
    session: Session, walks: Mapping[int, tuple[ua.NodeId, tuple[Step, ...]]]
) -> dict[int, ua.NodeId | Problem]:
    """Return where paths lead of which some step has no namespace: that matches in any."""
    browser = Browser(session)
    found: dict[int, ua.NodeId | Problem] = {}
    here = {number: start for number, (start, _) in walks.items()}
    depth = 0
    while here:
        try:
            await browser.look(here.values())
        except ServiceFault as fault:
            return found | dict.fromkeys(here, Problem(str(fault)))
        for number, node in list(here.items()):
            _, path = walks[number]
            there = _step(session, browser.children(node), path, depth)
            if isinstance(there, Problem) or depth + 1 == len(path):
                found[number] = there
                del here[number]
            else:
                here[number] = there
        depth += 1
    return found


def _step(
    session: Session, children: Sequence[Child] | Problem, path: Sequence[Step], depth: int
) -> ua.NodeId | Problem:
    step = path[depth]
    if isinstance(children, Problem):
        return children
    namespace = None if step.namespace is None else namespace_index(session, step.namespace)
    matches = {
        child.node: child
        for child in children
        if child.name == step.name and namespace in {None, child.namespace}
    }
    walked = "/".join(["", *(known.name for known in path[:depth])]) or "/"
    if not matches:
        return Problem(f"there is no {step.name!r} below {walked}")
    if len(matches) > 1:
        ways = ", ".join(f"{child.namespace}:{child.name}" for child in matches.values())
        return Problem(f"{step.name!r} below {walked} is ambiguous: {ways}")
    return next(iter(matches))


__all__ = ["OBJECTS", "Problem", "namespace_index", "node_id", "resolve"]
