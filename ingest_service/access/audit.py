"""The audit log: who did what, from where, when, and what came of it. No secret ever gets in. Blocking."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from ingest_service.plant.access_schema import audit as table
from ingest_service.stores import below

DONE: Final = "done"
REFUSED: Final = "refused"
FAILED: Final = "failed"
_REFUSED_SHARE: Final = 4
"""Refusals may take a quarter of the log: whoever fails to log in all day can't wash out what was done."""
_SHOWN: Final = 200
_LONGEST_DETAIL: Final = 2000
_CUT: Final = 300
"""Six characters may stand for one of JSON within JSON."""


class Act(NamedTuple):
    """One entry."""

    actor: str
    """``user anna``, ``token 5 (gateway)``, ``system root`` of the command line, ``anybody``."""
    address: str
    """Where the request came from; empty for the command line."""
    action: str
    """What was asked for, such as ``token.create`` or ``POST /v1/quarantine/purge``."""
    subject: str
    """What it was done to."""
    outcome: str
    """``done``, ``refused`` or ``failed``."""
    asset: str = ""
    """The actor's reach: administrators of that path or above see the entry."""
    detail: Mapping[str, Any] = {}


class AuditRow(NamedTuple):
    """An entry as it was kept; ``at`` in UTC ns, ``detail`` as JSON."""

    audit_id: int
    at: int
    actor: str
    address: str
    action: str
    subject: str
    outcome: str
    asset: str
    detail: str


def record(engine: sa.Engine, act: Act, now: int | None = None) -> None:
    """Keep an entry; returns once it is durable."""
    values = {
        "at": time.time_ns() if now is None else now,
        "actor": act.actor[:_SHOWN],
        "address": act.address[:64],
        "action": act.action[:_SHOWN],
        "subject": act.subject[:_SHOWN],
        "outcome": act.outcome,
        "asset": act.asset,
        "detail": _detail(act.detail),
    }
    with engine.begin() as connection:
        connection.execute(table.insert().values(values))


def entries(
    engine: sa.Engine, *, reach: str = "", before: int | None = None, limit: int = 1000
) -> list[AuditRow]:
    """Return entries, newest first.

    Args:
        engine: the plant's database.
        reach: only entries of actors at or below this path.
        before: only entries older than that number: the cursor of the next page.
        limit: at most so many.
    """
    query = sa.select(*_COLUMNS).order_by(table.c.audit_id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.audit_id < before)
    if reach:
        query = query.where(
            sa.or_(table.c.asset == reach, table.c.asset.startswith(reach + "/", autoescape=True))
        )
    with engine.connect() as connection:
        rows = [AuditRow(*row) for row in connection.execute(query)]
    assert all(below(row.asset, reach) for row in rows)
    return rows


def prune(engine: sa.Engine, *, most: int, oldest: int) -> int:
    """Delete entries before ``oldest`` (UTC ns) and beyond ``most``; returns how many.

    Refusals beyond their share of ``most`` go first, oldest first.
    """
    with engine.begin() as connection:
        deleted = connection.execute(table.delete().where(table.c.at < oldest)).rowcount
        for what, share in ((table.c.outcome == REFUSED, most // _REFUSED_SHARE), (sa.true(), most)):
            last = connection.scalar(
                sa.select(table.c.audit_id)
                .where(what)
                .order_by(table.c.audit_id.desc())
                .offset(share)
                .limit(1)
            )
            if last is not None:
                deleted += connection.execute(table.delete().where(what, table.c.audit_id <= last)).rowcount
    return deleted


def _detail(detail: Mapping[str, Any]) -> str:
    text = msgspec.json.encode(dict(detail), enc_hook=str).decode()
    return text if len(text) <= _LONGEST_DETAIL else msgspec.json.encode({"cut": text[:_CUT]}).decode()


def here() -> str:
    """Return the actor of a command on this machine."""
    try:
        return f"system {getpass.getuser()}"
    except (KeyError, OSError):
        return "system"


_COLUMNS: Final = [table.c[name] for name in AuditRow._fields]
