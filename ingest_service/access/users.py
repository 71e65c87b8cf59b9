"""Users of the page: a name, a role, an asset path, the hash of a password. Blocking; all may raise SQLAlchemyError."""

from __future__ import annotations

import re
import time
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.auth import PEOPLE, Role, parse_reach
from ingest_service.plant.access_schema import account as table
from ingest_service.plant.access_schema import session
from shopfloor.errors import InvalidName, Permanent

MOST: Final = 10_000
"""Users in all."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class UserExists(Permanent):
    """A user of that name is there already, or there are too many."""


class UserRow(NamedTuple):
    """A user as administrators see it; times in UTC ns."""

    account_id: int
    name: str
    role: str
    asset: str
    created_at: int
    disabled_at: int | None
    password_changed_at: int


def parse_user(text: str) -> str:
    """Return a user's name; raises InvalidName where it is none."""
    if not _NAME.fullmatch(text):
        raise InvalidName(
            f"user {text[:80]!r} must be 1 to 64 characters of a-z, 0-9, '.', '_', '@' and '-', "
            "beginning with a letter or digit"
        )
    return text


def add_user(engine: sa.Engine, name: str, hashed: str, role: Role, asset: str) -> UserRow:
    """Add a user.

    Raises:
        InvalidName: ``name`` or ``asset`` is none, or the role is that of agents.
        UserExists: there is one of that name, or there are `MOST`.
    """
    if role not in PEOPLE:
        raise InvalidName(f"role {role} is not for people")
    now = time.time_ns()
    values = {
        "name": parse_user(name),
        "password_hash": hashed,
        "role": str(role),
        "asset": parse_reach(asset),
        "created_at": now,
        "password_changed_at": now,
    }
    try:
        with engine.begin() as connection:
            if (connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0) >= MOST:
                raise UserExists(f"there are {MOST} users already")
            connection.execute(table.insert().values(values))
    except sa.exc.IntegrityError as error:
        raise UserExists(f"there is a user {name} already") from error
    row = find_user(engine, name)
    assert row is not None
    return row


def list_users(engine: sa.Engine) -> list[UserRow]:
    """Return all users by name."""
    with engine.connect() as connection:
        return [UserRow(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(table.c.name))]


def find_user(engine: sa.Engine, name: str) -> UserRow | None:
    """Return a user, None where there is none of that name."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(table.c.name == name)).one_or_none()
    return UserRow(*row) if row else None


def password_hash(engine: sa.Engine, name: str) -> str | None:
    """Return the hash of a user's password; None where there is no such user, or it is disabled."""
    query = sa.select(table.c.password_hash).where(table.c.name == name, table.c.disabled_at.is_(None))
    with engine.connect() as connection:
        found: str | None = connection.scalar(query)
    return found


def set_password(engine: sa.Engine, name: str, hashed: str, *, keep_session: str = "") -> bool:
    """Give a user another password and end its sessions, but for the one of that hash; False for no such user."""
    with engine.begin() as connection:
        account_id = connection.scalar(sa.select(table.c.account_id).where(table.c.name == name))
        if account_id is None:
            return False
        connection.execute(
            table.update()
            .where(table.c.account_id == account_id)
            .values(password_hash=hashed, password_changed_at=time.time_ns())
        )
        connection.execute(
            session.delete().where(session.c.account_id == account_id, session.c.sha256 != keep_session)
        )
    return True


def rehash(engine: sa.Engine, name: str, hashed: str) -> None:
    """Keep a newer hash of the same password."""
    with engine.begin() as connection:
        connection.execute(table.update().where(table.c.name == name).values(password_hash=hashed))


def change_user(
    engine: sa.Engine,
    name: str,
    *,
    disabled: bool | None = None,
    role: Role | None = None,
    asset: str | None = None,
) -> bool:
    """Disable or enable a user, or give it another role or path; its sessions end. False for no such user.

    Raises:
        InvalidName: ``asset`` is no asset path, or the role is that of agents.
    """
    values: dict[str, Any] = {}
    if role is not None:
        if role not in PEOPLE:
            raise InvalidName(f"role {role} is not for people")
        values["role"] = str(role)
    if asset is not None:
        values["asset"] = parse_reach(asset)
    if disabled is not None:
        values["disabled_at"] = time.time_ns() if disabled else None
    with engine.begin() as connection:
        account_id = connection.scalar(sa.select(table.c.account_id).where(table.c.name == name))
        if account_id is None:
            return False
        if values:
            connection.execute(table.update().where(table.c.account_id == account_id).values(values))
            connection.execute(session.delete().where(session.c.account_id == account_id))
    return True


_COLUMNS: Final = [table.c[name] for name in UserRow._fields]
