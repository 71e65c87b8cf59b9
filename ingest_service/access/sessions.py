"""Sessions of people who logged in: kept here by the hash of their cookie, ended by idleness, age or logout. Blocking."""

from __future__ import annotations

import secrets
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.auth import Identity, Role, digest
from ingest_service.plant.access_schema import account
from ingest_service.plant.access_schema import session as table

MOST_OF_ONE: Final = 20
"""Sessions of one user; one more ends the oldest."""
_TOUCHED_NS: Final = 60 * 1_000_000_000
"""Use is noted once in so long, or in a tenth of what idleness may last, not with every request."""


class Session(NamedTuple):
    """A session that holds; times in UTC ns."""

    identity: Identity
    seen_at: int
    ends_at: int
    """When it ends however much it is used."""


def open_session(engine: sa.Engine, name: str, address: str, now: int, ends_at: int) -> str | None:
    """Begin a session of an enabled user and return the text of its cookie; None where there is no such user."""
    text = secrets.token_urlsafe(32)
    with engine.begin() as connection:
        account_id = connection.scalar(
            sa.select(account.c.account_id).where(account.c.name == name, account.c.disabled_at.is_(None))
        )
        if account_id is None:
            return None
        connection.execute(table.delete().where(table.c.ends_at <= now))
        older = connection.scalars(
            sa.select(table.c.session_id)
            .where(table.c.account_id == account_id)
            .order_by(table.c.seen_at.desc())
            .offset(MOST_OF_ONE - 1)
            .limit(1000)
        ).all()
        if older:
            connection.execute(table.delete().where(table.c.session_id.in_(older)))
        connection.execute(
            table.insert().values(
                sha256=digest(text),
                account_id=account_id,
                address=address[:64],
                created_at=now,
                seen_at=now,
                ends_at=ends_at,
            )
        )
    return text


def find_session(engine: sa.Engine, sha256: str, now: int, idle_ns: int) -> Session | None:
    """Return a session by the hash of its cookie and note that it is used; None where it does not hold."""
    query = (
        sa.select(table, account.c.name, account.c.role, account.c.asset)
        .join(account, account.c.account_id == table.c.account_id)
        .where(table.c.sha256 == sha256, account.c.disabled_at.is_(None))
    )
    with engine.connect() as connection:
        row: Any = connection.execute(query).one_or_none()
    if row is None or row.ends_at <= now or row.seen_at + idle_ns <= now:
        return None
    if now - row.seen_at >= min(_TOUCHED_NS, idle_ns // 10):
        with engine.begin() as connection:
            connection.execute(table.update().where(table.c.session_id == row.session_id).values(seen_at=now))
    identity = Identity(-row.account_id, Role(row.role), row.asset, row.name, user=row.name)
    return Session(identity, max(row.seen_at, now), row.ends_at)


def end_session(engine: sa.Engine, sha256: str) -> bool:
    """End a session; False where there is none."""
    with engine.begin() as connection:
        return connection.execute(table.delete().where(table.c.sha256 == sha256)).rowcount > 0


def purge_sessions(engine: sa.Engine, now: int, idle_ns: int) -> int:
    """Delete the sessions that hold no more; returns their number."""
    ended = sa.or_(table.c.ends_at <= now, table.c.seen_at <= now - idle_ns)
    with engine.begin() as connection:
        return connection.execute(table.delete().where(ended)).rowcount
