"""Profiles as files: ours are sound, others' mistakes are named where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.sources.opcua.address import Step
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.event_config import parse_event_type, parse_field
from edge_agent.sources.opcua.patterns import match_path
from edge_agent.sources.opcua.profile import load_profile
from edge_agent.sources.opcua.units import ucum
from shopfloor import signal
from shopfloor.configfile import parse
from shopfloor.errors import ConfigError
from simulators.protocols import euromap77
from simulators.protocols.opcua_types import NAMESPACES

SHIPPED = ("euromap77",)
HEAD = "title: Test\n"
MACHINE = 'machine: {path: "/IMM_{machine}"}\n'
VARIABLES = "variables:\n  - {path: Status/Mode, signal: status.mode}\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_lines_of_a_profile_make_one_signal(name: str) -> None:
    profile = load_profile(name)
    signals = [variable.signal for variable in profile.variables]
    for event in profile.events:
        parse_event_type(event.type)
        for path, field in event.fields.items():
            assert parse_field(path)
            signals.append(field if isinstance(field, str) else field.signal)
    assert len(signals) == len(set(signals))


def test_euromap77_has_the_signals_that_the_service_and_the_pages_know() -> None:
    made = {variable.signal for variable in load_profile("euromap77").variables}
    known = {
        signal.MACHINE_MODE,
        signal.PRODUCTION_STATUS,
        signal.STANDSTILL_REASON,
        signal.POWER_ON,
        signal.JOB_NAME,
        signal.JOB_STATUS,
        signal.MOULD_STATUS,
        signal.EXPECTED_CYCLE_TIME,
        signal.CYCLE_TIME,
        signal.CYCLE_COUNTER,
        signal.PARTS_COUNTER,
        signal.GOOD_PARTS_COUNTER,
        signal.BAD_PARTS_COUNTER,
    }
    assert known <= made


@pytest.mark.parametrize(("name", "makers_own"), [("euromap77", False), ("simulated_imm", True)])
def test_simulated_machines_speak_under_the_names_that_they_have_everywhere(
    name: str, *, makers_own: bool
) -> None:
    used = {"profile": name, "asset": "acme/hk/{machine}", "events": False}
    folder = str(Path(euromap77.__file__).parent)
    settings = {"name": "a", "endpoint": "opc.tcp://h", "profiles": [used], "profile_folder": folder}
    rules = [rule for rule in OpcUaConfig.model_validate(settings).rules if not rule.objects]
    uris = {**NAMESPACES, "own": "urn:site"}
    for variable in euromap77.variables(3):
        if not variable.logged:
            continue
        steps = [("di", "DeviceSet"), ("own", "IMM_Shopfloor_imm-01")]
        steps += [(letter, step) for letter, _, step in (each.rpartition(":") for each in variable.path)]
        path = tuple(Step(step, uris[letter] if letter else 0) for letter, step in steps)
        found = [(rule, match) for rule in rules if (match := match_path(rule.steps, path))]
        if not makers_own and any(letter == "own" for letter, _ in steps[2:]):
            assert not found
            continue
        rule, match = found[0]
        assert (rule.asset_of(match), rule.signal.fill(match)) == ("acme/hk/imm-01", variable.signal)
        assert rule.settings["scale"] == variable.scale
        if rule.settings["unit"]:
            assert rule.settings["unit"] == variable.unit
        elif variable.shown_unit is not None:
            # The machine says it itself.
            assert ucum(int.from_bytes(variable.shown_unit.code.encode()), "") == variable.unit


def test_another_text_of_a_profile_is_another_configuration(tmp_path: Path) -> None:
    """Or a reload would say that all is as it was."""
    path = tmp_path / "maker.yaml"
    given = {
        "name": "imm",
        "endpoint": "opc.tcp://127.0.0.1",
        "profile_folder": tmp_path,
        "profiles": [{"profile": "maker", "asset": "acme/hk01/{machine}"}],
    }
    configs = []
    for name in ("clamp.force", "clamp.force", "clamp.other"):
        path.write_text(
            "title: A maker's\nextends: euromap77\nnamespaces: {own: 'urn:maker'}\nvariables:\n"
            f"  - {{path: own:Extra/own:Force, signal: {name}}}\n"
        )
        configs.append(OpcUaConfig.model_validate(given))
    assert configs[0] == configs[1] != configs[2]
    path.unlink()
    assert configs[2].rules[1].signal != configs[0].rules[1].signal, "read once, with the configuration"


def test_a_profile_that_extends_another_adds_and_overrules(tmp_path: Path) -> None:
    (tmp_path / "maker.yaml").write_text(
        "title: A maker's\nextends: euromap77\nnamespaces: {own: 'urn:maker'}\nvariables:\n"
        "  - {path: own:Extra/own:Force, signal: clamp.force, unit: kN}\n"
        "  - {path: imm:MachineStatus/gen:MachineMode, signal: status.own_mode}\n"
    )
    profile = load_profile("maker", tmp_path)
    assert profile.machine == load_profile("euromap77").machine
    assert [variable.signal for variable in profile.variables][:3] == [
        "clamp.force",
        "status.own_mode",
        "status.mode",
    ]
    assert profile.events == load_profile("euromap77").events


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + VARIABLES, "mine.yaml:1:1: (the whole file): machine: where do they stand?"),
        (
            HEAD + 'machine: {path: "/IMM_*"}\n' + VARIABLES,
            "mine.yaml:2:17: machine.path: a name needs {machine}",
        ),
        (
            HEAD + 'machine: {path: "IMM_{machine}"}\n',
            "mine.yaml:2:17: machine.path: 'IMM_{machine}' is not a",
        ),
        (
            HEAD + 'machine: {path: "/IMM_{machine}", type: "x:Press"}\nnamespaces: {y: urn:y}\n',
            "mine.yaml:2:41: machine.type: ",
        ),
        (
            HEAD + MACHINE + VARIABLES.replace("}", ", type: A/B}"),
            "mine.yaml:4:5: variables.0: type: 'A/B' is a path",
        ),
        (
            HEAD + MACHINE + VARIABLES.replace("}", ", type: Press, required: true}"),
            "variables.0.required: machines of another type can't be missed for it",
        ),
        (
            HEAD + MACHINE + VARIABLES.replace("status.mode", "Status"),
            "mine.yaml:4:5: variables.0: signal 'Status' must be names of",
        ),
        (
            HEAD + MACHINE + VARIABLES.replace("status.mode", '"z{zone}"'),
            "no {zone} is found; there are {machine}",
        ),
        (
            HEAD + MACHINE + VARIABLES.replace("Status/", "x:Status/") + "namespaces: {y: urn:y}\n",
            "x: stands for no",
        ),
        (
            HEAD
            + MACHINE
            + VARIABLES.replace("Mode,", '"*", required: true,').replace('Status/"*"', '"Status/*"'),
            "mine.yaml:4:34: variables.0.required: only a path without wildcards",
        ),
        (
            HEAD + MACHINE + VARIABLES.replace("signal", "singal"),
            "variables.0.singal: unknown key, did you mean signal?",
        ),
        (HEAD + "extends: mine\n", "extends: mine extends itself"),
        (HEAD + "extends: nothing\n", "there is no profile 'nothing': ours are euromap77"),
        (
            HEAD + MACHINE + "namespaces: {g: urn:g}\nevents: [{type: 'x:Cycle', fields: {A: a}}]\n",
            "mine.yaml:4:10: events.0: browse path '/x:Cycle': x: stands for no known namespace",
        ),
    ],
)
def test_mistakes_in_a_profile_are_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_profile("mine", tmp_path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profiles: [{profile: none, asset: acme/hk}]", "profiles.0: there is no profile 'none'"),
        (
            "profiles: [{profile: euromap77, asset: 'acme/{cell}'}]",
            "profiles.0.asset: 'acme/{cell}': no {cell} is",
        ),
        (
            "profiles: [{profile: euromap77, asset: acme/hk, group: slow}]",
            "profiles.0.group: no group 'slow'",
        ),
        ("globs: [{path: Line, asset: acme/hk}]", "globs.0: 'Line' is not a browse path"),
        ("globs: [{path: '/A/*', asset: 'acme/{x}'}]", "globs.0: 'acme/{x}': no {x} is found"),
        ("globs: [{path: '/A/*', asset: acme/hk, start: /B}]", "globs.0: start: '/B' is a path"),
        ("globs: [{path: '/A/*', asset: acme/hk, exclude: [x]}]", "globs.0: 'x' is not a browse path"),
        ("nodes: [{node: /A, start: /B, asset: acme/hk, signal: a}]", "nodes.0: start: '/B' is a path"),
        (
            "nodes: [{node: i=1, start: i=2, asset: acme/hk, signal: a}]",
            "nodes.0: start: node is no browse path",
        ),
        (
            "nodes: [{node: i=1, scale: 2, enum: text, asset: acme/hk, signal: a}]",
            "nodes.0: enum: a text can't be",
        ),
        ("rebrowse_s: 5", "nodes: there is nothing to read"),
    ],
)
def test_mistakes_in_the_configuration_are_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f"name: a\nendpoint: opc.tcp://h\n{text}\n", OpcUaConfig, Path("agent.yaml"))
    assert said in str(refused.value)
