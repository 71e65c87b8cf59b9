"""Makes `euromap77_types.yaml` from the published nodesets: names, ids, types and rules of what EUROMAP 77 uses.

    python -m simulators.protocols.euromap77_extract FOLDER

FOLDER holds the NodeSet2 files of DI, OPC 40083 and OPC 40077. To be run again when one of the three moves.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree as ET

import yaml
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols.opcua_types import NAMESPACES, TYPES_FILE

_XML: Final = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
_UAX: Final = "{http://opcfoundation.org/UA/2008/02/Types.xsd}"
_HEADER: Final = """\
# Names, numbers, types and rules of the nodes that a EUROMAP 77 machine uses, as OPC 10000-100 (DI), OPC 40083 and
# OPC 40077 publish them. Written by simulators/protocols/euromap77_extract.py; how to read it: opcua_types.py.
"""
_ROOTS: Final = (
    # The machine, its events, and the subtypes that its placeholders are filled with.
    *(
        "imm:IMM_MES_InterfaceType",
        "imm:InjectionUnitCycleParametersType",
        "imm:IMMMessageClassificationEnumeration",
    ),
    *("gen:CycleParametersEventType", "gen:MouldCycleParametersType", "gen:MessageConditionType"),
    *(
        "gen:TemperatureZoneCycleParametersType",
        "gen:BarrelTemperatureZoneType",
        "gen:MouldTemperatureZoneType",
    ),
    *("gen:ElectricDriveType", "gen:HydraulicUnitType", "gen:LogbookEventType", "di:DeviceSet"),
    # What OPC 40082-1 takes from OPC 40083.
    *(
        "gen:IdentificationType",
        "gen:ControlledParameterType",
        "gen:ActiveErrorDataType",
        "gen:HelpOffNormalAlarmType",
    ),
    "gen:MaintenanceType",
)
_WITH_SUBTYPES: Final = ("gen:LogbookEventType",)
_RULES: Final = {78: "M", 80: "O", 11508: "OP", 11510: "MP"}
_CHILD: Final = {35: "Organizes", 46: "HasProperty", 47: "HasComponent", 17604: "HasAddIn"}
_EXTRA: Final = {41: "GeneratesEvent", 17603: "HasInterface"}
_SUBTYPE, _TYPE_DEFINITION, _RULE, _ENCODING = 45, 40, 37, 38
_NAMESPACE_METADATA: Final = ("", "11616")
_DEFAULTS: Final = {"Variable": "BaseDataVariableType", "Object": "BaseObjectType"}
_SKIPPED: Final = ("di:NetworkSet", "di:DeviceFeatures")

Id = tuple[str, str]


class _Node(NamedTuple):
    kind: str
    name: str
    element: ET.Element
    refs: list[tuple[int, bool, Id]]


class _Nodesets:
    """Every node of the files, by its namespace's letter and its identifier."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.nodes: dict[Id, _Node] = {}
        self.models: dict[str, tuple[str, str]] = {}
        for file in files:
            self._read(file)
        self.children: dict[Id, list[tuple[int, Id]]] = {}
        self.encodings: dict[Id, list[Id]] = {}
        for node_id, node in self.nodes.items():
            for reference, forward, other in node.refs:
                source, target = (node_id, other) if forward else (other, node_id)
                if reference == _ENCODING:
                    source, target = (node_id, other) if node.kind == "DataType" else (other, node_id)
                    _add(self.encodings, source, target)
                else:
                    _add(self.children, source, (reference, target))
        self.by_name = {
            node.name: node_id for node_id, node in self.nodes.items() if self._is_root(node_id, node)
        }

    def _is_root(self, node_id: Id, node: _Node) -> bool:
        metadata = self.target(node_id, _TYPE_DEFINITION) == _NAMESPACE_METADATA
        return node.kind.endswith("Type") or node.name == "di:DeviceSet" or metadata

    def _read(self, file: Path) -> None:
        root = ET.parse(file).getroot()  # noqa: S314  (files that the developer names)
        letters = {uri: letter for letter, uri in NAMESPACES.items()}
        uris = [uri.text or "" for uri in root.iterfind(f"{_XML}NamespaceUris/{_XML}Uri")]
        spaces = ["", *(letters.get(uri, uri) for uri in uris)]
        aliases = {
            alias.get("Alias"): alias.text or "" for alias in root.iterfind(f"{_XML}Aliases/{_XML}Alias")
        }
        for model in root.iterfind(f"{_XML}Models/{_XML}Model"):
            uri = model.get("ModelUri", "")
            if uri in letters:
                date = model.get("PublicationDate", "")
                self.models[letters[uri]] = (model.get("Version", ""), date)

        def identifier(text: str) -> Id:
            text = aliases.get(text, text)
            match = re.fullmatch(r"(?:ns=(\d+);)?i=(\d+)", text.strip())
            if not match:
                raise ValueError(f"{file}: {text} is no numeric node id")
            return spaces[int(match[1] or 0)], match[2]

        for element in root:
            kind = element.tag.removeprefix(f"{_XML}UA")
            if kind == element.tag:
                continue
            for holder in element.iter():
                for attribute in ("DataType", "ReferenceType"):
                    if attribute in holder.attrib:
                        holder.set(attribute, "=".join(identifier(holder.attrib[attribute])))
                if holder.tag == f"{_UAX}Identifier":
                    # Of an argument's data type: the files' own index means nothing outside of them.
                    holder.text = "=".join(identifier(holder.text or ""))
            refs = []
            for reference in element.iterfind(f"{_XML}References/{_XML}Reference"):
                space, number = reference.get("ReferenceType", "").split("=")
                if not space:
                    forward = reference.get("IsForward") != "false"
                    refs.append((int(number), forward, identifier(reference.text or "")))
            match = re.fullmatch(r"(?:(\d+):)?(.*)", element.get("BrowseName", ""))
            assert match is not None
            letter, name = spaces[int(match[1] or 0)], match[2]
            full = f"{letter}:{name}" if letter else name
            self.nodes[identifier(element.get("NodeId", ""))] = _Node(kind, full, element, refs)

    def name(self, node_id: Id) -> str:
        """Return a type's name as the table writes it."""
        if node_id[0]:
            return self.nodes[node_id].name
        names = (name for name in vars(ObjectIds) if getattr(ObjectIds, name) == int(node_id[1]))
        return next(names)

    def target(self, node_id: Id, reference: int, *, forward: bool = True) -> Id | None:
        """Return the first node that ``reference`` leads to."""
        found = (
            other for kind, ahead, other in self.nodes[node_id].refs if (kind, ahead) == (reference, forward)
        )
        return next(found, None)

    def data_type(self, node_id: Id) -> Id | None:
        text = self.nodes[node_id].element.get("DataType")
        return None if text is None else (text.split("=")[0], text.split("=")[1])


