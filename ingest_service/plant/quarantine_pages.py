"""Looking through the quarantine: filters, pages in order, single samples. Blocking."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from ingest_service.plant.schema import quarantine as table

State = Literal["waiting", "readmitted", "all"]
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
ANY_TIME: Final = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which samples; nothing stands for all."""

    stream: str = ""
    seq: int | None = None
    agent: str = ""
    reason: str = ""
    asset: str = ""
    """It, and what lies below."""
    from_ns: int = ANY_TIME[0]
    """Quarantined at or after, UTC ns."""
    to_ns: int = ANY_TIME[1]
    """And before."""
    state: State = "waiting"
    reach: str = ""
    """The asset path that the reader may see; samples of agents that serve it are seen too, whatever they name."""
    agents: tuple[str, ...] = ()
    """Those agents."""


class Place(NamedTuple):
    """Where a sample stands in the order of quarantining."""

    quarantined_at: int
    stream_id: str
    seq: int

    def __str__(self) -> str:
        """Return it as the cursor of a page."""
        return base64.urlsafe_b64encode(msgspec.json.encode(tuple(self))).decode()


def place_of(row: Mapping[str, Any]) -> Place:
    """Return where a row stands."""
    return Place(row["quarantined_at"], row["stream_id"], row["seq"])


def read_place(text: str) -> Place:
    """Read a cursor; raises ValueError where it is none of ours."""
    try:
        return Place(*msgspec.json.decode(base64.urlsafe_b64decode(text), type=tuple[_Int64, str, _Int64]))
    except (msgspec.MsgspecError, binascii.Error, UnicodeError) as error:
        raise ValueError("this is no cursor of ours") from error


def page(
    engine: sa.Engine, chosen: Filter, limit: int, after: Place | None = None, *, newest_first: bool = False
) -> list[dict[str, Any]]:
    """Return at most ``limit`` rows behind ``after``, in the order of quarantining or against it."""
    key = (table.c.quarantined_at, table.c.stream_id, table.c.seq)
    query = sa.select(table).where(*conditions(chosen)).limit(limit)
    if after is not None:
        place = sa.tuple_(*(sa.literal(one) for one in after))
        query = query.where(sa.tuple_(*key) < place if newest_first else sa.tuple_(*key) > place)
    query = query.order_by(*(column.desc() for column in key)) if newest_first else query.order_by(*key)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def one(engine: sa.Engine, stream_id: str, seq: int, chosen: Filter) -> dict[str, Any] | None:
    """Return one sample, None where there is none that the filter shows."""
    query = sa.select(table).where(table.c.stream_id == stream_id, table.c.seq == seq, *conditions(chosen))
    with engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row else None


def summary(engine: sa.Engine, chosen: Filter) -> list[dict[str, Any]]:
    """Return how many samples there are, by agent and reason."""
    columns = (table.c.agent_id, table.c.reason)
    query = (
        sa.select(
            *columns,
            sa.func.count().label("samples"),
            sa.func.min(table.c.quarantined_at).label("first"),
            sa.func.max(table.c.quarantined_at).label("last"),
        )
        .where(*conditions(chosen))
        .group_by(*columns)
        .order_by(*columns)
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def by_asset(
    engine: sa.Engine, asset: str, reach: str, from_ns: int, to_ns: int
) -> dict[str, tuple[int, int]]:
    """Return asset -> (how many wait, how many were re-admitted), of samples with a source time in a span."""
    c = table.c
    query = (
        sa.select(c.asset, sa.func.count(), sa.func.count(c.readmitted_at))
        .where(_below(asset), c.source_time >= from_ns, c.source_time < to_ns)
        .group_by(c.asset)
    )
    if reach:
        query = query.where(_below(reach))
    with engine.connect() as connection:
        return {row[0]: (row[1] - row[2], row[2]) for row in connection.execute(query)}


def conditions(chosen: Filter) -> list[sa.ColumnElement[bool]]:
    """Return what a row has to fulfil."""
    c = table.c
    found: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (c.stream_id, chosen.stream),
            (c.agent_id, chosen.agent),
            (c.reason, chosen.reason),
        )
        if value
    ]
    if chosen.seq is not None:
        found.append(c.seq == chosen.seq)
    if chosen.asset:
        found.append(_below(chosen.asset))
    if chosen.reach:
        found.append(sa.or_(_below(chosen.reach), c.agent_id.in_(chosen.agents)))
    if chosen.from_ns != ANY_TIME[0]:
        found.append(c.quarantined_at >= chosen.from_ns)
    if chosen.to_ns != ANY_TIME[1]:
        found.append(c.quarantined_at < chosen.to_ns)
    if chosen.state != "all":
        is_waiting = c.readmitted_at.is_(None)
        found.append(is_waiting if chosen.state == "waiting" else sa.not_(is_waiting))
    return found


def _below(path: str) -> sa.ColumnElement[bool]:
    # No LIKE: the underscores of asset paths would stand for any character.
    inside = path + "/"
    return sa.or_(table.c.asset == path, sa.func.substr(table.c.asset, 1, len(inside)) == inside)
