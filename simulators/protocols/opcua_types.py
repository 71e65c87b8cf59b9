"""Type nodes of companion specifications, from tables such as `euromap77_types.yaml`.

A table holds, for each namespace, its nodes as lines below one another::

    ObjectType 1030 gen:TemperatureZoneType <BaseObjectType:
    - Variable 6117 gen:ActualTemperature =Double :AnalogItemType M:
      - Property 6118 EngineeringUnits =EUInformation M

A line is the node class (``Property`` for a variable of PropertyType), the number in the namespace (``-`` where none is
known), the browse name with the letter of its namespace (none for OPC UA's own), then in any order ``=`` its data type
(``[]``: an array), ``:`` its type definition, ``<`` its supertype, ``abstract``, ``~`` its reference from above where
that is not the usual one, and its modelling rule: M(andatory), O(ptional), with P for a placeholder. Below a node
stand its children, ``GeneratesEvent TYPE`` and ``HasInterface TYPE``, and of a data type its ``values`` or ``fields``
with ``encodings``, of an argument list its ``arguments``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

NAMESPACES: Final[Mapping[str, str]] = {
    "di": "http://opcfoundation.org/UA/DI/",
    "gen": "http://opcfoundation.org/UA/PlasticsRubber/GeneralTypes/",
    "imm": "http://opcfoundation.org/UA/PlasticsRubber/IMM2MES/",
    "tcd": "http://opcfoundation.org/UA/PlasticsRubber/TCD/",
}
"""The letters that stand for namespaces in browse names; ``own`` is the server's, none is OPC UA's."""
TYPES_FILE: Final = Path(__file__).with_name("euromap77_types.yaml")
TCD_FILE: Final = Path(__file__).with_name("tcd_types.yaml")

_OWN: Final = 1
RULES: Final = {"M": 78, "O": 80, "OP": 11508, "MP": 11510}
_LINE: Final = re.compile(r"(\w+) (\d+|-) (.+)")
_MARKS: Final = {"=": "data_type", ":": "type_definition", "<": "supertype", "~": "reference"}


def standard(number: Any) -> ua.NodeId:
    """Return a node id of OPC UA's own namespace."""
    return ua.NodeId(number)


def own(name: Any) -> ua.NodeId:
    """Return a node id of the server's own namespace."""
    return ua.NodeId(name, _OWN)  # type: ignore[arg-type]


class TypeNode(NamedTuple):
    """One node of a table."""

    kind: str
    letter: str
    number: int | None
    name: str
    """With the letter of its namespace."""
    words: Mapping[str, str]
    """``data_type``, ``type_definition``, ``supertype``, ``reference``, ``rule`` and ``abstract`` as they stand."""
    relations: tuple[tuple[str, str], ...]
    """Reference and type: GeneratesEvent, HasInterface."""
    extras: Mapping[str, Any]
    """``values``, ``fields``, ``encodings``, ``arguments``."""
    children: tuple[TypeNode, ...]

    @property
    def is_type(self) -> bool:
        """Whether others are made after it."""
        return self.kind.endswith("Type")

    @property
    def many(self) -> bool:
        """Whether it is an array."""
        return self.words.get("data_type", "").endswith("[]")


class Model(NamedTuple):
    """One namespace of a table."""

    letter: str
    uri: str
    version: str
    published: str
    nodes: tuple[TypeNode, ...]


@functools.cache
def read_tables(files: tuple[Path, ...] = (TYPES_FILE, TCD_FILE)) -> tuple[Model, ...]:
    """Return the models of the tables, in their order."""
    return tuple(_read(files))


def _read(files: Sequence[Path]) -> Iterator[Model]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for file in files:
        for letter, model in yaml.load(file.read_text(encoding="utf-8"), loader).items():  # noqa: S506  (a safe loader)
            nodes = tuple(_node(letter, entry) for entry in model["nodes"])
            yield Model(letter, model["uri"], str(model["version"]), str(model["published"]), nodes)


def _node(letter: str, entry: str | dict[str, list[Any]]) -> TypeNode:
    line, below = (entry, []) if isinstance(entry, str) else next(iter(entry.items()))
    match = _LINE.fullmatch(line)
    if not match:
        raise ValueError(f"no node is written {line!r}")
    kind, number, rest = match.groups()
    name, *marks = rest.split(" ")
    words: dict[str, str] = {}
    for mark in marks:
        if mark in RULES:
            words["rule"] = mark
        elif mark[0] in _MARKS:
            words[_MARKS[mark[0]]] = mark[1:]
        else:
            words[mark] = mark
    relations: list[tuple[str, str]] = []
    extras: dict[str, Any] = {}
    children: list[TypeNode] = []
    for item in below:
        if isinstance(item, str) and item.split(" ")[0] in {"GeneratesEvent", "HasInterface"}:
            reference, _, target = item.partition(" ")
            relations.append((reference, target))
        elif isinstance(item, dict) and next(iter(item)) in {"values", "fields", "encodings", "arguments"}:
            extras.update(item)
        else:
            children.append(_node(letter, item))
    return TypeNode(
        kind,
        letter,
        None if number == "-" else int(number),
        name,
        words,
        tuple(relations),
        extras,
        tuple(children),
    )


class Names:
    """What the names and letters of tables mean in one server."""

    def __init__(self, spaces: Mapping[str, int], models: Sequence[Model]) -> None:
        self.spaces = {"": 0, "own": _OWN, **spaces}
        """Namespace index of each letter."""
        self._types = {
            node.name: self.numbered(model.letter, node.number, node.name)
            for model in models
            for node in model.nodes
        }
        self._encodings = {
            (node.name, encoding): self.numbered(model.letter, number, "")
            for model in models
            for node in model.nodes
            for encoding, number in node.extras.get("encodings", {}).items()
        }

    def numbered(self, letter: str, number: int | None, path: str) -> ua.NodeId:
        """Return a node's id; one without a number has its path, in the server's own namespace."""
        identifier: Any = path if number is None else number
        return ua.NodeId(identifier, self.spaces["own" if number is None else letter])  # type: ignore[arg-type]

    def qualified(self, name: str) -> ua.QualifiedName:
        """Return the browse name that is written ``letter:name``."""
        letter, _, text = name.partition(":")
        if letter not in self.spaces or not text:
            letter, text = "", name
        return ua.QualifiedName(text, self.spaces[letter])

    def letter(self, name: ua.QualifiedName) -> str:
        """Return the browse name as tables write it."""
        letters = {index: letter for letter, index in self.spaces.items()}
        letter = letters.get(name.NamespaceIndex, str(name.NamespaceIndex))
        return f"{letter}:{name.Name}" if letter else name.Name

    def type(self, name: str) -> ua.NodeId:
        """Return the node of a type by its name."""
        found = self._types.get(name)
        if found is not None:
            return found
        number = getattr(ObjectIds, name, None)
        if number is None:
            raise ValueError(f"there is no type {name}")
        return ua.NodeId(number)

    def encoding(self, name: str, encoding: str) -> ua.NodeId:
        """Return the node of a structure's encoding."""
        return self._encodings[name, encoding]
