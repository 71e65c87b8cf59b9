"""The demo's configuration files: complete, private where they have to be, the same at every start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from shopfloor.errors import ConfigError
from simulators.demo.plan import (
    Plan,
    make_plan,
    port_names,
    store_token,
    write_agent_config,
    write_ingest_config,
)
from simulators.scenario import THREE_PLANTS, load_scenario

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


def test_an_agent_reads_all_variables_of_its_site_and_its_meters_only(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    site = plan.sites[1]
    write_agent_config(plan, site)
    config = yaml.safe_load(site.config.read_text())
    opcua, mqtt = config["sources"][0]["opcua"], config["sources"][1]["mqtt"]
    assert config["agent"] == {"id": "dg01-gateway", "asset": "acme/dg01"}
    assert opcua["endpoint"] == f"opc.tcp://127.0.0.1:{plan.ports['opcua-dg01']}"
    assert len({node["asset"] for node in opcua["nodes"]}) == site.machines
    assert all(node["asset"].startswith("acme/dg01/") for node in opcua["nodes"])
    assert opcua["groups"]["live"]["publishing_interval_ms"] == 250
    assert opcua["history"]["backfill_h"] > plan.scenario.history_h
    assert mqtt["topics"][0]["topic"].startswith("meters/dg01/")
    assert config["uplink"] == {"url": plan.url, "token": "file:token"}


def test_a_site_without_meters_has_no_broker(tmp_path: Path) -> None:
    document = yaml.safe_load(THREE_PLANTS.read_text())
    document["sites"] = document["sites"][:1]
    document["sites"][0]["machines"] = [{"cell": "imm-01", "meter": False}]
    scenario = tmp_path / "one.yaml"
    scenario.write_text(yaml.safe_dump(document))
    plan = plan_in(tmp_path / "data", scenario)
    write_agent_config(plan, plan.sites[0])
    assert [list(source) for source in yaml.safe_load(plan.sites[0].config.read_text())["sources"]] == [
        ["opcua"]
    ]


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
