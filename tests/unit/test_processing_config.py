"""What a user may write into ``processing``, and what is refused at which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import Config
from shopfloor import configfile
from shopfloor.errors import ConfigError

HEAD = """\
agent: {id: a, asset: acme/s}
uplink: {url: 'http://127.0.0.1:1', token: '${TOKEN}'}
sources:
- mqtt: {name: m, broker: 'mqtt://127.0.0.1:1', client_id: c, topics: [{topic: t, asset: acme/s, signals: all}]}
processing:
"""


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t")


def problems(rules: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configfile.parse(HEAD + rules, Config, Path("agent.yaml"))
    return caught.value.problems


def test_rules_are_read_in_order() -> None:
    rules = """\
- {asset: 'acme/s/*/*/imm-*', signal: 'barrel.*.temperature', swinging_door: {deviation: 0.2}, freshness_s: 30}
- {signal: status.mode, to_text: {0: other, 1: automatic}}
- {signal: job.name, rename: order.name, deadband: {}, max_interval_s: 3600}
- {deadband: {absolute: 0.1, percent: 0.5}, min_interval_s: 1}
"""
    config = configfile.parse(HEAD + rules, Config, Path("agent.yaml"))
    assert [rule.signal for rule in config.processing] == [
        "barrel.*.temperature",
        "status.mode",
        "job.name",
        "**",
    ]
    assert config.processing[1].to_text == {0: "other", 1: "automatic"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{signal: 'a.*', rename: b}", "rename: signal must be one name, without wildcards"),
        ("{signal: a, rename: B}", "must be names of a-z"),
        ("{asset: 'ACME/*'}", "an asset path of a-z"),
        ("{signal: 'a/b'}", "a signal name of a-z"),
        ("{scale: 2, to_text: {0: a}}", "scale: a text is not scaled"),
        ("{scale: 2, to_number: {a: 1}}", "scale: write the scaled numbers into to_number"),
        ("{to_text: {0: a}, to_number: {a: 1}}", "to_number: goes together with nothing that makes text"),
        ("{to_number: {on: 1}}", "valid string"),
        ("{deadband: {absolute: -1}}", "greater than or equal to 0"),
        ("{swinging_door: {deviation: 0}}", "greater than 0"),
        ("{swinging_door: {deviation: 1}, deadband: {}}", "give one of the two"),
        ("{swinging_door: {deviation: 1}, min_interval_s: 1}", "its bound would not hold"),
        ("{deadband: {keep_previous: true}, min_interval_s: 1}", "deadband.keep_previous: would keep more"),
        ("{min_interval_s: 10, max_interval_s: 5}", "max_interval_s: must be no less than min_interval_s"),
        ("{max_interval_s: 5}", "max_interval_s: nothing is left out by this rule"),
        ("{dedband: {}}", "unknown key, did you mean deadband?"),
    ],
)
def test_a_mistake_is_named_where_it_stands(rule: str, said: str) -> None:
    (problem,) = problems(f"- {rule}\n")
    assert problem.startswith("agent.yaml:6:")
    assert said in problem


def test_a_rule_that_never_counts_is_refused() -> None:
    assert problems("- {scale: 2}\n- {signal: a, scale: 3}\n") == [
        "agent.yaml:7:3: processing.1: never counts: processing.0 takes all of it before; put this one first"
    ]
    assert "processing.1" in problems("- {signal: a, scale: 2}\n- {signal: a, offset: 3}\n")[0]
