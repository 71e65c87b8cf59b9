"""How the nodes of a server are doing, and what is said of it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, cast

import pytest
from asyncua import ua

from edge_agent.sources.opcua import nodes as module
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.nodes import Nodes

NODE = ua.NodeId(ua.Int32(1), ua.Int16(2))


class Sink:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Wanted:
    """Some nodes, on a clock of the test."""

    def __init__(self, count: int = 1) -> None:
        self.clock, self.sink = Clock(), Sink()
        self.nodes = Nodes(
            OpcUaConfig.model_validate(
                {
                    "name": "plc",
                    "endpoint": "opc.tcp://plc:4840",
                    "nodes": [
                        {"node": f"ns=2;i={number}", "asset": "a/b/c/d/e", "signal": f"s{number}"}
                        for number in range(count)
                    ],
                }
            ),
            now_s=self.clock,
        )

    def fails(self, number: int = 0, reason: str = "BadNodeIdUnknown") -> None:
        self.nodes.fails(number, reason, self.clock.now_s, cast("Any", self.sink))

    def passes(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.nodes.settle()


def test_a_node_that_fails_by_turns_is_one_failure_with_one_end(caplog: pytest.LogCaptureFixture) -> None:
    wanted = Wanted()
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            # It exists, so that it is read again; and its value is too large each time.
            wanted.fails(reason="BadResponseTooLarge")
            wanted.passes(5)
            wanted.nodes.works(0, NODE)
            wanted.passes(5)
        assert len(caplog.messages) == 1
        wanted.passes(60)
        wanted.passes(60)
    assert len(caplog.messages) == 2
    assert "s0" in caplog.messages[1]
    assert "is back, after 3 min 15 s and 20 failures" in caplog.messages[1]
    assert wanted.sink.counts["node_failed"] == 20


def test_the_end_of_a_failure_is_said_also_when_the_session_was_another_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = Wanted()
    with caplog.at_level(logging.INFO):
        wanted.fails()
        for _ in range(3):
            wanted.nodes.begin()
            wanted.fails()
        assert len(caplog.messages) == 1
        wanted.nodes.begin()
        wanted.nodes.works(0, NODE)
        wanted.passes(61)
        assert "is back" in caplog.messages[1]
        # A later failure is another one.
        wanted.fails()
    assert len(caplog.messages) == 3


def test_the_log_does_not_drown_in_nodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MAX_TROUBLES", 3)
    wanted = Wanted(10)
    with caplog.at_level(logging.INFO):
        for number in range(10):
            wanted.fails(number)
        assert len(caplog.messages) == 4
        assert "more nodes fail" in caplog.messages[3]
        for number in range(10):
            wanted.nodes.works(number, NODE)
        wanted.passes(61)
    assert [message for message in caplog.messages[4:] if "is back" in message] == caplog.messages[4:7]
    assert len(caplog.messages) == 8
    assert "10 of 10" not in wanted.nodes.summary()
