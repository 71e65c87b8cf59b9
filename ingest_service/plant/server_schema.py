"""What stores on servers keep in the PlantStore: numbers of series, watermarks, the ledger, and what they can't hold."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table

from ingest_service.plant.engine import ExactText
from ingest_service.plant.schema import metadata

series: Final = Table(
    "series",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("asset", String(400), nullable=False),
    Column("signal", String(600), nullable=False),
    Index("series_by_name", "asset", "signal", unique=True),
)
stream: Final = Table(
    "stream",
    metadata,
    Column("stream_id", String(64), primary_key=True),
    # Who wrote it first.
    Column("agent_id", String(64), nullable=False),
    # The watermark. Its row is locked while the points above it are being written.
    Column("through", BigInteger, nullable=False),
)
ledger: Final = Table(
    "ledger",
    metadata,
    Column("stream_id", String(64), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("agent_id", String(64), nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index("ledger_by_time", "received_at"),
)
kept_sample: Final = Table(
    "kept_sample",
    metadata,
    Column("stream_id", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("series_id", Integer, nullable=False),
    Column("source_time", BigInteger, nullable=False),
    Column("received_time", BigInteger, nullable=False),
    Column("value", Float(53)),
    Column("quality", Integer, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("text", ExactText),
    Index("kept_sample_by_series", "series_id", "source_time"),
)
# One row: the hours whose rollups stand on the server, but for those in rollup_due. See `ingest_service.plant.rollups`.
rollup: Final = Table(
    "rollup",
    metadata,
    Column("rollup_id", Integer, primary_key=True, autoincrement=False),
    # Source times, UTC ns; both are whole hours.
    Column("begin_at", BigInteger, nullable=False),
    Column("through", BigInteger, nullable=False),
    # Whether there is nothing before it that is worth it: 0 or 1.
    Column("complete", Integer, nullable=False, server_default="0"),
)
rollup_due: Final = Table(
    "rollup_due",
    metadata,
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    # The series from 256 times it on.
    Column("block", Integer, primary_key=True, autoincrement=False),
    # Another one each time that something is stored: a rollup of what had been there before does not do.
    Column("version", BigInteger, nullable=False),
)
# A store that moves here from elsewhere: `ingest_service.moving`.
move: Final = Table(
    "move",
    metadata,
    Column("move_id", Integer, primary_key=True, autoincrement=False),
    Column("begun_at", BigInteger, nullable=False),
    # The moment from which on agents are answered from here.
    Column("finished_at", BigInteger),
)
moved_chunk: Final = Table(
    "moved_chunk",
    metadata,
    # UTC day since 1970, and the place inside of it.
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("samples", BigInteger, nullable=False),
    # Of them: those that lie in kept_sample.
    Column("kept", BigInteger, nullable=False),
    Column("checksum", String(32), nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    # When they were read back and found to be the same.
    Column("compared_at", BigInteger),
)
