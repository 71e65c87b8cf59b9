"""Logging in: one answer and one duration for a wrong password and an unknown user, and not too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from ingest_service.access import passwords, sessions, users
from ingest_service.access.config import AccessConfig
from ingest_service.access.rates import Buckets
from ingest_service.plant.store import PlantStore

_AT_ONCE: Final = 2
"""Passwords hashed at a time: each takes 64 MiB."""
_MOST_WAITING: Final = 32
_ELSEWHERE: Final = 10
Answer = TypeVar("Answer")


class TooManyLogins(Exception):
    """Try again later: in ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class LoggedIn(NamedTuple):
    """A new session."""

    cookie: str
    ends_at: int
    """UTC ns."""


class Logins:
    """Checks passwords on threads of its own. Belongs to the event loop."""

    def __init__(
        self,
        config: AccessConfig,
        plant: PlantStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._plant = plant
        self._config = config
        self._clock_ns = clock_ns
        failures, per_s = float(config.login_failures), 1.0 / config.login_pause_s
        self._pairs = Buckets(per_s, failures, clock=clock)
        self._wide = Buckets(per_s * _ELSEWHERE, failures * _ELSEWHERE, clock=clock)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "passwords")
        self._waiting = 0

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def log_in(self, user: str, password: str, address: str) -> LoggedIn | None:
        """Begin a session; None where user and password do not belong together.

        Raises:
            TooManyLogins: too many have failed lately, or too many are being checked.
            StoreUnavailable: the plant store does not answer.
        """
        shown = user[:64]
        hashed = await self._plant.run(users.password_hash, self._plant.engine, shown)
        if not await self._check(shown, password, address, hashed) or len(user) > len(shown):
            return None
        now = self._clock_ns()
        ends_at = now + int(self._config.session_s * 1e9)
        engine = self._plant.engine
        cookie = await self._plant.run(sessions.open_session, engine, shown, address, now, ends_at)
        if cookie is None:
            return None
        if hashed is not None and passwords.is_outdated(hashed):
            await self._plant.run(users.rehash, engine, shown, await self.hash(password))
        return LoggedIn(cookie, ends_at)

    async def confirm(self, user: str, password: str, address: str) -> bool:
        """Tell whether a password is a user's own, as seldom as `log_in`; raises as it does."""
        hashed = await self._plant.run(users.password_hash, self._plant.engine, user)
        return await self._check(user, password, address, hashed)

    async def _check(self, user: str, password: str, address: str, hashed: str | None) -> bool:
        keys = ((self._pairs, (user, address)), (self._wide, ("at", address)), (self._wide, ("of", user)))
        for number, (buckets, key) in enumerate(keys):
            wait = buckets.take(key)
            if wait:
                for other, taken in keys[:number]:
                    other.give_back(taken)
                raise TooManyLogins(wait)
        if not await self.fits(password, hashed):
            return False
        for buckets, key in keys:
            buckets.give_back(key)
        return True

    async def fits(self, password: str, hashed: str | None) -> bool:
        """Tell whether a password is the one of a hash; takes as long where there is none."""
        return await self._on_thread(lambda: passwords.verify(password[: passwords.LONGEST + 1], hashed))

    async def hash(self, password: str) -> str:
        """Return the hash of a password."""
        return await self._on_thread(lambda: passwords.hash_password(password))

    async def _on_thread(self, work: Callable[[], Answer]) -> Answer:
        if self._waiting >= _MOST_WAITING:
            raise TooManyLogins(1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
