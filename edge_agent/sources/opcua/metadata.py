"""What a server says about its variables beside their values: units, ranges, descriptions, names of enumerations."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_agent.sources.opcua.binary import (
    LOCALIZED_TEXT,
    U32,
    MalformedMessage,
    read_bytes,
    read_length,
    skip_node_id,
    skip_variant,
)
from edge_agent.sources.opcua.decode import read_header
from edge_agent.sources.opcua.requests import EncodedRequest
from edge_agent.sources.opcua.session import TOO_MUCH, ServiceFault, Session
from edge_agent.sources.opcua.units import ucum
from shopfloor.errors import SourceUnavailable

_NODES_A_REQUEST: Final = 1_000
"""At most: small enough that nothing else waits for it."""
_MAX_NAMES: Final = 10_000
"""Values of one enumeration."""
_HAS_PROPERTY: Final = nodeid_to_binary(ua.TwoByteNodeId(ua.Int32(ObjectIds.HasProperty)))
_TRANSLATE: Final = nodeid_to_binary(
    ua.FourByteNodeId(
        ua.Int32(ObjectIds.TranslateBrowsePathsToNodeIdsRequest_Encoding_DefaultBinary), ua.Int16(0)
    )
)
_READ: Final = nodeid_to_binary(
    ua.FourByteNodeId(ua.Int32(ObjectIds.ReadRequest_Encoding_DefaultBinary), ua.Int16(0))
)
_REMOTE: Final = 0xC0
"""An ExpandedNodeId of another server, or with a URI of its own (Part 6 §5.2.2.10)."""
_VALUE: Final = 0x01
_BESIDE_VALUE: Final = ((0x02, 4), (0x04, 8), (0x10, 2), (0x08, 8), (0x20, 2))
"""Bits of a DataValue's mask and what they stand for takes (Part 6 §5.2.2.17)."""
_LOCALE, _TEXT = 0x01, 0x02
"""Bits of a LocalizedText (Part 6 §5.2.2.14)."""
RawNodeId = bytes


class Metadata(NamedTuple):
    """Of one variable; empty where the server says nothing."""

    unit: str
    """Of its values as the server has them: UCUM where we know it, else as the server shows it."""
    description: str
    low: float | None
    """EURange: what its values normally lie in."""
    high: float | None


