"""What the embedded store's ledger says of many streams at once."""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from ingest_service.stores import Run, TimeSpan

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
