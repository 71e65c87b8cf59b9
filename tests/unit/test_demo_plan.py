"""The demo's configuration files: complete, private where they have to be, the same at every start."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config import Config as AgentConfig
from shopfloor import configfile
from shopfloor.errors import ConfigError
from simulators.demo.plan import (
    Plan,
    Site,
    make_plan,
    mqtt_filters,
    port_names,
    store_token,
    write_agent_config,
    write_ingest_config,
)
from simulators.plant.dialects import make_dialects
from simulators.protocols.opcua import node_mappings
from simulators.scenario import SCENARIOS, THREE_PLANTS, load_scenario

HOUR_NS = 3_600 * 10**9


def plan_in(folder: Path, scenario: Path = THREE_PLANTS) -> Plan:
    names = port_names(load_scenario(scenario))
    ports = {name: 20_000 + number for number, name in enumerate(names)}
    return make_plan(folder, scenario, ports, f"mqtt://127.0.0.1:{ports['mqtt']}")


def test_the_scenario_gets_this_demo_s_ports_and_broker(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    written, original = load_scenario(plan.scenario_file), load_scenario(THREE_PLANTS)
    assert [site.opcua_port for site in written.sites] == [
        plan.ports[f"opcua-{site.key}"] for site in written.sites
    ]
    assert written.broker.url == plan.broker_url
    assert [site.machines for site in written.sites] == [site.machines for site in original.sites]
    assert [(site.key, site.machines) for site in plan.sites] == [
        (site.key, len(site.machines)) for site in original.sites
    ]


def test_every_part_has_a_port_of_its_own() -> None:
    names = port_names(load_scenario(THREE_PLANTS))
    assert len(set(names)) == len(names) == 3 + 2 * 3


def sources_of(plan: Plan, site: Site) -> dict[str, dict[str, Any]]:
    """Write an agent's configuration, see that an agent takes it, and return its sources by protocol."""
    store_token(site, "sf_secret")
    write_agent_config(plan, site)
    taken = configfile.load(site.config, AgentConfig)
    assert (taken.agent.id, str(taken.agent.asset)) == (f"{site.key}-gateway", site.asset)
    document = yaml.safe_load(site.config.read_text())
    assert document["uplink"] == {"url": plan.url, "token": "file:token"}
    return {protocol: settings for source in document["sources"] for protocol, settings in source.items()}