async def read_metadata(session: Session, nodes: Sequence[ua.NodeId]) -> list[Metadata]:
    """Return what the server says about variables: Description, EngineeringUnits, EURange (Part 8 §5.3.2).

    Raises:
        ServiceFault: the server refuses to tell.
        SourceUnavailable: it does not answer.
    """
    found: list[Metadata] = []
    size = _size(session)
    while len(found) < len(nodes):
        part = [nodeid_to_binary(node) for node in nodes[len(found) : len(found) + size]]
        try:
            found.extend(await _read_part(session, part))
        except ServiceFault as fault:
            if len(part) == 1 or fault.code not in TOO_MUCH:
                raise
            size = max(1, len(part) // 2)
    return found


async def read_enumerations(
    session: Session, nodes: Sequence[ua.NodeId], known: dict[ua.NodeId, Mapping[int, str]]
) -> list[Mapping[int, str]]:
    """Return the names of the values of variables, empty where they are no enumerations (Part 3 §5.8.3).

    Args:
        session: the server.
        nodes: variables.
        known: the names of data types, which this adds to.
    """
    kinds = [
        value.Value.Value if value.Value is not None else None
        for value in await session.read_attributes(nodes, AttributeIds.DataType)
    ]
    wanted = [
        kind
        for kind in dict.fromkeys(kinds)
        if isinstance(kind, ua.NodeId) and kind not in known and _may_be_enumeration(kind)
    ]
    known.update(zip(wanted, await names_of_values(session, wanted), strict=True))
    found = [known.get(kind, {}) if isinstance(kind, ua.NodeId) else {} for kind in kinds]
    # MultiStateDiscreteType and MultiStateValueDiscreteType carry their names themselves (Part 8 §5.3.3).
    nameless = [number for number, names in enumerate(found) if not names]
    own = await names_of_values(session, [nodes[number] for number in nameless])
    for number, names in zip(nameless, own, strict=True):
        found[number] = names
    return found


async def names_of_values(session: Session, nodes: Sequence[ua.NodeId]) -> list[Mapping[int, str]]:
    """Return what EnumStrings or EnumValues of data types or variables say, empty where there are none.

    Raises:
        ServiceFault: the server refuses to tell.
        SourceUnavailable: it does not answer.
    """
    found: list[Mapping[int, str]] = []
    for start in range(0, len(nodes), _size(session)):
        raw = [nodeid_to_binary(node) for node in nodes[start : start + _size(session)]]
        names: dict[int, Mapping[int, str]] = {}
        for browse_name, read in (("EnumStrings", _strings), ("EnumValues", _values)):
            there = await _properties(session, raw, browse_name)
            answers = await _read(session, list(there.values()))
            for number, value in zip(there, answers, strict=True):
                names[number] = read(value) or names.get(number, {})
        found += [names.get(number, {}) for number in range(len(raw))]
    return found


def _size(session: Session) -> int:
    return max(1, min(session.limits.translate, session.limits.read, _NODES_A_REQUEST))


async def _read_part(session: Session, nodes: Sequence[RawNodeId]) -> list[Metadata]:
    descriptions = await _descriptions(session, nodes)
    units: dict[int, str] = {}
    ranges: dict[int, tuple[float, float]] = {}
    for browse_name in ("EngineeringUnits", "EURange"):
        there = await _properties(session, nodes, browse_name)
        for number, value in zip(there, await _read(session, list(there.values())), strict=True):
            if isinstance(value, ua.EUInformation):
                units[number] = ucum(int(value.UnitId), str(value.DisplayName.Text or ""))
            elif isinstance(value, ua.Range):
                ranges[number] = float(value.Low), float(value.High)
    return [
        Metadata(units.get(number, ""), descriptions.get(number, ""), *ranges.get(number, (None, None)))
        for number in range(len(nodes))
    ]


async def _properties(session: Session, nodes: Sequence[RawNodeId], name: str) -> dict[int, RawNodeId]:
    """Return the property of that name (of OPC UA's own namespace) of each node that has it, by position."""
    text = name.encode()
    # RelativePath (Part 4 §7.30) of one element: the reference, not inverse, with subtypes, the name.
    way = struct.pack("<i", 1) + _HAS_PROPERTY + b"\0\1" + struct.pack("<Hi", 0, len(text)) + text
    parameters = b"".join([struct.pack("<i", len(nodes)), *(node + way for node in nodes)])
    body = await session.call(EncodedRequest("TranslateBrowsePathsToNodeIds", _TRANSLATE, parameters))
    try:
        return _first_targets(body, len(nodes))
    except (struct.error, IndexError, MalformedMessage) as error:
        raise SourceUnavailable(f"TranslateBrowsePathsToNodeIds: malformed answer: {error}") from error


def _first_targets(body: bytes, paths: int) -> dict[int, RawNodeId]:
    """Read where paths lead (Part 4 §5.8.4), by position."""
    count, at = read_length(body, read_header(body).at)
    if count != paths:
        raise MalformedMessage(f"{count} results for {paths} paths")
    found: dict[int, RawNodeId] = {}
    for number in range(count):
        (status,) = U32.unpack_from(body, at)
        targets, at = read_length(body, at + 4)
        for _ in range(targets):
            start, at = at, skip_node_id(body, at) + 4
            if status >> 30 == 0 and not body[start] & _REMOTE:
                found.setdefault(number, body[start : at - 4])
    return found


def _read_request(nodes: Sequence[RawNodeId], attribute: AttributeIds) -> EncodedRequest:
    """Return a Read (Part 4 §5.11.2) without timestamps."""
    # ReadValueId: attribute, no index range, no data encoding.
    wanted = struct.pack("<IiHi", attribute, -1, 0, -1)
    head = struct.pack("<dIi", 0.0, ua.TimestampsToReturn.Neither, len(nodes))
    return EncodedRequest("Read", _READ, b"".join([head, *(node + wanted for node in nodes)]))


async def _descriptions(session: Session, nodes: Sequence[RawNodeId]) -> dict[int, str]:
    """Return the Description of each node that has one, by position."""
    body = await session.call(_read_request(nodes, AttributeIds.Description))
    try:
        return _localized_texts(body, len(nodes))
    except (struct.error, IndexError, MalformedMessage) as error:
        raise SourceUnavailable(f"Read: malformed answer: {error}") from error


def _localized_texts(body: bytes, nodes: int) -> dict[int, str]:
    """Read a ReadResponse whose values are LocalizedTexts or nothing; there are many, and most are empty."""
    count, at = read_length(body, read_header(body).at)
    if count != nodes:
        raise MalformedMessage(f"{count} results for {nodes} nodes")
    found: dict[int, str] = {}
    for number in range(count):
        mask = body[at]
        at += 1
        if mask & _VALUE:
            if body[at] == LOCALIZED_TEXT:
                parts = body[at + 1]
                at += 2
                if parts & _LOCALE:
                    _, at = read_bytes(body, at)
                if parts & _TEXT:
                    raw, at = read_bytes(body, at)
                    if raw:
                        found[number] = raw.decode("utf-8", "replace")
            else:
                at = skip_variant(body, at, 0)
        if mask > _VALUE:
            at += sum(size for bit, size in _BESIDE_VALUE if mask & bit)
    return found


async def _read(session: Session, nodes: Sequence[RawNodeId]) -> list[Any]:
    """Return the values of nodes, None where there is none."""
    if not nodes:
        return []
    answer = await session.ask(_read_request(nodes, AttributeIds.Value), ua.ReadResponse)
    if len(answer.Results) != len(nodes):
        raise SourceUnavailable(f"Read: {len(answer.Results)} results for {len(nodes)} nodes")
    return [result.Value.Value if result.Value is not None else None for result in answer.Results]


def _may_be_enumeration(kind: ua.NodeId) -> bool:
    """Rule out the built-in types and numbers, which no enumeration is (Part 6 §5.1.2)."""
    built_in = 29
    return not (kind.NamespaceIndex == 0 and isinstance(kind.Identifier, int) and kind.Identifier < built_in)


def _strings(value: Any) -> dict[int, str]:
    """Read EnumStrings: the names of the numbers from 0 on."""
    if not isinstance(value, list):
        return {}
    names = {number: _words(text) for number, text in enumerate(value[:_MAX_NAMES])}
    return {number: name for number, name in names.items() if name}


def _values(value: Any) -> dict[int, str]:
    """Read EnumValues: each value with its name."""
    if not isinstance(value, list):
        return {}
    return {
        int(entry.Value): _words(entry.DisplayName)
        for entry in value[:_MAX_NAMES]
        if isinstance(entry, ua.EnumValueType)
    }


def _words(text: Any) -> str:
    return str(text.Text or "") if isinstance(text, ua.LocalizedText) else ""
