"""What patterns and profiles have found on a server: wanted from then on, over every restart.

A path that was found once is kept, whether the server has it now or not. Which rule it belongs to, and under which
name, is decided anew by the rules of the present configuration; a path that none of them describes any more is not wanted
any more.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from asyncua import ua
from pydantic import ValidationError

from edge_agent.sources.opcua.address import Step, parse_address, path_text
from edge_agent.sources.opcua.config import NodeConfig
from edge_agent.sources.opcua.coverage import State
from edge_agent.sources.opcua.patterns import Found, Rule, address_text, match_path
from edge_agent.sources.opcua.walk import Walk
from shopfloor.errors import InvalidName

log = logging.getLogger(__name__)

MAX_FOUND: Final = 100_000
"""Paths that are kept, of one server."""
_CHUNK: Final = 1_000
_PREFIX: Final = "found/"
_NAMED: Final = 3
Series = tuple[str, str]


class Place(NamedTuple):
    """A node that was found: where the rule began, and the path from there, both as text."""

    start: str
    path: str
    is_object: bool
    types: str = ""
    """Those that the rule wanted the machine to be of, as text."""


class Machine(NamedTuple):
    """A machine that a profile has found."""

    profile: str
    """The use of the profile, as its rules name it."""
    place: Place
    asset: str
    found: Found


class Discovery:
    """What was found on one server.

    Args:
        rules: of the present configuration.
        taken: series that are something else already.
    """

    def __init__(self, rules: Sequence[Rule], taken: Iterable[Series]) -> None:
        self._rules = rules
        self._taken: dict[Series, str] = dict.fromkeys(taken, "nodes")
        self._places: dict[Place, None] = {}
        self._unsaved_from = 0
        self._matched: set[int] = set()
        """The rules that have ever found anything."""
        self._collisions: dict[Place, str] = {}
        self._problems: list[str] = []
        self.machines: list[Machine] = []
        """In the order in which they were found."""

    def restore(self, state: Mapping[str, bytes]) -> list[NodeConfig]:
        """Return what an earlier session, or an earlier life, had found."""
        nodes = []
        records = [record for key in sorted(state, key=_chunk_number) for record in _records(key, state[key])]
        candidates = _Candidates(self._rules)
        for place, path in records:
            for number in candidates(path[-1].name):
                rule = self._rules[number]
                if place != _place(rule, place.path):
                    continue
                found = match_path(rule.steps, path)
                if found is not None and not any(match_path(other, path) for other in rule.excluded):
                    nodes += self._want(number, place, found)
                    break
        self._unsaved_from = 0 if len(self._places) < len(records) else len(self._places)
        return nodes

    def learn(self, walk: Walk, known: Collection[ua.NodeId] = ()) -> list[NodeConfig]:
        """Return what a search has found that was not known; ``known`` are nodes that others name already."""
        nodes = []
        for hit in walk.hits:
            if hit.node in known:
                continue
            rule = self._rules[hit.rule]
            place = _place(rule, path_text(hit.found.path))
            if place not in self._places:
                nodes += self._want(hit.rule, place, hit.found)
        self._problems = list(walk.problems)
        self._matched |= walk.matched
        return nodes

    def unsaved(self, state: Mapping[str, bytes]) -> State:
        """Return what is to be put for what is known now, `saved` once it is; ``state`` is what was put before."""
        if self._unsaved_from == len(self._places):
            return {}
        places = list(self._places)
        first = self._unsaved_from // _CHUNK
        change: State = {}
        for start in range(first * _CHUNK, len(places), _CHUNK):
            chunk = [place if place.types else place[:-1] for place in places[start : start + _CHUNK]]
            change[f"{_PREFIX}{start // _CHUNK}"] = zlib.compress(json.dumps(chunk).encode())
        last = (len(places) - 1) // _CHUNK
        change |= {key: b"" for key in state if key.startswith(_PREFIX) and _chunk_number(key) > last}
        return change

    def saved(self) -> None:
        """Note that what was `unsaved` is durable."""
        self._unsaved_from = len(self._places)

    @property
    def searching(self) -> bool:
        """Whether a glob or a profile has found nothing yet."""
        return any(True for _ in self._empty())

    def summary(self) -> Iterator[str]:
        """Yield what a person should know."""
        for rule in self._empty():
            yield f"{rule.label}: nothing is found"
        yield from _shortened(self._problems)
        yield from _shortened(list(self._collisions.values()))
        yield from _shortened(list(self._missing()))

    def _empty(self) -> Iterator[Rule]:
        for number, rule in enumerate(self._rules):
            if number not in self._matched and (rule.objects or not rule.profile):
                yield rule

    def _missing(self) -> Iterator[str]:
        """Yield what machines do not have although their profile requires it."""
        for machine in self.machines:
            for rule in self._rules:
                if (
                    rule.required
                    and rule.profile == machine.profile
                    and (machine.asset, rule.signal.text) not in self._taken
                ):
                    yield f"{machine.asset}: the machine has no {rule.label.partition(': ')[2]}"

    def _want(self, number: int, place: Place, found: Found) -> list[NodeConfig]:
        """Take a place, unless its name is taken; return the node that it is."""
        rule = self._rules[number]
        if len(self._places) >= MAX_FOUND:
            self._collisions[place] = f"more than {MAX_FOUND} nodes are found"
            return []
        try:
            asset = rule.asset_of(found)
            if rule.objects:
                self.machines.append(Machine(rule.profile, place, asset, found))
                node = None
            else:
                node = NodeConfig.model_validate(
                    {
                        **rule.settings,
                        "node": place.path,
                        "start": place.start or None,
                        "asset": asset,
                        "signal": rule.signal.fill(found),
                    }
                )
        except (InvalidName, ValidationError) as error:
            self._collisions[place] = f"{_readable(found.path)}: {_reason(error)}"
            return []
        if node is not None:
            series = (node.asset, node.signal)
            before = self._taken.get(series)
            if before is not None:
                self._collisions[place] = (
                    f"{_readable(found.path)}: {node.asset}:{node.signal} is already {before}"
                )
                return []
            self._taken[series] = _readable(found.path)
        self._collisions.pop(place, None)
        self._places[place] = None
        self._matched.add(number)
        return [] if node is None else [node]


class _Candidates:
    """Which rules may describe a path, by its last name: a profile has many."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._known: dict[str, list[int]] = {}

    def __call__(self, name: str) -> list[int]:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = [
                number
                for number, rule in enumerate(self._rules)
                if (last := rule.steps[-1].matcher) is None or last.fullmatch(name)
            ]
        return known