def _add(lists: dict[Id, list[Any]], key: Id, item: Any) -> None:
    if item not in lists.setdefault(key, []):
        lists[key].append(item)


def _used(sets: _Nodesets) -> set[Id]:
    """Return the roots and every type that they need."""
    metadata = [f"{letter}:{NAMESPACES[letter]}" for letter in sets.models]
    todo = [sets.by_name[name] for name in (*_ROOTS, *metadata)]
    todo += [
        node_id
        for node_id in sets.by_name.values()
        if any(sets.by_name[name] in _supertypes(sets, node_id) for name in _WITH_SUBTYPES)
    ]
    found: set[Id] = set()
    while todo:
        node_id = todo.pop()
        if node_id in found or not node_id[0] or node_id not in sets.nodes:
            continue
        found.add(node_id)
        node = sets.nodes[node_id]
        todo += [other for kind, other in sets.children.get(node_id, ()) if kind in _CHILD or kind in _EXTRA]
        related = (sets.target(node_id, _SUBTYPE, forward=False), sets.target(node_id, _TYPE_DEFINITION))
        todo += [other for other in (*related, sets.data_type(node_id)) if other is not None]
        for holder in node.element.iter():
            named = holder.attrib.get("DataType") or (
                holder.text if holder.tag == f"{_UAX}Identifier" else ""
            )
            if named:
                space, _, number = named.partition("=")
                todo.append((space, number))
    return {node_id for node_id in found if node_id in sets.by_name.values()}


def _supertypes(sets: _Nodesets, node_id: Id) -> Iterator[Id]:
    above = sets.target(node_id, _SUBTYPE, forward=False)
    while above is not None and above[0]:
        yield above
        above = sets.target(above, _SUBTYPE, forward=False)


