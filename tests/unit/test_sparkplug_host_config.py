"""What a user may write about Sparkplug edge nodes, and how mistakes are located."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_agent.sources.sparkplug
from edge_agent.config import Config
from edge_agent.sources.sparkplug.config import MetricConfig, PublisherConfig, SparkplugConfig
from shopfloor.configdoc import meanings
from shopfloor.configfile import ConfigModel, load, parse
from shopfloor.errors import ConfigError

HEAD = "name: vn01\nbroker: {broker}\nclient_id: gateway\nhost_id: {host}\n"
PUBLISHER = "publishers:\n  - descriptor: {descriptor}\n    asset: {asset}\n    metrics: {metrics}\n"


def _text(
    broker: str = "mqtt://10.0.0.1",
    host: str = "vn01-agent",
    extra: str = "",
    descriptor: str = '"VN01/line-a/{device}"',
    asset: str = '"acme/vn01/a/l/{device}"',
    metrics: str = "all",
) -> str:
    publisher = PUBLISHER.replace("{descriptor}", descriptor).replace("{asset}", asset)
    return HEAD.format(broker=broker, host=host) + extra + publisher.replace("{metrics}", metrics)


def _config(**parts: str) -> SparkplugConfig:
    return parse(_text(**parts), SparkplugConfig, Path("agent.yaml"))


def _problems(**parts: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _config(**parts)
    return caught.value.problems


def test_the_word_all_takes_every_metric() -> None:
    config = _config()
    assert config.publishers[0].metrics == ()
    assert config.address == ("10.0.0.1", 1883, False)
    assert (config.protocol, config.keepalive_s, config.reorder_timeout_s) == ("3.1.1", 10, 2.0)


def test_subscriptions_follow_from_the_descriptors_and_each_edge_node_comes_once() -> None:
    more = "  - {descriptor: VN01/line-a, asset: acme/vn01, metrics: all}\n"
    more += '  - {descriptor: "{g}/edge/{d}", asset: "acme/{g}", metrics: all}\n'
    config = parse(_text() + more, SparkplugConfig, Path("agent.yaml"))
    assert config.filters == ("spBv1.0/VN01/+/line-a/#", "spBv1.0/+/+/edge/#", "spBv1.0/STATE/vn01-agent")
    assert config.wants("X/edge")
    assert not config.wants("X/line-a")


@pytest.mark.parametrize(
    ("parts", "where", "what"),
    [
        ({"descriptor": "VN01"}, "6:17: publishers.0.descriptor", "must be GROUP/EDGE_NODE"),
        ({"descriptor": "a/b/c/d"}, "6:17: publishers.0.descriptor", "must be GROUP/EDGE_NODE"),
        ({"descriptor": '"VN01//{device}"'}, "6:17: publishers.0.descriptor", "must be GROUP/EDGE_NODE"),
        ({"descriptor": '"VN01/+/{device}"'}, "6:17: publishers.0.descriptor", "write {name} for a level"),
        ({"descriptor": '"STATE/a/{device}"'}, "6:17: publishers.0.descriptor", "not a group"),
        ({"asset": '"acme/{edge}"'}, "7:12: publishers.0.asset", "the descriptor has no level {edge}"),
        ({"asset": "Acme"}, "7:12: publishers.0.asset", "enterprise 'Acme' must be"),
        ({"metrics": "[]"}, "8:14: publishers.0.metrics", "or the word all"),
        (
            {"metrics": "[{metric: a, signal: A}]"},
            "8:35: publishers.0.metrics.0.signal",
            "signal 'A' must be",
        ),
        (
            {"metrics": "[{metric: a, signal: x}, {metric: a, signal: y}]"},
            "8:48: publishers.0.metrics.1.metric",
            "stands here twice",
        ),
        (
            {"metrics": "[{metric: a, signal: x}, {metric: b, signal: x}]"},
            "8:59: publishers.0.metrics.1.signal",
            "stands here twice",
        ),
        (
            {"metrics": "[{metric: a, signal: x, scael: 2}]"},
            "8:38: publishers.0.metrics.0.scael",
            "did you mean scale?",
        ),
        ({"host": '"a/b"'}, "4:10: host_id", "should match pattern"),
        ({"broker": "http://x"}, "2:9: broker", "must be mqtt://"),
        ({"extra": "tls: {ca: ca.pem}\n"}, "5:6: tls", "goes with mqtts:// only"),
        ({"extra": "qos: 0\n"}, "5:1: qos", "unknown key"),
        ({"extra": "session_expiry_s: 100\n"}, "5:1: session_expiry_s", "unknown key"),
    ],
)
def test_mistakes_are_named_where_they_stand(parts: dict[str, str], where: str, what: str) -> None:
    problems = _problems(**parts)
    assert any(f"agent.yaml:{where}: " in line and what in line for line in problems), problems


def test_a_prefix_goes_with_all() -> None:
    tail = "    prefix: machine\n"
    assert parse(_text() + tail, SparkplugConfig, Path("agent.yaml")).publishers[0].prefix == "machine"
    with pytest.raises(ConfigError, match="goes with metrics: all only"):
        parse(_text(metrics="[{metric: a, signal: x}]") + tail, SparkplugConfig, Path("agent.yaml"))
    with pytest.raises(ConfigError, match="signal 'A B' must be"):
        parse(_text() + "    prefix: A B\n", SparkplugConfig, Path("agent.yaml"))


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ('"VN01/line-a/{other}"', "matches the same publishers as publishers.0"),
        ("VN01/line-a/press-1", "never matches: publishers.0 takes all of it before"),
        ('"VN01/{e}/press-1"', "each matches more"),
    ],
)
def test_descriptors_that_hide_or_cross_others_are_refused(second: str, what: str) -> None:
    more = f"  - {{descriptor: {second}, asset: acme, metrics: all}}\n"
    with pytest.raises(ConfigError, match=r"agent.yaml:9:18: publishers.1.descriptor") as caught:
        parse(_text() + more, SparkplugConfig, Path("agent.yaml"))
    assert what in str(caught.value)


def test_edge_nodes_that_two_subscriptions_would_bring_twice_are_refused() -> None:
    more = '  - {descriptor: "{g}/line-a", asset: acme, metrics: all}\n'
    with pytest.raises(ConfigError, match="name the group, or the edge node, in both"):
        parse(_text(descriptor='"VN01/{e}/{device}"') + more, SparkplugConfig, Path("agent.yaml"))


def test_a_source_is_exactly_one_of_its_protocols(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    head = "agent: {id: a, asset: acme/vn01}\nuplink: {url: 'http://127.0.0.1:1', token: 'file:token'}\nsources:\n"
    indented = "".join(f"      {line}\n" for line in _text().splitlines())
    config = parse(f"{head}  - sparkplug:\n{indented}", Config, tmp_path / "agent.yaml")
    assert isinstance(config.sources[0].settings, SparkplugConfig)
    with pytest.raises(ConfigError, match="exactly one of opcua, mqtt, sparkplug"):
        parse(f"{head}  - {{}}\n", Config, tmp_path / "agent.yaml")
    with pytest.raises(ConfigError, match="exactly one of opcua, mqtt, sparkplug"):
        parse(
            f"{head}  - sparkplug:\n{indented}    opcua: {{name: b, endpoint: 'opc.tcp://x', nodes: [{{node: i=1, "
            "asset: acme, signal: a}]}\n",
            Config,
            tmp_path / "agent.yaml",
        )


def test_the_sample_is_a_valid_configuration() -> None:
    class Sources(ConfigModel):
        sources: tuple[dict[str, SparkplugConfig], ...]

    sample = Path(edge_agent.sources.sparkplug.__file__).with_name("sparkplug.sample.yaml")
    config = load(sample, Sources).sources[0]["sparkplug"]
    assert len(config.publishers) == 3


@pytest.mark.parametrize("model", [SparkplugConfig, PublisherConfig, MetricConfig])
def test_every_option_is_documented_with_its_default(model: type[ConfigModel]) -> None:
    said = meanings(model)
    for name, option in model.model_fields.items():
        assert said.get(name), f"{model.__name__}.{name}"
        assert option.is_required() or "Default: " in said[name], f"{model.__name__}.{name}"
