"""Presets: ours are valid, a user's own is found beside the configuration, mistakes are named in both files."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_agent.sources.mqtt import presets
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.topic_config import TopicConfig
from edge_agent.sources.mqtt.topics import subscription_filters
from shopfloor import signal
from shopfloor.configdoc import meanings
from shopfloor.configfile import load
from shopfloor.errors import ConfigError
from simulators.physics import signals

HEAD = "name: m\nbroker: mqtt://127.0.0.1\nclient_id: c\ntopics:\n"
OWN = """\
description: A scale
base: "scales/{scale}"
topics:
  - topic: "{base}/weight"
    time: {path: t, format: iso}
    signals: [{path: kg, signal: scale.weight, unit: kg}]
  - topic: "{base}/raw"
    signals: all
    prefix: raw
"""


def config(folder: Path, entries: str, preset: str = OWN) -> MqttConfig:
    (folder / "scale.yaml").write_text(preset)
    (folder / "agent.yaml").write_text(HEAD + entries)
    return load(folder / "agent.yaml", MqttConfig)


def mistakes(folder: Path, entries: str, preset: str = OWN) -> str:
    with pytest.raises(ConfigError) as caught:
        config(folder, entries, preset)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("name", presets.names())
def test_each_preset_is_valid_and_says_what_it_is_for(name: str) -> None:
    preset = presets.load(name)
    assert len(preset.description) > 80
    assert preset.needs_zone == (name == "tasmota")


def test_the_reference_names_them_all() -> None:
    description = meanings(TopicConfig)["preset"]
    assert all(f"``{name}``" in description for name in presets.names())


def test_presets_do_not_make_a_configuration_endless() -> None:
    entries = [
        {"preset": "shelly_gen2_status", "topic": f"s{number}/{{device}}", "asset": "acme"}
        for number in range(100)
    ]
    with pytest.raises(ValidationError, match="1400 topics with those of presets, at most 1000"):
        MqttConfig.model_validate(
            {"name": "m", "broker": "mqtt://127.0.0.1", "client_id": "c", "topics": entries}
        )


def test_meters_give_the_signals_that_pages_and_facts_know() -> None:
    for name in ("tasmota", "shelly_gen2", "shelly_gen2_status"):
        units = {each.signal: each.unit for topic in presets.load(name).topics for each in topic.signals}
        assert units[signal.ACTIVE_POWER] == "kW"
        assert units[signal.ACTIVE_ENERGY] == "kW.h"
        assert {signals.VOLTAGE, signals.CURRENT, signals.POWER_FACTOR} <= units.keys()


def test_a_preset_is_as_if_its_topics_stood_there(tmp_path: Path) -> None:
    entries = "  - {preset: ./scale.yaml, asset: 'acme/hk01/packing/line/{scale}', lowercase: true}\n"
    first, second = config(tmp_path, entries).topics
    assert (first.topic, first.asset, first.lowercase) == (
        "scales/{scale}/weight",
        "acme/hk01/packing/line/{scale}",
        True,
    )
    assert first.signals[0].unit == "kg"
    assert (second.topic, second.takes_all, second.prefix) == ("scales/{scale}/raw", True, "raw")
    assert first.preset == ""


def test_an_entry_may_say_where_the_topics_begin_and_what_stands_before_names(tmp_path: Path) -> None:
    entries = "  - {preset: ./scale.yaml, topic: 'hk01/{x}/s', asset: 'acme/hk01/p/l/{x}', prefix: in}\n"
    first, second = config(tmp_path, entries).topics
    assert (first.topic, second.topic) == ("hk01/{x}/s/weight", "hk01/{x}/s/raw")
    assert (first.signals[0].signal, second.prefix) == ("in.scale.weight", "in.raw")


def test_presets_that_are_changed_change_the_configuration(tmp_path: Path) -> None:
    entries = "  - {preset: ./scale.yaml, asset: acme}\n"
    before = config(tmp_path, entries)
    assert config(tmp_path, entries) == before
    assert config(tmp_path, entries, OWN.replace("unit: kg", "unit: g")) != before


def test_several_presets_share_a_broker() -> None:
    entries = [
        {"preset": "tasmota", "asset": "acme/s/a/plugs/{device}", "zone": "Asia/Hong_Kong"},
        {"preset": "shelly_gen2", "asset": "acme/s/a/meters/{device}"},
        {"preset": "umh"},
    ]
    made = MqttConfig.model_validate(
        {"name": "m", "broker": "mqtt://127.0.0.1", "client_id": "c", "topics": entries}
    )
    filters = subscription_filters([topic.form for topic in made.topics])
    assert {"tele/+/SENSOR", "tele/+/STATE", "tele/+/LWT", "+/events/rpc", "+/online"} <= set(filters)
    assert "umh/v1/+/+/+/+/+/_historian/#" in filters
    assert len(filters) == 11


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (
            "{preset: tasmoda, asset: acme}",
            "no such preset; there are shelly_gen2, shelly_gen2_status, tasmota, umh",
        ),
        ("{preset: ./none.yaml, asset: acme}", "none.yaml: No such file"),
        ("{preset: tasmota, asset: acme}", "say in which zone"),
        ("{preset: shelly_gen2, asset: acme, zone: UTC}", "leave zone out"),
        ("{preset: ./scale.yaml}", "give an asset"),
        ("{preset: umh, topic: a}", "its topics are fixed"),
        (
            "{preset: ./scale.yaml, asset: 'acme/{device}'}",
            "scales/{scale}/weight: asset: the topic has no level {device}",
        ),
        ("{preset: ./scale.yaml, asset: acme, topic: 'a/{base}'}", ""),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_at_its_preset(tmp_path: Path, entry: str, what: str) -> None:
    if not what:
        assert config(tmp_path, f"  - {entry}\n").topics[0].topic == "a/{base}/weight"
        return
    lines = mistakes(tmp_path, f"  - {entry}\n")
    assert f"{tmp_path}/agent.yaml:5:14: topics.0.preset: " in lines
    assert what in lines


def test_what_the_preset_says_is_not_said_again(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, "  - {preset: ./scale.yaml, asset: acme, payload: text, signals: all}\n")
    assert "topics.0.payload: the preset says this" in lines
    assert "topics.0.signals: the preset says this" in lines


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (
            "signal: scale.weight",
            "signal: Weight",
            "scale.yaml:6:34: topics.0.signals.0.signal: signal 'Weight' must be",
        ),
        ("description", "about", "scale.yaml:1:1: about: unknown key"),
        ("prefix: raw", "asset: acme", "scale.yaml:4:3: topics: leave asset out"),
    ],
)
def test_what_is_wrong_with_a_preset_is_said_with_its_file_and_line(
    tmp_path: Path, old: str, new: str, what: str
) -> None:
    entries = "  - {preset: ./scale.yaml, asset: acme}\n"
    lines = mistakes(tmp_path, entries, OWN.replace(old, new))
    assert what in lines
    assert "agent.yaml:5:14: topics.0.preset: " in lines


def test_topics_of_presets_and_others_may_not_cross(tmp_path: Path) -> None:
    entries = (
        "  - {preset: ./scale.yaml, asset: acme}\n  - {topic: 'scales/s1/{x}', asset: acme, signals: all}\n"
    )
    lines = mistakes(tmp_path, entries)
    assert "agent.yaml:6:13: topics.1.topic: some topics match this and topics.0" in lines
    other_way_round = "".join(reversed(entries.splitlines(keepends=True)))
    lines = mistakes(tmp_path, other_way_round)
    assert (
        "agent.yaml:6:14: topics.1.preset: scales/{scale}/weight: some topics match this and topics.0"
        in lines
    )
