"""Which fields the events of a type have, and the filter that asks for them (Part 4 §7.22.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.address import Step
from edge_agent.sources.opcua.browsing import Problem, children_of
from edge_agent.sources.opcua.event_config import EventTypeName
from edge_agent.sources.opcua.object_types import types_beside
from edge_agent.sources.opcua.patterns import legal
from edge_agent.sources.opcua.session import Session, standard_node

_BASE: Final = standard_node(ObjectIds.BaseEventType)
_MAX_TYPES: Final = 1_000
_MAX_PATHS: Final = 5_000
_MAX_DEPTH: Final = 5
_MAX_PARTS: Final = 8
_MAX_SEGMENT: Final = 63
_PLAIN: Final = frozenset({"Severity", "Message", "SourceName"})
"""What of BaseEventType says something about the machine; the rest identifies the event."""
_ABOUT_VALUES: Final = frozenset(
    {
        "EngineeringUnits",
        "EURange",
        "InstrumentRange",
        "ValuePrecision",
        "Definition",
        "EnumStrings",
        "EnumValues",
    }
)
"""Properties that describe a variable rather than what happened."""
HEAD: Final = ("EventId", "EventType", "Time")
"""What every event is asked for, before its fields."""


class FieldName(NamedTuple):
    """One browse name of a path, hashable as asyncua's QualifiedName is not."""

    name: str
    namespace: int


Path = tuple[FieldName, ...]


@dataclass(slots=True)
class TypeTree:
    """Event types below one, and the fields that they and the types above it declare."""

    root: ua.NodeId
    subtypes: list[ua.NodeId] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


async def find_type(session: Session, name: EventTypeName) -> ua.NodeId | Problem:
    """Return the NodeId of an event type in the session's namespace table, or why there is none."""
    if name.address is not None:
        index = name.address.namespace
        if isinstance(index, str):
            known = session.namespaces.get(index)
            if known is None:
                return Problem(f"the server has no namespace {index}")
            index = known
        return ua.NodeId.from_string(f"ns={index};{name.address.identifier}")
    step = name.name
    assert step is not None
    namespace = _namespace(session, step)
    if isinstance(namespace, Problem):
        return namespace
    level, seen = [_BASE], 0
    matches: set[ua.NodeId] = set()
    while level and seen < _MAX_TYPES:
        seen += len(level)
        types = [each for found in await types_beside(session, level, inverse=False) for each in found]
        matches |= {
            each.node for each in types if each.name == step.name and namespace in {None, each.namespace}
        }
        level = [each.node for each in types]
    if len(matches) == 1:
        return matches.pop()
    return Problem(f"{len(matches) or 'no'} event types are called {step.name!r}")


async def type_tree(session: Session, root: ua.NodeId) -> TypeTree:
    """Return what is declared around an event type: each path once, in the server's order."""
    tree = TypeTree(root)
    level = [root]
    while level and len(tree.subtypes) < _MAX_TYPES:
        found = await types_beside(session, level, inverse=False)
        level = [each.node for types in found for each in types if each.node not in tree.subtypes]
        tree.subtypes.extend(dict.fromkeys(level))
    above: list[ua.NodeId] = []
    here = root
    while here != _BASE and len(above) < _MAX_DEPTH * 4:
        (parents,) = await types_beside(session, [here], inverse=True)
        if not parents:
            break
        here = parents[0].node
        above.append(here)
    paths: dict[Path, None] = {}
    level_paths: list[tuple[ua.NodeId, Path]] = [
        (node, ()) for node in (*reversed(above), root, *tree.subtypes)
    ]
    for _ in range(_MAX_DEPTH):
        children = await children_of(session, [node for node, _ in level_paths])
        below: list[tuple[ua.NodeId, Path]] = []
        for (_, path), found_here in zip(level_paths, children, strict=True):
            for child in () if isinstance(found_here, Problem) else found_here:
                name = FieldName(child.name, child.namespace)
                longer = (*path, name)
                if child.namespace == 0 and child.name in _ABOUT_VALUES:
                    continue
                if child.is_variable:
                    paths.setdefault(longer)
                if not child.is_property:
                    below.append((child.node, longer))
        if not below or len(paths) > _MAX_PATHS:
            break
        level_paths = below
    tree.paths = list(paths)[:_MAX_PATHS]
    return tree


def all_fields(tree: TypeTree, prefix: str, most: int) -> tuple[dict[str, Path], int]:
    """Return what ``fields: all`` takes: signals and paths, and how many more there would be.

    Raises nothing: names that would be alike get numbers, in the server's order.
    """
    wanted = [path for path in tree.paths if not _identifies(path)]
    fields: dict[str, Path] = {}
    for path in wanted[:most]:
        parts = [*prefix.split("."), *(legal(name.name) for name in path)][:_MAX_PARTS]
        signal, count = ".".join(parts), 1
        while signal in fields:
            count += 1
            signal = ".".join([*parts[:-1], f"{parts[-1][: _MAX_SEGMENT - 5]}_{count}"])
        fields[signal] = path
    return fields, max(0, len(wanted) - most)


