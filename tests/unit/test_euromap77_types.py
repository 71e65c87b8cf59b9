"""The table of type nodes, its notation, and the variables that stand on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncua import ua

from simulators.protocols import euromap77, tcd
from simulators.protocols.opcua_types import TCD_FILE, TYPES_FILE, Names, TypeNode, read_tables
from simulators.protocols.opcua_variable import Variable

SPACES = {"di": 2, "gen": 3, "imm": 4, "tcd": 5}


def table(tmp_path: Path, *lines: str) -> tuple[TypeNode, ...]:
    body = "".join(f"  {line}\n" for line in lines)
    file = tmp_path / "table.yaml"
    file.write_text(f"gen:\n  uri: urn:g\n  version: 1\n  published: x\n  nodes:\n{body}", encoding="utf-8")
    (model,) = read_tables((file,))
    return model.nodes


def test_a_table_is_read_as_it_is_explained(tmp_path: Path) -> None:
    kind, zone = table(
        tmp_path,
        "- DataType 3 gen:Colour <Enumeration:",
        "  - values: {0: RED, 2: BLUE}",
        "- ObjectType 7 gen:Zone <BaseObjectType abstract:",
        "  - Variable 8 gen:Actual =Double :AnalogItemType M:",
        "    - Property - EURange =Range O",
        "  - Property 9 gen:Names =String[] OP ~HasAddIn",
        "  - GeneratesEvent gen:Alarm",
    )
    assert kind.extras["values"] == {0: "RED", 2: "BLUE"}
    assert (zone.kind, zone.number, zone.name, zone.is_type) == ("ObjectType", 7, "gen:Zone", True)
    assert dict(zone.words) == {"supertype": "BaseObjectType", "abstract": "abstract"}
    assert zone.relations == (("GeneratesEvent", "gen:Alarm"),)
    actual, names = zone.children
    assert dict(actual.words) == {"data_type": "Double", "type_definition": "AnalogItemType", "rule": "M"}
    assert (actual.children[0].number, actual.children[0].name, actual.many) == (None, "EURange", False)
    assert (names.many, names.words["rule"], names.words["reference"]) == (True, "OP", "HasAddIn")


def test_a_line_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no node is written 'ObjectType gen:Zone'"):
        table(tmp_path, "- ObjectType gen:Zone")


def test_names_have_numbers_in_their_namespaces() -> None:
    names = Names(SPACES, read_tables())
    assert names.type("imm:IMM_MES_InterfaceType") == ua.NodeId(1007, 4)  # type: ignore[arg-type]
    assert names.type("BaseObjectType") == ua.NodeId(58)  # type: ignore[arg-type]
    assert names.encoding("gen:StandstillReasonType", "Default Binary") == ua.NodeId(5026, 3)  # type: ignore[arg-type]
    assert names.letter(names.qualified("gen:JobName")) == "gen:JobName"
    assert names.letter(names.qualified("Message")) == "Message"
    assert names.qualified("imm:http://x/").Name == "http://x/"
    with pytest.raises(ValueError, match="there is no type gen:Nothing"):
        names.type("gen:Nothing")


@pytest.mark.parametrize("file", [TYPES_FILE, TCD_FILE])
def test_no_number_stands_for_two_nodes(file: Path) -> None:
    def numbers(nodes: tuple[TypeNode, ...]) -> list[int]:
        found = []
        for node in nodes:
            found += [*([node.number] if node.number else []), *node.extras.get("encodings", {}).values()]
            found += numbers(node.children)
        return found

    for model in read_tables((file,)):
        listed = numbers(model.nodes)
        assert len(listed) == len(set(listed)), model.letter


def test_variables_have_places_and_signals_of_their_own() -> None:
    for variables in (list(euromap77.variables(6)), list(tcd.tcu_variables())):
        assert len({variable.node_name for variable in variables}) == len(variables)
        assert len({variable.signal for variable in variables}) == len(variables)
    arrays = [variable.signal for variable in euromap77.variables(3) if not variable.logged]
    assert arrays == ["job.material", "job.product"]


@pytest.mark.parametrize(
    ("variable", "value", "raw", "sample"),
    [
        (Variable("a", ("gen:A",), "Double", "s", "", 0.001), 19.5004, 19500.0, 19.5),
        (Variable("a", ("gen:A",), "Boolean", "", ""), 1.0, True, 1.0),
        (Variable("a", ("gen:A",), "UInt32", "1", ""), 8.0, 8, 8.0),
        (Variable("a", ("gen:A", "Message"), "LocalizedText", "", ""), "hot", "hot", "hot"),
    ],
)
def test_a_signal_becomes_a_raw_value_and_that_a_sample(
    variable: Variable, value: float | str, raw: object, sample: object
) -> None:
    assert variable.raw(value) == raw
    assert variable.sample(variable.raw(value)) == sample
    assert variable.node_name in {"A", "A.Message"}