def _line(sets: _Nodesets, node_id: Id, reference: int | None) -> str:
    node = sets.nodes[node_id]
    kind = node.kind
    words = [node_id[1], node.name]
    data_type, type_id = sets.data_type(node_id), sets.target(node_id, _TYPE_DEFINITION)
    if kind in {"Variable", "VariableType"}:
        many = "[]" if node.element.get("ValueRank") == "1" else ""
        words.append(f"={sets.name(data_type) if data_type else 'BaseDataType'}{many}")
    if type_id and (name := sets.name(type_id)) != _DEFAULTS.get(kind):
        if name == "PropertyType":
            kind = "Property"
        else:
            words.append(f":{name}")
    above = sets.target(node_id, _SUBTYPE, forward=False)
    if above:
        words.append(f"<{sets.name(above)}")
    if node.element.get("IsAbstract") == "true":
        words.append("abstract")
    rule = sets.target(node_id, _RULE)
    if rule:
        words.append(_RULES[int(rule[1])])
    if reference is not None and _CHILD[reference] != (
        "HasProperty" if kind == "Property" else "HasComponent"
    ):
        words.append(f"~{_CHILD[reference]}")
    return " ".join([kind, *words])


def _entry(sets: _Nodesets, node_id: Id, reference: int | None = None) -> Any:
    """Return a node as the table holds it: its line, with what is below it."""
    line = _line(sets, node_id, reference)
    below: list[Any] = []
    node = sets.nodes[node_id]
    fields = node.element.findall(f"{_XML}Definition/{_XML}Field")
    if fields and fields[0].get("Value") is not None:
        below.append({"values": {int(field.get("Value", "")): field.get("Name", "") for field in fields}})
    elif fields:
        below.append({"fields": {field.get("Name", ""): _field_type(sets, field) for field in fields}})
    if encodings := sets.encodings.get(node_id):
        ids = {sets.nodes[other].name: int(other[1]) for other in encodings}
        below.append({"encodings": dict(sorted(ids.items()))})
    arguments = list(_arguments(sets, node.element))
    if arguments:
        below.append({"arguments": dict(arguments)})
    children = sets.children.get(node_id, ())
    ordered = sorted(children, key=lambda child: (child[0] in _EXTRA, int(child[1][1])))
    for kind, other in ordered:
        if kind in _EXTRA:
            below.append(f"{_EXTRA[kind]} {sets.name(other)}")
        elif kind in _CHILD and other in sets.nodes and sets.nodes[other].name not in _SKIPPED:
            below.append(_entry(sets, other, kind))
    return {line: below} if below else line


def _field_type(sets: _Nodesets, field: ET.Element) -> str:
    space, _, number = field.get("DataType", "=24").partition("=")
    many = "[]" if field.get("ValueRank") == "1" else ""
    return f"{sets.name((space, number))}{many}"


def _arguments(sets: _Nodesets, element: ET.Element) -> Iterator[tuple[str, str]]:
    if element.get("BrowseName") not in {"InputArguments", "OutputArguments"}:
        return
    for argument in element.iter(f"{_UAX}Argument"):
        space, _, number = argument.findtext(f"{_UAX}DataType/{_UAX}Identifier", "=24").partition("=")
        many = "[]" if argument.findtext(f"{_UAX}ValueRank", "-1").strip() == "1" else ""
        yield argument.findtext(f"{_UAX}Name", "").strip(), f"{sets.name((space, number))}{many}"


def extract(folder: Path) -> str:
    """Return the table's text, from the NodeSet2 files in ``folder``."""
    sets = _Nodesets(sorted(folder.glob("*.NodeSet2.xml")))
    used = _used(sets)
    table: dict[str, Any] = {}
    for letter, uri in NAMESPACES.items():
        version, date = sets.models.get(letter, ("", ""))
        if not version:
            continue
        ids = [node_id for node_id in used if node_id[0] == letter]
        # Types below their supertypes, data types first, since variables name them.
        order = {"ReferenceType": 0, "DataType": 1, "VariableType": 2, "ObjectType": 3, "Object": 4}
        ids.sort(key=lambda i: (order[sets.nodes[i].kind], len(list(_supertypes(sets, i))), int(i[1])))
        nodes = [_entry(sets, node_id) for node_id in ids]
        table[letter] = {"uri": uri, "version": version, "published": date, "nodes": nodes}
    body: str = yaml.safe_dump(table, sort_keys=False, width=1_000, allow_unicode=True)
    return _HEADER + body


def main() -> None:
    """Write the table."""
    TYPES_FILE.write_text(extract(Path(sys.argv[1])), encoding="utf-8")


if __name__ == "__main__":
    main()
