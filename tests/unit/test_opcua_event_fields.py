"""Which fields the events of a type have, how they are asked for, and mistakes in naming them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.address import Step
from edge_agent.sources.opcua.browsing import Problem
from edge_agent.sources.opcua.event_config import EventConfig, parse_event_type, parse_field
from edge_agent.sources.opcua.event_fields import (
    FieldName,
    TypeTree,
    all_fields,
    event_filter,
    named_field,
    of_type_only,
)
from shopfloor import configfile
from shopfloor.errors import ConfigError, InvalidName
from tests.unit.opcua_events import KIND

TREE = TypeTree(
    KIND,
    [ua.NodeId(ua.Int32(1), ua.Int16(3))],
    [
        (FieldName("EventId", 0),),
        (FieldName("Severity", 0),),
        (FieldName("CycleTime", 2),),
        (FieldName("InjectionUnit_1", 3), FieldName("CycleTime", 2)),
        (FieldName("Name", 2),),
        (FieldName("Name", 3),),
        (FieldName("name", 3),),
    ],
)
SESSION: Any = SimpleNamespace(namespaces={"urn:general": 2, "urn:own": 3})


def test_all_fields_are_named_after_their_paths() -> None:
    fields, more = all_fields(TREE, "cycle", 10)
    assert list(fields) == [
        "cycle.severity",
        "cycle.cycle_time",
        "cycle.injection_unit_1.cycle_time",
        "cycle.name",
        "cycle.name_2",
        "cycle.name_3",
    ]
    assert more == 0
    assert all_fields(TREE, "cycle", 2)[1] == 4


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("CycleTime", [("CycleTime", 2)]),
        ("2:CycleTime", [("CycleTime", 2)]),
        ("nsu=urn:general;CycleTime", [("CycleTime", 2)]),
        ("InjectionUnit_1/CycleTime", [("InjectionUnit_1", 3), ("CycleTime", 2)]),
        ("nsu=urn:own;Name", [("Name", 3)]),
        ("3:NotDeclared/2:Anywhere", [("NotDeclared", 3), ("Anywhere", 2)]),
    ],
)
def test_a_field_is_found_by_its_path(text: str, path: list[tuple[str, int]]) -> None:
    assert named_field(SESSION, TREE, parse_field(text)) == tuple(FieldName(*each) for each in path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Missing", "declare no field Missing"),
        ("Name", "ambiguous: 2:Name, 3:Name"),
        ("nsu=urn:x;Name", "the server has no namespace urn:x"),
    ],
)
def test_a_field_that_is_not_there_is_named(text: str, problem: str) -> None:
    found = named_field(SESSION, TREE, parse_field(text))
    assert isinstance(found, Problem)
    assert problem in found.reason


def test_a_filter_asks_for_the_head_and_the_fields_of_a_type_and_its_subtypes() -> None:
    wanted = event_filter([TREE.paths[3]], TREE)
    assert [[name.Name for name in each.BrowsePath] for each in wanted.SelectClauses] == [
        ["EventId"],
        ["EventType"],
        ["Time"],
        ["InjectionUnit_1", "CycleTime"],
    ]
    either, of_type, listed = wanted.WhereClause.Elements
    assert either.FilterOperator is ua.FilterOperator.Or
    assert [operand.Index for operand in either.FilterOperands] == [1, 2]
    assert of_type.FilterOperator is ua.FilterOperator.OfType
    assert of_type.FilterOperands[0].Value.Value == KIND
    assert [operand.Value.Value for operand in listed.FilterOperands[1:]] == TREE.subtypes
    assert len(of_type_only(KIND).Elements) == 1
    # Every event there is: nothing to choose.
    base = TypeTree(ua.NodeId(ua.Int32(2041), ua.Int16(0)), TREE.subtypes)
    assert event_filter([], base).WhereClause.Elements == []
    assert struct_to_binary(wanted)


def test_event_types_are_named_by_id_or_browse_name() -> None:
    assert parse_event_type("nsu=urn:x;i=1038").address is not None
    assert parse_event_type("nsu=urn:x;CycleType").name == Step("CycleType", "urn:x")
    assert parse_event_type("3:CycleType").name == Step("CycleType", 3)
    assert parse_event_type("CycleType").name == Step("CycleType", None)
    for wrong in ("", "/Types/X", "nsu=urn:x", "a/b"):
        with pytest.raises(InvalidName):
            parse_event_type(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asset: acme\ntype: ns=x", "a.yaml:2:7: type:"),
        ("asset: acme\nnotifier: Server", "a.yaml:2:11: notifier:"),
        ("asset: acme\nfields: {}", "none are named"),
        ("asset: acme\nfields: {/A: b}", "without /"),
        ("asset: acme\nfields: {A: B}", "signal"),
    ],
)
def test_mistakes_in_the_configuration_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.parse(text, EventConfig, Path("a.yaml"))
    assert message in str(caught.value)


# Conditions
