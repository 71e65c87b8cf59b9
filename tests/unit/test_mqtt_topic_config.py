"""What a user may write about topics and the inside of messages, and where mistakes are said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.topics import subscription_filters
from shopfloor.configfile import parse
from shopfloor.errors import ConfigError

HEAD = "name: m\nbroker: mqtt://127.0.0.1\nclient_id: c\ntopics:\n"
REGEX = "  - {topic_regex: '%s', subscribe: [%s], asset: acme, signals: all}\n"
PLAIN = "  - {topic: '%s', asset: acme, signals: all}\n"


def config(text: str) -> MqttConfig:
    return parse(HEAD + text, MqttConfig, Path("agent.yaml"))


def mistakes(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(text)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("entry", "where", "what"),
    [
        (
            "{topic: a, asset: acme, signals: [{jmespath: 'a b', signal: s}]}",
            "5:50: topics.0.signals.0.jmespath",
            "not a JMESPath expression: see character 3",
        ),
        (
            "{topic: a, asset: acme, signals: [{jmespath: a, path: b, signal: s}]}",
            "5:39: topics.0.signals.0",
            "give one",
        ),
        (
            "{topic: a, asset: acme, time: {format: s}, signals: all}",
            "5:35: topics.0.time",
            "give either path or jmespath",
        ),
        (
            "{topic: a, asset: acme, time: {path: t, format: s, fold: second}, signals: all}",
            "5:35: topics.0.time",
            "fold goes with zone only",
        ),
        ("{asset: acme, signals: all}", "5:5: topics.0.topic", "give one of topic, topic_regex and preset"),
        ("{topic: a, signals: all}", "5:5: topics.0.asset", "required, but missing"),
        ("{topic: a, asset: acme}", "5:5: topics.0.signals", "required, but missing"),
        ("{topic: a, asset: '', signals: all}", "5:23: topics.0.asset", "enterprise '' must be"),
        ("{topic_regex: a, asset: acme, signals: all}", "5:5: topics.0.subscribe", "belong together"),
        (
            "{topic_regex: 'a(', subscribe: ['a/#'], asset: acme, signals: all}",
            "5:19: topics.0.topic_regex",
            "missing ), unterminated subpattern at character 2",
        ),
        (
            "{topic_regex: a, subscribe: ['a/#', 'a#'], asset: acme, signals: all}",
            "5:41: topics.0.subscribe.1",
            "stand for whole levels only",
        ),
        (
            "{topic_regex: a, subscribe: [a], asset: 'acme/{x}', signals: all}",
            "5:45: topics.0.asset",
            "the topic has no level {x}",
        ),
        ("{topic: a, asset: acme, zone: UTC, signals: all}", "5:35: topics.0.zone", "goes with a preset"),
        (
            "{topic: a, asset: acme, signals: [{signal: s, point: p}]}",
            "5:58: topics.0.signals.0.point",
            "goes with points.name only",
        ),
        (
            "{topic: a, asset: acme, points: {name: n}, signals: [{signal: s}]}",
            "5:58: topics.0.signals.0",
            "say which point holds it",
        ),
        (
            "{topic: a, asset: acme, points: {name: n}, signals: all}",
            "5:37: topics.0.points.value",
            "goes with points.name and signals: all, and these need it",
        ),
        (
            "{topic: a, asset: acme, points: {columns: true}, signals: all}",
            "5:63: topics.0.signals",
            "need a list of signals",
        ),
        (
            "{topic: a, asset: acme, points: {interval_ms: 5}, signals: all}",
            "5:51: topics.0.points.interval_ms",
            "there is no time",
        ),
        (
            "{topic: a, asset: acme, points: {interval_ms: 5, time: {path: t, format: s}}, signals: all}",
            "5:37: topics.0.points",
            "not both",
        ),
        (
            "{topic: a, asset: acme, payload: text, points: {}, signals: [{signal: s}]}",
            "5:52: topics.0.points",
            "no points",
        ),
        (
            "{topic: a, asset: acme, signals: [{signal: s, path: a, optional: true}, {signal: s, path: b}]}",
            "topics.0.signals.1.signal",
            "stands here twice",
        ),
    ],
)
def test_mistakes_are_named_where_they_stand(entry: str, where: str, what: str) -> None:
    lines = mistakes(f"  - {entry}\n")
    assert any(f"{where}: " in line and what in line for line in lines.splitlines()), lines


def test_a_signal_may_stand_in_several_places_of_which_one_is_there() -> None:
    entry = "{topic: a, asset: acme, signals: [{signal: s, path: a, optional: true}, {signal: s, path: b, optional: true}]}"
    assert len(config(f"  - {entry}\n").topics[0].signals) == 2


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (REGEX % ("a/.*", "a/#"), REGEX % ("a/.*", "a/#"), "matches the same topics as topics.0"),
        (REGEX % ("a/.*", "a/#"), PLAIN % "a/{x}", "never matches: topics.0 takes all of it before"),
        (REGEX % ("a/.*", "a/#"), PLAIN % "a/b", "never matches: topics.0 takes all of it before"),
        (PLAIN % "a/{x}", REGEX % ("a/[bc]", "a/+"), "never matches: topics.0 takes all of it before"),
        (REGEX % ("a/.*", "a/#"), REGEX % (".*/b", "+/b"), "subscriptions a/# and +/b overlap"),
        (REGEX % ("a/.*/b", "a/+/b"), PLAIN % "a/c/{x}", "subscriptions a/+/b and a/c/+ overlap"),
    ],
)
def test_entries_that_hide_others_or_bring_messages_twice_are_refused(
    first: str, second: str, what: str
) -> None:
    lines = mistakes(first + second)
    assert "agent.yaml:6:" in lines
    assert ": topics.1.topic" in lines
    assert what in lines


@pytest.mark.parametrize(
    ("first", "second", "filters"),
    [
        (PLAIN % "a/b", REGEX % ("a/.*", "a/#"), ("a/#",)),
        (REGEX % ("a/[bc]", "a/+"), PLAIN % "a/{x}", ("a/+",)),
        (REGEX % ("a/b.*", "a/#"), REGEX % ("a/c.*", "a/#"), ("a/#",)),
        (REGEX % ("a/.*", "a/#"), REGEX % ("b/.*", "b/#"), ("a/#", "b/#")),
        (REGEX % ("a/[0-9]+/b", "a/+/b"), PLAIN % "c/{x}/b", ("a/+/b", "c/+/b")),
        (REGEX % ("a(/x)?/b", "a/+/b, a/x/+"), PLAIN % "b", ("a/+/b", "a/x/+", "b")),
    ],
)
def test_order_decides_between_expressions_that_may_match_the_same(
    first: str, second: str, filters: tuple[str, ...]
) -> None:
    topics = config(first + second).topics
    assert subscription_filters([topic.form for topic in topics]) == filters
