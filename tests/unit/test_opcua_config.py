"""What a user may write about an OPC UA server, and what is said when it is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.sources.opcua.address import NodeAddress, Step, parse_address
from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig, PollGroup, SubscribeGroup
from edge_agent.sources.opcua.request_config import HistoryConfig
from edge_agent.sources.opcua.security import SecurityConfig
from shopfloor.configdoc import undocumented
from shopfloor.configfile import ConfigModel, parse
from shopfloor.errors import ConfigError, InvalidName

HEAD = "name: imm\nendpoint: opc.tcp://127.0.0.1:4840\n"
SECURE = "security: {policy: Basic256Sha256}\n"
NODES = 'nodes: [{node: "ns=2;s=a", asset: acme/hk01, signal: temp}]\n'


def read(text: str) -> OpcUaConfig:
    return parse(text, OpcUaConfig, Path("agent.yaml"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nsu=urn:x;s=IMM_1.Temp", NodeAddress("s=IMM_1.Temp", "urn:x", ())),
        ("nsu=http://a.b/c/;i=7", NodeAddress("i=7", "http://a.b/c/", ())),
        ("ns=2;s=a;b=c", NodeAddress("s=a;b=c", 2, ())),
        ("i=2258", NodeAddress("i=2258", 0, ())),
        ("/A/B C", NodeAddress("", 0, (Step("A", None), Step("B C", None)))),
        ("/2:A/B", NodeAddress("", 0, (Step("A", 2), Step("B", None)))),
        ("/nsu=http://a.b/c/;A/B", NodeAddress("", 0, (Step("A", "http://a.b/c/"), Step("B", None)))),
        ("/A&/B/2&:C", NodeAddress("", 0, (Step("A/B", None), Step("2:C", None)))),
    ],
)
def test_addresses(text: str, address: NodeAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Temp",
        "ns=2",
        "ns=2;x=1",
        "ns=70000;i=1",
        "i=x",
        "i=4294967296",
        "g=1",
        "b=?",
        "/",
        "/A//B",
        "//A",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_address(text)


def test_defaults() -> None:
    config = read(HEAD + NODES)
    assert config.group("live") == SubscribeGroup(
        publishing_interval_ms=250, sampling_interval_ms=0, queue_size=100
    )
    assert (config.history.backfill_h, config.history.overlap_s, config.history.settle_s) == (1, 5, 1)
    assert (config.request_timeout_s, config.session_timeout_s) == (5, 60)


def test_groups() -> None:
    config = read(HEAD + "groups: {slow: {mode: poll, interval_s: 5}}\n" + NODES)
    assert config.group("slow") == PollGroup(interval_s=5)
    assert isinstance(config.group("live"), SubscribeGroup)


def test_security_is_none_or_the_best_mode_of_a_policy() -> None:
    assert str(read(HEAD + NODES).security) == "None"
    assert str(read(HEAD + "security: {policy: None}\n" + NODES).security) == "None"
    assert str(read(HEAD + SECURE + NODES).security) == "Basic256Sha256 with SignAndEncrypt"
    signed = read(
        HEAD + "security: {policy: Aes256_Sha256_RsaPss, mode: Sign, pki: certs}\n" + NODES
    ).security
    assert str(signed) == "Aes256_Sha256_RsaPss with Sign"
    assert signed.pki == Path("certs")


def test_a_user_name_over_an_open_channel_is_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPCUA_PASSWORD", "hush")
    identity = "user: u\npassword: ${OPCUA_PASSWORD}\n"
    assert read(HEAD + identity + "allow_insecure_user: u\n" + NODES).user == "u"
    assert read(HEAD + SECURE + identity + NODES).user == "u"


def test_a_missing_port_is_the_registered_one() -> None:
    assert read(HEAD.replace(":4840", "") + NODES).endpoint == "opc.tcp://127.0.0.1:4840"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD.replace("opc.tcp", "http") + NODES,
            "agent.yaml:2:11: endpoint: must look like opc.tcp://host:4840",
        ),
        (HEAD.replace("127", "u:secret@127") + NODES, "credentials go into user and password"),
        (
            HEAD + NODES.replace("ns=2;s=a", "Temp"),
            "agent.yaml:3:16: nodes.0.node: 'Temp' is neither a NodeId",
        ),
        (
            HEAD + NODES.replace("temp}", "temp, group: slow}"),
            "nodes.0.group: no group 'slow'; there are ['live']",
        ),
        (HEAD + NODES.replace("temp}", "temp, sacle: 2}"), "nodes.0.sacle: unknown key, did you mean scale?"),
        (HEAD + "nodes: []\n", "nodes: there is nothing to read, nor events or alarms"),
        (
            HEAD + NODES.replace("]", ', {node: "i=1", asset: acme/hk01, signal: temp}]'),
            "is already what nodes.0",
        ),
        (HEAD + "groups: {slow: {mode: pol}}\n" + NODES, "groups.slow"),
        (HEAD + "password: ${OPCUA_PASSWORD}\nuser: u\n" + NODES, "set allow_insecure_user to this name"),
        (HEAD + "user: u\n" + NODES, "name and password would travel unencrypted"),
        (HEAD + "user: u\nallow_insecure_user: v\n" + NODES, "must be the same name as user"),
        (HEAD + "allow_insecure_user: v\n" + NODES, "must be the same name as user"),
        (HEAD + "password: ${OPCUA_PASSWORD}\n" + NODES, "password: it needs a user"),
        (HEAD + "user_certificate: a.der\n" + NODES, "user_certificate and user_key belong together"),
        (
            HEAD + "user_certificate: a.der\nuser_key: a.pem\n" + NODES,
            "it needs a security.policy other than None",
        ),
        (
            HEAD + SECURE + "user: u\nuser_certificate: a.der\nuser_key: a.pem\n" + NODES,
            "one of them says who connects",
        ),
        (HEAD + "security: {policy: Basic512}\n" + NODES, "agent.yaml:3:20: security.policy:"),
        (HEAD + "security: {mode: Sign}\n" + NODES, "security: mode needs a policy other than None"),
        (HEAD + "security: none\n" + NODES, "agent.yaml:3:11: security:"),
    ],
)
def test_mistakes_are_named(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPCUA_PASSWORD", "hush")
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "secret@" not in str(caught.value) or "endpoint" in str(caught.value)


def test_a_configuration_is_read_without_loading_the_protocol_library() -> None:
    code = "import sys, edge_agent.sources.opcua.config; sys.exit('asyncua' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_option_is_documented() -> None:
    models: list[type[ConfigModel]] = [
        OpcUaConfig,
        SecurityConfig,
        SubscribeGroup,
        PollGroup,
        HistoryConfig,
        NodeConfig,
    ]
    for model in models:
        assert undocumented(model) == []


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("{interval_s: 1}", "'mode' says which kind it is, but is missing"),
        ("{mode: ask}", "'mode' must be one of 'subscribe', 'poll' (got 'ask')"),
    ],
)
def test_a_group_of_no_kind_is_named(group: str, said: str) -> None:
    text = f"name: imm\nendpoint: opc.tcp://h\ngroups:\n  live: {group}\nnodes: []\n"
    with pytest.raises(ConfigError) as refused:
        parse(text, OpcUaConfig, Path("agent.yaml"))
    assert refused.value.problems[0] == f"agent.yaml:4:9: groups.live: {said}"