def _records(key: str, raw: bytes) -> list[tuple[Place, tuple[Step, ...]]]:
    """Return what one key of the state holds, with parsed paths; nothing where it is not what we write."""
    if not key.startswith(_PREFIX):
        return []
    try:
        places = [
            Place(str(start), str(path), bool(is_object), *map(str, types[:1]))
            for start, path, is_object, *types in json.loads(zlib.decompress(raw))
        ]
        records = [(place, parse_address(place.path).path) for place in places]
    except (ValueError, TypeError, InvalidName, zlib.error) as error:
        log.warning("%s: what was found earlier can't be read, and is searched for anew: %s", key, error)
        return []
    return [(place, path) for place, path in records if path]


def _place(rule: Rule, path: str) -> Place:
    start = "" if rule.start is None else address_text(rule.start)
    return Place(start, path, rule.objects, path_text(rule.types) if rule.types else "")


def _chunk_number(key: str) -> int:
    number = key.removeprefix(_PREFIX)
    return int(number) if key.startswith(_PREFIX) and number.isdecimal() else -1


def _readable(path: Sequence[Step]) -> str:
    return "/".join(["", *(step.name for step in path)])


def _reason(error: InvalidName | ValidationError) -> str:
    return str(error) if isinstance(error, InvalidName) else error.errors()[0]["msg"]


def _shortened(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _NAMED
    return [*lines[:_NAMED], f"and {more} more of this kind"] if more > 0 else list(lines)
