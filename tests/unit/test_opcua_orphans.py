"""Sessions that were left behind: how many may wait, and for how long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaStatusCodeError

from edge_agent.sources.opcua import orphans
from edge_agent.sources.opcua.kept import Kept, Tracked
from edge_agent.sources.opcua.orphans import MAX_LEFT, Orphans
from shopfloor.errors import SourceUnavailable
from tests.integration.opcua_plant import MemorySink


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


def kept(lifetime_s: float) -> Kept:
    tracked = Tracked(7, "live", 1.0, lifetime_s, 0.0)
    return Kept(MemorySink(), [tracked], {}, {}, set(), [])


async def test_what_shall_go_on_is_not_closed_but_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(orphans, "time", SimpleNamespace(monotonic=lambda: now_s))
    left = Orphans()
    left.leave(client("old", timeout_s=10), kept(lifetime_s=60))
    await left.bury(lambda: pytest.fail("nothing is to be closed"))
    heir = left.heir()
    assert heir is not None
    assert heir.token == "old"
    # The session ends before its subscriptions do: another one may still take them over.
    now_s += 30
    assert left.heir() is heir
    left.disinherit(heir)
    assert len(left) == 0
    left.leave(client("older"), kept(lifetime_s=5))
    now_s += 61
    assert left.heir() is None


class Refusing:
    """A client whose server refuses to activate an old session, in one way or another."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.token: str | None = None
        self.uaclient = SimpleNamespace(
            session=SimpleNamespace(
                restore_authentication_token=self._restore,
                reset_authentication_token=lambda: self._restore(None),
            )
        )
        self.security_policy = SimpleNamespace(peer_certificate=b"")
        self.session_timeout = 0

    def _restore(self, token: str | None) -> None:
        self.token = token

    async def _activate_with_credentials(self) -> None:
        assert self.token == "old"
        raise self.error


async def test_a_session_that_the_server_has_forgotten_is_none_to_close() -> None:
    left = Orphans()
    left.leave(client("old"), kept(lifetime_s=60))
    heir = left.heir()
    assert heir is not None
    refusing: Any = Refusing(UaStatusCodeError(StatusCodes.BadSessionIdInvalid))  # type: ignore[no-untyped-call]
    assert not await left.revive(refusing, heir)
    assert left.heir() is heir, "its subscriptions may be transferred"
    left.disinherit(heir)
    assert len(left) == 0


async def test_a_server_that_breaks_off_over_an_old_session_is_asked_three_times() -> None:
    left = Orphans()
    left.leave(client("old"), kept(lifetime_s=60))
    refusing: Any = Refusing(ConnectionError("closed"))
    for _ in range(3):
        heir = left.heir()
        assert heir is not None
        with pytest.raises(ConnectionError):
            await left.revive(refusing, heir)
        assert refusing.token is None, "whoever closes the client does not close that session"
    assert left.heir() is None
    assert len(left) == 1, "it is still to be closed"
