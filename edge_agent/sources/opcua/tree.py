"""What there is to read on a server: its address space as a tree, with types, units and present values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIdNames, ObjectIds

from edge_agent.sources.opcua.address import Step, parse_address, path_text
from edge_agent.sources.opcua.browsing import Browser, Child, Problem
from edge_agent.sources.opcua.metadata import Metadata, read_metadata
from edge_agent.sources.opcua.patterns import legal
from edge_agent.sources.opcua.resolve import OBJECTS, resolve
from edge_agent.sources.opcua.session import ServiceFault, Session, standard_node, status_name
from shopfloor.errors import SourceMisconfigured

MAX_NODES: Final = 20_000
"""So many nodes are looked at, at most."""
MAX_DEPTH: Final = 24
_SHOWN: Final = 60
_MAX_PARTS: Final = 8
_SERVER: Final = standard_node(ObjectIds.Server)
_NOTHING: Final = Metadata("", "", None, None)


@dataclass(slots=True)
class TreeNode:
    """One node, and what lies below it."""

    name: str
    path: tuple[Step, ...]
    """From the Objects folder on, with namespace URIs."""
    node: str
    """As it stands in ``agent.yaml``: ``nsu=URI;s=…``."""
    is_variable: bool
    type: str = ""
    """Name of the data type, with [] for arrays."""
    value: str = ""
    """The present value as text, shortened; where it is not good, the name of its status."""
    unit: str = ""
    description: str = ""
    problem: str = ""
    """Why it can't be looked into."""
    below: list[TreeNode] = field(default_factory=list)

    def variables(self) -> Iterator[TreeNode]:
        """Yield the variables here and below, in the order of the tree."""
        if self.is_variable:
            yield self
        for child in self.below:
            yield from child.variables()


async def survey(session: Session, *, start: str = "", depth: int = MAX_DEPTH) -> tuple[TreeNode, bool]:
    """Return what lies below a node, and whether that is all of it.

    The Server object (unless it is the start), properties of variables, and properties of OPC UA's own namespace are
    left out.

    Args:
        session: with the server.
        start: an address as in ``agent.yaml``; empty for the Objects folder.
        depth: so many levels.

    Raises:
        InvalidName: ``start`` is no address.
        SourceMisconfigured: there is no such node.
    """
    node, path = OBJECTS, ()
    if start:
        address = parse_address(start)
        (found,) = await resolve(session, [address])
        if isinstance(found, Problem):
            raise SourceMisconfigured(f"{start}: {found.reason}")
        node, path = found, address.path  # type: ignore[assignment]
    uris: Mapping[int, str] = {index: uri for uri, index in session.namespaces.items() if index}
    name = path[-1].name if path else start or "Objects"
    root = TreeNode(name, path, node_text(node, uris), is_variable=False)
    variables: dict[ua.NodeId, TreeNode] = {}
    whole = await _fill(session, {node: root}, min(depth, MAX_DEPTH), uris, variables)
    await _read(session, variables)
    return root, whole


async def _fill(
    session: Session,
    level: dict[ua.NodeId, TreeNode],
    depth: int,
    uris: Mapping[int, str],
    variables: dict[ua.NodeId, TreeNode],
) -> bool:
    browser = Browser(session)
    seen = {_SERVER, *level}
    for _ in range(depth):
        if not level:
            return True
        await browser.look(level)
        below: dict[ua.NodeId, TreeNode] = {}
        for node, parent in level.items():
            children = browser.children(node)
            if isinstance(children, Problem):
                parent.problem = children.reason
                continue
            for child in children:
                if child.node in seen or _is_beside_the_point(child, parent):
                    continue
                if len(seen) > MAX_NODES:
                    return False
                seen.add(child.node)
                step = Step(child.name, uris.get(child.namespace, child.namespace))
                made = TreeNode(
                    child.name, (*parent.path, step), node_text(child.node, uris), child.is_variable
                )
                parent.below.append(made)
                below[child.node] = made
                if child.is_variable:
                    variables[child.node] = made
        level = below
    return not level


def _is_beside_the_point(child: Child, parent: TreeNode) -> bool:
    return child.is_property and (parent.is_variable or child.namespace == 0)


