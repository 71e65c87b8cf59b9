"""How the PlantStore's database is reached: SQLite in a file, or PostgreSQL by URL; migrations, and what the two differ in."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from psycopg.types.string import StrDumper
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from shopfloor.errors import StoreUnavailable

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_MIGRATING: Final = 0x5F10_0001
"""Number of the advisory lock under which one of several processes migrates."""
_alembic: Final = threading.Lock()
"""Alembic keeps what it does in globals."""
_POOL: Final = 12
_CHUNK: Final = 1000
_CONNECT_TIMEOUT_S: Final = 10


class ExactText(sa.types.TypeDecorator[str]):
    """Text of machines, character by character: the bytes of its UTF-8 in PostgreSQL, whose own types take no NUL."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the column's type."""
        return dialect.type_descriptor(sa.LargeBinary() if dialect.name == "postgresql" else sa.String())

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Return what is stored."""
        return value.encode() if value is not None and dialect.name == "postgresql" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Return what was stored."""
        if value is None:
            return None
        return bytes(value).decode() if dialect.name == "postgresql" else str(value)


class _WithoutNul(StrDumper):
    """Names and reasons may come with a NUL, which PostgreSQL refuses for ever: an agent's loss record must not."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


def is_shared(engine: sa.Engine) -> bool:
    """Tell whether several processes may use the database at once (PostgreSQL)."""
    return engine.dialect.name == "postgresql"


def connect(address: Path | sa.URL | str) -> sa.Engine:
    """Open or create the database and bring it to the present schema.

    Args:
        address: a file of SQLite, or a URL such as ``postgresql+psycopg://user:password@host:5432/database``.

    Raises:
        StoreUnavailable: it can't be opened; the message never holds the password.
    """
    url = (
        sa.URL.create("sqlite", database=str(address)) if isinstance(address, Path) else sa.make_url(address)
    )
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
    try:
        migrate(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
        raise StoreUnavailable(f"{where}: {error}") from error
    return engine


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Run the migrations that the database lacks; of several processes one does it, the others wait."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _alembic, engine.begin() as connection:
        if is_shared(engine):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def insert_new(engine: sa.Engine, table: sa.Table) -> sa.Insert:
    """Return an INSERT that leaves rows alone whose key is there already."""
    return _insert(engine, table).on_conflict_do_nothing()


def insert_or_replace(
    engine: sa.Engine, table: sa.Table, key: Sequence[str], columns: Iterable[str]
) -> sa.Insert:
    """Return an INSERT that gives ``columns`` of a row that is there already the new values.

    Sort the rows by their key: of two processes that write the same ones in other orders one fails by a deadlock.
    """
    statement = _insert(engine, table)
    changed = {name: statement.excluded[name] for name in columns if name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=changed)


def replace_rows(
    engine: sa.Engine, table: sa.Table, key: Sequence[str], records: Iterable[Mapping[str, Any]]
) -> None:
    """Write rows of equal columns in one transaction; those whose key is there already get the new values."""
    # Two processes that write the same rows in other orders would wait for each other.
    rows = sorted((dict(one) for one in records), key=lambda row: [row[name] for name in key])
    if not rows:
        return
    statement = insert_or_replace(engine, table, key, rows[0])
    with engine.begin() as connection:
        for start in range(0, len(rows), _CHUNK):
            connection.execute(statement, rows[start : start + _CHUNK])


def _insert(engine: sa.Engine, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    # Both spell ON CONFLICT the same way; SQLAlchemy has a class for each.
    return postgresql.insert(table) if is_shared(engine) else sqlite.insert(table)


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": 5.0}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _postgresql(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=_POOL,
        max_overflow=4,
        # A server that was restarted, or a proxy that closed what was idle, costs no request.
        pool_pre_ping=True,
        # What a statement is about, hashes and names, belongs into no log.
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "application_name": "shopfloor",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.adapters.register_dumper(str, _WithoutNul)

    return engine
