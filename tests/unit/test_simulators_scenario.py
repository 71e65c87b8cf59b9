"""Scenarios: mistakes are located, and those of the package are what they say."""

from pathlib import Path

import pytest

from shopfloor import configfile
from shopfloor.errors import ConfigError
from shopfloor.signal import parse_signal
from simulators.command import chosen_scenario
from simulators.data_faults import KINDS
from simulators.physics.faults import FAULT_KINDS
from simulators.plant.dialects import make_dialects
from simulators.plant.units import make_units
from simulators.protocols.mqtt_dialects import METER_SIGNALS
from simulators.protocols.mqtt_dialects.gateway import CYCLE_NUMBER, POLL_NUMBER, STATE
from simulators.protocols.opcua import node_mappings
from simulators.protocols.tcd import tcu_variables
from simulators.scenario import SCENARIOS, THREE_PLANTS, Scenario, load_scenario
from simulators.scenario.cell_signals import cell_signals

CASES = Path(__file__).parents[1] / "cases" / "scenario"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.bad.yaml")), ids=lambda path: path.name)
def test_a_bad_scenario_is_refused_line_by_line(case: Path) -> None:
    expected = case.with_suffix("").with_suffix(".expected").read_text().strip().splitlines()
    with pytest.raises(ConfigError) as caught:
        configfile.parse(case.read_text(), Scenario, Path("scenario.yaml"))
    assert caught.value.problems == expected
    assert not any("secret@" in problem or "open-text" in problem for problem in expected)


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("unknown_material", ["imm-01 of acme/hk01"]),
        ("mould_larger_than_its_machine", ["imm-02 of acme/hk01", "imm-03 of acme/hk01"]),
        ("two_machines_of_a_name", ["imm-01 of acme/hk01"]),
        ("overlapping_jobs", ["imm-01 of acme/hk01"]),
        ("temperatures", ["imm-01 of acme/hk01"] * 3 + ["tcu-01 of acme/hk01"]),
        ("job_of_an_unknown_mould", [f"imm-0{n} of acme/hk01" for n in (1, 2, 3)]),
        ("cells_of_a_name", ["u-line of acme/hk01", "u-line of acme/dg01"]),
        ("utilities", ["tcu-02 of acme/hk01", "air-01 of acme/hk01", "air-02 of acme/hk01"]),
        ("clock_behind_twice", ["imm-01 of acme/hk01"]),
    ],
)
def test_a_refusal_names_file_line_and_machine(case: str, named: list[str]) -> None:
    path = CASES / f"{case}.bad.yaml"
    places = [line.split(": ")[0] for line in (CASES / f"{case}.expected").read_text().splitlines()]
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        place.replace("scenario.yaml", str(path)) for place in places
    ]
    assert [problem.rsplit("[")[-1].rstrip("]") for problem in caught.value.problems] == named