def test_each_agent_has_the_sources_that_its_site_needs(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    hk01, dg01, vn01 = (sources_of(plan, site) for site in plan.sites)
    assert [list(sources) for sources in (hk01, dg01, vn01)] == [
        ["opcua", "mqtt"],
        ["opcua", "mqtt"],
        ["sparkplug"],
    ]
    assert dg01["opcua"]["endpoint"] == f"opc.tcp://127.0.0.1:{plan.ports['opcua-dg01']}"
    assert dg01["opcua"]["groups"]["live"]["publishing_interval_ms"] == 250
    assert dg01["opcua"]["history"]["backfill_h"] > plan.scenario.history_h
    assert {node["asset"].rsplit("/", 1)[-1] for node in dg01["opcua"]["nodes"]} == {
        *(f"imm-0{number}" for number in range(1, 6)),
        "tcu-01",
        "tcu-02",
    }
    assert vn01["sparkplug"]["host_id"] == "shopfloor"
    assert vn01["sparkplug"]["store_and_forward"]
    assert {each["descriptor"] for each in vn01["sparkplug"]["publishers"]} == {
        f"acme/vn01/imm-0{number}" for number in range(1, 7)
    }
    assert len({source["client_id"] for source in (hk01["mqtt"], dg01["mqtt"], vn01["sparkplug"])}) == 3


def test_the_topics_of_every_dialect_are_subscribed_to(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    hk01, dg01 = (sources_of(plan, site)["mqtt"]["topics"] for site in plan.sites[:2])
    # Tasmota meters, PackML stations, workplaces and a compressor that name their values in the topic.
    assert {topic["topic"].split("/")[0] for topic in hk01} == {"tele", "acme", "umh"}
    assert any(topic["topic"].endswith("/packml/unit") for topic in hk01)
    # Shelly meters, the old machines' gateway, the compressor.
    assert {topic["topic"].split("/")[0].split("-")[0] for topic in dg01} == {
        "shellypro3em",
        "gateway",
        "umh",
    }
    assert mqtt_filters(plan, plan.scenario.sites[2]) == []


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_agents_of_every_scenario_get_all_series_of_their_site(path: Path, tmp_path: Path) -> None:
    plan = plan_in(tmp_path, path)
    for site, config in zip(plan.sites, plan.scenario.sites, strict=True):
        sources = sources_of(plan, site)
        said = {
            *(node["signal"] for node in sources.get("opcua", {}).get("nodes", ())),
            *(
                one["signal"]
                for topic in sources.get("mqtt", {}).get("topics", ())
                for one in topic.get("signals", ())
            ),
        }
        dialects = make_dialects(config, plan.made_ns)
        for dialect in (*dialects.cells.values(), *dialects.meters.values()):
            assert set(dialect.signals) <= said, dialect.asset
        assert {mapping.signal for mapping in node_mappings(config)} <= said
        assert {machine.cell for machine in config.devices} == {
            each["descriptor"].rsplit("/", 1)[-1]
            for each in sources.get("sparkplug", {}).get("publishers", ())
        }
        assert site.machines == len(config.machines)


def test_a_site_without_meters_has_no_broker(tmp_path: Path) -> None:
    document = yaml.safe_load(THREE_PLANTS.read_text())
    document["sites"] = document["sites"][:1]
    site = document["sites"][0]
    for key in ("lines", "garment_cells", "compressors"):
        del site[key]
    site["machines"] = [{"cell": "imm-01", "meter": "none"}]
    scenario = tmp_path / "one.yaml"
    scenario.write_text(yaml.safe_dump(document))
    plan = plan_in(tmp_path / "data", scenario)
    assert list(sources_of(plan, plan.sites[0])) == ["opcua"]


def test_the_service_listens_on_loopback_and_knows_the_sites(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    write_ingest_config(plan)
    config = yaml.safe_load(plan.ingest_config.read_text())
    assert config["listen"] == f"127.0.0.1:{plan.ports['page']}"
    assert {site["asset"]: site["time_zone"] for site in config["sites"]} == {
        "acme/hk01": "Asia/Hong_Kong",
        "acme/dg01": "Asia/Shanghai",
        "acme/vn01": "Asia/Ho_Chi_Minh",
    }


def test_a_second_start_writes_the_same_files(tmp_path: Path) -> None:
    def written() -> dict[str, str]:
        plan = plan_in(tmp_path)
        write_ingest_config(plan)
        for site in plan.sites:
            write_agent_config(plan, site)
        return {str(file): file.read_text() for file in tmp_path.rglob("*.yaml")}

    first = written()
    assert len(first) == 5
    assert written() == first


def test_a_token_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    site = plan_in(tmp_path).sites[0]
    store_token(site, "sf_secret")
    store_token(site, "sf_other")
    assert site.token.read_text() == "sf_other\n"
    assert stat.S_IMODE(site.token.stat().st_mode) == 0o600


def test_a_first_start_accounts_for_everything_and_a_later_one_for_what_the_log_keeps(tmp_path: Path) -> None:
    first = plan_in(tmp_path)
    assert first.kept_since_ns(first.made_ns + HOUR_NS) == 0
    assert first.kept_since_ns(first.made_ns + 30 * HOUR_NS) == first.made_ns + 6 * HOUR_NS
    first.simulators.mkdir()
    later = plan_in(tmp_path)
    assert later.kept_since_ns(later.made_ns) == later.made_ns - 24 * HOUR_NS


def test_a_wrong_scenario_is_named_with_its_place(tmp_path: Path) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text("sites:\n  - {asset: acme/hk01}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:2:5"):
        plan_in(tmp_path / "data", scenario)
