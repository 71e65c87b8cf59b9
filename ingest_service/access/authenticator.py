"""Who a request comes from: its token or its cookie, looked up in the PlantStore and trusted for a few seconds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from ingest_service.access.sessions import Session, end_session, find_session
from ingest_service.auth import LONGEST_TOKEN, Identity, digest, look_up
from ingest_service.plant.store import PlantStore

TRUST_S: Final = 5.0
"""A token or a session is looked up again after so long: a revoked one stops working within it."""
_REMEMBERED: Final = 10_000
SCHEMES: Final = frozenset({"bearer", "token"})
"""RFC 6750, and what clients of InfluxDB 2 send."""


Found = TypeVar("Found")


class Authenticator:
    """Looks tokens and sessions up. Belongs to the event loop.

    Args:
        plant: where they are.
        idle_s: seconds after which a session that nobody uses has ended.
        clock: seconds, monotonic: for how long an answer is trusted.
        clock_ns: UTC ns: expiry of tokens and sessions.
    """

    def __init__(
        self,
        plant: PlantStore,
        *,
        idle_s: float = 12 * 3600.0,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._plant = plant
        self._idle_ns = int(idle_s * 1e9)
        self._clock = clock
        self._clock_ns = clock_ns
        self._tokens: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self._sessions: OrderedDict[str, tuple[float, Session]] = OrderedDict()

    async def identify(
        self, authorization: str | None, certificate_names: Collection[str] = ()
    ) -> Identity | None:
        """Return who an ``Authorization`` header belongs to, None for nobody; raises StoreUnavailable.

        Args:
            authorization: the header.
            certificate_names: what the verified client certificate of the connection is called, none without one.
        """
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() not in SCHEMES or not text or len(text) > LONGEST_TOKEN:
            return None
        sha256 = digest(text)
        now = self._clock()
        known = self._tokens.get(sha256)
        if known and now < known[0]:
            identity = known[1]
        else:
            found = await self._plant.run(look_up, self._plant.engine, sha256)
            if found is None:
                self._tokens.pop(sha256, None)
                return None
            identity = found
            _remember(self._tokens, sha256, (now + TRUST_S, identity))
        if identity.expires_at is not None and identity.expires_at <= self._clock_ns():
            return None
        if identity.certificate and identity.certificate not in certificate_names:
            return None
        return identity

    async def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie, None where it does not hold; raises StoreUnavailable."""
        if not cookie or len(cookie) > LONGEST_TOKEN:
            return None
        sha256 = digest(cookie)
        now = self._clock()
        known = self._sessions.get(sha256)
        if known and now < known[0] and self._clock_ns() < known[1].ends_at:
            return known[1]
        found = await self._plant.run(
            find_session, self._plant.engine, sha256, self._clock_ns(), self._idle_ns
        )
        if found is None:
            self._sessions.pop(sha256, None)
            return None
        _remember(self._sessions, sha256, (now + TRUST_S, found))
        return found

    async def end_session(self, cookie: str) -> None:
        """End the session of a cookie, if there is one; raises StoreUnavailable."""
        sha256 = digest(cookie)
        self._sessions.pop(sha256, None)
        await self._plant.run(end_session, self._plant.engine, sha256)
        # A look-up may have been under way.
        self._sessions.pop(sha256, None)

    def forget(self) -> None:
        """Trust no earlier answer: rights have changed in this process."""
        self._tokens.clear()
        self._sessions.clear()


def _remember(known: OrderedDict[str, tuple[float, Found]], key: str, entry: tuple[float, Found]) -> None:
    known[key] = entry
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
