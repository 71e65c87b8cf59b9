"""Enumerations as text, and units as UCUM."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.units import ucum
from shopfloor.block import SampleBlock, make_block

MODES = {0: "Off", 1: "Automatic"}


def nodes(*enums: str) -> Nodes:
    made = Nodes(
        OpcUaConfig.model_validate(
            {
                "name": "a",
                "endpoint": "opc.tcp://h",
                "nodes": [
                    {"node": f"ns=2;i={number}", "asset": "acme/hk", "signal": f"s{number}", "enum": enum}
                    for number, enum in enumerate(enums)
                ],
            }
        )
    )
    for number, enum in enumerate(enums):
        if enum != "value":
            made.wording.name(number, MODES, beside=enum == "both")
    return made


def block(of: Nodes, *rows: tuple[int, float]) -> SampleBlock:
    indexes, values = zip(*rows, strict=True)
    times = [1_000 + number for number in range(len(rows))]
    return make_block(of.series, indexes, times, times, values)


def said(samples: SampleBlock) -> list[tuple[str, Any]]:
    return [
        (
            row.series.signal,
            row.text if row.text is not None else None if math.isnan(row.value) else row.value,
        )
        for row in samples.rows()
    ]


def test_values_stay_where_no_text_is_wanted() -> None:
    of = nodes("value")
    samples = block(of, (0, 1.0))
    assert of.worded(samples) is samples
    of = nodes("value", "text")
    samples = block(of, (0, 1.0))
    assert of.worded(samples) is samples


def test_text_in_the_place_of_the_value_and_beside_it() -> None:
    of = nodes("text", "both", "value")
    samples = of.worded(block(of, (0, 1.0), (1, 0.0), (2, 1.0), (0, math.nan), (1, 7.0), (1, math.nan)))
    assert said(samples) == [
        ("s0", "Automatic"),
        ("s1", 0.0),
        ("s2", 1.0),
        ("s0", None),
        ("s1", 7.0),
        ("s1", None),
        ("s1.text", "Off"),
        ("s1.text", "7"),
        ("s1.text", None),
    ]
    assert samples.source_time.tolist() == [1_000, 1_001, 1_002, 1_003, 1_004, 1_005, 1_001, 1_004, 1_005]
    assert samples.series is of.series


def test_a_block_made_before_there_were_more_nodes_keeps_its_names() -> None:
    of = nodes("both")
    position = of.companion(0, "elements")
    samples = block(of, (0, 1.0), (position, 1.0))
    more = OpcUaConfig.model_validate(
        {
            "name": "a",
            "endpoint": "opc.tcp://h",
            "nodes": [{"node": "ns=2;i=9", "asset": "acme/hk", "signal": "late", "enum": "text"}],
        }
    )
    of.add(more.nodes)
    of.wording.name(1, MODES, beside=False)
    assert said(of.worded(samples)) == [("s0", 1.0), ("s0.elements", 1.0), ("s0.text", "Automatic")]


@pytest.mark.parametrize(
    ("unit_id", "shown", "unit"),
    [
        (4408652, "°C", "Cel"),
        (4342098, "bar", "bar"),
        (4403766, "ms", "ms"),
        (int.from_bytes(b"P1"), "%", "%"),
        (-1, "Stk", "Stk"),
        (0, "", ""),
        (5_000_000, " widgets ", "widgets"),
        (2**40, "x", "x"),
    ],
)
def test_units(unit_id: int, shown: str, unit: str) -> None:
    assert ucum(unit_id, shown) == unit
