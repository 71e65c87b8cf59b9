"""The compose files by rules of our own: who runs as whom, with what rights, secrets and bounds, and on which files.

What the published schema says of them is asked of docker-compose itself, in tests/integration/test_deploy_compose.py.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config import Config
from ingest_service.config import IngestConfig
from shopfloor import configfile

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KINDS = ("central", "central-embedded", "gateway", "scaled")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?")
OURS = re.compile(r"shopfloor-(ingest|edge):\$\{SHOPFLOOR_VERSION:-" + re.escape(VERSION) + r"\}")
ONE_SHOT = {("scaled", "volumes")}
"""Gives volumes to their users and ends: the only one that runs as root."""


def compose(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / f"{kind}.yaml").read_text())
    return loaded


EVERY_SERVICE = [
    pytest.param(kind, name, service, id=f"{kind}-{name}")
    for kind in KINDS
    for name, service in compose(kind)["services"].items()
]


def secrets_of(service: dict[str, Any]) -> set[str]:
    return set(service.get("secrets", ()))


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (source, target, how)
        for mount in service.get("volumes", ())
        for source, target, how in [(mount + "::").split(":")[:3]]
    ]


def prepared(kind: str, to: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["sh", str(DEPLOY / "prepare.sh"), kind, "--to", str(to), *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def whole(kind: str, to: Path) -> None:
    """Prepare everything, with files of nonsense where somebody has to bring some."""
    given = to / "given"
    given.mkdir()
    for name in ("a.crt", "a.key", "a.token", "ca.crt"):
        (given / name).write_text(f"{name}\n")
    words = (
        ("--token", f"{given}/a.token", "--authority", f"{given}/ca.crt")
        if kind == "gateway"
        else ("--host", "plant.example.com", "--certificate", f"{given}/a.crt", "--key", f"{given}/a.key")
    )
    done = prepared(kind, to, *words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "name", "service"), EVERY_SERVICE)
def test_no_service_may_more_than_it_needs(kind: str, name: str, service: dict[str, Any]) -> None:
    user, _, group = str(service["user"]).partition(":")
    if (kind, name) in ONE_SHOT:
        assert service["restart"] == "no"
        assert service["network_mode"] == "none"
        assert service["cap_add"] == ["CHOWN"]
    else:
        assert int(user) > 0
        assert int(group) > 0
        assert service["restart"] == "unless-stopped"
        assert "cap_add" not in service
        assert "network_mode" not in service
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "devices", "userns_mode", "cgroup_parent"} & service.keys()
    assert not any("docker.sock" in source or source == "/" for source, _, _ in mounts(service))


@pytest.mark.parametrize(("kind", "name", "service"), EVERY_SERVICE)
def test_every_service_is_pinned_bounded_and_watched(kind: str, name: str, service: dict[str, Any]) -> None:
    assert PINNED.fullmatch(service["image"]) or OURS.fullmatch(service["image"])
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert float(service["cpus"]) > 0
    assert int(service["pids_limit"]) > 0
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    check = service["healthcheck"]
    if (kind, name) in ONE_SHOT:
        assert check == {"disable": True}
        return
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= check.keys()
    if check["test"][1] == "python":
        compile(check["test"][3], "healthcheck", "exec")


@pytest.mark.parametrize(("kind", "name", "service"), EVERY_SERVICE)
def test_secrets_come_by_file_and_there_is_no_default_password(
    kind: str, name: str, service: dict[str, Any]
) -> None:
    declared = compose(kind).get("secrets", {})
    assert secrets_of(service) <= declared.keys()
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|TOKEN|SECRET_KEY|CREDENTIAL", variable):
            assert variable.endswith("_FILE"), f"{name}: {variable}"
        if variable.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in secrets_of(service)
    assert not re.search(r"(?i)password|token", str(service.get("command", "")))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_mounted_is_there_or_made_by_the_script(kind: str, tmp_path: Path) -> None:
    whole(kind, tmp_path)
    content = compose(kind)
    volumes = set()
    for service in content["services"].values():
        for source, target, how in mounts(service):
            assert target.startswith("/")
            if not source.startswith("."):
                volumes.add(source)
                continue
            made = source.removeprefix("./")
            where = tmp_path / made if made.startswith(("etc/", "secrets/")) else DEPLOY / source
            assert where.exists(), source
            assert how == "ro" or made.startswith("secrets/influxdb_")
    assert volumes == content.get("volumes", {}).keys()
    used = set().union(*(secrets_of(service) for service in content["services"].values()))
    assert used == content["secrets"].keys()
    for name, secret in content["secrets"].items():
        assert secret["file"] == f"./secrets/{name}"
        # The token of the agent beside the broker can only be made when the centre runs.
        assert (tmp_path / "secrets" / name).exists() or (kind, name) == ("central", "agent_token")


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_speaks_tls_can_be_reached_from_outside(kind: str) -> None:
    published = {
        name: service["ports"] for name, service in compose(kind)["services"].items() if "ports" in service
    }
    assert (
        published
        == {
            "central": {"proxy": ["443:8443", "80:8080"], "mosquitto": ["8883:8883"]},
            "central-embedded": {"ingest": ["443:8443"]},
            "gateway": {},
            "scaled": {"proxy": ["443:8443", "80:8080"]},
        }[kind]
    )


@pytest.mark.parametrize("kind", ["central", "scaled"])
def test_names_that_configuration_asks_for_are_services_of_the_same_network(
    kind: str, tmp_path: Path
) -> None:
    whole(kind, tmp_path)
    services = compose(kind)["services"]

    def networks(name: str) -> dict[str, set[str]]:
        """Return the networks of a service, each with the names that it has there."""
        there = services[name].get("networks", {})
        there = dict.fromkeys(there) if isinstance(there, list) else there
        return {network: {name, *((options or {}).get("aliases", ()))} for network, options in there.items()}

    def reachable(of: str) -> set[str]:
        mine = networks(of).keys()
        return {
            known
            for name in services
            for network, names in networks(name).items()
            if network in mine
            for known in names
        }

    asked = {
        "proxy": (DEPLOY / "nginx" / "nginx.conf").read_text(),
        **{name: (tmp_path / "etc" / "ingest.yaml").read_text() for name in services if "ingest" in name},
        "grafana": str(services["grafana"]["environment"]),
    }
    for service, text in asked.items():
        hosts = set(re.findall(r"(?:http|mqtt|@)(?:://)?([a-z][a-z0-9-]*):\d+", text))
        assert hosts
        assert hosts <= reachable(service), service
    stores = str(services.get("vminsert", {}).get("command")) + str(
        services.get("vmselect", {}).get("command")
    )
    for host in re.findall(r"(vmstorage-\d+):", stores):
        assert host in services


@pytest.mark.parametrize("kind", ["central", "scaled"])
def test_grafana_is_given_what_its_provisioning_asks_for(kind: str) -> None:
    grafana = compose(kind)["services"]["grafana"]
    files = [
        file
        for source, target, _ in mounts(grafana)
        if "/provisioning/" in target
        for file in ([DEPLOY / source] if (DEPLOY / source).is_file() else (DEPLOY / source).rglob("*.yaml"))
    ]
    text = "\n".join(file.read_text() for file in files)
    assert set(re.findall(r"\$\{(SHOPFLOOR_\w+)\}", text)) <= grafana["environment"].keys()
    assert set(re.findall(r"/run/secrets/(\w+)", text)) <= secrets_of(grafana)
    folder = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/shopfloor.yaml").read_text())
    assert folder["providers"][0]["options"]["path"] in {target for _, target, _ in mounts(grafana)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_that_is_made_is_one(kind: str, tmp_path: Path) -> None:
    whole(kind, tmp_path)
    services = compose(kind)["services"]
    secrets = tmp_path / "secrets"
    (secrets / "agent_token").write_text("token")
    parts: tuple[tuple[str, type[IngestConfig | Config], str], ...] = (
        ("ingest.yaml", IngestConfig, "ingest"),
        ("agent.yaml", Config, "edge"),
    )
    for name, model, part in parts:
        file = tmp_path / "etc" / name
        users = [service for service in services.values() if f"shopfloor-{part}:" in service["image"]]
        assert file.exists() == bool(users)
        if not users:
            continue
        text = file.read_text()
        asked = set(re.findall(r"/run/secrets/(\w+)", text))
        assert all(asked == secrets_of(service) for service in users)
        config = configfile.parse(text.replace("/run/secrets", str(secrets)), model, file)
        kept = [target for each in users for source, target, _ in mounts(each) if source.endswith("-data")]
        assert set(kept) == {str(config.data)}


def test_the_script_makes_each_secret_anew_and_none_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for to in (first, second):
        to.mkdir()
        whole("central", to)
    made = {file.name: file.read_text() for file in (first / "secrets").iterdir()}
    random = {name for name, text in made.items() if re.fullmatch(r"[0-9a-f]{64}", text)}
    assert random >= {
        "influxdb_password",
        "influxdb_operator_token",
        "grafana_password",
        "grafana_secret_key",
    }
    assert len({made[name] for name in random}) == len(random)
    assert all((second / "secrets" / name).read_text() != made[name] for name in random)
    assert made["broker_users"] == f"agent:{made['broker_agent_password']}\n"
    assert first.joinpath("secrets").stat().st_mode & 0o777 == 0o700
    (first / "etc" / "ingest.yaml").write_text("mine\n")
    done = prepared("central", first, "--host", "other.example.com")
    assert (done.returncode, done.stdout) == (0, "")
    assert {file.name: file.read_text() for file in (first / "secrets").iterdir()} == made
    assert (first / "etc" / "ingest.yaml").read_text() == "mine\n"
    assert (first / ".env").read_text().splitlines() == [
        "COMPOSE_FILE=central.yaml",
        "SHOPFLOOR_HOST=plant.example.com",
        "SHOPFLOOR_SUBNET=172.31.250.0/24",
    ]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "usage: prepare.sh"),
        (("everything",), 2, "usage: prepare.sh"),
        (("central", "--hosts", "x"), 2, "usage: prepare.sh"),
        (("central", "--host"), 1, "--host needs a value"),
        (("central",), 1, "--host NAME is needed"),
        (("central", "--host", "a b"), 1, "a DNS name or an IP address stands here"),
        (("scaled", "--host", "a", "--key", "/no/such.key"), 1, "/no/such.key can't be read"),
        (("gateway",), 1, "secrets/agent_token: shopfloor token create"),
        (
            ("central-embedded", "--host", "a.example"),
            1,
            "secrets/server_key: shopfloor certs server central --host a.example",
        ),
    ],
)
def test_the_script_says_what_it_lacks(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    where = ("--to", str(tmp_path)) if words else ()
    command = ["sh", str(DEPLOY / "prepare.sh"), *words[:1], *where, *words[1:]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, said in ended.stdout + ended.stderr) == (status, True), ended.stderr
