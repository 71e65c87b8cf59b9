"""What the embedded store's ledger says of many streams at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Final

import duckdb
import numpy as np

from ingest_service.stores import Run, TimeSpan

_HOUR_NS: Final = 3600 * 1_000_000_000
_FINE_NS: Final = 48 * _HOUR_NS
_SETTLED_NS: Final = 600 * 1_000_000_000

_JOINED = """
SELECT stream_id, arg_min(agent_id, first_seq), min(first_seq), max(last_seq), sum(stored)::BIGINT,
    sum(rejected)::BIGINT, min(received_at), max(received_at)
FROM (SELECT *, sum(begins) OVER (PARTITION BY stream_id ORDER BY first_seq) AS run FROM (
    SELECT *, CASE WHEN lag(last_seq) OVER (PARTITION BY stream_id ORDER BY first_seq) = first_seq - 1
        THEN 0 ELSE 1 END AS begins
    FROM batch WHERE received_at >= $begin AND received_at < $end AND ($all OR list_contains($streams, stream_id))))
GROUP BY stream_id, run ORDER BY stream_id, min(first_seq)
"""


def read_ledger(
    cursor: duckdb.DuckDBPyConnection, streams: Collection[str] | None, received: TimeSpan
) -> list[Run]:
    """Return the joined ledger rows that were received in a span of time."""
    rows = cursor.execute(
        _JOINED,
        {
            "begin": received.from_ns,
            "end": received.to_ns,
            "all": streams is None,
            "streams": list(streams or ()),
        },
    ).fetchall()
    return [Run(*row) for row in rows]


def join_ledger(cursor: duckdb.DuckDBPyConnection, now_ns: int, at: Callable[[str], None]) -> None:
    """Make one row of neighbouring ones of a stream, so that the ledger stays small; it says the same as before.

    Rows of the last ten minutes stay as they are, rows that were received in different hours stay apart for two days,
    those of different UTC days for ever.

    Args:
        cursor: writes, in a transaction of its own; what others append meanwhile stays untouched.
        now_ns: UTC ns.
        at: told of each step.
    """
    cursor.execute("BEGIN TRANSACTION")
    try:
        joined = cursor.execute(
            "SELECT stream_id, agent_id, min(first_seq) AS first_seq, max(last_seq) AS last_seq, "
            "sum(stored)::BIGINT AS stored, sum(rejected)::BIGINT AS rejected, max(received_at) AS received_at "
            "FROM (SELECT *, sum(begins) OVER (PARTITION BY stream_id ORDER BY first_seq) AS run FROM (SELECT *, "
            "CASE WHEN lag(last_seq) OVER stream = first_seq - 1 AND lag(agent_id) OVER stream = agent_id "
            "AND lag(received_at) OVER stream // (CASE WHEN received_at < $old THEN 24 ELSE 1 END * $hour) = "
            "received_at // (CASE WHEN received_at < $old THEN 24 ELSE 1 END * $hour) "
            "AND received_at < $settled THEN 0 ELSE 1 END AS begins FROM batch WINDOW stream AS (PARTITION BY stream_id ORDER BY first_seq))) "
            "GROUP BY stream_id, agent_id, run",
            {
                "old": (now_ns - _FINE_NS) // (24 * _HOUR_NS) * 24 * _HOUR_NS,
                "hour": _HOUR_NS,
                "settled": now_ns - _SETTLED_NS,
            },
        ).fetchnumpy()
        before = cursor.execute("SELECT count(*) FROM batch").fetchall()[0][0]
        if len(joined["stream_id"]) == before:
            cursor.execute("ROLLBACK")
            return
        rows = {name: np.ma.getdata(column) for name, column in joined.items()}
        cursor.execute("DELETE FROM batch")
        cursor.execute("INSERT INTO batch SELECT * FROM rows")
        del rows
        at("ledger: in commit")
        cursor.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        raise
