"""Sessions that were left behind: how many may wait, and for how long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.sources.opcua import orphans
from edge_agent.sources.opcua.orphans import MAX_LEFT, Orphans
from shopfloor.errors import SourceUnavailable


def client(token: str = "t", timeout_s: float = 60.0) -> Any:
    return SimpleNamespace(
        uaclient=SimpleNamespace(session=SimpleNamespace(authentication_token=token)),
        security_policy=SimpleNamespace(peer_certificate=b""),
        session_timeout=timeout_s * 1000,
        _server_nonce=b"n",
        _policy_ids=[],
    )


def test_only_a_few_may_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(orphans, "time", SimpleNamespace(monotonic=lambda: now_s))
    left = Orphans()
    for number in range(MAX_LEFT):
        left.leave(client(str(number)))
        left.check()
    now_s += 30
    left.leave(client("one too many"))
    with pytest.raises(SourceUnavailable, match="5 sessions that could not be closed still count"):
        left.check()
    now_s += 30
    left.check()
    assert len(left) == 1
    now_s += 31
    assert len(left) == 0
