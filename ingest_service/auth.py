"""Roles, who a request comes from, and tokens: what each may do, below which asset. Only hashes of tokens are kept."""

from __future__ import annotations

import hashlib
import secrets
import time
from enum import StrEnum
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.plant.schema import token as table
from ingest_service.stores import below
from shopfloor.asset import parse_asset
from shopfloor.errors import InvalidName

LONGEST_TOKEN: Final = 200
"""Characters."""
_PREFIX: Final = "sf_"
_MOST_TOKENS: Final = 100_000


class Role(StrEnum):
    """What a token or a user is for."""

    AGENT = "agent"
    """Writes samples, and nothing else."""
    VIEWER = "viewer"
    """Reads."""
    OPERATOR = "operator"
    """Reads, acknowledges alarms, re-admits or purges what lies in quarantine."""
    ADMIN = "admin"
    """All of these, and administration: tokens, users, the audit log."""


PEOPLE: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
"""Roles that a user may have."""


class Identity(NamedTuple):
    """Who a request comes from."""

    token_id: int
    """Number of the token; minus that of the account for a user; 0 for anybody."""
    role: Role
    asset: str
    """It reaches this path and what lies below it; empty for everything."""
    name: str
    user: str = ""
    """Name of the user who logged in; empty for a token."""
    certificate: str = ""
    """Name that the client certificate of the connection has to bear; empty for any, and for none."""
    expires_at: int | None = None
    """UTC ns."""

    @property
    def writes(self) -> bool:
        """Whether it may send batches."""
        return self.role in {Role.AGENT, Role.ADMIN}

    @property
    def reads(self) -> bool:
        """Whether it may read."""
        return self.role in {Role.VIEWER, Role.OPERATOR, Role.ADMIN}

    @property
    def operates(self) -> bool:
        """Whether it may acknowledge alarms and decide on what lies in quarantine."""
        return self.role in {Role.OPERATOR, Role.ADMIN}

    @property
    def administers(self) -> bool:
        """Whether it may give and take rights, and read the audit log."""
        return self.role is Role.ADMIN

    @property
    def actor(self) -> str:
        """Who this is, for the audit log."""
        if self.user:
            return f"user {self.user}"
        if not self.token_id:
            return "anybody"
        return f"token {self.token_id}" + (f" ({self.name})" if self.name else "")

    def covers(self, asset: str) -> bool:
        """Tell whether an asset is in its reach."""
        return below(asset, self.asset)


ANYBODY: Final = Identity(0, Role.VIEWER, "", "anybody")
"""Who reads without a token where ``read_access: open`` allows it."""


class TokenRow(NamedTuple):
    """A token as administrators see it; times in UTC ns."""

    token_id: int
    role: str
    asset: str
    name: str
    created_at: int
    revoked_at: int | None
    expires_at: int | None = None
    certificate: str = ""

    def state(self, now: int) -> str:
        """Return ``valid``, ``revoked`` or ``expired``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


def create_token(
    engine: sa.Engine,
    role: Role,
    asset: str,
    name: str,
    *,
    expires_at: int | None = None,
    certificate: str = "",
) -> str:
    """Make a token and return it; this is the only time that it can be seen.

    Args:
        engine: the plant's database.
        role: what it may do.
        asset: the path that it reaches, with what lies below; empty for everything.
        name: whose it is, for people; 200 characters at most.
        expires_at: UTC ns after which it is useless; None for never.
        certificate: name that the client certificate beside it has to bear; empty for no such condition.

    Raises:
        InvalidName: ``asset`` is no asset path, or one of the texts is too long.
    """
    return make_token(engine, role, asset, name, expires_at=expires_at, certificate=certificate)[0]


def make_token(
    engine: sa.Engine,
    role: Role,
    asset: str,
    name: str,
    *,
    expires_at: int | None = None,
    certificate: str = "",
    text: str | None = None,
) -> tuple[str, TokenRow]:
    """Make a token as `create_token` does, of `new_token` or that one; return it and what administrators see of it."""
    if len(name) > 200 or len(certificate) > 255:
        raise InvalidName("the name of a token has at most 200 characters, that of a certificate 255")
    if not name.isprintable() or not certificate.isprintable():
        raise InvalidName("a name consists of printable characters")
    text = text or new_token()
    row = TokenRow(0, str(role), parse_reach(asset), name, time.time_ns(), None, expires_at, certificate)
    values = {**row._asdict(), "sha256": digest(text)}
    del values["token_id"]
    with engine.begin() as connection:
        if (connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0) >= _MOST_TOKENS:
            raise InvalidName(f"there are {_MOST_TOKENS} tokens already")
        result = connection.execute(table.insert().values(values))
        key = result.inserted_primary_key
    assert key is not None
    return text, row._replace(token_id=key[0])


def new_token() -> str:
    """Return a text that nobody guesses: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def list_tokens(engine: sa.Engine) -> list[TokenRow]:
    """Return all tokens, without their secrets."""
    with engine.connect() as connection:
        return [TokenRow(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(table.c.token_id))]


def find_token(engine: sa.Engine, token_id: int) -> TokenRow | None:
    """Return a token by its number."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(table.c.token_id == token_id)).one_or_none()
    return TokenRow(*row) if row else None


def revoke_token(engine: sa.Engine, token_id: int) -> bool:
    """Make a token useless; False if there is none of that number."""
    with engine.begin() as connection:
        result = connection.execute(
            table.update()
            .where(table.c.token_id == token_id, table.c.revoked_at.is_(None))
            .values(revoked_at=time.time_ns())
        )
    return result.rowcount > 0


def look_up(engine: sa.Engine, sha256: str) -> Identity | None:
    """Return whose token has that hash; None where it is unknown, revoked or has expired."""
    query = sa.select(table).where(table.c.sha256 == sha256, table.c.revoked_at.is_(None))
    with engine.connect() as connection:
        row: Any = connection.execute(query).one_or_none()
    if row is None or (row.expires_at is not None and row.expires_at <= time.time_ns()):
        return None
    return Identity(
        row.token_id,
        Role(row.role),
        row.asset,
        row.name,
        certificate=row.certificate,
        expires_at=row.expires_at,
    )


def digest(text: str) -> str:
    """Return the hash under which a token or a cookie is kept."""
    # 256 random bits: no salt and no slow hash is needed to keep it from being guessed.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def parse_reach(asset: str) -> str:
    """Return the path that a token or a user reaches, empty for everything; raises InvalidName."""
    return str(parse_asset(asset)) if asset else ""


_COLUMNS: Final = [table.c[name] for name in TokenRow._fields]
