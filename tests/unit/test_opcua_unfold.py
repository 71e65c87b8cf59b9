"""Arrays and structures taken apart, held against asyncua's own decoding of them."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import pack_uatype, struct_to_binary, variant_from_binary, variant_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sources.opcua.arrays import Leaves
from edge_agent.sources.opcua.binary import EXTENSION_OBJECT, MalformedMessage
from edge_agent.sources.opcua.patterns import legal
from edge_agent.sources.opcua.structures import (
    Field,
    Form,
    Structure,
    Types,
    segments,
    standard_data_type,
    standard_encoding,
)
from edge_agent.sources.opcua.unfold import unfold
from shopfloor.block import STATUS_NOT_CONVERTIBLE
from tests.unit.opcua_values import Expected, T, expected, node_text, scalars

MOST, ROOM = 64, 6
UNCERTAIN, BAD = 0x4000_0000, 0x8002_0000
kinds = st.sampled_from(list(scalars))
arrays: st.SearchStrategy[Any] = st.tuples(kinds, st.lists(st.integers(0, 3), max_size=3)).flatmap(
    lambda pair: st.lists(
        scalars[pair[0]], min_size=math.prod(pair[1] or [3]), max_size=math.prod(pair[1] or [3])
    ).map(lambda values: ua.Variant(values, pair[0], Dimensions=cast("Any", pair[1] or None), is_array=True))
)
singles = kinds.flatmap(lambda kind: scalars[kind].map(lambda value: ua.Variant(value, kind)))
statuses: st.SearchStrategy[Any] = st.none() | st.sampled_from([0, UNCERTAIN, BAD]).map(
    lambda code: ua.StatusCode(ua.UInt32(code))
)
data_values: st.SearchStrategy[Any] = st.builds(ua.DataValue, st.none() | singles, statuses)
nested = st.lists(singles | arrays, max_size=4).map(
    lambda found: ua.Variant(found, T.Variant, is_array=True)
) | st.lists(data_values, max_size=4).map(lambda found: ua.Variant(found, T.DataValue, is_array=True))


def elements(found: Leaves) -> dict[str, tuple[Expected, int]]:
    assert len(set(found.paths)) == len(found.paths)
    return {
        path: (
            Expected(float(found.value[row]), found.text.get(row), bool(found.null[row])),
            int(found.status[row]),
        )
        for row, path in enumerate(found.paths)
    }


def flat(
    content: Any, kind: ua.VariantType, path: tuple[str, ...], status: int
) -> Iterator[tuple[str, tuple[Expected, int]]]:
    """Yield what a decoded value has to become, in order."""
    if kind is T.Variant:
        yield from of_variant(content, path, status)
    elif kind is T.DataValue:
        own = content.StatusCode.value if content.StatusCode is not None else 0
        worse = own if own >> 30 > status >> 30 else status
        if content.Value is None:
            yield ".".join(path), (Expected(null=True), worse)
        else:
            yield from of_variant(content.Value, path, worse)
    else:
        yield ".".join(path), (expected(content, kind), status)


def of_variant(
    variant: Any, path: tuple[str, ...] = (), status: int = 0
) -> Iterator[tuple[str, tuple[Expected, int]]]:
    if not variant.is_array:
        yield from flat(variant.Value, variant.VariantType, path, status)
        return
    values: list[Any] = list(ua.flatten(variant.Value) or []) if variant.Value else []
    dimensions = variant.Dimensions or []
    shape = dimensions if dimensions and min(dimensions) > 0 else [len(values)]
    if math.prod(shape) != len(values):
        shape = [len(values)]
    for index, value in zip(np.ndindex(*shape), values, strict=True):
        yield from flat(value, variant.VariantType, (*path, *map(str, index)), status)


def in_frame(body: bytes) -> bytes:
    """Return a Variant with a structure of encoding ns=2;i=5001."""
    return b"\x16\x01\x02" + struct.pack("<HBi", 5001, 1, len(body)) + body


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for path, (value, status) in wanted.items():
        assert repr(found[path]) == repr((value, status)), path


@settings(max_examples=150)
@given(arrays | nested)
def test_an_array_is_what_asyncua_makes_of_it(variant: Any) -> None:
    body = variant_to_binary(variant)
    decoded = variant_from_binary(Buffer(body))
    found = unfold(body, Types(), MOST, ROOM)
    same(elements(found), dict(of_variant(decoded)))
    assert (found.beyond, found.problems, found.unknown) == (0, (), frozenset())


@st.composite
def structures(
    draw: st.DrawFn, types: Types, name: str = "t", depth: int = 0
) -> tuple[Structure, bytes, dict[str, Any]]:
    """A structure of any fields, its bytes, and what they have to become."""
    form = draw(st.sampled_from(list(Form)))
    count = draw(st.integers(1 if form is Form.UNION else 0, 4))
    chosen = draw(st.integers(0, count)) if form is Form.UNION else 0
    fields: list[Field] = []
    bodies: list[bytes] = []
    wanted: dict[str, Any] = {}
    mask = bit = 0
    for number in range(count):
        segment = f"f{number}"
        optional = form is Form.OPTIONAL and draw(st.booleans())
        here = chosen == number + 1 if form is Form.UNION else not optional or draw(st.booleans())
        mask |= int(optional and here) << bit
        bit += optional
        if depth < 2 and draw(st.booleans()):
            nested_name = f"{name}.{number}"
            _, body, inside = draw(structures(types, nested_name, depth + 1))
            fields.append(Field(segment, EXTENSION_OBJECT, nested_name, 0, optional))
            if here:
                bodies.append(body)
                wanted |= {f"{segment}.{path}": value for path, value in inside.items()}
            continue
        kind = draw(kinds.filter(lambda kind: kind is not T.Null))
        rank = draw(st.integers(0, 2))
        fields.append(Field(segment, kind.value, "", rank, optional))
        shape = [draw(st.integers(0, 2)) for _ in range(rank)]
        values = [draw(scalars[kind]) for _ in range(math.prod(shape))]
        if here:
            frame = b"" if not rank else struct.pack("<i", shape[0])
            if rank == 2:
                frame = struct.pack("<iii", 2, *shape)
            bodies.append(frame + b"".join(pack_uatype(kind, value) for value in values))
            for index, value in zip(np.ndindex(*shape), values, strict=True):
                wanted[".".join((segment, *map(str, index)))] = expected(value, kind), 0
        elif not rank:
            wanted[segment] = Expected(null=True), 0
    head = b"" if form is Form.PLAIN else struct.pack("<I", chosen if form is Form.UNION else mask)
    structure = Structure(name, form, tuple(fields))
    types.by_data_type[name] = structure
    return structure, head + b"".join(bodies), wanted


@settings(max_examples=150)
@given(st.data())
def test_a_structure_is_what_its_definition_says(data: st.DataObject) -> None:
    types = Types()
    structure, body, wanted = data.draw(structures(types))
    types.by_encoding["ns=2;i=5001"] = structure
    found = unfold(in_frame(body), types, 1_000, 20)
    same(elements(found), wanted)
    assert found.problems == ()
    refused = unfold(in_frame(body + b"\0"), types, 1_000, 20)
    same(elements(refused), {"": (Expected(null=True), STATUS_NOT_CONVERTIBLE)})
    assert refused.problems == ("structure t is not what its definition says",)


def test_every_structure_of_asyncua_that_is_understood_is_understood_to_its_end() -> None:
    understood = 0
    for type_id, kind in ua.extension_objects_by_typeid.items():
        structure = standard_encoding(node_text(type_id), Types()) if not type_id.NamespaceIndex else None
        # asyncua leaves the length of an empty structure out.
        if structure is None or not structure.fields:
            continue
        body = variant_to_binary(ua.Variant(kind(), T.ExtensionObject))
        found = unfold(body, Types(), 10_000, 8)
        assert not [problem for problem in found.problems if "definition" in problem], kind
        understood += 1
    assert understood > 200
    assert standard_encoding("i=886", Types()) == standard_data_type("i=884", Types())


def test_well_known_structures_have_their_fields() -> None:
    unit = ua.EUInformation("http://x", ua.Int32(4408652), ua.LocalizedText("°C"), ua.LocalizedText("degree"))
    body = variant_to_binary(ua.Variant([unit, ua.Range(1.0, 2.0)], T.ExtensionObject))
    found = elements(unfold(body, Types(), MOST, ROOM))
    assert {path: value.text or value.value for path, (value, _) in found.items()} == {
        "0.namespace_uri": "http://x",
        "0.unit_id": 4408652.0,
        "0.display_name": "°C",
        "0.description": "degree",
        "1.low": 1.0,
        "1.high": 2.0,
    }


def test_what_has_no_definition_yet_is_named() -> None:
    strange: Any = ua.ExtensionObject(ua.NodeId(ua.String("Strange"), ua.Int16(3)), cast("Any", b"123"))
    body = variant_to_binary(ua.Variant([strange, ua.Range(1.0, 2.0), None], T.ExtensionObject))
    found = unfold(body, Types(), MOST, ROOM)
    assert found.unknown == {"ns=3;s=Strange"}
    assert found.paths == ("0", "1.low", "1.high", "2")
    assert found.status.tolist() == [STATUS_NOT_CONVERTIBLE, 0, 0, 0]
    assert found.null.tolist() == [True, False, False, True]
    told = Types({"ns=3;s=Strange": "nobody knows"})
    assert unfold(body, told, MOST, ROOM).problems == ("nobody knows",)


def test_what_is_too_much_or_too_deep_is_counted() -> None:
    body = variant_to_binary(ua.Variant(list(range(1_000)), T.Int32))
    found = unfold(body, Types(), 10, ROOM)
    assert found.paths == tuple(map(str, range(10)))
    assert (found.value.tolist(), found.beyond) == (list(range(10)), 990)
    texts = variant_to_binary(ua.Variant(["x"] * 1_000, T.String))
    assert (len(unfold(texts, Types(), 10, ROOM).paths), unfold(texts, Types(), 10, ROOM).beyond) == (10, 990)
    ranges = variant_to_binary(ua.Variant([ua.Range()] * 3, T.ExtensionObject))
    assert unfold(ranges, Types(), 3, ROOM).paths == ("0.low", "0.high", "1.low")
    assert unfold(ranges, Types(), MOST, 1).beyond == 6
    matrix = variant_to_binary(ua.Variant([[1, 2], [3, 4]], T.Int32, Dimensions=cast("Any", [2, 2])))
    assert unfold(matrix, Types(), MOST, 1).beyond == 4
    assert unfold(matrix, Types(), MOST, 2).paths == ("0.0", "0.1", "1.0", "1.1")


def test_dimensions_that_lie_are_left_aside() -> None:
    for dimensions in ([3, 3], [-1, -4], [0], [2**31 - 1] * 4, [1] * 9):
        body = b"\xc6" + struct.pack(
            f"<iiiiii{len(dimensions)}i", 4, 1, 2, 3, 4, len(dimensions), *dimensions
        )
        assert unfold(body, Types(), MOST, 8).paths == ("0", "1", "2", "3")


def test_integers_that_no_double_can_be_are_counted() -> None:
    for kind, values in (
        (T.Int64, [2**53, 2**53 + 1, -(2**53) - 1, -(2**63), 2**63 - 1]),
        (T.UInt64, [2**53, 2**53 + 1, 2**64 - 1, 2**63, 2**60 + 2**10]),
    ):
        wrong = sum(int(float(value)) != value for value in values)
        assert unfold(variant_to_binary(ua.Variant(values, kind)), Types(), MOST, ROOM).rounded == wrong
        mixed = ua.Variant([ua.Variant(value, kind) for value in values], T.Variant)
        assert unfold(variant_to_binary(mixed), Types(), MOST, ROOM).rounded == wrong


def test_what_lies_in_itself_too_often_is_refused() -> None:
    body = b"\x98" + b"\1\0\0\0\x98" * 40 + b"\0\0\0\0"
    with pytest.raises(MalformedMessage):
        unfold(body, Types(), MOST, ROOM)
    types = Types({"i=9": Structure("loop", Form.PLAIN, (Field("f", EXTENSION_OBJECT, "loop"),))})
    types.by_data_type["loop"] = types.by_encoding["i=9"]
    found = unfold(b"\x16\x00\x09\x01\x04\0\0\0abcd", types, MOST, ROOM)
    assert found.problems == ("structure loop is not what its definition says",)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_rubbish_is_refused_or_taken_apart(body: bytes, most: int) -> None:
    types = Types({f"i={number}": Structure("e", Form.PLAIN, ()) for number in range(4)})
    try:
        found = unfold(body, types, most, ROOM)
    except MalformedMessage:
        return
    assert len(found.paths) == len(found.value) == len(found.null) == len(found.status) <= most


@pytest.mark.parametrize("kind", [1, 11, 12, 13, 21, 22, 23, 24])
def test_a_count_that_lies_costs_no_memory(kind: int) -> None:
    body = bytes([0x80 | kind]) + struct.pack("<i", 2**31 - 1) + bytes(100)
    nothing = bytes([0x80]) + struct.pack("<i", 1_000_000) + bytes(1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            unfold(body, Types(), 10_000, ROOM)
        assert len(unfold(nothing, Types(), 100, ROOM).paths) == 100
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_empty_structures_do_not_take_for_ever() -> None:
    empty = Structure("e", Form.PLAIN, ())
    types = Types(
        {"i=9": Structure("many", Form.PLAIN, (Field("f", EXTENSION_OBJECT, "e", 1),))}, {"e": empty}
    )
    body = struct.pack("<i", 900_000) + bytes(900_000)
    variant = b"\x16\x00\x09\x01" + struct.pack("<i", len(body)) + body
    assert unfold(variant, types, MOST, ROOM).problems == ("structure many is not what its definition says",)


def test_names_of_fields_become_parts_of_signals() -> None:
    names = ["MaxTemp", "max_temp", "Größe °C", "", "温度", "x" * 80, "URL"]
    assert list(segments(names)) == [
        "max_temp",
        "max_temp_2",
        legal("Größe °C"),
        "field_4",
        legal("温度"),
        "x" * 63,
        "url",
    ]


def test_a_structure_in_xml_is_refused() -> None:
    body = b"\x16\x00\x09\x02\x04\0\0\0<a/>"
    assert unfold(body, Types(), MOST, ROOM).problems == ("structure i=9 is encoded as XML",)
    assert struct_to_binary(ua.Range(0.0, 0.0)) == bytes(16)
