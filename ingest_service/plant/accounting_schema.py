"""The tables of what adds up, and of alarms, beside those in `ingest_service.plant.schema`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, String, Table

from ingest_service.plant.schema import metadata

stream_note: Final = Table(
    "stream_note",
    metadata,
    Column("stream_id", String(64), primary_key=True),
    Column("agent_id", String(64), nullable=False),
    # Rows that came again; counted beside what adds up.
    Column("repeated", BigInteger, nullable=False, server_default="0"),
    # The highest number that the agent once said was waiting, and later not any more, without a word why.
    Column("vanished_through", BigInteger, nullable=False, server_default="0"),
    Column("vanished_at", BigInteger),
)
discard: Final = Table(
    "discard",
    metadata,
    Column("discard_id", String(64), primary_key=True),
    Column("stream_id", String(64), nullable=False),
    Column("agent_id", String(64), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    # full: there was no room; purged: somebody threw it away; readmitted: it is stored, and its row is gone.
    Column("fate", String(16), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", String(200), nullable=False, server_default=""),
    Index("discard_by_stream", "stream_id", "first_seq"),
)
alarm: Final = Table(
    "alarm",
    metadata,
    Column("alarm_id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("subject", String(100), nullable=False),
    Column("asset", String(400), nullable=False),
    Column("message", String(1000), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", String(200), nullable=False, server_default=""),
    Index("alarm_by_time", "since"),
)