async def _read(session: Session, variables: Mapping[ua.NodeId, TreeNode]) -> None:
    nodes = list(variables)
    values = await session.read_attributes(nodes, AttributeIds.Value)
    kinds = await session.read_attributes(nodes, AttributeIds.DataType)
    ranks = await session.read_attributes(nodes, AttributeIds.ValueRank)
    try:
        told = await read_metadata(session, nodes)
    except ServiceFault:
        told = [_NOTHING] * len(nodes)
    names = await _type_names(session, [_value(kind) for kind in kinds])
    for entry, value, kind, rank, said in zip(variables.values(), values, kinds, ranks, told, strict=True):
        rank_number = _value(rank)
        many = isinstance(rank_number, int) and rank_number >= 0
        entry.type = names.get(_value(kind), "") + ("[]" if many else "")
        entry.value = _shown(value)
        entry.unit, entry.description = said.unit, said.description


async def _type_names(session: Session, kinds: Sequence[Any]) -> dict[Any, str]:
    """Return the browse names of data types."""
    names: dict[Any, str] = {}
    others = []
    for kind in dict.fromkeys(kind for kind in kinds if isinstance(kind, ua.NodeId)):
        known = ObjectIdNames.get(int(kind.Identifier)) if _is_standard(kind) else None
        if known is None:
            others.append(kind)
        else:
            names[kind] = known
    for kind, value in zip(
        others, await session.read_attributes(others, AttributeIds.BrowseName), strict=True
    ):
        name = _value(value)
        names[kind] = str(name.Name) if isinstance(name, ua.QualifiedName) else kind.to_string()
    return names


def _is_standard(kind: ua.NodeId) -> bool:
    return kind.NamespaceIndex == 0 and isinstance(kind.Identifier, int)


def _value(value: ua.DataValue) -> Any:
    return value.Value.Value if value.Value is not None else None


def _shown(value: ua.DataValue) -> str:
    status = value.StatusCode
    if status is not None and not status.is_good():
        return status_name(status.value)
    raw = _value(value)
    if isinstance(raw, ua.LocalizedText):
        raw = raw.Text or ""
    text = "" if raw is None else repr(raw) if isinstance(raw, str) else str(raw)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def node_text(node: ua.NodeId, uris: Mapping[int, str]) -> str:
    """Return a NodeId as it stands in ``agent.yaml``."""
    index = int(node.NamespaceIndex)
    bare = node.to_string().removeprefix(f"ns={index};")
    return f"nsu={uris[index]};{bare}" if index in uris else node.to_string()


def tree_lines(root: TreeNode) -> Iterator[str]:
    """Yield the tree for people: names, and of variables type, value and unit."""
    yield root.name + (f"  ({root.problem})" if root.problem else "")
    yield from _lines_below(root, "")


def _lines_below(node: TreeNode, indent: str) -> Iterator[str]:
    for number, child in enumerate(node.below, start=1):
        last = number == len(node.below)
        parts = [child.name]
        if child.is_variable:
            parts.append(f": {child.type or '?'}")
            parts.append(f" = {child.value}" if child.value else "")
            parts.append(f" {child.unit}" if child.unit else "")
        if child.problem:
            parts.append(f"  ({child.problem})")
        yield f"{indent}{'└─ ' if last else '├─ '}{''.join(parts)}"
        yield from _lines_below(child, indent + ("   " if last else "│  "))


def yaml_lines(root: TreeNode, asset: str) -> Iterator[str]:
    """Yield what can be pasted into ``agent.yaml``: a line for every variable."""
    yield "nodes:"
    taken: set[str] = set()
    for variable in root.variables():
        line = {"node": variable.node, "asset": asset, "signal": _signal(variable.path, taken)}
        yield "  - {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in line.items()) + "}"


def as_json(root: TreeNode) -> Iterator[dict[str, Any]]:
    """Yield every variable as what JSON holds."""
    for variable in root.variables():
        yield {
            "path": path_text(variable.path),
            "node": variable.node,
            "type": variable.type,
            "value": variable.value,
            "unit": variable.unit,
            "description": variable.description,
        }


def _signal(path: Sequence[Step], taken: set[str]) -> str:
    name = ".".join([legal(step.name) for step in path][-_MAX_PARTS:])
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique
