"""Published nodesets instead of our tables: their types, as XML files in a folder that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds

from shopfloor.errors import ConfigError
from simulators.protocols.opcua_typenodes import add_types
from simulators.protocols.opcua_types import NAMESPACES, Names, read_tables

_XML: Final = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
_UA: Final = "http://opcfoundation.org/UA/"
_NEEDED: Final = ("di", "gen", "imm")
_MACHINERY: Final = "http://opcfoundation.org/UA/Machinery/"
_MAX_BYTES: Final = 64 * 2**20
_MACHINE: Final = "imm:IMM_MES_InterfaceType"


class Nodeset(NamedTuple):
    """A file, and what it says of itself."""

    file: Path
    uri: str
    required: frozenset[str]


def find_nodesets(folder: Path) -> list[Nodeset]:
    """Return the nodesets that a EUROMAP 77 server needs, and Machinery and TCD if there, each after what it requires.

    Raises:
        ConfigError: the folder or a file can't be read, is not XML (at which line), or a nodeset is missing.
    """
    try:
        files = sorted(folder.glob("*.xml"))
        if not folder.is_dir():
            raise ConfigError([f"{folder}: no folder"])
    except OSError as error:
        raise ConfigError([f"{folder}: {error.strerror or error}"]) from error
    problems: list[str] = []
    known: dict[str, Nodeset] = {}
    for file in files:
        try:
            nodeset = _read(file)
        except ConfigError as error:
            problems += error.problems
            continue
        if nodeset.uri in known:
            problems.append(f"{file}: {nodeset.uri} is in {known[nodeset.uri].file.name} already")
        known[nodeset.uri] = nodeset
    missing = [NAMESPACES[letter] for letter in _NEEDED if NAMESPACES[letter] not in known]
    if missing and not problems:
        problems = [f"{folder}: no nodeset of {uri}" for uri in missing]
    if problems:
        raise ConfigError(problems)
    wanted = [*(NAMESPACES[letter] for letter in _NEEDED), _MACHINERY, NAMESPACES["tcd"]]
    return _ordered({uri: known[uri] for uri in wanted if uri in known}, folder)


def _read(file: Path) -> Nodeset:
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError([f"{file}: {size} bytes; a nodeset has at most {_MAX_BYTES}"])
        root = ET.parse(file).getroot()  # noqa: S314  (bounded, from a folder that the user names)
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror or error}"]) from error
    except ET.ParseError as error:
        line, column = error.position
        raise ConfigError(
            [f"{file}:{line}:{column + 1}: broken XML: {error.msg.partition(':')[0]}"]
        ) from error
    model = root.find(f"{_XML}Models/{_XML}Model")
    if root.tag != f"{_XML}UANodeSet" or model is None:
        raise ConfigError([f"{file}: no UANodeSet with a Model"])
    required = frozenset(item.get("ModelUri", "") for item in model.iterfind(f"{_XML}RequiredModel"))
    return Nodeset(file, model.get("ModelUri", ""), required - {_UA})


def _ordered(nodesets: dict[str, Nodeset], folder: Path) -> list[Nodeset]:
    done: list[Nodeset] = []
    left = dict(nodesets)
    while left:
        ready = [item for item in left.values() if not item.required & left.keys()]
        problems = [
            f"{item.file}: needs {uri}, of which there is no nodeset in {folder}"
            for item in left.values()
            for uri in sorted(item.required - nodesets.keys())
        ]
        if problems or not ready:
            raise ConfigError(problems or [f"{next(iter(left.values())).file}: requires itself"])
        for item in ready:
            done.append(item)
            del left[item.uri]
    return done


async def load_nodesets(server: Server, nodesets: list[Nodeset]) -> Names:
    """Put the nodesets' nodes into a server, and from our tables what they don't hold; return what names mean there.

    Raises:
        ConfigError: a file does not load, or defines other types than OPC 40077 does.
    """
    for nodeset in nodesets:
        try:
            await server.import_xml(str(nodeset.file))
        except Exception as error:
            raise ConfigError([f"{nodeset.file}: does not load: {type(error).__name__}: {error}"]) from error
    loaded = {nodeset.uri for nodeset in nodesets}
    models = read_tables()
    added = await add_types(server, models, [model for model in models if model.uri not in loaded])
    kind = added.type(_MACHINE)
    held = server.iserver.aspace.read_attribute_value(kind, AttributeIds.BrowseName)
    value = held.Value.Value if held.Value else None
    if not isinstance(value, ua.QualifiedName) or added.letter(value) != _MACHINE:
        file = next(item.file for item in nodesets if item.uri == NAMESPACES["imm"])
        raise ConfigError([f"{file}: {kind.to_string()} is not IMM_MES_InterfaceType"])
    return added