def test_a_scenario_that_is_no_yaml_or_not_there_is_refused_as_well(tmp_path: Path) -> None:
    for content, said in (("sites: [", "not YAML"), ("[1, 2]", "should be"), ("", "sites: required")):
        path = tmp_path / "scenario.yaml"
        path.write_text(content)
        with pytest.raises(ConfigError, match=said):
            load_scenario(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_scenario(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_scenario_of_the_package_is_right_and_its_units_can_be_made(path: Path) -> None:
    scenario = load_scenario(path)
    for site in scenario.sites:
        units = list(make_units(scenario, site, 0))
        cells = [cell for unit in units for cell in unit.cells]
        assert len(set(cells)) == len(cells)
        assert set(cells) <= set(site.cells)


def test_the_three_plants_are_what_the_demo_needs() -> None:
    scenario = load_scenario(THREE_PLANTS)
    assert {site.asset: site.time_zone for site in scenario.sites} == {
        "acme/hk01": "Asia/Hong_Kong",
        "acme/dg01": "Asia/Shanghai",
        "acme/vn01": "Asia/Ho_Chi_Minh",
    }
    hk01, dg01, vn01 = scenario.sites
    assert [len(site.machines) for site in scenario.sites] == [2, 8, 6]
    assert {machine.meter for machine in hk01.machines} == {"tasmota"}
    assert [len(line.stations) for line in hk01.lines] == [4]
    assert len(hk01.garment_cells) == len(hk01.compressors) == len(dg01.compressors) == 1
    assert {machine.protocol for machine in dg01.machines} == {"opcua", "gateway"}
    assert all(machine.drive == "hydraulic" for machine in dg01.machines if machine.protocol == "gateway")
    assert {machine.meter for machine in dg01.machines} == {"shelly"}
    assert dg01.tcus
    assert vn01.devices == vn01.machines
    assert vn01.sparkplug.wan_cut is not None
    assert not vn01.has_opcua


def test_what_chaos_says_of_itself_is_true() -> None:
    scenario = load_scenario(SCENARIOS / "chaos.yaml")
    machines = [machine for site in scenario.sites for machine in site.machines]
    assert {fault.kind for machine in machines for fault in machine.faults} == set(FAULT_KINDS)
    assert {fault.kind for site in scenario.sites for fault in site.data_faults} == set(KINDS)
    assert {outage.kind for site in scenario.sites for outage in site.outages} == {
        "server_restart",
        "wan_cut",
        "missed_birth",
        "reordered_seq",
        "device_down",
        "doubled_message",
    }


def test_the_signals_of_cells_are_those_that_they_are_logged_under() -> None:
    """What a scenario may name is what units say; dialects add numbers of messages and names of their own."""
    scenario = load_scenario(THREE_PLANTS)
    meters = {name for _, name, *_ in METER_SIGNALS}
    assert {each.signal for each in tcu_variables()} <= set(cell_signals(scenario.sites[1])["tcu-01"])
    for site in scenario.sites:
        signals = cell_signals(site)
        assert signals.keys() == site.cells.keys() - {line.cell for line in site.lines}
        assert all(parse_signal(name) == name for own in signals.values() for name in own)
        for cell, dialect in make_dialects(site, 0).cells.items():
            untold = {STATE, POLL_NUMBER, CYCLE_NUMBER}
            assert set(dialect.signals) - untold == set(signals[cell]) - meters | (
                set(dialect.signals) & meters
            )


def test_the_variables_of_a_server_are_distinct_and_all_mapped() -> None:
    for site in load_scenario(THREE_PLANTS).sites:
        mappings = node_mappings(site.on_opcua())
        for machine in site.on_opcua().machines:
            own = [mapping for mapping in mappings if mapping.asset == site.machine_asset(machine)]
            assert len(own) >= 25
            assert (
                len({mapping.node for mapping in own}) == len({mapping.signal for mapping in own}) == len(own)
            )
        for mapping in mappings:
            parse_signal(mapping.signal)


def test_jobs_and_moulds_become_the_machine_s_physics() -> None:
    site = load_scenario(SCENARIOS / "microfactory.yaml").sites[0]
    spec = site.machines[1].spec(7, 1_000_000)
    assert [(job.name, job.mould, job.parts, job.colour, job.start_ms) for job in spec.orders] == [
        ("PILOT-1", 1, 640, "natural", None),
        ("PILOT-2", 0, 800, "white", 1_000_000 + 6 * 3_600_000),
    ]
    assert [mould.name for mould in spec.moulds] == ["SHELL-A7", "GEAR-24T"]


def test_seeds_differ_between_machines_and_follow_from_the_scenario() -> None:
    scenario = load_scenario(THREE_PLANTS)
    seeds = [scenario.machine_seed(site, machine) for site in scenario.sites for machine in site.machines]
    assert len(set(seeds)) == len(seeds)
    other = chosen_scenario(scenario, seed=2)
    assert other.machine_seed(other.sites[0], other.sites[0].machines[0]) != seeds[0]


def test_the_command_line_replaces_what_it_names() -> None:
    scenario = chosen_scenario(
        load_scenario(THREE_PLANTS), sites=["acme/vn01"], port_base=5000, broker="mqtt://127.0.0.1:1999"
    )
    assert [(site.asset, site.opcua_port) for site in scenario.sites] == [("acme/vn01", 5002)]
    assert scenario.broker.url == "mqtt://127.0.0.1:1999"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sites": ["acme/nowhere"]}, "--site acme/nowhere"),
        ({"port_base": 65_535}, "--port-base 65535"),
        ({"seed": -1}, "--seed -1"),
        ({"broker": "tcp://x"}, "--broker"),
    ],
)
def test_a_wrong_command_line_is_a_configuration_error(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen_scenario(load_scenario(THREE_PLANTS), **wrong)  # type: ignore[arg-type]
