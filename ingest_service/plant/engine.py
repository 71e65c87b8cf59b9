"""How the PlantStore's database is reached: SQLite in a file, or PostgreSQL by URL; migrations, and what the two differ in."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from shopfloor.errors import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_MIGRATING: Final = 0x5F10_0001
"""Number of the advisory lock under which one of several processes migrates."""
_alembic: Final = threading.Lock()
"""Alembic keeps what it does in globals."""
_CHUNK: Final = 1000


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
    if url.get_backend_name() == "sqlite":
        engine = _sqlite(url)
    else:
        from ingest_service.plant.postgresql import make_engine  # noqa: PLC0415 - its client only where it is used

        engine = make_engine(url)
    try:
        migrate(engine)
    except (SQLAlchemyError, StoreUnavailable) as error:
        engine.dispose()
        where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
        raise StoreUnavailable(f"{where}: {error}") from error
    return engine


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Run the migrations that the database lacks; of several processes one does it, the others wait.

    Raises:
        StoreUnavailable: a newer release has changed it.
    """
    with _alembic, engine.begin() as connection:
        if is_shared(engine):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        found, newest = _revision(connection), _newest()
        if revision == "head" and found == newest:
            return
        if found is not None and found > newest:
            raise StoreUnavailable(
                f"a newer release has changed this database (to {found}; this one knows {newest}): go on with that "
                "release, or restore the backup from before the upgrade"
            )
        # Loading it takes longer than all that a start does with a database that lacks nothing.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _newest() -> str:
    """Return the revision of the newest migration; their files' names begin with them, in order."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _revision(connection: sa.Connection) -> str | None:
    """Return the revision that Alembic has noted in the database; None for one that it has not seen."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


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
    # Both spell ON CONFLICT the same way; SQLAlchemy has a class for each, and each takes a while to load.
    if is_shared(engine):
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": 5.0}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine
