"""What structures are made of, asked from a server that is played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.binary import EXTENSION_OBJECT, VARIANT
from edge_agent.sources.opcua.datatypes import learn
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.session import ServiceFault
from edge_agent.sources.opcua.structures import Field, Form, Structure, Types
from shopfloor.errors import SourceUnavailable

DOUBLE, INT32, STRING = 11, 6, 12


def node(number: int, namespace: int = 2) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number), ua.Int16(namespace))


def field(name: str, data_type: ua.NodeId, *, rank: int = -1, optional: bool = False) -> ua.StructureField:
    return ua.StructureField(
        Name=cast("Any", name),
        DataType=data_type,
        ValueRank=cast("Any", rank),
        IsOptional=cast("Any", optional),
    )


class PlayedServer:
    """A session with a server that has these data types."""

    def __init__(self) -> None:
        self.definitions: dict[int, Any] = {}
        self.abstract: set[int] = set()
        self.parents: dict[int, ua.NodeId] = {}
        self.data_type_of: dict[int, ua.NodeId] = {}
        self.requests = 0
        self.fault = 0

    def structure(
        self,
        number: int,
        *fields: ua.StructureField,
        kind: ua.StructureType = ua.StructureType.Structure,
    ) -> None:
        """Have structure ``number``, whose encoding has the number after it."""
        self.definitions[number] = ua.StructureDefinition(
            DefaultEncodingId=node(number + 1), StructureType=kind, Fields=list(fields)
        )
        self.parents[number] = node(22, 0)
        self.data_type_of[number + 1] = node(number)

    async def read_attributes(
        self, nodes: Sequence[ua.NodeId], attribute: AttributeIds
    ) -> list[ua.DataValue]:
        self.requests += 1
        return [self._attribute(int(each.Identifier), attribute) for each in nodes]

    def _attribute(self, number: int, attribute: AttributeIds) -> ua.DataValue:
        if attribute == AttributeIds.IsAbstract:
            return ua.DataValue(ua.Variant(number in self.abstract, ua.VariantType.Boolean))
        if number not in self.definitions:
            code = ua.StatusCode(ua.UInt32(StatusCodes.BadAttributeIdInvalid))
            return ua.DataValue(ua.Variant(), code)
        return ua.DataValue(ua.Variant(self.definitions[number], ua.VariantType.ExtensionObject))

    async def in_batches(self, _service: str, items: Any, send: Any, _most: int) -> Any:
        return await send(items)

    async def ask(self, request: Any, _response: type[Any]) -> Any:
        self.requests += 1
        if self.fault:
            raise ServiceFault("Browse", self.fault)
        answer = ua.BrowseResponse()
        answer.Results = []
        for description in request.Parameters.NodesToBrowse:
            number = int(description.NodeId.Identifier)
            encoding = description.ReferenceTypeId.Identifier == ObjectIds.HasEncoding
            target = (self.data_type_of if encoding else self.parents).get(number)
            reference: Any = ua.ReferenceDescription(NodeId=cast("Any", target))
            answer.Results.append(ua.BrowseResult(References=[reference] if target is not None else []))
        return answer


async def learned(server: PlayedServer, number: int) -> Structure | str:
    types = Types()
    await learn(cast("Any", server), types, [f"ns=2;i={number + 1}"])
    found = types.by_encoding[f"ns=2;i={number + 1}"]
    assert types.by_data_type.get(f"ns=2;i={number}", found) == found
    return found


async def test_fields_of_built_in_types_and_of_types_that_come_from_them() -> None:
    server = PlayedServer()
    server.parents |= {290: node(DOUBLE, 0), 50: node(290, 0), 60: node(29, 0)}
    server.structure(
        10,
        field("Speed", node(DOUBLE, 0)),
        field("RunTime", node(50)),
        field("Mode", node(60)),
        field("Names", node(STRING, 0), rank=1),
        field("Grid", node(INT32, 0), rank=2),
        field("Any", node(24, 0)),
        field("Number", node(26, 0)),
        field("Part", node(22, 0)),
    )
    assert await learned(server, 10) == Structure(
        "ns=2;i=10",
        Form.PLAIN,
        (
            Field("speed", DOUBLE),
            Field("run_time", DOUBLE),
            Field("mode", INT32, enumeration="ns=2;i=60"),
            Field("names", STRING, rank=1),
            Field("grid", INT32, rank=2),
            Field("any", VARIANT),
            Field("number", VARIANT),
            Field("part", EXTENSION_OBJECT),
        ),
    )


def named(number: int, text: str) -> ua.EnumField:
    return ua.EnumField(Value=ua.Int64(number), DisplayName=ua.LocalizedText(Text=ua.String(text)))


class Properties(PlayedServer):
    """Enumeration 60 has no definition, but EnumStrings; or not even these may be asked for."""

    limits = Limits()
    refusal = 0

    async def call(self, request: Any) -> bytes:
        if self.refusal:
            raise ServiceFault("TranslateBrowsePathsToNodeIds", self.refusal)
        response: Any = ua.TranslateBrowsePathsToNodeIdsResponse()
        strings = b"EnumStrings" in request.parameters
        target = ua.BrowsePathTarget(TargetId=cast("Any", node(600)))
        response.Results = [ua.BrowsePathResult(Targets=[target] if strings else [])]
        return struct_to_binary(response)

    async def ask(self, request: Any, response: type[Any]) -> Any:
        if response is not ua.ReadResponse:
            return await super().ask(request, response)
        names = [ua.LocalizedText(Text=ua.String(name)) for name in ("Off", "Auto")]
        return ua.ReadResponse(Results=[ua.DataValue(ua.Variant(names, ua.VariantType.LocalizedText))])


async def test_names_of_enumerations_in_structures() -> None:
    server = PlayedServer()
    server.parents[60] = node(29, 0)
    server.definitions[60] = ua.EnumDefinition(Fields=[named(0, "Off"), named(-3, "Broken")])
    server.structure(10, field("Mode", node(60)))
    types = Types(named=True)
    await learn(cast("Any", server), types, ["ns=2;i=11"])
    assert types.enumerations == {"ns=2;i=60": {0: "Off", -3: "Broken"}}


@pytest.mark.parametrize(
    ("wanted", "fault", "names"),
    [
        (True, 0, {"ns=2;i=60": {0: "Off", 1: "Auto"}}),
        (False, 0, {}),
        (True, StatusCodes.BadUserAccessDenied, {}),
    ],
)
async def test_names_that_are_in_no_definition_are_asked_for_where_somebody_wants_them(
    wanted: bool, fault: int, names: dict[str, dict[int, str]]
) -> None:
    server = Properties()
    server.parents[60] = node(29, 0)
    server.structure(10, field("Mode", node(60)))
    server.refusal = fault
    types = Types(named=wanted)
    await learn(cast("Any", server), types, ["ns=2;i=11"])
    assert types.enumerations == names
    made = types.by_data_type["ns=2;i=10"]
    assert isinstance(made, Structure), "it is read without names all the same"


async def test_optional_fields_unions_and_subtyped_values() -> None:
    server = PlayedServer()
    kinds = ua.StructureType
    fields = field("A", node(DOUBLE, 0), optional=True), field("B", node(40), optional=True)
    server.structure(40, field("X", node(DOUBLE, 0)))
    plain = Field("a", DOUBLE), Field("b", EXTENSION_OBJECT, "ns=2;i=40")
    optional = tuple(each._replace(optional=True) for each in plain)
    subtyped = Field("a", VARIANT), Field("b", EXTENSION_OBJECT)
    for kind, form, made in (
        (kinds.StructureWithOptionalFields, Form.OPTIONAL, optional),
        (kinds.Union, Form.UNION, plain),
        (kinds.StructureWithSubtypedValues, Form.PLAIN, subtyped),
        (kinds.UnionWithSubtypedValues, Form.UNION, subtyped),
    ):
        server.structure(10, *fields, kind=kind)
        assert await learned(server, 10) == Structure("ns=2;i=10", form, made)


async def test_an_abstract_structure_comes_in_its_frame() -> None:
    server = PlayedServer()
    server.structure(40)
    server.abstract.add(40)
    server.structure(10, field("Part", node(40)))
    assert await learned(server, 10) == Structure("ns=2;i=10", Form.PLAIN, (Field("part", EXTENSION_OBJECT),))


async def test_structures_in_structures_also_in_themselves_and_well_known_ones() -> None:
    server = PlayedServer()
    server.structure(
        10, field("Next", node(10), rank=1), field("Limits", node(884, 0)), field("Axis", node(40))
    )
    server.structure(40, field("Home", node(10)))
    types = Types()
    await learn(cast("Any", server), types, ["ns=2;i=11"])
    assert set(types.by_data_type) == {"ns=2;i=10", "ns=2;i=40", "i=884"}
    asked = server.requests
    await learn(cast("Any", server), types, ["ns=2;i=11", "i=886"])
    assert server.requests == asked


async def test_a_field_of_a_type_that_nobody_explains_makes_the_structure_unknown() -> None:
    server = PlayedServer()
    server.parents[77] = node(22, 0)
    server.structure(10, field("Odd", node(77)))
    assert await learned(server, 10) == (
        "the server does not tell what data type ns=2;i=77 is, which lies in structure ns=2;i=10"
    )


async def test_what_has_no_definition_is_named() -> None:
    assert await learned(PlayedServer(), 10) == "the server does not tell what structure ns=2;i=11 is made of"


async def test_a_server_that_does_not_browse_is_named() -> None:
    server = PlayedServer()
    server.fault = StatusCodes.BadServiceUnsupported
    assert await learned(server, 10) == (
        "the server does not tell what structures it has: Browse: BadServiceUnsupported"
    )


async def test_a_connection_that_breaks_is_no_answer() -> None:
    class Broken(PlayedServer):
        async def ask(self, _request: Any, _response: type[Any]) -> Any:
            raise SourceUnavailable("the connection is closed")

    types = Types()
    with pytest.raises(SourceUnavailable):
        await learn(cast("Any", Broken()), types, ["ns=2;i=11"])
    assert types.by_encoding == {}
