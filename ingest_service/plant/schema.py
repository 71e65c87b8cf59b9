"""The tables of the PlantStore; the migrations beside this file create them, a test holds the two together."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table

from ingest_service.plant.engine import ExactText

metadata: Final = MetaData()

token: Final = Table(
    "token",
    metadata,
    Column("token_id", Integer, primary_key=True),
    # Only the hash: who reads this file can't write samples with it.
    Column("sha256", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("asset", String(400), nullable=False),
    Column("name", String(200), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("expires_at", BigInteger),
    # A name of the client certificate that has to come along; empty for none.
    Column("certificate", String(255), nullable=False, server_default=""),
)
agent: Final = Table(
    "agent",
    metadata,
    Column("agent_id", String(64), primary_key=True),
    Column("asset", String(400), nullable=False),
    Column("last_contact", BigInteger),
    Column("heartbeat", String),
    Column("declared_hash", String(1000), nullable=False, server_default=""),
    Column("first_seen", BigInteger),
    # Its row stays: whose streams they were is asked for as long as they are there.
    Column("retired_at", BigInteger),
)
declaration: Final = Table(
    "declaration",
    metadata,
    Column("asset", String(400), primary_key=True),
    Column("signal", String(600), primary_key=True),
    Column("unit", String(1000), nullable=False),
    Column("description", String(1000), nullable=False),
    Column("agent_id", String(64), nullable=False),
)
quarantine: Final = Table(
    "quarantine",
    metadata,
    Column("stream_id", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("agent_id", String(64), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("quarantined_at", BigInteger, nullable=False),
    Column("asset", String(400), nullable=False),
    Column("signal", String(600), nullable=False),
    Column("source_time", BigInteger, nullable=False),
    Column("received_time", BigInteger, nullable=False),
    Column("value", Float),
    Column("quality", Integer, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("text", ExactText),
    # Where it is stored, or is about to be, since somebody re-admitted it: written before the store takes it.
    Column("readmit_stream", String(64)),
    Column("readmit_seq", BigInteger),
    Column("readmitted_at", BigInteger),
    Column("readmitted_by", String(200), nullable=False, server_default=""),
    Index("quarantine_by_time", "quarantined_at", "stream_id", "seq"),
    Index("quarantine_by_readmission", "readmit_stream", "readmit_seq"),
)
span: Final = Table(
    "span",
    metadata,
    Column("record_id", String(64), primary_key=True),
    Column("agent_id", String(64), nullable=False),
    Column("stream_id", String(64), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("source", String(1000), nullable=False),
    Column("asset", String(1000), nullable=False),
    Column("from_time", BigInteger, nullable=False),
    Column("to_time", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("at_least", Integer, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Index("span_by_stream", "stream_id", "first_seq"),
    Index("span_by_time", "recorded_at"),
)
machine_state: Final = Table(
    "machine_state",
    metadata,
    Column("asset", String(400), primary_key=True),
    Column("state", String(32), nullable=False),
    Column("since", BigInteger, nullable=False),
)
