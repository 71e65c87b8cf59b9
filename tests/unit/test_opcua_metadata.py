"""What servers say about their variables, decoded as it is and as asyncua encodes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.metadata import Metadata, read_enumerations, read_metadata
from edge_agent.sources.opcua.requests import EncodedRequest
from edge_agent.sources.opcua.session import ServiceFault, Session
from shopfloor.errors import SourceUnavailable

_REQUESTS = {"Read": ua.ReadRequest, "TranslateBrowsePathsToNodeIds": ua.TranslateBrowsePathsToNodeIdsRequest}


class Played:
    """A server that knows properties by node and name, and values by node."""

    def __init__(self, values: Mapping[str, Any], most: int = 1_000) -> None:
        self.values = values
        self.limits = Limits()
        self.most = most
        self.sizes: list[int] = []

    async def call(self, request: EncodedRequest) -> bytes:
        await asyncio.sleep(0)
        asked: Any = struct_from_binary(_REQUESTS[request.name], Buffer(request.body(ua.NodeId(), 1, 1)))
        if isinstance(asked, ua.ReadRequest):
            return self._read(asked.Parameters.NodesToRead)
        paths = asked.Parameters.BrowsePaths
        self.sizes.append(len(paths))
        if len(paths) > self.most:
            raise ServiceFault("TranslateBrowsePathsToNodeIds", StatusCodes.BadTooManyOperations)
        answer: Any = ua.TranslateBrowsePathsToNodeIdsResponse()
        answer.Results = [self._way(path) for path in paths]
        return struct_to_binary(answer)

    def _way(self, path: Any) -> ua.BrowsePathResult:
        (element,) = path.RelativePath.Elements
        name = f"{path.StartingNode.Identifier}.{element.TargetName.Name}"
        if name not in self.values:
            return ua.BrowsePathResult(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadNoMatch)))
        target = ua.ExpandedNodeId(ua.String(name), ua.Int16(2))
        return ua.BrowsePathResult(Targets=[ua.BrowsePathTarget(TargetId=target)])

    def _read(self, nodes: Any) -> bytes:
        answer: Any = ua.ReadResponse()
        answer.Results = []
        for node in nodes:
            name = node.NodeId.Identifier
            if node.AttributeId == AttributeIds.Description:
                name += "#description"
            found = self.values.get(name)
            answer.Results.append(
                ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadAttributeIdInvalid)))
                if found is None
                else ua.DataValue(ua.Variant(found))
            )
        return struct_to_binary(answer)

    async def ask(self, request: EncodedRequest, response: Any) -> Any:
        return Session.parse(await self.call(request), response)

    async def read_attributes(self, nodes: Any, attribute: Any) -> list[ua.DataValue]:
        assert attribute == AttributeIds.DataType
        await asyncio.sleep(0)
        return [ua.DataValue(ua.Variant(self.values[f"{node.Identifier}#type"])) for node in nodes]


def node(name: str) -> ua.NodeId:
    return ua.NodeId(ua.String(name), ua.Int16(2))


def text(words: str | None) -> ua.LocalizedText:
    return ua.LocalizedText(words, "en")


VALUES: Mapping[str, Any] = {
    "a#description": text("Melt temperature"),
    "a.EngineeringUnits": ua.EUInformation(UnitId=ua.Int32(4408652), DisplayName=text("°C")),
    "a.EURange": ua.Range(0.0, 400.0),
    "b#description": ua.LocalizedText(),
    "b.EngineeringUnits": "not a unit",
    "c#description": 5,
    "c.EngineeringUnits": ua.EUInformation(UnitId=ua.Int32(-1), DisplayName=text("Stk")),
}
SAID = [
    Metadata("Cel", "Melt temperature", 0.0, 400.0),
    Metadata("", "", None, None),
    Metadata("Stk", "", None, None),
    Metadata("", "", None, None),
]
NODES = [node(name) for name in "abcd"]


async def test_units_ranges_and_descriptions() -> None:
    assert await read_metadata(cast("Session", Played(VALUES)), NODES) == SAID
    assert await read_metadata(cast("Session", Played(VALUES)), []) == []


async def test_a_server_that_takes_fewer_paths_is_asked_for_fewer() -> None:
    played = Played(VALUES, most=2)
    assert await read_metadata(cast("Session", played), NODES) == SAID
    assert max(played.sizes[1:]) == 2


async def test_a_server_that_refuses_is_not_asked_for_ever() -> None:
    with pytest.raises(ServiceFault):
        await read_metadata(cast("Session", Played(VALUES, most=0)), NODES)


@pytest.mark.parametrize("cut", range(1, 120, 7))
async def test_answers_that_end_too_early_are_malformed(cut: int) -> None:
    class Cutting(Played):
        async def call(self, request: EncodedRequest) -> bytes:
            return (await super().call(request))[:-cut]

    with pytest.raises(SourceUnavailable, match="malformed"):
        await read_metadata(cast("Session", Cutting(VALUES)), NODES)


async def test_enumerations_by_their_types_or_themselves() -> None:
    mode, level, double = node("Mode"), node("Level"), ua.NodeId(ua.Int32(11))
    values = {
        "a#type": mode,
        "b#type": level,
        "c#type": double,
        "d#type": mode,
        "Mode.EnumStrings": [text("Off"), text(None), text("Automatic")],
        "Level.EnumValues": [
            ua.EnumValueType(Value=ua.Int64(-1), DisplayName=text("low")),
            ua.EnumValueType(Value=ua.Int64(10), DisplayName=text("high")),
        ],
        "c.EnumStrings": [text("No"), text("Yes")],
    }
    known: dict[ua.NodeId, Mapping[int, str]] = {}
    found = await read_enumerations(cast("Session", Played(values)), NODES, known)
    assert found == [
        {0: "Off", 2: "Automatic"},
        {-1: "low", 10: "high"},
        {0: "No", 1: "Yes"},
        {0: "Off", 2: "Automatic"},
    ]
    assert set(known) == {mode, level}
