"""Scenarios: mistakes are located, and the one that comes with the package is as rich as it says."""

from pathlib import Path

import pytest

from shopfloor import configfile
from shopfloor.errors import ConfigError
from shopfloor.signal import parse_signal
from simulators.command import chosen_scenario
from simulators.protocols.mqtt import METER_SIGNALS
from simulators.protocols.opcua import node_mappings
from simulators.scenario import (
    THREE_PLANTS,
    BrokerConfig,
    MachineConfig,
    Scenario,
    SiteConfig,
    StopsConfig,
    load_scenario,
)

CASES = Path(__file__).parents[1] / "cases" / "scenario"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.bad.yaml")), ids=lambda path: path.name)
def test_a_bad_scenario_is_refused_line_by_line(case: Path) -> None:
    expected = case.with_suffix("").with_suffix(".expected").read_text().strip().splitlines()
    with pytest.raises(ConfigError) as caught:
        configfile.parse(case.read_text(), Scenario, Path("scenario.yaml"))
    assert caught.value.problems == expected
    assert not any("secret@" in problem or "open-text" in problem for problem in expected)


def test_the_three_plants_have_enough_machines_and_series() -> None:
    scenario = load_scenario(THREE_PLANTS)
    assert {site.asset: site.time_zone for site in scenario.sites} == {
        "acme/hk01": "Asia/Hong_Kong",
        "acme/dg01": "Asia/Shanghai",
        "acme/vn01": "Asia/Ho_Chi_Minh",
    }
    total = 0
    for site in scenario.sites:
        assert len(site.machines) >= 4
        mappings = node_mappings(site)
        total += len(mappings) + sum(machine.meter for machine in site.machines) * len(METER_SIGNALS)
        for machine in site.machines:
            own = [mapping for mapping in mappings if mapping.asset == site.machine_asset(machine)]
            assert len(own) >= 25
            assert (
                len({mapping.node for mapping in own}) == len({mapping.signal for mapping in own}) == len(own)
            )
        for mapping in mappings:
            parse_signal(mapping.signal)
            assert mapping.node.startswith(f"nsu={site.namespace_uri};s=")
    assert total >= 360


@pytest.mark.parametrize("model", [Scenario, SiteConfig, MachineConfig, StopsConfig, BrokerConfig])
def test_every_option_is_documented(model: type[configfile.ConfigModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


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