def named_field(session: Session, tree: TypeTree, steps: Sequence[Step]) -> Path | Problem:
    """Return the path of a field that a configuration names, in the session's namespace table."""
    namespaces: list[int | None] = []
    for step in steps:
        namespace = _namespace(session, step)
        if isinstance(namespace, Problem):
            return namespace
        namespaces.append(namespace)
    if None not in namespaces:
        return tuple(
            FieldName(step.name, namespace or 0) for step, namespace in zip(steps, namespaces, strict=True)
        )
    matches = [
        path
        for path in tree.paths
        if len(path) == len(steps)
        and all(
            name.name == step.name and namespace in {None, name.namespace}
            for name, step, namespace in zip(path, steps, namespaces, strict=True)
        )
    ]
    shown = "/".join(step.name for step in steps)
    if not matches:
        return Problem(f"the event type and its subtypes declare no field {shown}")
    if len(matches) > 1:
        ways = ", ".join("/".join(f"{name.namespace}:{name.name}" for name in path) for path in matches)
        return Problem(f"the field {shown} is ambiguous: {ways}")
    return matches[0]


def event_filter(paths: Iterable[Path], tree: TypeTree, *, condition: bool = False) -> ua.EventFilter:
    """Return the filter of a monitored item for events of a type and its subtypes.

    Args:
        paths: the fields wanted; they are selected behind `HEAD`.
        tree: the type.
        condition: whether the NodeId of the condition is selected as well, as the last.
    """
    head = [(FieldName(name, 0),) for name in HEAD]
    selected = [_select(path) for path in (*head, *paths)]
    if condition:
        selected.append(
            ua.SimpleAttributeOperand(
                TypeDefinitionId=standard_node(ObjectIds.ConditionType),
                BrowsePath=[],
                AttributeId=ua.UInt32(AttributeIds.NodeId),
            )
        )
    return ua.EventFilter(SelectClauses=selected, WhereClause=_where(tree))


def of_type_only(root: ua.NodeId) -> ua.ContentFilter:
    """Return the plainest filter for a type, for servers that take no other."""
    return ua.ContentFilter(Elements=[_of_type(root)] if root != _BASE else [])


def _where(tree: TypeTree) -> ua.ContentFilter:
    """OfType takes subtypes by itself, but not on every server (asyncua's compares): so they are listed as well."""
    if tree.root == _BASE or not tree.subtypes:
        return of_type_only(tree.root)
    listed = ua.ContentFilterElement(
        FilterOperator=ua.FilterOperator.InList,
        FilterOperands=[
            _select((FieldName("EventType", 0),)),
            *(_literal(node) for node in tree.subtypes),
        ],
    )
    either = ua.ContentFilterElement(
        FilterOperator=ua.FilterOperator.Or,
        FilterOperands=[ua.ElementOperand(Index=ua.UInt32(1)), ua.ElementOperand(Index=ua.UInt32(2))],
    )
    return ua.ContentFilter(Elements=[either, _of_type(tree.root), listed])


def _of_type(node: ua.NodeId) -> ua.ContentFilterElement:
    return ua.ContentFilterElement(FilterOperator=ua.FilterOperator.OfType, FilterOperands=[_literal(node)])


def _literal(node: ua.NodeId) -> ua.LiteralOperand:
    return ua.LiteralOperand(Value=ua.Variant(node, ua.VariantType.NodeId))


def _select(path: Path) -> ua.SimpleAttributeOperand:
    """Select by BaseEventType: then the server looks at the path alone, whatever the event's type (Part 4 §7.7.4.5)."""
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=_BASE,
        BrowsePath=[ua.QualifiedName(each.name, ua.UInt16(each.namespace)) for each in path],
        AttributeId=ua.UInt32(AttributeIds.Value),
    )


def _identifies(path: Path) -> bool:
    """Tell whether a field says which event it is rather than what has happened."""
    first = path[0]
    return len(path) == 1 and first.namespace == 0 and first.name in _IDENTIFYING


_IDENTIFYING: Final = frozenset(
    {
        "EventId", "EventType", "SourceNode", "Time", "ReceiveTime", "LocalTime",
        "ConditionClassId", "ConditionClassName", "ConditionSubClassId", "ConditionSubClassName", "BranchId",
    }
) - _PLAIN  # fmt: skip


def _namespace(session: Session, step: Step) -> int | Problem | None:
    if not isinstance(step.namespace, str):
        return step.namespace
    index = session.namespaces.get(step.namespace)
    return Problem(f"the server has no namespace {step.namespace}") if index is None else index
