"""What a user may write about an MQTT broker, and how mistakes are located."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edge_agent.sources.mqtt
from edge_agent.sources.mqtt.broker import TlsConfig, parse_broker
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.message_config import PointsConfig, SignalConfig, TimeConfig
from edge_agent.sources.mqtt.topic_config import TopicConfig
from shopfloor.configdoc import meanings
from shopfloor.configfile import ConfigModel, load, parse
from shopfloor.errors import ConfigError

HEAD = "name: meters\nbroker: {broker}\nclient_id: gateway\n"
TOPIC = "topics:\n  - topic: {topic}\n    asset: {asset}\n    signals: {signals}\n"


class _Sources(ConfigModel):
    sources: tuple[dict[str, Any], ...]


def _text(
    broker: str = "mqtt://10.0.0.1",
    extra: str = "",
    topic: str = '"meters/{cell}"',
    asset: str = '"acme/s/a/l/{cell}"',
    signals: str = "[{path: n, signal: counter}]",
) -> str:
    return (
        HEAD.format(broker=broker)
        + extra
        + TOPIC.replace("{topic}", topic).replace("{asset}", asset).replace("{signals}", signals)
    )


def _config(**parts: str) -> MqttConfig:
    return parse(_text(**parts), MqttConfig, Path("agent.yaml"))


def _problems(**parts: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _config(**parts)
    return caught.value.problems


def test_defaults_are_those_of_the_documentation() -> None:
    config = _config()
    assert config.protocol == "3.1.1"
    assert config.qos == 1
    assert config.address == ("10.0.0.1", 1883, False)
    assert config.topics[0].signals[0].scale == 1.0


def test_five_without_quotes_is_the_version() -> None:
    assert _config(extra="protocol: 5\n").protocol == "5"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker.example", ("broker.example", 1883, False)),
        ("mqtts://broker.example", ("broker.example", 8883, True)),
        ("mqtts://[::1]:9000", ("::1", 9000, True)),
    ],
)
def test_ports_follow_from_the_scheme(url: str, expected: tuple[str, int, bool]) -> None:
    assert parse_broker(url) == expected


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "mqtt://x/topic", "mqtt://x:99999", "x:1883"])
def test_other_urls_are_refused(url: str) -> None:
    assert any("agent.yaml:2:9: broker:" in line for line in _problems(broker=url))


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    lines = "\n".join(_problems(broker="mqtt://u:hunter2@x"))
    assert "keys of their own" in lines
    assert "hunter2" not in lines


def test_a_password_does_not_cross_the_network_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    extra = "user: u\npassword: ${MQTT_PASSWORD}\n"
    lines = "\n".join(_problems(extra=extra))
    assert "agent.yaml:2:9: broker: the password would cross the network unencrypted" in lines
    assert "hunter2" not in lines
    assert _config(extra=extra, broker="mqtts://10.0.0.1").password is not None
    assert _config(extra=extra, broker="mqtt://127.0.0.1").password is not None
    allowed = _config(extra=extra + "allow_insecure_password: true\n")
    assert "hunter2" not in repr(allowed)


def test_a_password_needs_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    assert any(
        "a password needs a user" in line
        for line in _problems(extra="password: ${MQTT_PASSWORD}\n", broker="mqtts://x")
    )


def test_certificates_go_with_tls_and_in_pairs() -> None:
    assert any("goes with mqtts://" in line for line in _problems(extra="tls: {ca: ca.pem}\n"))
    assert any(
        "cert and key belong together" in line
        for line in _problems(extra="tls: {cert: c.pem}\n", broker="mqtts://x")
    )
    tls = _config(extra="tls: {ca: ca.pem}\n", broker="mqtts://x").tls
    assert tls is not None
    assert tls.ca == Path("ca.pem")


@pytest.mark.parametrize(
    ("parts", "where", "what"),
    [
        ({"asset": '"acme/{site}"'}, "6:12: topics.0.asset", "the topic has no level {site}"),
        ({"asset": "Acme"}, "6:12: topics.0.asset", "enterprise 'Acme' must be"),
        ({"topic": '"meters/+"'}, "5:12: topics.0.topic", "write {name} for a level that varies"),
        ({"topic": '"meters/x{cell}"'}, "5:12: topics.0.topic", "stands for a whole level only"),
        ({"topic": '"{cell}/{cell}"'}, "5:12: topics.0.topic", "stands there twice"),
        ({"topic": '"$share/g/{cell}"'}, "5:12: topics.0.topic", "shared subscriptions"),
        ({"signals": "[]"}, "7:14: topics.0.signals", "must be a list of signals, or the word all"),
        ({"signals": "most"}, "7:14: topics.0.signals", "must be a list of signals, or the word all"),
        ({"signals": "[{path: n, signal: A}]"}, "7:33: topics.0.signals.0.signal", "signal 'A' must be"),
        ({"signals": '[{signal: "{x}"}]'}, "7:24: topics.0.signals.0.signal", "no level {x}"),
        ({"signals": "[{signal: a}, {signal: a}]"}, "7:37: topics.0.signals.1.signal", "twice"),
        ({"signals": "[{signal: a, scael: 2}]"}, "7:27: topics.0.signals.0.scael", "did you mean scale?"),
        (
            {"signals": "[{signal: a, type: text, scale: 2}]"},
            "7:15: topics.0.signals.0",
            "text has neither scale nor offset",
        ),
    ],
)
def test_mistakes_are_named_where_they_stand(parts: dict[str, str], where: str, what: str) -> None:
    assert any(f"agent.yaml:{where}: " in line and what in line for line in _problems(**parts))


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(_problems(asset="Acme", topic='"a/#"', signals="[{signal: A}, {signal: B}]")) == 4


def test_topics_that_hide_or_cross_others_are_refused() -> None:
    def with_second(first: str, second: str) -> str:
        return _text(topic=f'"{first}"', asset="acme") + (
            f'  - topic: "{second}"\n    asset: acme\n    signals: all\n'
        )

    for first, second, what in [
        ("a/{x}", "a/{y}", "matches the same topics as topics.0"),
        ("a/{x}", "a/b", "never matches: topics.0 takes all of it before"),
        ("a/{x}", "{y}/b", "each matches more"),
    ]:
        with pytest.raises(ConfigError, match=r"agent.yaml:8:12: topics.1.topic") as caught:
            parse(with_second(first, second), MqttConfig, Path("agent.yaml"))
        assert what in str(caught.value)
    parse(with_second("a/b", "a/{x}"), MqttConfig, Path("agent.yaml"))


def test_text_payloads_are_one_signal_without_time() -> None:
    extra = "    payload: text\n    time: {path: ts, format: ms}\n"
    with pytest.raises(ConfigError, match=r"one signal and has no time"):
        parse(_text(signals="[{signal: a}]") + extra, MqttConfig, Path("agent.yaml"))
    with pytest.raises(ConfigError, match=r"a payload of text has no paths"):
        parse(_text() + "    payload: text\n", MqttConfig, Path("agent.yaml"))


def test_time_zones_are_known_ones() -> None:
    assert TimeConfig(path="t", format="iso", zone="Asia/Hong_Kong").zone == "Asia/Hong_Kong"
    for zone in ("Asia/Hongkongg", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="not a time zone"):
            TimeConfig(path="t", format="iso", zone=zone)


def test_the_sample_is_a_valid_configuration() -> None:
    sample = Path(edge_agent.sources.mqtt.__file__).with_name("mqtt.sample.yaml")
    sources = load(sample, _Sources).sources
    config = MqttConfig.model_validate(sources[0]["mqtt"])
    assert len(config.topics) == 8


@pytest.mark.parametrize(
    "model", [MqttConfig, TopicConfig, SignalConfig, TimeConfig, PointsConfig, TlsConfig]
)
def test_every_option_is_documented_with_its_default(model: type[ConfigModel]) -> None:
    said = meanings(model)
    for name, option in model.model_fields.items():
        assert said.get(name), f"{model.__name__}.{name}"
        assert option.is_required() or "Default: " in said[name], f"{model.__name__}.{name}"
