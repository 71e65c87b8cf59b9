"""The tables of users, their sessions and the audit log, beside those in `ingest_service.plant.schema`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table

from ingest_service.plant.schema import metadata

account: Final = Table(
    "account",
    metadata,
    Column("account_id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("password_hash", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("asset", String(400), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("password_changed_at", BigInteger, nullable=False),
)
session: Final = Table(
    "session",
    metadata,
    Column("session_id", Integer, primary_key=True),
    # Only the hash: who reads this file can't take a session over.
    Column("sha256", String(64), nullable=False, unique=True),
    Column("account_id", Integer, ForeignKey("account.account_id"), nullable=False),
    Column("address", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Index("session_by_account", "account_id"),
)
audit: Final = Table(
    "audit",
    metadata,
    Column("audit_id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(200), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("asset", String(400), nullable=False),
    Column("detail", String(2000), nullable=False),
    Index("audit_by_time", "at"),
    # A number is never used twice: the cursors of the pages stay right, and a missing one shows.
    sqlite_autoincrement=True,
)
