"""Sessions that a server may still hold because our goodbye did not reach it.

Small controllers have ten sessions in all. A network that breaks every few seconds would use them up, one for each
reconnect, until they time out. So what is left behind is taken over on the next channel and closed; where that does
not work either, only a few may wait for their timeout before we stop opening more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua.client.client import Client
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaError, UaStatusCodeError

from shopfloor.errors import SourceUnavailable

MAX_LEFT: Final = 4
_GONE: Final = frozenset({StatusCodes.BadSessionIdInvalid, StatusCodes.BadSessionClosed})


@dataclass(frozen=True, slots=True)
class _Left:
    token: Any
    nonce: Any
    policies: list[Any]
    server_certificate: Any
    until_s: float
    """Monotonic; then the server has forgotten it."""


@dataclass(slots=True)
class Orphans:
    """What one source has left behind on its server."""

    left: list[_Left] = field(default_factory=list)

    def __len__(self) -> int:
        self._forget()
        return len(self.left)

    def leave(self, client: Client) -> None:
        """Note that a client's session could not be closed."""
        token = client.uaclient.session.authentication_token
        until_s = time.monotonic() + client.session_timeout / 1000
        known = client.security_policy.peer_certificate
        self.left.append(_Left(token, client._server_nonce, client._policy_ids, known, until_s))  # noqa: SLF001

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
        for orphan in list(self.left):
            async with connect() as client:
                if await _close(client, orphan):
                    self.left.remove(orphan)

    def _forget(self) -> None:
        now_s = time.monotonic()
        self.left = [orphan for orphan in self.left if orphan.until_s > now_s]


async def _close(client: Client, orphan: _Left) -> bool:
    """Take over a session and close it; return whether it is gone."""
    session = client.uaclient.session
    session.restore_authentication_token(orphan.token)
    client._server_nonce, client._policy_ids = orphan.nonce, orphan.policies  # noqa: SLF001
    client.security_policy.peer_certificate = orphan.server_certificate
    try:
        await client._activate_with_credentials()  # noqa: SLF001
        await session.close_session(True)
    except UaStatusCodeError as error:
        return error.code in _GONE
    except (UaError, TimeoutError):
        return False
    return True
