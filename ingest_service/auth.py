"""Tokens: who may do what, below which asset. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.plant.schema import token as table
from ingest_service.plant.store import PlantStore
from ingest_service.stores import below
from shopfloor.asset import parse_asset

_TRUST_S: Final = 5.0
"""A token is looked up again after so long: a revoked one stops working within it."""
_REMEMBERED: Final = 10_000
_PREFIX: Final = "sf_"


class Role(StrEnum):
    """What a token is for."""

    AGENT = "agent"
    """Writes."""
    VIEWER = "viewer"
    """Reads."""
    ADMIN = "admin"
    """Both, and administration."""


class Identity(NamedTuple):
    """Who a request comes from."""

    token_id: int
    role: Role
    asset: str
    """It reaches this path and what lies below it; empty for everything."""
    name: str

    @property
    def writes(self) -> bool:
        """Whether it may send batches."""
        return self.role in {Role.AGENT, Role.ADMIN}

    @property
    def reads(self) -> bool:
        """Whether it may read."""
        return self.role in {Role.VIEWER, Role.ADMIN}

    def covers(self, asset: str) -> bool:
        """Tell whether an asset is in its reach."""
        return below(asset, self.asset)


ANYBODY: Final = Identity(0, Role.VIEWER, "", "anybody")
"""Who reads without a token where ``read_access: open`` allows it."""


class TokenRow(NamedTuple):
    """A token as administrators see it."""

    token_id: int
    role: str
    asset: str
    name: str
    created_at: int
    revoked_at: int | None


def create_token(engine: sa.Engine, role: Role, asset: str, name: str) -> str:
    """Make a token and return it; this is the only time that it can be seen.

    Raises:
        InvalidName: ``asset`` is no asset path.
    """
    text = _PREFIX + secrets.token_urlsafe(32)
    with engine.begin() as connection:
        connection.execute(
            table.insert().values(
                sha256=_digest(text),
                role=str(role),
                asset=str(parse_asset(asset)),
                name=name,
                created_at=time.time_ns(),
            )
        )
    return text


def list_tokens(engine: sa.Engine) -> list[TokenRow]:
    """Return all tokens, without their secrets."""
    columns = [table.c[name] for name in TokenRow._fields]
    with engine.connect() as connection:
        return [TokenRow(*row) for row in connection.execute(sa.select(*columns).order_by(table.c.token_id))]


def revoke_token(engine: sa.Engine, token_id: int) -> bool:
    """Make a token useless; False if there is none of that number."""
    with engine.begin() as connection:
        result = connection.execute(
            table.update()
            .where(table.c.token_id == token_id, table.c.revoked_at.is_(None))
            .values(revoked_at=time.time_ns())
        )
    return result.rowcount > 0


class Authenticator:
    """Looks tokens up in the PlantStore and trusts the answer for a few seconds."""

    def __init__(self, plant: PlantStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._plant = plant
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    async def identify(self, authorization: str | None) -> Identity | None:
        """Return who an ``Authorization`` header belongs to, None for nobody; raises StoreUnavailable."""
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text or len(text) > 200:
            return None
        digest = _digest(text.strip())
        known = self._known.get(digest)
        now = self._clock()
        if known and now < known[0]:
            return known[1]
        identity = await self._plant.run(_look_up, self._plant.engine, digest)
        if identity is None:
            self._known.pop(digest, None)
            return None
        self._known[digest] = (now + _TRUST_S, identity)
        self._known.move_to_end(digest)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return identity


def _look_up(engine: sa.Engine, digest: str) -> Identity | None:
    query = sa.select(table).where(table.c.sha256 == digest, table.c.revoked_at.is_(None))
    with engine.connect() as connection:
        row: Any = connection.execute(query).one_or_none()
    return Identity(row.token_id, Role(row.role), row.asset, row.name) if row else None


def _digest(text: str) -> str:
    # A token is 256 random bits: no salt and no slow hash is needed to keep it from being guessed.
    return hashlib.sha256(text.encode()).hexdigest()
