"""Elements of arrays and structures as series: learned, missing, too many, remembered."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.columns import Columns
from edge_agent.sources.opcua.config import NodeConfig
from edge_agent.sources.opcua.decode import MalformedMessage, read_values
from edge_agent.sources.opcua.expansion import Expansion
from edge_agent.sources.opcua.structures import Field, Form, Structure
from shopfloor.block import STATUS_NOT_CONVERTIBLE
from tests.unit.opcua_elements import (
    ASSET,
    GONE,
    T,
    bad,
    double,
    doubles,
    nodes,
    read,
    values_of,
)


def test_plain_values_are_not_touched() -> None:
    wanted = nodes("x", "y")
    columns = Columns()
    response: Any = ua.ReadResponse()
    response.Results = [ua.DataValue(double(1.0)), ua.DataValue(double(2.0))]
    read_values(struct_to_binary(response), [0, 1], columns)
    readings = wanted.known(columns)
    assert wanted.expansion.expand(readings) is readings
    assert readings.series is readings.handle


def test_elements_stand_where_their_value_stood() -> None:
    wanted = nodes("x", "temps", "y", scale=2.0)
    samples, _ = read(wanted, [double(1.0), doubles(3.0, 4.0), double(5.0)])
    assert list(values_of(samples).items()) == [("x", 2.0), ("temps.0", 6.0), ("temps.1", 8.0), ("y", 10.0)]
    assert [key.signal for key in wanted.series] == ["x", "temps", "y", "temps.0", "temps.1"]
    before = wanted.series
    read(wanted, [double(1.0), doubles(3.0, 4.0), double(5.0)])
    assert wanted.series is before


def test_texts_keep_their_rows() -> None:
    wanted = nodes("a", "names", "b")
    given = [ua.Variant("first"), ua.Variant(["x", None, "z"], T.String), ua.Variant("last")]
    samples, _ = read(wanted, given)
    assert {signal: sample.text for signal, sample in samples.items()} == {
        "a": "first",
        "names.0": "x",
        "names.1": None,
        "names.2": "z",
        "b": "last",
    }


def test_a_matrix_has_row_and_column_in_its_names() -> None:
    matrix: Any = ua.Variant([[1, 2, 3], [4, 5, 6]], T.Int16)
    samples, _ = read(nodes("grid"), [matrix])
    assert values_of(samples) == {
        "grid.0.0": 1.0,
        "grid.0.1": 2.0,
        "grid.0.2": 3.0,
        "grid.1.0": 4.0,
        "grid.1.1": 5.0,
        "grid.1.2": 6.0,
    }


def test_an_array_that_grows_has_more_signals_and_one_that_shrinks_says_so_once() -> None:
    wanted = nodes("temps")
    read(wanted, [doubles(1.0)])
    grown, _ = read(wanted, [doubles(1.0, 2.0, 3.0)])
    assert values_of(grown) == {"temps.0": 1.0, "temps.1": 2.0, "temps.2": 3.0}
    shrunk, _ = read(wanted, [doubles(9.0)])
    assert [(signal, sample.status) for signal, sample in shrunk.items()] == [
        ("temps.0", 0),
        ("temps.1", GONE),
        ("temps.2", GONE),
    ]
    assert math.isnan(shrunk["temps.2"].value)
    assert list(read(wanted, [doubles(9.0)])[0]) == ["temps.0"]
    back, _ = read(wanted, [doubles(1.0, 2.0)])
    assert [sample.status for sample in back.values()] == [0, 0]
    emptied, _ = read(wanted, [doubles()])
    assert [sample.status for sample in emptied.values()] == [GONE, GONE]
    assert read(wanted, [doubles()])[0] == {}


def test_after_a_reconnect_missing_elements_are_told_again() -> None:
    wanted = nodes("temps")
    read(wanted, [doubles(1.0, 2.0)])
    read(wanted, [doubles(1.0)])
    wanted.begin()
    assert read(wanted, [doubles(1.0)])[0]["temps.1"].status == GONE


def test_an_array_that_was_never_anything_is_the_node_itself() -> None:
    samples, _ = read(nodes("temps"), [doubles()])
    assert (samples["temps"].status, samples["temps"].quality) == (0, 0)
    assert math.isnan(samples["temps"].value)


def test_a_node_that_turns_bad_takes_its_elements_with_it() -> None:
    wanted = nodes("temps", "other")
    read(wanted, [doubles(1.0, 2.0), double(1.0)])
    samples, _ = read(wanted, [bad(StatusCodes.BadSensorFailure), double(1.0)])
    assert [(signal, sample.status) for signal, sample in samples.items()] == [
        ("temps.0", StatusCodes.BadSensorFailure),
        ("temps.1", StatusCodes.BadSensorFailure),
        ("other", 0),
    ]


def test_a_node_that_was_bad_from_the_beginning_says_so_itself() -> None:
    samples, _ = read(nodes("temps"), [bad(StatusCodes.BadSensorFailure)])
    assert samples["temps"].status == StatusCodes.BadSensorFailure


def test_a_plain_value_of_a_node_that_had_elements() -> None:
    wanted = nodes("temps")
    read(wanted, [doubles(1.0)])
    samples, _ = read(wanted, [double(7.0)])
    assert [
        (signal, sample.value if sample.status == 0 else sample.status) for signal, sample in samples.items()
    ] == [
        ("temps", 7.0),
        ("temps.0", GONE),
    ]


def test_the_status_of_a_value_is_that_of_its_elements() -> None:
    wanted = nodes("temps")
    inner = [ua.DataValue(double(1.0)), ua.DataValue(double(2.0), ua.StatusCode(ua.UInt32(0x8002_0000)))]
    value = ua.DataValue(ua.Variant(inner, T.DataValue), ua.StatusCode(ua.UInt32(0x4000_0480)))
    samples, _ = read(wanted, [value])
    assert samples["temps.0"].status == 0x4000_0480
    assert samples["temps.1"].status == 0x8002_0480


def test_what_is_beyond_max_elements_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    wanted = nodes("temps", max_elements=3)
    for _ in range(2):
        samples, counts = read(wanted, [doubles(*range(10))])
        assert list(samples) == ["temps.0", "temps.1", "temps.2"]
        assert counts["element_left_out"] == 7
    assert len(caplog.records) == 1
    assert "1 of the values are not whole: a/b/c/d/e:temps" in wanted.summary()
    assert "max_elements (3)" in wanted.summary()


def test_elements_that_come_and_go_do_not_pile_up() -> None:
    wanted = nodes("pick", max_elements=4)
    fields = tuple(Field(f"f{number}", 22) for number in range(10))
    wanted.expansion.types.by_encoding["ns=2;i=9"] = Structure("pick", Form.UNION, fields)
    for number in range(1, 11):
        body = struct.pack("<I", number) + b"\x01\x00\x76\x03\x01\x10\0\0\0" + bytes(16)
        value: Any = ua.ExtensionObject(ua.NodeId(ua.Int32(9), ua.Int16(2)), body)  # type: ignore[arg-type]
        read(wanted, [ua.Variant(value, T.ExtensionObject)])
    assert len(list(wanted.expansion.elements.declarations())) == 4


def test_an_element_that_is_what_another_node_becomes_is_left_out() -> None:
    wanted = nodes("temps", "temps.1")
    samples, counts = read(wanted, [doubles(1.0, 2.0), double(9.0)])
    assert values_of(samples) == {"temps.0": 1.0, "temps.1": 9.0}
    assert counts["element_left_out"] == 1
    assert "would be what other nodes become" in wanted.summary()


def test_what_cannot_be_taken_apart_is_bad_and_named() -> None:
    wanted = nodes("thing")
    wanted.expansion.types.by_encoding["ns=2;i=9"] = "nobody knows structure ns=2;i=9"
    thing: Any = ua.ExtensionObject(ua.NodeId(ua.Int32(9), ua.Int16(2)), b"xyz")  # type: ignore[arg-type]
    samples, counts = read(wanted, [ua.Variant(thing, T.ExtensionObject)])
    assert samples["thing"].status == STATUS_NOT_CONVERTIBLE
    assert counts["not_convertible"] == 1
    assert "nobody knows structure ns=2;i=9" in wanted.summary()
    read(wanted, [ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject)])
    samples, _ = read(wanted, [ua.Variant(thing, T.ExtensionObject)])
    assert {signal: sample.status for signal, sample in samples.items()} == {
        "thing.low": STATUS_NOT_CONVERTIBLE,
        "thing.high": STATUS_NOT_CONVERTIBLE,
    }


def test_more_nodes_move_elements_without_mixing_them_up() -> None:
    wanted = nodes("temps")
    read(wanted, [doubles(1.0, 2.0)])
    wanted.add([NodeConfig(node="ns=2;s=late", asset=ASSET, signal="late")])
    samples, _ = read(wanted, [doubles(3.0, 4.0), double(5.0)])
    assert values_of(samples) == {"temps.0": 3.0, "temps.1": 4.0, "late": 5.0}
    assert wanted.series[1].signal == "late"


def test_elements_are_declared_and_remembered_over_a_restart() -> None:
    first = nodes("temps", "range", unit="Cel", description="warm")
    read(first, [doubles(1.0, 2.0), ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject)])
    assert first.expansion.elements.news
    saved = first.expansion.elements.saved()
    second = nodes("temps", "range", unit="Cel", description="warm")
    second.expansion.elements.restore(saved)
    samples, _ = read(second, [bad(StatusCodes.BadNoCommunication), double(1.0)])
    assert list(samples) == ["temps.0", "temps.1", "range", "range.low", "range.high"]
    assert {
        (each.signal, each.unit, each.description) for each in second.expansion.elements.declarations()
    } == {
        ("temps.0", "Cel", "warm"),
        ("temps.1", "Cel", "warm"),
        ("range.low", "", ""),
        ("range.high", "", ""),
    }
    assert second.expansion.elements.saved() == saved


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[1]", b'{"a:x": 5}', b'{"other:temps": ["0"]}'])
def test_what_was_saved_otherwise_is_ignored(raw: bytes) -> None:
    wanted = nodes("temps")
    wanted.expansion.elements.restore(raw)
    assert list(read(wanted, [doubles(1.0)])[0]) == ["temps.0"]


def test_a_handle_that_was_never_given_out_is_malformed() -> None:
    columns = Columns()
    response: Any = ua.ReadResponse()
    response.Results = [ua.DataValue(doubles(1.0))]
    read_values(struct_to_binary(response), [7], columns)
    with pytest.raises(MalformedMessage, match="never given out"):
        nodes("temps").known(columns)


def test_many_rows_of_one_node_keep_their_order() -> None:
    """As a page of history has them."""
    wanted = nodes("temps", "y")
    response: Any = ua.ReadResponse()
    response.Results = [ua.DataValue(doubles(*range(number))) for number in (1, 3, 2)]
    columns = Columns()
    read_values(struct_to_binary(response), [0, 0, 0], columns)
    readings = wanted.known(columns)
    expansion: Expansion = wanted.expansion
    expanded = expansion.expand(readings, expansion.take_apart(readings)[0])
    assert [wanted.series[position].signal for position in expanded.series.tolist()] == [
        "temps.0",
        *("temps.0", "temps.1", "temps.2"),
        *("temps.0", "temps.1", "temps.2"),
    ]
    assert expanded.handle.tolist() == [0] * 7
    assert expanded.status.tolist() == [0] * 6 + [GONE]
    assert np.isnan(expanded.value[6])
