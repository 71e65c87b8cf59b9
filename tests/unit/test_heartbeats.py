"""What an agent makes of the answers to its heartbeats."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edge_agent.heartbeats import Heartbeats
from shopfloor.messages import HeartbeatReply


class Stub:
    """Stands for reports, uplink and delivery alike; answers what the test says."""

    pending_samples = 0

    def __init__(self) -> None:
        self.stats = self
        self.reply = HeartbeatReply(0)

    def heartbeat(self) -> object:
        return self

    def known_series(self) -> tuple[()]:
        return ()

    async def send_heartbeat(self, _: object) -> HeartbeatReply:
        return self.reply

    def connected(self) -> None:
        pass

    def heartbeat_sent(self) -> None:
        pass


async def test_assets_that_the_token_does_not_reach_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub()
    beats = Heartbeats(*cast("tuple[Any, Any, Any]", (stub, stub, stub)))
    await beats._send()
    assert caplog.messages == []
    stub.reply = HeartbeatReply(0, outside=("acme/dg01/a",))
    for _ in range(3):
        await beats._send()
    (line,) = caplog.messages
    assert "acme/dg01/a" in line
    stub.reply = HeartbeatReply(0)
    caplog.set_level("INFO")
    await beats._send()
    assert len(caplog.messages) == 2
