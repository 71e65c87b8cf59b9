"""The part of a store on a server that has to be exact: numbers of series, watermarks and ledger, in the PlantStore.

Points are written first and the watermark moves after them. In PostgreSQL the rows of the streams are locked meanwhile, so
that of two processes that receive one batch at once the second one waits, and then knows it for a repeat.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from ingest_service.plant import rollups
from ingest_service.plant.engine import insert_new, is_shared
from ingest_service.plant.server_schema import kept_sample, ledger, series, stream
from ingest_service.stores import Committed, Run, TimeSpan
from ingest_service.stores.duckdb_group import Plan
from shopfloor.asset import parse_asset
from shopfloor.block import NO_TEXT, Int64, SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey, parse_signal

CHANNEL: Final = "shopfloor_live"
_NUMBERING: Final = 0x5F10_0002
"""Number of the advisory lock under which series get their numbers."""
_CHUNK: Final = 500


class Kept(NamedTuple):
    """Rows that the server can't hold."""

    stream_id: str
    seq: Int64
    series_id: Int64
    block: SampleBlock


class Claim:
    """The streams of one group, this process's alone until the block ends."""

    def __init__(self, connection: sa.Connection | None, marks: dict[str, int]) -> None:
        self.marks = marks
        """Watermark of each stream."""
        self._connection = connection

    def settle(
        self,
        engine: sa.Engine,
        plans: Sequence[Plan],
        committed: Committed,
        kept: Sequence[Kept],
        notices: Sequence[str],
    ) -> None:
        """Write the ledger, move the watermarks, tell the other processes: in one transaction, once the points are there."""
        if self._connection is not None:
            self._settle(engine, self._connection, plans, committed, kept, notices)
            return
        with engine.begin() as connection:
            new = [
                {"stream_id": one.batch.stream_id, "agent_id": one.batch.agent_id, "through": 0}
                for one in plans
            ]
            connection.execute(insert_new(engine, stream), new)
            self._settle(engine, connection, plans, committed, kept, ())

    def _settle(
        self,
        engine: sa.Engine,
        connection: sa.Connection,
        plans: Sequence[Plan],
        committed: Committed,
        kept: Sequence[Kept],
        notices: Sequence[str],
    ) -> None:
        now = time.time_ns()
        moved = {one.batch.stream_id: one.outcome.received_through for one in plans}
        rows = [
            {
                "stream_id": one.batch.stream_id,
                "first_seq": one.first_seq,
                "last_seq": one.batch.last_seq,
                "agent_id": one.batch.agent_id,
                "stored": one.outcome.stored,
                "rejected": len(one.outcome.refused),
                "received_at": now,
            }
            for one in plans
        ]
        connection.execute(sa.insert(ledger), rows)
        rollups.mark(engine, connection, committed.series_id, committed.source_time)
        for one in kept:
            connection.execute(insert_new(engine, kept_sample), _kept_records(one))
        update = (
            sa.update(stream)
            .where(stream.c.stream_id == sa.bindparam("of"), stream.c.through == sa.bindparam("mark"))
            .values(through=sa.bindparam("to"))
        )
        changes = [{"of": name, "mark": self.marks[name], "to": to} for name, to in moved.items()]
        if connection.execute(update, changes).rowcount != len(changes):
            raise StoreUnavailable(
                "another process moved a watermark; several of them need PostgreSQL", retry_after_s=2
            )
        if notices:
            notify = sa.text("SELECT pg_notify(:channel, :payload)")
            connection.execute(notify, [{"channel": CHANNEL, "payload": payload} for payload in notices])


