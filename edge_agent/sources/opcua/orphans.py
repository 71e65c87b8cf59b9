"""Sessions that a server may still hold because our goodbye did not reach it, or because they shall go on.

Small controllers have ten sessions in all. A network that breaks every few seconds would use them up, one for each
reconnect, until they time out. So what is left behind is taken over on the next channel and closed; where that does
not work either, only a few may wait for their timeout before we stop opening more.

A session of which only the connection broke is taken over as it is, and its subscriptions with it (Part 4 §6.7).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua.client.client import Client
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaError, UaStatusCodeError

from edge_agent.sources.opcua.kept import Kept
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)

MAX_LEFT: Final = 4
_MAX_ATTEMPTS: Final = 3
_GONE: Final = frozenset({StatusCodes.BadSessionIdInvalid, StatusCodes.BadSessionClosed})


@dataclass(slots=True, eq=False)
class Left:
    """One session."""

    token: Any
    nonce: Any
    policies: list[Any]
    server_certificate: Any
    timeout_ms: float
    until_s: float
    """Monotonic; then the server has forgotten it."""
    kept: Kept | None = None
    """Its subscriptions, where they shall go on."""
    kept_until_s: float = 0.0
    attempts: int = 0
    """How often it was tried to go on with it."""


@dataclass(slots=True)
class Orphans:
    """What one source has left behind on its server."""

    left: list[Left] = field(default_factory=list)

    def __len__(self) -> int:
        self._forget()
        return len(self.left)

    def leave(self, client: Client, kept: Kept | None = None) -> None:
        """Note that a client's session was not closed, and what of it shall go on."""
        session = client.uaclient.session
        now_s = time.monotonic()
        self.left.append(
            Left(
                session.authentication_token,
                client._server_nonce,  # noqa: SLF001
                client._policy_ids,  # noqa: SLF001
                client.security_policy.peer_certificate,
                client.session_timeout,
                now_s + client.session_timeout / 1000,
                kept,
                now_s if kept is None else now_s + kept.lifetime_s,
            )
        )

    def check(self) -> None:
        """Raise SourceUnavailable where so many are left that another session would be too much."""
        if len(self) > MAX_LEFT:
            raise SourceUnavailable(
                f"{len(self.left)} sessions that could not be closed still count on the server; "
                "waiting until they time out there"
            )

    async def bury(self, connect: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        """Close what was left, each over a channel of its own (Part 4 §5.6.3: activated there, a session moves to it).

        Args:
            connect: opens a secure channel, and closes it again.

        Raises:
            UaError, OSError, TimeoutError: there is no channel to be had.
        """
        self._forget()
        for orphan in [orphan for orphan in self.left if orphan.kept is None]:
            async with connect() as client:
                if await _close(client, orphan):
                    self.left.remove(orphan)

    def heir(self) -> Left | None:
        """Return the session whose subscriptions shall go on, None where there is none."""
        self._forget()
        for orphan in self.left:
            if orphan.attempts >= _MAX_ATTEMPTS:
                # Whatever the server does about it (close the channel, say nothing): a new session is better than none.
                orphan.kept = None
        self._forget()
        return next((orphan for orphan in self.left if orphan.kept is not None), None)

    async def revive(self, client: Client, orphan: Left) -> bool:
        """Activate a session on a client's secure channel; return whether the server lets it.

        If so, the client has it and it is no orphan any more. If not, the client can open another session, to which
        the subscriptions may be transferred; then call `disinherit`.

        Raises:
            UaError, OSError, TimeoutError: the connection is gone.
        """
        orphan.attempts += 1
        try:
            await _activate(client, orphan)
        except UaStatusCodeError as error:
            log.info("the server does not let its session be taken over: %s", error)
            if error.code in _GONE:
                orphan.until_s = 0.0
            client.uaclient.session.reset_authentication_token()
            client._server_nonce = None  # noqa: SLF001
            return False
        except BaseException:
            # Whoever closes this client shall not take the session for its own and say goodbye for it.
            client.uaclient.session.reset_authentication_token()
            raise
        self.left.remove(orphan)
        return True

    def disinherit(self, orphan: Left) -> None:
        """Note that another session has the subscriptions: what is left is to be closed."""
        orphan.kept = None
        self._forget()

    def _forget(self) -> None:
        now_s = time.monotonic()
        self.left = [
            orphan
            for orphan in self.left
            if orphan.until_s > now_s or (orphan.kept is not None and orphan.kept_until_s > now_s)
        ]


async def _activate(client: Client, orphan: Left) -> None:
    client.uaclient.session.restore_authentication_token(orphan.token)
    client._server_nonce, client._policy_ids = orphan.nonce, orphan.policies  # noqa: SLF001
    client.security_policy.peer_certificate = orphan.server_certificate
    client.session_timeout = round(orphan.timeout_ms)
    await client._activate_with_credentials()  # noqa: SLF001


async def _close(client: Client, orphan: Left) -> bool:
    """Take over a session and close it; return whether it is gone."""
    try:
        await _activate(client, orphan)
        await client.uaclient.session.close_session(True)
    except UaStatusCodeError as error:
        return error.code in _GONE
    except (UaError, OSError, TimeoutError):
        return False
    return True
