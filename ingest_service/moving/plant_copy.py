"""Brings the rest of a PlantStore along: tokens, users, agents, quarantine, everything but samples and their ledger."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ingest_service import plant
from ingest_service.plant.engine import is_shared
from ingest_service.plant.schema import metadata

_OF_SERVERS: Final = frozenset(
    {"series", "stream", "ledger", "kept_sample", "rollup", "rollup_due", "move", "moved_chunk"}
)
"""The embedded store keeps these itself."""
_ROWS: Final = 1000


def same_database(one: Path | sa.URL, other: Path | sa.URL) -> bool:
    """Tell whether two addresses of PlantStores mean the same one."""
    if isinstance(one, Path) or isinstance(other, Path):
        return isinstance(one, Path) and isinstance(other, Path) and one.resolve() == other.resolve()
    return (one.host, one.port or 5432, one.database) == (other.host, other.port or 5432, other.database)


def used_tables(engine: sa.Engine) -> list[str]:
    """Return the names of the tables that hold something already, of those that would be brought along."""
    with engine.connect() as connection:
        return [
            table.name
            for table in _tables()
            if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
        ]


def copy(source: sa.Engine, target: sa.Connection) -> int:
    """Copy everything into empty tables, in the caller's transaction; return the number of rows."""
    total = 0
    with source.connect() as reading:
        for table in _tables():
            rows = reading.execution_options(yield_per=_ROWS).execute(sa.select(table)).mappings()
            for part in rows.partitions(_ROWS):
                target.execute(sa.insert(table), [dict(row) for row in part])
                total += len(part)
            _count_on(target, table)
    return total


def _tables() -> list[sa.Table]:
    """Return the tables, those that others refer to first."""
    for module in pkgutil.iter_modules(plant.__path__):
        if module.name.endswith("schema"):
            importlib.import_module(f"{plant.__name__}.{module.name}")
    return [table for table in metadata.sorted_tables if table.name not in _OF_SERVERS]


def _count_on(connection: sa.Connection, table: sa.Table) -> None:
    """Let PostgreSQL give the next row a number behind those that were brought along."""
    column = table.autoincrement_column
    if column is None or not is_shared(connection.engine):
        return
    highest = connection.execute(sa.select(sa.func.max(column))).scalar()
    if highest is not None:
        sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(sa.select(sa.func.setval(sequence, highest)))
