"""Alarms, present and past. Blocking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from ingest_service.plant.accounting_schema import alarm as table
from ingest_service.plant.engine import replace_rows


class AlarmRow(NamedTuple):
    """One alarm; times in UTC ns."""

    alarm_id: str
    kind: str
    subject: str
    asset: str
    message: str
    since: int
    until: int | None = None
    acknowledged_at: int | None = None
    acknowledged_by: str = ""


_COLUMNS = [table.c[name] for name in AlarmRow._fields]


def save(engine: sa.Engine, alarms: Iterable[AlarmRow]) -> None:
    """Keep alarms as they are now; who acknowledged them is left as it is."""
    rows = list(alarms)
    columns = ("alarm_id", "kind", "subject", "asset", "message", "since", "until")
    replace_rows(
        engine, table, ["alarm_id"], [{name: getattr(one, name) for name in columns} for one in rows]
    )


def active(engine: sa.Engine) -> list[AlarmRow]:
    """Return what is wrong now, oldest first."""
    query = sa.select(*_COLUMNS).where(table.c.until.is_(None)).order_by(table.c.since, table.c.alarm_id)
    with engine.connect() as connection:
        return [AlarmRow(*row) for row in connection.execute(query)]


def history(engine: sa.Engine, limit: int, before: tuple[int, str] | None, *, over: bool) -> list[AlarmRow]:
    """Return alarms, the newest first.

    Args:
        engine: the plant's database.
        limit: at most so many.
        before: (since, id) of the last one of the page before.
        over: only those that are over.
    """
    key = (table.c.since, table.c.alarm_id)
    query = sa.select(*_COLUMNS).order_by(*(column.desc() for column in key)).limit(limit)
    if over:
        query = query.where(table.c.until.is_not(None))
    if before is not None:
        query = query.where(sa.tuple_(*key) < sa.tuple_(*(sa.literal(one) for one in before)))
    with engine.connect() as connection:
        return [AlarmRow(*row) for row in connection.execute(query)]


def one(engine: sa.Engine, alarm_id: str) -> AlarmRow | None:
    """Return an alarm."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(table.c.alarm_id == alarm_id)).one_or_none()
    return AlarmRow(*row) if row else None


def acknowledge(engine: sa.Engine, alarm_id: str, by: str, at: int) -> None:
    """Note who has seen an alarm; the first one counts."""
    with engine.begin() as connection:
        connection.execute(
            table.update()
            .where(table.c.alarm_id == alarm_id, table.c.acknowledged_at.is_(None))
            .values(acknowledged_at=at, acknowledged_by=by[:200])
        )


def prune(engine: sa.Engine, oldest: int) -> None:
    """Forget alarms that were over before ``oldest`` (UTC ns)."""
    with engine.begin() as connection:
        connection.execute(table.delete().where(table.c.until < oldest))
