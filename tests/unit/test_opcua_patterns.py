"""Patterns of browse paths, the names that they make, and addresses that begin somewhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.opcua.address import NodeAddress, Step, parse_address, path_text
from edge_agent.sources.opcua.patterns import (
    Found,
    Template,
    captured_names,
    legal,
    match_path,
    parse_pattern,
)
from shopfloor.asset import parse_asset
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

DI = "http://opcfoundation.org/UA/DI/"


def path(text: str) -> tuple[Step, ...]:
    return parse_address(text).path


@pytest.mark.parametrize(
    ("pattern", "found", "captures"),
    [
        ("/A/B", "/A/B", {}),
        ("/A/B", "/A/b", None),
        ("/A/B", "/A/B/C", None),
        ("/A/*", "/A/B", {"1": "B"}),
        ("/A/*", "/A", None),
        ("/IMM_*/T*p", "/IMM_7/Temp", {"1": "7", "2": "em"}),
        ("/IMM_{maker}_{machine}/x", "/IMM_Acme_1_2/x", {"maker": "Acme", "machine": "1_2"}),
        ("/IMM_{machine}", "/IMM_", None),
        ("/A/**", "/A", None),
        ("/A/**", "/A/B", {}),
        ("/A/**", "/A/B/C/D", {}),
        ("/A/**/D", "/A/D", {}),
        ("/A/**/D", "/A/B/C/D", {}),
        ("/A/**/D", "/A/B/C/E", None),
        ("/**/Zone_{zone}/*", "/A/B/Zone_3/T", {"zone": "3", "1": "T"}),
        ("/**", "/A/B", {}),
        ("/A&*/&{b}", "/A*/{b}", {}),
        ("/A&*", "/AB", None),
        ("/A.B", "/AxB", None),
        (f"/nsu={DI};A/*", f"/nsu={DI};A/B", {"1": "B"}),
        (f"/nsu={DI};A", "/nsu=urn:other;A", None),
        ("/2:A", f"/nsu={DI};A", {}),
        ("/2:A", "/3:A", None),
    ],
)
def test_what_a_pattern_takes(pattern: str, found: str, captures: dict[str, str] | None) -> None:
    match = match_path(parse_pattern(pattern), path(found))
    assert (None if match is None else dict(match.captures)) == captures


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("A/B", "begin it with /"),
        ("/", "an empty name"),
        ("/A//B", "an empty name"),
        ("/A/**/**", "one ** is enough"),
        ("/{x}/{x}", "{x} has a meaning already"),
        ("/{path}", "{path} has a meaning already"),
        ("/nsu=urn:x", "nsu= needs a ;"),
    ],
)
def test_patterns_that_are_none(pattern: str, said: str) -> None:
    with pytest.raises(InvalidName, match=r".") as refused:
        parse_pattern(pattern)
    assert said in str(refused.value)


def test_letters_stand_for_namespaces_only_where_they_are_known() -> None:
    (step,) = parse_pattern("/di:DeviceSet", {"di": DI})
    assert step.namespace == DI
    with pytest.raises(InvalidName, match="gen: stands for no known namespace"):
        parse_pattern("/gen:DeviceSet", {"di": DI})
    assert match_path(parse_pattern("/gen:DeviceSet"), path("/gen:DeviceSet")) is not None


def filled(template: str, pattern: str, found: str, *, asset: bool) -> str:
    steps = parse_pattern(pattern)
    match = match_path(steps, path(found))
    assert match is not None
    return Template(template, asset=asset, names=captured_names(steps)).fill(match)


@pytest.mark.parametrize(
    ("template", "pattern", "found", "asset", "signal"),
    [
        ("{path}", "/A/B", "/A/B", "a/b", "a.b"),
        (
            "{path}",
            "/DeviceSet/IMM_*/**",
            "/DeviceSet/IMM_1/MachineStatus/MachineMode",
            "machine_status/machine_mode",
            "machine_status.machine_mode",
        ),
        ("{path}", "/Line_*/IMM_*/Temp", "/Line_1/IMM_2/Temp", "temp", "temp"),
        ("{path}", "/Line/T*", "/Line/T1", "line/t1", "line.t1"),
        ("{1}.{name}", "/A_*/**", "/A_7/B/C", None, "7.c"),
        ("acme/{machine}", "/IMM_{machine}/x", "/IMM_Halle-3 Süd/x", "acme/halle-3_sud", None),
    ],
)
def test_names_that_are_made(
    template: str, pattern: str, found: str, asset: str | None, signal: str | None
) -> None:
    if asset is not None:
        assert filled(template, pattern, found, asset=True) == asset
    if signal is not None:
        assert filled(template, pattern, found, asset=False) == signal


def test_of_a_long_path_the_last_eight_names_count_in_a_signal_and_none_in_an_asset() -> None:
    assert filled("{path}", "/**", "/A/B/C/D/E/F/G/H/I/J", asset=False) == "c.d.e.f.g.h.i.j"
    with pytest.raises(InvalidName, match="6 levels"):
        filled("{path}", "/**", "/A/B/C/D/E/F", asset=True)


def test_templates_that_make_nothing_legal_are_refused_at_once() -> None:
    with pytest.raises(InvalidName, match=r"no \{machine\} is found; there are \{1\}, \{name\}, \{path\}"):
        Template("acme/{machine}", asset=True, names=["1"])
    with pytest.raises(InvalidName, match="must be 1 to 63 characters"):
        Template("Acme/{name}", asset=True, names=())


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("MachineMode", "machine_mode"),
        ("IMMStatus", "imm_status"),
        ("TemperatureZone_1", "temperature_zone_1"),
        ("Störung 2", "storung_2"),
        ("a-b", "a_b"),
        ("___", "_"),
    ],
)
def test_legal_names(name: str, made: str) -> None:
    assert legal(name) == made or (made == "_" and parse_signal(legal(name)))


def test_names_in_other_scripts_stay_apart() -> None:
    assert legal("温度1") != legal("压力1")
    assert legal("温度1").startswith("1_")


@given(st.text(min_size=1, max_size=100))
def test_every_name_becomes_legal(name: str) -> None:
    parse_signal(legal(name))
    parse_asset(f"acme/{legal(name, dash=True)}")


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=8), st.sampled_from([DI, 0, 7, None])), min_size=1, max_size=5
    )
)
def test_every_path_can_be_written_and_read(names: list[tuple[str, str | int | None]]) -> None:
    steps = tuple(Step(name, namespace) for name, namespace in names)
    assert parse_address(path_text(steps)).path == steps


def test_a_path_may_begin_at_a_node() -> None:
    address = parse_address("/2:A/B").below(parse_address("nsu=urn:x;i=5001"))
    assert address == NodeAddress("i=5001", "urn:x", (Step("A", 2), Step("B", None)))


def test_what_a_found_path_says() -> None:
    found = match_path(parse_pattern("/A_*/B"), path("/A_1/B"))
    assert found == Found({"1": "1"}, path("/A_1/B"), 1)