class ServerLedger:
    """Blocking; raises SQLAlchemyError. ``patience_s`` bounds how long streams are waited for, and held."""

    def __init__(self, engine: sa.Engine, patience_s: float) -> None:
        self.engine = engine
        self.shared = is_shared(engine)
        self._patience_ms = round(patience_s * 1000)

    @contextmanager
    def claim(self, agents: Mapping[str, str]) -> Iterator[Claim]:
        """Claim streams (stream id to agent id); what `Claim.settle` wrote holds when the block ends without an error."""
        names = sorted(agents)
        if not names:
            yield Claim(None, {})
            return
        query = sa.select(stream.c.stream_id, stream.c.through).where(stream.c.stream_id.in_(names))
        if not self.shared:
            with self.engine.connect() as connection:
                found = dict(connection.execute(query).all())
            yield Claim(None, {name: found.get(name, 0) for name in names})
            return
        with self.engine.begin() as connection:
            # A process that hangs must not hold a stream for ever: then its own commit fails.
            connection.execute(sa.text(f"SET LOCAL lock_timeout = {self._patience_ms}"))
            connection.execute(
                sa.text(f"SET LOCAL idle_in_transaction_session_timeout = {2 * self._patience_ms}")
            )
            # All processes lock in the order of the names, new ones first: none waits for another in a circle.
            new = [{"stream_id": name, "agent_id": agents[name], "through": 0} for name in names]
            connection.execute(insert_new(self.engine, stream), new)
            locked = connection.execute(query.order_by(stream.c.stream_id).with_for_update())
            yield Claim(connection, dict(locked.all()))

    def stream(self, stream_id: str) -> tuple[str, int] | None:
        """Return who first wrote a stream, and its watermark."""
        query = sa.select(stream.c.agent_id, stream.c.through).where(stream.c.stream_id == stream_id)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        # A row without a watermark is a claim whose batch had nothing to write.
        return (row[0], row[1]) if row and row[1] else None

    def series_after(self, known: int) -> list[SeriesKey]:
        """Return the series whose numbers are above ``known``, by number."""
        with self.engine.connect() as connection:
            return _series_after(connection, known)

    def number(self, known: int, wanted: Sequence[SeriesKey]) -> list[SeriesKey]:
        """Give numbers to series that have none; return all whose numbers are above ``known``, by number."""
        with self.engine.begin() as connection:
            if self.shared:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_NUMBERING)))
            keys = _series_after(connection, known)
            there = set(keys)
            new = [key for key in wanted if key not in there]
            if new:
                first = known + len(keys) + 1
                rows = [
                    {"series_id": number, "asset": str(key.asset), "signal": key.signal}
                    for number, key in enumerate(new, first)
                ]
                connection.execute(sa.insert(series), rows)
        return [*keys, *new]

    def runs(self, streams: Collection[str] | None, received: TimeSpan | None) -> list[Run]:
        """Return joined ledger rows by (stream, seq); None stands for all streams, and for all times."""
        query = sa.select(ledger).order_by(ledger.c.stream_id, ledger.c.first_seq)
        if received is not None:
            query = query.where(
                ledger.c.received_at >= received.from_ns, ledger.c.received_at < received.to_ns
            )
        with self.engine.connect() as connection:
            if streams is None:
                return _joined(connection.execute(query).all())
            names = sorted(streams)
            rows = [
                row
                for start in range(0, len(names), _CHUNK)
                for row in connection.execute(
                    query.where(ledger.c.stream_id.in_(names[start : start + _CHUNK]))
                )
            ]
        return _joined(rows)

    def kept(
        self, ids: Sequence[int], span: TimeSpan, limit: int, *, newest_first: bool = False
    ) -> tuple[Int64, SampleBlock]:
        """Return ``limit`` kept rows of each series, and further ones of the last one's time.

        Returns:
            int64[n] of their series' numbers, and a block whose own series are not set.
        """
        column = kept_sample.c
        order = column.source_time.desc() if newest_first else column.source_time
        rank = sa.func.rank().over(partition_by=column.series_id, order_by=order)
        rows: list[Any] = []
        with self.engine.connect() as connection:
            for start in range(0, len(ids), _CHUNK):
                ranked = (
                    sa.select(kept_sample, rank.label("place"))
                    .where(
                        column.series_id.in_(ids[start : start + _CHUNK]),
                        column.source_time >= span.from_ns,
                        column.source_time < span.to_ns,
                    )
                    .subquery()
                )
                rows += connection.execute(sa.select(ranked).where(ranked.c.place <= limit)).all()
        block = SampleBlock(
            (),
            np.zeros(len(rows), np.uint32),
            np.array([row.source_time for row in rows], np.int64),
            np.array([row.received_time for row in rows], np.int64),
            np.array([np.nan if row.value is None else row.value for row in rows], np.float64),
            np.array([row.quality for row in rows], np.uint8),
            np.array([row.status for row in rows], np.uint32),
            {place: row.text for place, row in enumerate(rows) if row.text is not None} or NO_TEXT,
        )
        return np.array([row.series_id for row in rows], np.int64), block


def _series_after(connection: sa.Connection, known: int) -> list[SeriesKey]:
    query = sa.select(series).where(series.c.series_id > known).order_by(series.c.series_id)
    rows = connection.execute(query).all()
    if [row.series_id for row in rows] != list(range(known + 1, known + 1 + len(rows))):
        raise StoreUnavailable("the series table is damaged: its numbers have holes")
    return [SeriesKey(parse_asset(row.asset), parse_signal(row.signal)) for row in rows]


def _joined(rows: Sequence[Any]) -> list[Run]:
    runs: list[Run] = []
    for row in rows:
        last = runs[-1] if runs else None
        if last and last.stream_id == row.stream_id and last.last_seq == row.first_seq - 1:
            runs[-1] = Run(
                last.stream_id,
                last.agent_id,
                last.first_seq,
                row.last_seq,
                last.stored + row.stored,
                last.rejected + row.rejected,
                min(last.received_from, row.received_at),
                max(last.received_to, row.received_at),
            )
        else:
            runs.append(
                Run(
                    row.stream_id,
                    row.agent_id,
                    row.first_seq,
                    row.last_seq,
                    row.stored,
                    row.rejected,
                    row.received_at,
                    row.received_at,
                )
            )
    return runs


def _kept_records(kept: Kept) -> list[dict[str, Any]]:
    block = kept.block
    columns = zip(
        kept.seq.tolist(),
        kept.series_id.tolist(),
        block.source_time.tolist(),
        block.received_time.tolist(),
        block.value.tolist(),
        block.quality.tolist(),
        block.status.tolist(),
        strict=True,
    )
    return [
        {
            "stream_id": kept.stream_id,
            "seq": seq,
            "series_id": series_id,
            "source_time": source,
            "received_time": received,
            "value": None if np.isnan(value) else value,
            "quality": quality,
            "status": status,
            "text": block.text.get(row),
        }
        for row, (seq, series_id, source, received, value, quality, status) in enumerate(columns)
    ]
