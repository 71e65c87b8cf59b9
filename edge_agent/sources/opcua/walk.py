"""Searches a server for what patterns describe: level by level, every folder once, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.address import Step
from edge_agent.sources.opcua.browsing import Browser, Child
from edge_agent.sources.opcua.object_types import ObjectTypes, TypeName
from edge_agent.sources.opcua.patterns import (
    Found,
    Match,
    Offer,
    PatternStep,
    Rule,
    advance,
    begin,
    is_whole,
    match_path,
)
from edge_agent.sources.opcua.resolve import Problem, namespace_index, node_id
from edge_agent.sources.opcua.session import ServiceFault, Session, standard_node

MAX_DEPTH: Final = 24
MAX_LOOKED_INTO: Final = 50_000
_SERVER: Final = standard_node(ObjectIds.Server)


class Hit(NamedTuple):
    """A node that a rule found."""

    rule: int
    """Which one, by its place."""
    node: ua.NodeId
    found: Found
    """Its path from the rule's start, with namespace URIs."""


class Walk(NamedTuple):
    """What a search brought."""

    hits: list[Hit]
    """By rule, and in the server's order; each node once, for the first rule that found it."""
    problems: list[str]
    """What kept rules from finding everything."""
    matched: frozenset[int]
    """The rules that found anything at all, also what others have."""


class _State(NamedTuple):
    rule: int
    match: Match
    path: tuple[Step, ...]
    below_variable: bool
    typed: bool = False
    """Whether here is the machine, whose type matters."""


async def walk(session: Session, rules: Sequence[Rule]) -> Walk:
    """Search for what the rules describe.

    A node that several ways lead to is found by one of the shortest. Wildcards pass over the Server object, properties
    of variables, and properties of OPC UA's own namespace.

    Raises:
        SourceUnavailable: the server does not answer.
    """
    problems: list[str] = []
    steps: dict[int, list[PatternStep]] = {}
    types: dict[int, list[TypeName]] = {}
    places: dict[ua.NodeId, list[_State]] = {}
    for number, rule in enumerate(rules):
        prepared = _prepare(session, rule)
        if isinstance(prepared, Problem):
            problems.append(f"{rule.profile or rule.label}: {prepared.reason}")
            continue
        start, steps[number], types[number] = prepared
        places.setdefault(start, []).extend(
            _State(number, match, (), False) for match in begin(steps[number])
        )
    uris: dict[int, str | int] = {index: uri for uri, index in session.namespaces.items() if index}
    browser, object_types = Browser(session), ObjectTypes(session)
    seen: set[tuple[int, int, ua.NodeId]] = set()
    hits: dict[int, dict[ua.NodeId, Found]] = {number: {} for number in steps}
    for _ in range(MAX_DEPTH):
        if not places:
            break
        if browser.nodes + len(places) > MAX_LOOKED_INTO:
            problems.append(f"the search ended after {browser.nodes} folders: narrow the patterns")
            break
        try:
            await browser.look(places)
        except ServiceFault as fault:
            problems.append(f"the server can't be searched: {fault}")
            break
        reached: list[tuple[Child, _State]] = []
        for node, states in places.items():
            children = browser.children(node)
            if isinstance(children, Problem):
                problems.append(f"{_named(states[0].path)}: {children.reason}")
                continue
            for child in children:
                reached += [(child, state) for state in _next(child, states, rules, steps, uris, seen)]
        await object_types.learn(child.kind for child, state in reached if state.typed and child.kind)
        places = {}
        for child, state in reached:
            if state.typed and not all(object_types.is_of(child.kind, each) for each in types[state.rule]):
                continue
            if is_whole(steps[state.rule], state.match):
                _take(rules[state.rule], child, state, hits[state.rule])
            else:
                places.setdefault(child.node, []).append(state)
    else:
        problems.append(f"the search ended at a depth of {MAX_DEPTH} names")
    matched = frozenset(number for number, found in hits.items() if found)
    return Walk(_sorted_out(rules, hits, problems), list(dict.fromkeys(problems)), matched)


def _prepare(session: Session, rule: Rule) -> tuple[ua.NodeId, list[PatternStep], list[TypeName]] | Problem:
    """Return a rule's start, steps and types with the namespaces that the server has now."""
    start = None if rule.start is None else node_id(session, rule.start)
    if isinstance(start, Problem):
        return start
    steps = []
    for step in rule.steps:
        index = None if step.namespace is None else namespace_index(session, step.namespace)
        if isinstance(index, Problem):
            return index
        steps.append(step._replace(namespace=index))
    types = []
    for kind in rule.types:
        index = None if kind.namespace is None else namespace_index(session, kind.namespace)
        if isinstance(index, Problem):
            return index
        types.append(TypeName(kind.name, index))
    return standard_node(ObjectIds.ObjectsFolder) if start is None else start, steps, types


def _next(
    child: Child,
    states: Iterable[_State],
    rules: Sequence[Rule],
    steps: Mapping[int, Sequence[PatternStep]],
    uris: Mapping[int, str | int],
    seen: set[tuple[int, int, ua.NodeId]],
) -> list[_State]:
    """Return where matching stands at a child, for what did not stand there before."""
    reached = []
    path: tuple[Step, ...] | None = None
    for state in states:
        hidden = child.node == _SERVER or (
            child.is_property and (state.below_variable or child.namespace == 0)
        )
        offer = Offer(child.name, child.namespace, hidden)
        for match in advance(steps[state.rule], state.match, offer):
            key = (state.rule, match.position, child.node)
            if key in seen:
                continue
            seen.add(key)
            if path is None or path[:-1] != state.path:
                path = (*state.path, Step(child.name, uris.get(child.namespace, child.namespace)))
            rule = rules[state.rule]
            typed = bool(rule.types) and state.match.position < rule.machine_steps <= match.position
            reached.append(_State(state.rule, match, path, child.is_variable, typed))
    return reached


def _take(rule: Rule, child: Child, state: _State, hits: dict[ua.NodeId, Found]) -> None:
    if child.is_variable is rule.objects or child.node in hits or len(hits) > rule.max_nodes:
        return
    if any(match_path(excluded, state.path) for excluded in rule.excluded):
        return
    hits[child.node] = Found(dict(state.match.captures), state.path, state.match.below)


def _sorted_out(
    rules: Sequence[Rule], hits: Mapping[int, Mapping[ua.NodeId, Found]], problems: list[str]
) -> list[Hit]:
    taken: set[ua.NodeId] = set()
    result = []
    for number, found in hits.items():
        mine = [(node, each) for node, each in found.items() if node not in taken]
        limit = rules[number].max_nodes
        if len(mine) > limit:
            problems.append(
                f"{rules[number].label}: more than {limit} variables (max_nodes); the rest is not read"
            )
            mine = mine[:limit]
        taken.update(node for node, _ in mine)
        result += [Hit(number, node, each) for node, each in mine]
    return result


def _named(path: Sequence[Step]) -> str:
    return "/" + "/".join(step.name for step in path)
